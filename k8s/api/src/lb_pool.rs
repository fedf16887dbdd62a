//! `CiliumLoadBalancerIPPool`, `cilium.io/v2` and `v2alpha1`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde::{Deserialize, Serialize};

/// A pool of addresses for Services, Ingresses and Gateways. Cluster-scoped. `status` is not kept: whoever
/// gives out the addresses works it out.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct LbPool {
    /// Name, labels and so on.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// The addresses and who may have them.
    pub spec: LbPoolSpec,
}

/// `spec` of a pool.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LbPoolSpec {
    /// Address ranges, in the order they are drawn from. `cidrs` is the name that older manifests use.
    #[serde(default, alias = "cidrs")]
    pub blocks: Vec<LbPoolBlock>,
    /// Services the pool is for; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_selector: Option<LabelSelector>,
    /// Nothing new is given out while this is set.
    #[serde(default)]
    pub disabled: bool,
    /// `Yes` (also when absent) or `No`: whether the first and last address of a CIDR may be given out.
    #[serde(default, rename = "allowFirstLastIPs", skip_serializing_if = "Option::is_none")]
    pub allow_first_last_ips: Option<String>,
}

/// One range: a CIDR, or first and last address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct LbPoolBlock {
    /// A network; excludes the other two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr: Option<String>,
    /// First address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// Last address; absent: `start` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<String>,
}
