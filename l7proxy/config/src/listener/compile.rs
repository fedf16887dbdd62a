//! Listener to [`ListenerParts`], and with its secrets to [`super::Listener`].

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mesh_xds_proto::listener::{self, filter, listener_filter};
use mesh_xds_proto::{
    TypeUrl, core, direct_response, hcm, original_dst, original_src, proxy_protocol, raw_buffer, tls,
    tls_inspector,
};

use super::{ChainIndex, FilterChain, Listener, Network, ProxyProtocol, Slots, Transport};
use crate::address::{inline, socket_address};
use crate::check::{At, Checked, fields, flag, timeout};
use crate::http_manager::{self, RouteSource};
use crate::tls::{Certificate, TlsSettings};

/// A listener whose secrets are not filled in yet.
#[derive(Debug)]
pub(crate) struct ListenerParts {
    pub(crate) name: Arc<str>,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) bind: bool,
    pub(crate) transparent: bool,
    pub(crate) use_original_dst: bool,
    tls_inspector: bool,
    original_src: bool,
    proxy_protocol: Option<ProxyProtocol>,
    inspection_timeout: Option<Duration>,
    chains: Vec<ChainParts>,
    default: Option<ChainParts>,
    pub(crate) route_names: BTreeSet<Arc<str>>,
    pub(crate) clusters: BTreeSet<Arc<str>>,
}

#[derive(Debug)]
struct ChainParts {
    name: Arc<str>,
    server_names: Vec<Box<str>>,
    protocol: Protocol,
    tls: Option<Arc<TlsSettings>>,
    network: Network,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Any,
    Tls,
    Raw,
}

pub(crate) fn compile(message: &listener::Listener, at: At<'_>) -> Checked<ListenerParts> {
    fields!(message, at => listener::Listener {
        take: name, address, additional_addresses, filter_chains, use_original_dst, default_filter_chain,
            listener_filters, listener_filters_timeout, transparent, bind_to_port;
        // Statistics, buffer and backlog sizes, and socket sharing are the process's own business here.
        ignore: stat_prefix, metadata, per_connection_buffer_limit_bytes, drain_type,
            continue_on_listener_filters_timeout, traffic_direction, reuse_port, enable_reuse_port,
            tcp_backlog_size, max_connections_to_accept_per_socket_event, ignore_global_conn_limit,
            bypass_overload_manager, freebind, connection_balance_config;
        refuse: stats_matcher, fcds_config, filter_chain_matcher, per_connection_buffer_high_watermark_timeout,
            deprecated_v1, socket_options, tcp_fast_open_queue_length, udp_listener_config, api_listener,
            access_log, enable_mptcp, tcp_keepalive, listener_specifier
    });
    let mut addresses = vec![socket_address(address, at.field("address"))?];
    let at_more = at.field("additional_addresses");
    for (index, more) in additional_addresses.iter().enumerate() {
        let at = at_more.index(index);
        fields!(more, at => listener::AdditionalAddress {
            take: address; ignore: ; refuse: socket_options, tcp_keepalive
        });
        addresses.push(socket_address(address, at.field("address"))?);
    }
    let mut parts = ListenerParts {
        name: name.as_str().into(),
        addresses,
        bind: bind_to_port.as_ref().is_none_or(|bind| bind.value),
        transparent: flag(transparent),
        use_original_dst: flag(use_original_dst),
        tls_inspector: false,
        original_src: false,
        proxy_protocol: None,
        inspection_timeout: timeout(
            listener_filters_timeout,
            Some(Duration::from_secs(15)),
            at.field("listener_filters_timeout"),
        )?,
        chains: Vec::new(),
        default: None,
        route_names: BTreeSet::new(),
        clusters: BTreeSet::new(),
    };
    let at_filters = at.field("listener_filters");
    for (index, filter) in listener_filters.iter().enumerate() {
        listener_filter(filter, &mut parts, at_filters.index(index))?;
    }
    let at_chains = at.field("filter_chains");
    for (index, chain) in filter_chains.iter().enumerate() {
        let chain = filter_chain(chain, &mut parts, at_chains.index(index))?;
        parts.chains.push(chain);
    }
    if let Some(chain) = default_filter_chain {
        parts.default = Some(filter_chain(chain, &mut parts, at.field("default_filter_chain"))?);
    }
    if parts.chains.is_empty() && parts.default.is_none() {
        return Err(at_chains.refuse("at least one filter chain is needed"));
    }
    // Found now rather than on the first connection.
    parts
        .index(|chain| Arc::new(chain.with(Transport::Raw)))
        .map_err(|(index, reason)| at_chains.index(index).field("filter_chain_match").refuse(reason))?;
    let named =
        parts.chains.iter().any(|chain| !chain.server_names.is_empty() || chain.protocol != Protocol::Any);
    if named && !parts.tls_inspector {
        return Err(at_filters.refuse(
            "filter chains are chosen by server name or transport protocol, so envoy.filters.listener.tls_inspector \
             is needed",
        ));
    }
    Ok(parts)
}

