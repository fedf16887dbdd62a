//! Listeners: the entry that the datapath hands connections to, those behind it, and plain ones.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use mesh_model::Hostname;
use mesh_model::secret::CertificateIndex;
use mesh_model::service::ClientAddress;
use mesh_xds_proto::listener::filter::ConfigType as FilterConfig;
use mesh_xds_proto::listener::listener_filter::ConfigType as ListenerFilterConfig;
use mesh_xds_proto::listener::{AdditionalAddress, Filter, FilterChain, FilterChainMatch, ListenerFilter};
use mesh_xds_proto::{
    Any, TypeUrl, any, core, direct_response, listener, original_dst, original_src, tls, tls_inspector,
};

use super::LowerConfig;
use super::http::connection_manager;
use super::messages::{address, ads, boolean};
use super::names::secret_name;
use super::secrets::usable;
use crate::resolve::{Binding, Chain, ChainTls, Direction, EffectiveListener, EntryListener};

/// Name of the listener that redirected connections arrive on.
pub const ENTRY: &str = "redirect";

/// The entry listener: IPv4 and IPv6 of each thread in turn. A connection whose destination no listener
/// owns is closed without an answer.
pub(super) fn entry(entry: &EntryListener) -> Option<(String, Any)> {
    let mut addresses = entry.thread_ports.iter().flat_map(|&(v4, v6)| {
        let v6 = v6.map(|port| address(SocketAddr::from((Ipv6Addr::LOCALHOST, port))));
        std::iter::once(address(SocketAddr::from((Ipv4Addr::LOCALHOST, v4)))).chain(v6)
    });
    let message = listener::Listener {
        name: ENTRY.to_owned(),
        address: Some(addresses.next()?),
        additional_addresses: addresses.map(additional).collect(),
        transparent: boolean(true),
        use_original_dst: boolean(true),
        listener_filters: vec![listener_filter(
            "envoy.filters.listener.original_dst",
            &original_dst::OriginalDst::default(),
        )],
        filter_chains: vec![FilterChain {
            name: "unknown-destination".to_owned(),
            filters: vec![Filter {
                name: "envoy.filters.network.direct_response".to_owned(),
                config_type: Some(FilterConfig::TypedConfig(any(&direct_response::Config::default()))),
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    Some((ENTRY.to_owned(), any(&message)))
}

/// A listener; `None` when none of its chains can be served.
pub(super) fn listener(
    listener: &EffectiveListener,
    certificates: &CertificateIndex,
    config: &LowerConfig,
) -> Option<Any> {
    let filter_chains: Vec<FilterChain> = listener
        .chains
        .iter()
        .filter_map(|chain| filter_chain(listener, chain, certificates, config))
        .collect();
    if filter_chains.is_empty() {
        return None;
    }
    let mut listener_filters = Vec::new();
    if listener.chains.iter().any(|chain| chain.tls.is_some()) {
        listener_filters.push(listener_filter(
            "envoy.filters.listener.tls_inspector",
            &tls_inspector::TlsInspector::default(),
        ));
    }
    if listener.client_address == ClientAddress::Keep {
        listener_filters.push(listener_filter(
            "envoy.filters.listener.original_src",
            &original_src::OriginalSrc { bind_port: false, mark: config.client_address_mark },
        ));
    }
    let mut addresses = listener.addresses.iter().copied().map(address);
    let message = listener::Listener {
        name: listener.name.clone(),
        address: Some(addresses.next()?),
        additional_addresses: addresses.map(additional).collect(),
        bind_to_port: match listener.binding {
            Binding::Bound => None,
            Binding::HandOff => boolean(false),
        },
        traffic_direction: match listener.direction {
            Direction::Inbound => core::TrafficDirection::Inbound,
            Direction::Outbound => core::TrafficDirection::Outbound,
        }
        .into(),
        listener_filters,
        filter_chains,
        ..Default::default()
    };
    Some(any(&message))
}

fn filter_chain(
    listener: &EffectiveListener,
    chain: &Chain,
    certificates: &CertificateIndex,
    config: &LowerConfig,
) -> Option<FilterChain> {
    let (name, filter_chain_match, transport_socket) = match &chain.tls {
        None => {
            // Alone, the chain takes every connection; beside TLS it takes those that are none.
            let raw = FilterChainMatch { transport_protocol: "raw_buffer".to_owned(), ..Default::default() };
            let beside_tls = listener.chains.iter().any(|other| other.tls.is_some());
            ("http".to_owned(), beside_tls.then_some(raw), None)
        }
        Some(chain_tls) => {
            let hosts: Vec<String> = chain_tls.hosts.iter().map(Hostname::to_string).collect();
            let any_host = chain_tls.hosts.contains(&Hostname::Any);
            let matched = FilterChainMatch {
                transport_protocol: "tls".to_owned(),
                // No names at all is how Envoy says every name, and none.
                server_names: if any_host { Vec::new() } else { hosts.clone() },
                ..Default::default()
            };
            let socket = downstream_tls(chain_tls, certificates)?;
            (format!("https/{}", hosts.join(",")), Some(matched), Some(socket))
        }
    };
    Some(FilterChain {
        name,
        filter_chain_match,
        filters: vec![connection_manager(listener, chain, config)],
        transport_socket,
        ..Default::default()
    })
}

fn downstream_tls(chain: &ChainTls, certificates: &CertificateIndex) -> Option<core::TransportSocket> {
    let secrets: Vec<tls::SdsSecretConfig> = usable(&chain.certificates, certificates)
        .map(|certificate| tls::SdsSecretConfig {
            name: secret_name(&certificate.name),
            sds_config: Some(ads()),
        })
        .collect();
    if secrets.is_empty() {
        return None;
    }
    let context = tls::DownstreamTlsContext {
        common_tls_context: Some(tls::CommonTlsContext {
            tls_certificate_sds_secret_configs: secrets,
            alpn_protocols: vec!["h2".to_owned(), "http/1.1".to_owned()],
            ..Default::default()
        }),
        ..Default::default()
    };
    Some(core::TransportSocket {
        name: "envoy.transport_sockets.tls".to_owned(),
        config_type: Some(core::transport_socket::ConfigType::TypedConfig(any(&context))),
    })
}

fn additional(address: core::Address) -> AdditionalAddress {
    AdditionalAddress { address: Some(address), ..Default::default() }
}

fn listener_filter(name: &str, message: &impl TypeUrl) -> ListenerFilter {
    ListenerFilter {
        name: name.to_owned(),
        config_type: Some(ListenerFilterConfig::TypedConfig(any(message))),
        ..Default::default()
    }
}
