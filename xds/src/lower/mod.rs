//! The resolved mesh as Envoy resources.
//!
//! Pure and deterministic, byte for byte and canonical: equal input makes equal resources, so the server,
//! whose versions are hashes of the bytes, never sends an unchanged one again. Read [`lower`], then `routes` (the largest
//! part) and `listeners`. What each message looks like, and why there is one entry listener, is in
//! `docs/decisions/0002-one-entry-listener.md`.

use std::time::Duration;

use mesh_model::secret::CertificateIndex;
use mesh_model::service::BackendIndex;

use crate::resolve::Effective;
use crate::server::ResourceSet;

mod access_log;
mod clusters;
mod headers;
mod http;
mod listeners;
mod matches;
mod messages;
mod names;
mod routes;
mod secrets;

pub use listeners::ENTRY;
pub use names::{cluster_name, endpoints_name, secret_name};

/// What is done with `%2F`, `%5C` and their lower-case forms in a path
/// (`docs/decisions/0003-path-normalisation.md`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EscapedSlashes {
    /// They stay as they are and are no path separators.
    #[default]
    Keep,
    /// Such a request is answered with 400.
    Reject,
    /// The client is redirected to the path with slashes in their place, as Cilium does.
    Redirect,
}

/// Choices that no object makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LowerConfig {
    /// `server` header of responses.
    pub server_name: String,
    /// Whether each request is written to standard output as a line of JSON.
    pub access_log: bool,
    /// Escaped slashes in paths.
    pub escaped_slashes: EscapedSlashes,
    /// How long a request or response may stand still.
    pub stream_idle_timeout: Duration,
    /// How long a connection from outside may be without a request.
    pub inbound_idle_timeout: Duration,
    /// The same for connections from pods.
    pub outbound_idle_timeout: Duration,
    /// How long an unused connection to a backend is kept.
    pub upstream_idle_timeout: Duration,
    /// How long connecting to a backend may take.
    pub connect_timeout: Duration,
    /// Mark of upstream sockets that keep their client's address.
    pub client_address_mark: u32,
}

impl Default for LowerConfig {
    fn default() -> Self {
        Self {
            server_name: "millrace".to_owned(),
            access_log: true,
            escaped_slashes: EscapedSlashes::default(),
            stream_idle_timeout: Duration::from_secs(300),
            inbound_idle_timeout: Duration::from_secs(60),
            outbound_idle_timeout: Duration::from_secs(3600),
            upstream_idle_timeout: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(5),
            client_address_mark: 0x0900,
        }
    }
}

/// Turns the resolved mesh into resources. Only certificates that a listener uses go out; a chain whose
/// certificates are all missing or bad is left out, so that its listener serves the rest.
pub fn lower(
    effective: &Effective,
    backends: &BackendIndex,
    certificates: &CertificateIndex,
    config: &LowerConfig,
) -> ResourceSet {
    let mut set = ResourceSet::default();
    for cluster in &effective.clusters {
        let (name, resource) = clusters::cluster(cluster, config);
        set.insert(name, resource);
        let (name, resource) = clusters::load_assignment(cluster, backends);
        set.insert(name, resource);
    }
    for (name, resource) in secrets::secrets(&effective.listeners, certificates) {
        set.insert(name, resource);
    }
    if let Some((name, resource)) = effective.entry.as_ref().and_then(listeners::entry) {
        set.insert(name, resource);
    }
    for listener in &effective.listeners {
        if let Some(resource) = listeners::listener(listener, certificates, config) {
            set.insert(&listener.name, resource);
        }
    }
    for table in &effective.route_tables {
        set.insert(&table.name, routes::route_configuration(table));
    }
    set
}
