//! `CiliumNode`, `cilium.io/v2`: what an agent says of its node, and the pod ranges that the operator gives it.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A node as agents see each other. Cluster-scoped; has the name of its Node.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct CiliumNode {
    /// Name, labels and so on.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What is known of the node.
    #[serde(default)]
    pub spec: CiliumNodeSpec,
    /// Of it what is said about ranges.
    #[serde(default)]
    pub status: CiliumNodeStatus,
}

/// `spec` of a CiliumNode.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct CiliumNodeSpec {
    /// Addresses of the node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<CiliumNodeAddress>,
    /// Ranges of its pods' addresses.
    #[serde(default)]
    pub ipam: CiliumNodeIpam,
    /// Fields that others write: read, so that nobody is told they do not exist, and not used.
    #[serde(flatten)]
    pub others: Map<String, Value>,
}

/// An address of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct CiliumNodeAddress {
    /// `InternalIP`, `ExternalIP`, `CiliumInternalIP`.
    #[serde(default, rename = "type")]
    pub kind: String,
    /// The address.
    #[serde(default)]
    pub ip: String,
}

/// `spec.ipam` of a CiliumNode.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct CiliumNodeIpam {
    /// Ranges of the node's pods.
    #[serde(default, rename = "podCIDRs", skip_serializing_if = "Vec::is_empty")]
    pub pod_cidrs: Vec<String>,
    /// Fewer free addresses than this: another range. Cilium's default when absent.
    #[serde(default, rename = "pod-cidr-allocation-threshold", skip_serializing_if = "Option::is_none")]
    pub allocation_threshold: Option<u32>,
    /// A range that nobody uses is released where so many addresses are free without it.
    #[serde(default, rename = "pod-cidr-release-threshold", skip_serializing_if = "Option::is_none")]
    pub release_threshold: Option<u32>,
    /// Fields of other modes.
    #[serde(flatten)]
    pub others: Map<String, Value>,
}

/// `status` of a CiliumNode.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct CiliumNodeStatus {
    /// Of ranges.
    #[serde(default)]
    pub ipam: CiliumNodeIpamStatus,
}

/// `status.ipam` of a CiliumNode.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct CiliumNodeIpamStatus {
    /// What the agent says of each range.
    #[serde(default, rename = "pod-cidrs", skip_serializing_if = "BTreeMap::is_empty")]
    pub pod_cidrs: BTreeMap<String, CiliumNodeRangeStatus>,
    /// What the operator says.
    #[serde(default, rename = "operator-status")]
    pub operator_status: CiliumNodeOperatorStatus,
}

/// What an agent says of a range.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct CiliumNodeRangeStatus {
    /// `in-use`, `depleted` or `released`.
    #[serde(default)]
    pub status: String,
}

/// What the operator says of a node's ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct CiliumNodeOperatorStatus {
    /// Why the node does not have what it needs; empty: it has.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
}
