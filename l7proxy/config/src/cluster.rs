//! Clusters, their endpoints, and the choice among them.

mod compile;
mod endpoints;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

pub(crate) use self::compile::{compile, compile_endpoints};
pub use self::endpoints::{Endpoint, Endpoints, Health};

/// A cluster's settings, without its endpoints.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterSettings {
    /// The cluster's name.
    pub name: Arc<str>,
    /// The load assignment to use; none: the endpoints are inline.
    pub eds_name: Option<Arc<str>>,
    /// How endpoints are chosen.
    pub balancing: Balancing,
    /// What is spoken to endpoints.
    pub protocol: UpstreamProtocol,
    /// For one TCP connection.
    pub connect_timeout: Duration,
    /// How long an unused connection is kept.
    pub idle_timeout: Option<Duration>,
    /// After that many requests a connection is not used again.
    pub max_requests_per_connection: Option<u32>,
    /// Refusals under load.
    pub limits: Limits,
    /// Below this share of usable endpoints all of them are used. Zero: never.
    pub panic_percent: u32,
}

/// How endpoints are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balancing {
    /// In turn, by weight.
    RoundRobin,
    /// The less busy of so many drawn at random.
    LeastRequest {
        /// At least two.
        choices: u32,
    },
    /// At random, by weight.
    Random,
}

/// What is spoken to endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// The protocol of the request.
    Downstream,
}

/// Envoy's circuit breakers. Counted over all data threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections to the cluster's endpoints.
    pub connections: u32,
    /// Requests that wait for a connection.
    pub pending: u32,
    /// Requests under way.
    pub requests: u32,
    /// Retries under way.
    pub retries: u32,
}

impl Default for Limits {
    /// Envoy's defaults are 1024, 1024, 1024 and 3; we leave requests to the endpoints and keep the rest.
    fn default() -> Self {
        Self { connections: 1024, pending: 1024, requests: 1024, retries: 3 }
    }
}

/// A cluster as the data path sees it.
#[derive(Debug)]
pub struct Cluster {
    /// What does not depend on the endpoints.
    pub settings: Arc<ClusterSettings>,
    /// Who can answer. Empty until the load assignment arrives.
    pub endpoints: Arc<Endpoints>,
}

impl Cluster {
    /// An endpoint for one request; none if there is no usable one. `turn` belongs to the calling thread and
    /// this cluster. Where the client's address is kept, `source` is that address: an endpoint of the other
    /// family could not answer it, so it is taken only if there is no other. Constant cost.
    pub fn pick(
        &self,
        turn: &std::cell::Cell<u32>,
        source: Option<std::net::IpAddr>,
    ) -> Option<&Arc<Endpoint>> {
        self.endpoints.pick(&self.settings, turn, source)
    }
}
