//! `CiliumNode`, `cilium.io/v2`: what an agent says of its node, and the pod ranges that the operator gives it.

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
    /// Fields of other modes.
    #[serde(flatten)]
    pub others: Map<String, Value>,
}
