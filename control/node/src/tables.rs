//! The rows of this feature. Both name their owner, so two features cannot fight over one route.

use ipnet::IpNet;
use mesh_tables::Row;
use serde::Serialize;
use std::net::IpAddr;

/// A route that delivers to this node (`ip route add local ... dev lo`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DesiredRoute {
    /// What is delivered here.
    pub destination: IpNet,
    /// Routing table.
    pub table: u32,
    /// Source address for what a process of this node sends there; the kernel's choice without one.
    pub source: Option<IpAddr>,
    /// Who wants it.
    pub owner: String,
}

impl Row for DesiredRoute {
    type Key = (u32, IpNet);
    const TABLE: &'static str = "desired-routes";
    fn key(&self) -> Self::Key {
        (self.table, self.destination)
    }
}

/// A policy rule (`ip rule add`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DesiredRule {
    /// IPv4 or IPv6.
    pub v4: bool,
    /// Priority: the lower is asked first.
    pub priority: u32,
    /// Mark and mask a packet must carry; any packet without.
    pub mark: Option<(u32, u32)>,
    /// Table that is looked up.
    pub table: u32,
    /// Who wants it.
    pub owner: String,
}

impl Row for DesiredRule {
    type Key = (bool, u32);
    const TABLE: &'static str = "desired-rules";
    fn key(&self) -> Self::Key {
        (self.v4, self.priority)
    }
}