fn listener_filter(message: &listener::ListenerFilter, parts: &mut ListenerParts, at: At<'_>) -> Checked<()> {
    fields!(message, at => listener::ListenerFilter { take: name, config_type; ignore: ; refuse: filter_disabled });
    let at_config = at.field("typed_config");
    let Some(listener_filter::ConfigType::TypedConfig(any)) = config_type else {
        return Err(at_config.refuse("missing"));
    };
    match any.type_url.as_str() {
        url if url == tls_inspector::TlsInspector::type_url_of() => {
            let message: tls_inspector::TlsInspector = at_config.decode(any)?;
            let message = &message;
            fields!(message, at_config => tls_inspector::TlsInspector {
                take: ;
                ignore: initial_read_buffer_size, close_connection_on_client_hello_parsing_errors,
                    max_client_hello_size;
                refuse: enable_ja3_fingerprinting, enable_ja4_fingerprinting
            });
            parts.tls_inspector = true;
        }
        url if url == original_dst::OriginalDst::type_url_of() => {
            at_config.decode::<original_dst::OriginalDst>(any)?;
        }
        url if url == original_src::OriginalSrc::type_url_of() => {
            let message: original_src::OriginalSrc = at_config.decode(any)?;
            // Pools are shared by all ports of a client; a kept port would tie a connection to one request.
            // The mark is set by whoever opens the socket.
            if message.bind_port {
                return Err(at_config.field("bind_port").refuse("must be false"));
            }
            parts.original_src = true;
        }
        url if url == proxy_protocol::ProxyProtocol::type_url_of() => {
            // The header comes before everything that the inspector looks at.
            if parts.tls_inspector {
                return Err(at.refuse("must stand before tls_inspector"));
            }
            let message: proxy_protocol::ProxyProtocol = at_config.decode(any)?;
            parts.proxy_protocol = Some(proxy_header(&message, at_config)?);
        }
        other => {
            return Err(at_config.refuse(format!(
                "listener filter {name:?} ({other}) is not supported by this proxy; only tls_inspector, \
                 proxy_protocol, original_dst and original_src"
            )));
        }
    }
    Ok(())
}

fn proxy_header(message: &proxy_protocol::ProxyProtocol, at: At<'_>) -> Checked<ProxyProtocol> {
    fields!(message, at => proxy_protocol::ProxyProtocol {
        take: allow_requests_without_proxy_protocol, disallowed_versions;
        ignore: stat_prefix, tlv_location;
        refuse: rules, pass_through_tlvs
    });
    let takes =
        |version: core::proxy_protocol_config::Version| !disallowed_versions.contains(&version.into());
    let (v1, v2) =
        (takes(core::proxy_protocol_config::Version::V1), takes(core::proxy_protocol_config::Version::V2));
    if !v1 && !v2 {
        return Err(at
            .field("disallowed_versions")
            .refuse("leaves no version; allow one or remove the filter"));
    }
    Ok(ProxyProtocol { v1, v2, optional: *allow_requests_without_proxy_protocol })
}

