//! Nodes of the cluster, as the others see them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::Serialize;

use crate::origin::Origin;

/// A node: where it is, and whose packets go to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// The Node or CiliumNode.
    pub origin: Origin,
    /// Its name.
    pub name: String,
    /// Its address within the cluster (`InternalIP`), the first of the family.
    pub internal_v4: Option<Ipv4Addr>,
    /// The same for IPv6.
    pub internal_v6: Option<Ipv6Addr>,
    /// Where the addresses of its pods come from, of both families, in the object's order; host bits are zero.
    /// No other node has an address of them.
    pub pod_ranges: Vec<IpNet>,
}

impl Node {
    /// Its address within the cluster, of one family.
    pub fn internal(&self, is_v4: bool) -> Option<IpAddr> {
        match is_v4 {
            true => self.internal_v4.map(IpAddr::V4),
            false => self.internal_v6.map(IpAddr::V6),
        }
    }

    /// Its addresses within the cluster, IPv4 first.
    pub fn internal_addresses(&self) -> impl Iterator<Item = IpAddr> {
        [true, false].into_iter().filter_map(|is_v4| self.internal(is_v4))
    }

    /// The ranges of its pods of one family.
    pub fn pod_ranges_of(&self, is_v4: bool) -> impl Iterator<Item = &IpNet> {
        self.pod_ranges.iter().filter(move |range| matches!(range, IpNet::V4(_)) == is_v4)
    }
}
