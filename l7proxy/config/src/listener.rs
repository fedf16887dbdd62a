//! Listeners and the choice of a filter chain.

mod compile;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use self::compile::{ListenerParts, compile};
use crate::http_manager::HttpManager;
use crate::tls::{TlsServer, TlsUnavailable};
use bytes::Bytes;

/// A listener as the data path sees it.
#[derive(Debug)]
pub struct Listener {
    /// Its name.
    pub name: Arc<str>,
    /// Its addresses: bound, or looked up as original destinations.
    pub addresses: Vec<SocketAddr>,
    /// Whether connections are handed to the listener that owns their original destination.
    pub use_original_dst: bool,
    /// Whether TLS and the server name are looked for before a chain is chosen.
    pub tls_inspector: bool,
    /// The client's address is used as the source of upstream connections.
    pub original_src: bool,
    /// Whether connections begin with a header that says who the client is. None: they do not.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// For the bytes that choose the chain. None: no limit.
    pub inspection_timeout: Option<Duration>,
    pub(crate) chains: ChainIndex,
}

/// Which headers of the PROXY protocol are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxyProtocol {
    /// The text form, version 1.
    pub v1: bool,
    /// The binary form, version 2.
    pub v2: bool,
    /// Whether connections without a header are served as well, as coming from their peer.
    pub optional: bool,
}

/// A filter chain.
#[derive(Debug)]
pub struct FilterChain {
    /// May be empty.
    pub name: Arc<str>,
    /// What is under HTTP.
    pub transport: Transport,
    /// What is done with connections.
    pub network: Network,
}

/// What is under HTTP.
#[derive(Debug, Clone)]
pub enum Transport {
    /// Plain TCP.
    Raw,
    /// TLS ended here.
    Tls(Arc<TlsServer>),
    /// TLS for which a certificate is missing: handshakes are refused.
    Unavailable(TlsUnavailable),
}

/// What is done with connections.
#[derive(Debug, Clone)]
pub enum Network {
    /// HTTP.
    Http(Arc<HttpManager>),
    /// These bytes are written, then the connection is closed.
    Respond(Bytes),
}

/// Chains by server name, then by transport protocol: Envoy's order, in which a more specific name wins
/// before the transport protocol is looked at.
#[derive(Debug, Default)]
pub(crate) struct ChainIndex {
    pub(crate) exact: HashMap<Box<str>, Slots, foldhash::fast::RandomState>,
    /// Keyed by what follows the star, leading dot included.
    pub(crate) wildcard: HashMap<Box<str>, Slots, foldhash::fast::RandomState>,
    pub(crate) unnamed: Slots,
    pub(crate) default: Option<Arc<FilterChain>>,
}

/// The chains of one server name by transport protocol.
#[derive(Debug, Default, Clone)]
pub(crate) struct Slots {
    pub(crate) tls: Option<Arc<FilterChain>>,
    pub(crate) raw: Option<Arc<FilterChain>>,
    pub(crate) any: Option<Arc<FilterChain>>,
}

impl Slots {
    fn get(&self, tls: bool) -> Option<&Arc<FilterChain>> {
        if tls { self.tls.as_ref() } else { self.raw.as_ref() }.or(self.any.as_ref())
    }
}

impl Listener {
    /// The chain for a connection. `server_name` in lower case; `tls` as the inspector found. None: close.
    pub fn chain(&self, tls: bool, server_name: Option<&str>) -> Option<&Arc<FilterChain>> {
        let chains = &self.chains;
        let slots = server_name
            .and_then(|name| {
                chains.exact.get(name).or_else(|| {
                    name.match_indices('.')
                        .filter(|(dot, _)| *dot > 0)
                        .find_map(|(dot, _)| chains.wildcard.get(&name[dot..]))
                })
            })
            .unwrap_or(&chains.unnamed);
        slots.get(tls).or(chains.default.as_ref())
    }

    /// All chains, in no order that means anything.
    pub fn all_chains(&self) -> impl Iterator<Item = &Arc<FilterChain>> {
        let slots =
            self.chains.exact.values().chain(self.chains.wildcard.values()).chain([&self.chains.unnamed]);
        slots.flat_map(|slots| [&slots.tls, &slots.raw, &slots.any]).chain([&self.chains.default]).flatten()
    }
}
