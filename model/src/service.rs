//! Services, their ports and their backends.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::{Serialize, Serializer};

use crate::name::NamespacedName;
use crate::origin::Origin;

/// Transport protocol of a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// IANA protocol number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

/// What the application speaks on a port, from `appProtocol`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum AppProtocol {
    /// HTTP/1.1 unless said otherwise.
    #[default]
    Http,
    /// HTTP/2 in clear text by prior knowledge (`kubernetes.io/h2c`), gRPC too.
    H2c,
    /// WebSocket in clear text (`kubernetes.io/ws`).
    WebSocket,
}

/// One port of a Service: the key of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServicePortKey {
    /// The Service.
    pub service: NamespacedName,
    /// The Service's port number, not the target port.
    pub port: u16,
}

impl fmt::Display for ServicePortKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.service, self.port)
    }
}

impl Serialize for ServicePortKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Kind of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub enum ServiceKind {
    /// Reached by its cluster addresses.
    #[default]
    ClusterIp,
    /// No address of its own; only its endpoints.
    Headless,
    /// ClusterIP and a port on each node.
    NodePort,
    /// NodePort and addresses from outside.
    LoadBalancer,
    /// A DNS alias.
    ExternalName(String),
}

/// Which address a backend sees as its client when the proxy stands between (design, redirection).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum ClientAddress {
    /// The client pod's own address, for clients that are pods of this node.
    #[default]
    Keep,
    /// The node's address.
    Node,
}

/// Which backends clients of a Service get (`externalTrafficPolicy`, `internalTrafficPolicy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum TrafficPolicy {
    /// All.
    #[default]
    Cluster,
    /// Those on the node that the client's packets come to.
    Local,
}

/// How the proxy picks an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum L7Balance {
    /// In turn, by weight.
    #[default]
    RoundRobin,
    /// The less busy of two picked at random.
    LeastRequest,
}

/// A port of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ServicePort {
    /// Name, empty for the only port of a Service.
    pub name: String,
    /// Port on the Service's addresses.
    pub port: u16,
    /// Transport protocol.
    pub protocol: Protocol,
    /// What is spoken on it.
    pub app_protocol: AppProtocol,
    /// Port on each node, where there is one.
    pub node_port: Option<u16>,
}

/// A Service as asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Service {
    /// Namespace and name.
    pub name: NamespacedName,
    /// The object.
    pub origin: Origin,
    /// Kind.
    pub kind: ServiceKind,
    /// Cluster addresses, at most one of each family; empty for headless ones and ExternalName.
    pub cluster_ips: Vec<IpAddr>,
    /// Addresses from outside: assigned load-balancer addresses and `externalIPs`.
    pub external_ips: Vec<IpAddr>,
    /// Ports in the object's order; unique by (port, protocol).
    pub ports: Vec<ServicePort>,
    /// Labels of the object.
    pub labels: BTreeMap<String, String>,
    /// Which client address L7 backends see.
    pub client_address: ClientAddress,
    /// How the proxy balances over the endpoints.
    pub l7_balance: L7Balance,
    /// Which backends clients outside of the cluster get.
    pub external_traffic: TrafficPolicy,
    /// Which backends clients of the cluster get by the cluster addresses.
    pub internal_traffic: TrafficPolicy,
}

impl Service {
    /// The TCP port with this number.
    pub fn tcp_port(&self, port: u16) -> Option<&ServicePort> {
        self.ports.iter().find(|p| p.port == port && p.protocol == Protocol::Tcp)
    }
}

/// State of a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum BackendState {
    /// Takes new connections.
    #[default]
    Active,
    /// Going away: keeps what it has, gets new connections only when no other is left.
    Terminating,
}

/// One endpoint behind a Service port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Backend {
    /// Address of the endpoint.
    pub address: IpAddr,
    /// Its port (the target port).
    pub port: u16,
    /// State.
    pub state: BackendState,
}

/// The backends of one Service, per Service port: sorted, unique by address and port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServiceBackends {
    /// The Service.
    pub service: NamespacedName,
    /// By Service port number and protocol. A port without backends is present and empty.
    pub ports: BTreeMap<(u16, Protocol), Vec<Backend>>,
}

/// Services by name, as translators take them.
pub type ServiceIndex = BTreeMap<NamespacedName, std::sync::Arc<Service>>;

/// Backends by Service name.
pub type BackendIndex = BTreeMap<NamespacedName, std::sync::Arc<ServiceBackends>>;

/// An address and port whose TCP connections go to the proxy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct L7Frontend {
    /// Address: a ClusterIP, or one given to an Ingress or Gateway.
    pub address: IpAddr,
    /// Port.
    pub port: u16,
    /// Name of the proxy's listener that owns it.
    pub listener: String,
}
