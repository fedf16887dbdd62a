//! What is left when conflicts are sorted out.

use std::net::SocketAddr;
use std::sync::Arc;

use mesh_model::l7::{Action, HeaderMutation, ListenerKey, RouteMatch, Timeouts};
use mesh_model::service::{AppProtocol, ClientAddress, L7Balance, L7Frontend, ServicePortKey};
use mesh_model::{ConditionIntent, Hostname, NamespacedName, Origin};
use serde::Serialize;

/// Listeners, routes and clusters that agree with each other, and what has to be said about the objects
/// that lost. Every list is sorted and free of duplicates, so equal input gives equal output.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Effective {
    /// The listener that takes redirected connections; only where the datapath redirects.
    pub entry: Option<EntryListener>,
    /// By name.
    pub listeners: Vec<EffectiveListener>,
    /// By name.
    pub route_tables: Vec<RouteTable>,
    /// Every Service port that a route of [`Self::route_tables`] sends to, by key.
    pub clusters: Vec<EffectiveCluster>,
    /// About the objects that lost a conflict or cannot be served here.
    pub conditions: Vec<ConditionIntent>,
    /// Addresses whose connections have to be redirected, by address and port.
    pub frontends: Vec<L7Frontend>,
}

/// The loopback ports where the datapath hands connections over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EntryListener {
    /// One pair for each thread of the proxy: its port on 127.0.0.1 and its port on `::1`. Not empty.
    pub thread_ports: Vec<(u16, Option<u16>)>,
}

/// How a listener gets its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Binding {
    /// Its addresses are really bound.
    Bound,
    /// From the entry listener, by the connection's original destination.
    HandOff,
}

/// Where the clients of a listener are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Direction {
    /// Outside: north-south.
    Inbound,
    /// Pods of this node: east-west.
    Outbound,
}

/// One listener, possibly of several objects that share addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EffectiveListener {
    /// Unique. Behind the entry listener it is the address (`203.0.113.1:80`), whoever owns that: a proxy
    /// refuses two listeners with one address, and a name that followed the owner would make two of them for
    /// a moment when the owner changes.
    pub name: String,
    /// Who owns it, for people and metrics: `gateway/<namespace>/<name>/<port>`, `service/...`,
    /// `shared/<claim>/<port>`; the address where several owners meet.
    pub label: String,
    /// The rows that are served on it, sorted; empty for a Service.
    pub rows: Vec<ListenerKey>,
    /// Where clients connect to: one address. No other listener has it.
    pub addresses: Vec<SocketAddr>,
    /// How it gets its connections.
    pub binding: Binding,
    /// Where its clients are.
    pub direction: Direction,
    /// Which client address the backends see.
    pub client_address: ClientAddress,
    /// Plain chain first, then TLS chains by host; at most one plain chain, no host in two chains.
    pub chains: Vec<Chain>,
}

/// What is done with some of the connections of a listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Chain {
    /// TLS that ends here; `None` for clear text.
    pub tls: Option<ChainTls>,
    /// Trusted proxies in front, for X-Forwarded-For.
    pub trusted_hops: u32,
    /// Name of the route table.
    pub route_table: String,
}

/// TLS of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChainTls {
    /// Server names that choose the chain, or [`Hostname::Any`] alone, which takes what no other chain takes.
    pub hosts: Vec<Hostname>,
    /// Secrets, in order of preference.
    pub certificates: Vec<NamespacedName>,
}

/// The routes of one listener's clear-text or TLS side.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RouteTable {
    /// Unique.
    pub name: String,
    /// By host, each host once. A request belongs to the most specific host that covers its own, and to no
    /// other.
    pub hosts: Vec<EffectiveHost>,
}

/// What happens to requests for one host.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EffectiveHost {
    /// The host. A wildcard covers any number of labels, but see [`Self::deeper`].
    pub host: Hostname,
    /// First match wins; may be empty, then every request is answered with 404.
    pub routes: Vec<EffectiveRoute>,
    /// Only on a wildcard that some route means for exactly one label (Ingress): the routes for hosts with
    /// more labels, instead of [`Self::routes`].
    pub deeper: Option<Vec<EffectiveRoute>>,
}

/// One match and what follows from it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EffectiveRoute {
    /// All of it must hold.
    pub matches: Arc<RouteMatch>,
    /// What to do.
    pub rule: Arc<EffectiveRule>,
}

/// A rule whose header changes a proxy can take as they are.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EffectiveRule {
    /// The object and the rule in it.
    pub origin: Origin,
    /// Changes to the request's headers; never of `host` or a pseudo-header.
    pub request_headers: HeaderMutation,
    /// Changes to the response's headers; never of `host` or a pseudo-header.
    pub response_headers: HeaderMutation,
    /// What to do. The port of a redirect is final: `None` means that none is written.
    pub action: Action,
    /// Time-outs.
    pub timeouts: Timeouts,
}

/// A port of a Service as a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EffectiveCluster {
    /// The Service port.
    pub key: ServicePortKey,
    /// What its endpoints speak.
    pub app_protocol: AppProtocol,
    /// How endpoints are picked.
    pub balance: L7Balance,
}