fn filter_chain(
    message: &listener::FilterChain,
    parts: &mut ListenerParts,
    at: At<'_>,
) -> Checked<ChainParts> {
    fields!(message, at => listener::FilterChain {
        take: filter_chain_match, filters, transport_socket, name;
        // Handshakes have a limit of their own, 10 s.
        ignore: metadata, transport_socket_connect_timeout;
        refuse: use_proxy_proto
    });
    let (mut server_names, mut protocol) = (Vec::new(), Protocol::Any);
    if let Some(matching) = filter_chain_match {
        (server_names, protocol) = chain_match(matching, at.field("filter_chain_match"))?;
    }
    let tls = match transport_socket {
        None => None,
        Some(socket) => transport(socket, at.field("transport_socket"))?.map(Arc::new),
    };
    let at_filters = at.field("filters");
    let [only] = filters.as_slice() else {
        return Err(at_filters.refuse("exactly one network filter is needed"));
    };
    let at_filter = at_filters.index(0);
    let listener::Filter { name: filter_name, config_type } = only;
    let at_config = at_filter.field("typed_config");
    let Some(filter::ConfigType::TypedConfig(any)) = config_type else {
        return Err(at_config.refuse("missing"));
    };
    let network = if any.type_url == hcm::HttpConnectionManager::type_url_of() {
        let message: hcm::HttpConnectionManager = at_config.decode(any)?;
        let compiled = http_manager::compile(&message, at_config)?;
        if let RouteSource::Named(name) = &compiled.manager.routes {
            parts.route_names.insert(name.clone());
        }
        parts.clusters.extend(compiled.clusters);
        Network::Http(Arc::new(compiled.manager))
    } else if any.type_url == direct_response::Config::type_url_of() {
        let message: direct_response::Config = at_config.decode(any)?;
        let body = match &message.response {
            None => Vec::new(),
            Some(source) => inline(source, at_config.field("response"))?,
        };
        Network::Respond(body.into())
    } else {
        return Err(at_config.refuse(format!(
            "network filter {filter_name:?} ({}) is not supported by this proxy; only http_connection_manager and \
             direct_response",
            any.type_url
        )));
    };
    Ok(ChainParts { name: name.as_str().into(), server_names, protocol, tls, network })
}

fn chain_match(message: &listener::FilterChainMatch, at: At<'_>) -> Checked<(Vec<Box<str>>, Protocol)> {
    fields!(message, at => listener::FilterChainMatch {
        take: server_names, transport_protocol;
        ignore: ;
        refuse: destination_port, prefix_ranges, address_suffix, suffix_len, direct_source_prefix_ranges,
            source_type, source_prefix_ranges, source_ports, application_protocols
    });
    let at_names = at.field("server_names");
    let mut names = Vec::new();
    for (index, name) in server_names.iter().enumerate() {
        let lower = name.to_ascii_lowercase();
        let rest = lower.strip_prefix("*.").unwrap_or(&lower);
        if rest.is_empty() || rest.contains('*') {
            return Err(at_names.index(index).refuse(format!("{name:?} is not a name or \"*.\" and a name")));
        }
        names.push(lower.into());
    }
    let protocol = match transport_protocol.as_str() {
        "" => Protocol::Any,
        "tls" => Protocol::Tls,
        "raw_buffer" => Protocol::Raw,
        other => {
            return Err(at.field("transport_protocol").refuse(format!("{other:?}: only tls and raw_buffer")));
        }
    };
    Ok((names, protocol))
}

