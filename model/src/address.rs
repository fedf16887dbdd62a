//! Addresses that Ingress, Gateway and Service objects ask for and are given.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use crate::origin::{ObjectKey, Origin};

/// An object's wish for addresses from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AddressClaim {
    /// Who asks; claims with the same `shared` key get the same addresses.
    pub origin: Origin,
    /// Addresses asked for by name (`Gateway.spec.addresses`); empty: any.
    pub requested: Vec<IpAddr>,
    /// Key of the group that shares addresses, such as the shared Ingress Service; `None`: its own.
    pub shared: Option<String>,
    /// Labels that a pool's selector is held against.
    pub labels: BTreeMap<String, String>,
}

/// A range of addresses of a pool, both ends included, of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct AddressBlock {
    /// First address that may be given.
    pub first: IpAddr,
    /// Last address that may be given.
    pub last: IpAddr,
}

/// Labels an object must have; empty selects all. `matchLabels` and `matchExpressions` flattened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LabelSelector {
    /// All must hold.
    pub requirements: Vec<LabelRequirement>,
}

/// One requirement of a selector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum LabelRequirement {
    /// The label has one of these values.
    In(String, Vec<String>),
    /// The label is absent or has none of these values.
    NotIn(String, Vec<String>),
    /// The label is there.
    Exists(String),
    /// The label is not there.
    DoesNotExist(String),
}

impl LabelSelector {
    /// True when every requirement holds for `labels`.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.requirements.iter().all(|requirement| match requirement {
            LabelRequirement::In(key, values) => labels.get(key).is_some_and(|v| values.contains(v)),
            LabelRequirement::NotIn(key, values) => labels.get(key).is_none_or(|v| !values.contains(v)),
            LabelRequirement::Exists(key) => labels.contains_key(key),
            LabelRequirement::DoesNotExist(key) => !labels.contains_key(key),
        })
    }
}

/// A pool of addresses (`CiliumLoadBalancerIPPool`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AddressPool {
    /// The object.
    pub origin: Origin,
    /// Ranges in the object's order.
    pub blocks: Vec<AddressBlock>,
    /// The CIDRs the blocks were written as, for reports.
    pub cidrs: Vec<IpNet>,
    /// Which claims may draw from it.
    pub selector: LabelSelector,
    /// No new addresses are given from a disabled pool.
    pub disabled: bool,
}

/// The addresses an object was given: at most one of each family unless it asked for more; sorted.
pub type AddressAssignments = BTreeMap<ObjectKey, Vec<IpAddr>>;
