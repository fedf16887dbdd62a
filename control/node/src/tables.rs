//! The rows of this feature. Routes and rules name their owner, so two features cannot fight over one.

use ipnet::IpNet;
use mesh_model::Node;
use mesh_tables::Row;
use serde::Serialize;
use std::net::IpAddr;

/// A node of the cluster, as it was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KnownNode {
    /// The node.
    #[serde(flatten)]
    pub node: Node,
    /// Whether it is the one that this agent runs on.
    pub is_own: bool,
}

impl Row for KnownNode {
    type Key = String;
    const TABLE: &'static str = "nodes";
    fn key(&self) -> Self::Key {
        self.node.name.clone()
    }
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Hop {
    /// To this node itself (`ip route add local ... dev lo`).
    Here,
    /// To another node, which has to be on the link: nobody in between would know its pods.
    Node {
        /// The node's name.
        name: String,
        /// Its address.
        gateway: IpAddr,
        /// Index of the device; the kernel's choice without one.
        device: Option<u32>,
    },
    /// Into tunnels: the packet's own destination says which node it goes to.
    Tunnel {
        /// Index of the tunnel device.
        device: u32,
    },
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DesiredRoute {
    /// Whose packets take it.
    pub destination: IpNet,
    /// Where it leads.
    pub hop: Hop,
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