fn transport(socket: &core::TransportSocket, at: At<'_>) -> Checked<Option<TlsSettings>> {
    let at_config = at.field("typed_config");
    let Some(core::transport_socket::ConfigType::TypedConfig(any)) = &socket.config_type else {
        return Err(at_config.refuse("missing"));
    };
    if any.type_url == raw_buffer::RawBuffer::type_url_of() {
        return Ok(None);
    }
    if any.type_url != tls::DownstreamTlsContext::type_url_of() {
        return Err(at_config.refuse(format!("{} is not supported by this proxy", any.type_url)));
    }
    let message: tls::DownstreamTlsContext = at_config.decode(any)?;
    TlsSettings::compile(&message, at_config).map(Some)
}

impl ListenerParts {
    /// The secrets that its chains name.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &Arc<str>> {
        self.chains
            .iter()
            .chain(&self.default)
            .filter_map(|chain| chain.tls.as_ref())
            .flat_map(|tls| &tls.secrets)
    }

    /// Whether both take the same connections from the same sockets.
    pub(crate) fn has_addresses_of(&self, other: &Self) -> bool {
        self.addresses == other.addresses
            && self.bind == other.bind
            && self.transparent == other.transparent
            && self.use_original_dst == other.use_original_dst
    }

    /// The listener with the secrets that are there now. Chains whose TLS is what it was `before` keep it, with
    /// the tickets that clients have; making it anew is also what costs.
    pub(crate) fn resolve(
        &self,
        secret: &dyn Fn(&str) -> Option<Arc<Certificate>>,
        before: Option<&Listener>,
    ) -> Listener {
        let mut known = HashMap::new();
        for chain in before.into_iter().flat_map(Listener::all_chains) {
            if let Transport::Tls(server) = &chain.transport {
                known.insert(&*chain.name, server);
            }
        }
        // Each is taken once: a ticket from one chain must mean nothing to another of the same name.
        let known = RefCell::new(known);
        let resolved = |chain: &ChainParts| {
            let transport = match &chain.tls {
                None => Transport::Raw,
                Some(tls) => {
                    let before = known.borrow_mut().remove(&*chain.name);
                    tls.resolve(secret, before).map_or_else(Transport::Unavailable, Transport::Tls)
                }
            };
            Arc::new(chain.with(transport))
        };
        Listener {
            name: self.name.clone(),
            addresses: self.addresses.clone(),
            use_original_dst: self.use_original_dst,
            tls_inspector: self.tls_inspector,
            original_src: self.original_src,
            proxy_protocol: self.proxy_protocol,
            inspection_timeout: self.inspection_timeout,
            chains: self.index(resolved).unwrap_or_default(),
        }
    }

    /// Fails with the position of the chain that another one shadows completely.
    fn index(&self, make: impl Fn(&ChainParts) -> Arc<FilterChain>) -> Result<ChainIndex, (usize, String)> {
        let mut chains = ChainIndex::default();
        for (position, part) in self.chains.iter().enumerate() {
            let chain = make(part);
            let place = |slots: &mut Slots| {
                let slot = match part.protocol {
                    Protocol::Any => &mut slots.any,
                    Protocol::Tls => &mut slots.tls,
                    Protocol::Raw => &mut slots.raw,
                };
                match slot.replace(chain.clone()) {
                    None => Ok(()),
                    Some(_) => Err((position, "another filter chain has the same match".to_owned())),
                }
            };
            if part.server_names.is_empty() {
                place(&mut chains.unnamed)?;
            }
            for name in &part.server_names {
                match name.strip_prefix('*') {
                    Some(suffix) => place(chains.wildcard.entry(suffix.into()).or_default())?,
                    None => place(chains.exact.entry(name.clone()).or_default())?,
                }
            }
        }
        chains.default = self.default.as_ref().map(make);
        Ok(chains)
    }
}

impl ChainParts {
    fn with(&self, transport: Transport) -> FilterChain {
        FilterChain { name: self.name.clone(), transport, network: self.network.clone() }
    }
}
