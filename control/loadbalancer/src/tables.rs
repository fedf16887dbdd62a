//! The rows of this feature.

use std::net::IpAddr;

use ipnet::IpNet;
use mesh_model::service::Protocol;
use mesh_tables::Row;
use serde::Serialize;

/// What a connection is made to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct FrontendKey {
    /// Address; the unspecified one stands for each of the node's own.
    pub address: IpAddr,
    /// Port.
    pub port: u16,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Whose connections.
    pub scope: Scope,
}

/// Whose connections a frontend is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Scope {
    /// Everyone's who may use it.
    #[default]
    Everyone,
    /// Those of clients outside, where they get other backends than everyone else.
    Outside,
}

/// Who may use a frontend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Reach {
    /// Clients of the cluster.
    #[default]
    Cluster,
    /// Clients outside as well.
    Outside,
    /// The same, and those outside get the backends of the frontend in their scope.
    OutsideApart,
}

/// What happens to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum FrontendKind {
    /// It goes to the proxy; the socket hooks leave it alone so that the packet hooks see it.
    Proxy {
        /// The proxy's listener that owns it.
        listener: String,
    },
    /// It is balanced in the kernel over these, all of the frontend's address family; sorted and unique.
    /// Empty: refused.
    Balanced {
        /// Address and port of each backend.
        backends: Vec<(IpAddr, u16)>,
        /// Who may use it.
        reach: Reach,
    },
}

/// A desired entry of the kernel's service map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Frontend {
    /// Key.
    pub key: FrontendKey,
    /// The Service or listener it belongs to, for people.
    pub owner: String,
    /// What happens.
    pub kind: FrontendKind,
}

/// A port of the node that a pod asked for (`hostPort`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct HostPort {
    /// The pod, for people.
    pub owner: String,
    /// The node's address; each of them without.
    pub address: Option<IpAddr>,
    /// The node's port.
    pub port: u16,
    /// Transport protocol.
    pub protocol: Protocol,
    /// The pod's addresses, at most one of each family.
    pub pod: Vec<IpAddr>,
    /// The pod's port.
    pub pod_port: u16,
}

/// What is special of this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThisNode {
    /// Addresses of its pods.
    pub pods: Vec<IpNet>,
    /// Its own addresses, which pods in its network namespace have too.
    pub own: Vec<IpAddr>,
    /// Ports that its pods asked for.
    pub host_ports: Vec<HostPort>,
}

impl ThisNode {
    /// Whether an endpoint with this address is on this node.
    pub fn has(&self, address: IpAddr) -> bool {
        self.own.contains(&address) || self.pods.iter().any(|range| range.contains(&address))
    }
}

impl Row for Frontend {
    type Key = FrontendKey;
    const TABLE: &'static str = "frontends";
    fn key(&self) -> FrontendKey {
        self.key
    }
}
