//! `CiliumEndpoint` and `CiliumIdentity`, `cilium.io/v2`: who pods are and where, as agents tell each other.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

/// Labels with a number. Cluster-scoped; its name is the number.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct CiliumIdentity {
    /// Name, labels and so on.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// The labels, each with its source: `k8s:app`.
    #[serde(default, rename = "security-labels")]
    pub security_labels: BTreeMap<String, String>,
}

/// A pod's network. Has the namespace and the name of the pod.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct CiliumEndpoint {
    /// Name, namespace and so on.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What the agent of its node says of it.
    #[serde(default)]
    pub status: CiliumEndpointStatus,
}

/// `status` of a CiliumEndpoint: the fields that others read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct CiliumEndpointStatus {
    /// Number on its node.
    #[serde(default)]
    pub id: i64,
    /// Who it is.
    #[serde(default)]
    pub identity: CiliumEndpointIdentity,
    /// Where it is.
    #[serde(default)]
    pub networking: CiliumEndpointNetworking,
    /// `ready`, or what it waits for.
    #[serde(default)]
    pub state: String,
}

/// `status.identity` of a CiliumEndpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct CiliumEndpointIdentity {
    /// The number.
    #[serde(default)]
    pub id: i64,
    /// The labels, `k8s:app=web`.
    #[serde(default)]
    pub labels: Vec<String>,
}

/// `status.networking` of a CiliumEndpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct CiliumEndpointNetworking {
    /// Its addresses.
    #[serde(default)]
    pub addressing: Vec<CiliumAddressPair>,
    /// Address of its node.
    #[serde(default)]
    pub node: String,
}

/// An address of each family.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct CiliumAddressPair {
    /// IPv4.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub ipv4: String,
    /// IPv6.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub ipv6: String,
}
