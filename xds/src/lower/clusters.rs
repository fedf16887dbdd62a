//! Service ports as clusters, and their endpoints.

use std::collections::HashMap;
use std::net::SocketAddr;

use mesh_model::service::{AppProtocol, Backend, BackendIndex, BackendState, L7Balance, Protocol};
use mesh_xds_proto::cluster::circuit_breakers::Thresholds;
use mesh_xds_proto::cluster::cluster::{ClusterDiscoveryType, DiscoveryType, EdsClusterConfig, LbPolicy};
use mesh_xds_proto::endpoint::lb_endpoint::HostIdentifier;
use mesh_xds_proto::http_protocol_options::http_protocol_options::explicit_http_config::ProtocolConfig;
use mesh_xds_proto::http_protocol_options::http_protocol_options::{
    ExplicitHttpConfig, UpstreamProtocolOptions,
};
use mesh_xds_proto::{Any, any, cluster, core, endpoint, http_protocol_options};

use super::LowerConfig;
use super::messages::{address, ads, duration, number};
use super::names::{cluster_name, endpoints_name};
use crate::resolve::EffectiveCluster;

/// Far above what one node does: a backend is protected by limits that somebody asked for, not by
/// Envoy's default of 1,024.
const LIMIT: u32 = 1_000_000;

/// A cluster and its name.
pub(super) fn cluster(cluster: &EffectiveCluster, config: &LowerConfig) -> (String, Any) {
    let name = cluster_name(&cluster.key);
    let message = cluster::Cluster {
        name: name.clone(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        eds_cluster_config: Some(EdsClusterConfig {
            eds_config: Some(ads()),
            service_name: endpoints_name(&cluster.key),
        }),
        connect_timeout: duration(config.connect_timeout),
        lb_policy: match cluster.balance {
            L7Balance::RoundRobin => LbPolicy::RoundRobin,
            L7Balance::LeastRequest => LbPolicy::LeastRequest,
        }
        .into(),
        circuit_breakers: Some(cluster::CircuitBreakers {
            thresholds: vec![Thresholds {
                max_connections: number(LIMIT),
                max_pending_requests: number(LIMIT),
                max_requests: number(LIMIT),
                max_retries: number(LIMIT),
                ..Default::default()
            }],
            ..Default::default()
        }),
        // One entry, so the order of a hash map does not show in the bytes.
        typed_extension_protocol_options: HashMap::from([(
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions".to_owned(),
            protocol_options(cluster.app_protocol, config),
        )]),
        ..Default::default()
    };
    (name, any(&message))
}

fn protocol_options(protocol: AppProtocol, config: &LowerConfig) -> Any {
    let protocol = match protocol {
        AppProtocol::Http | AppProtocol::WebSocket => {
            ProtocolConfig::HttpProtocolOptions(core::Http1ProtocolOptions::default())
        }
        AppProtocol::H2c => ProtocolConfig::Http2ProtocolOptions(core::Http2ProtocolOptions::default()),
    };
    any(&http_protocol_options::HttpProtocolOptions {
        common_http_protocol_options: Some(core::HttpProtocolOptions {
            idle_timeout: duration(config.upstream_idle_timeout),
            ..Default::default()
        }),
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
            protocol_config: Some(protocol),
        })),
        ..Default::default()
    })
}

/// The endpoints of a cluster and their name. Always there, even when empty, because a cluster waits for
/// its endpoints before it answers 503.
pub(super) fn load_assignment(cluster: &EffectiveCluster, backends: &BackendIndex) -> (String, Any) {
    let name = endpoints_name(&cluster.key);
    let all = backends
        .get(&cluster.key.service)
        .and_then(|service| service.ports.get(&(cluster.key.port, Protocol::Tcp)))
        .map(Vec::as_slice)
        .unwrap_or_default();
    let lb_endpoints: Vec<endpoint::LbEndpoint> = usable(all).map(lb_endpoint).collect();
    let mut message = endpoint::ClusterLoadAssignment { cluster_name: name.clone(), ..Default::default() };
    if !lb_endpoints.is_empty() {
        message.endpoints.push(endpoint::LocalityLbEndpoints { lb_endpoints, ..Default::default() });
    }
    (name, any(&message))
}

/// Active backends; those that go away only when no other is left.
fn usable(backends: &[Backend]) -> impl Iterator<Item = &Backend> {
    let active = backends.iter().any(|backend| backend.state == BackendState::Active);
    backends.iter().filter(move |backend| !active || backend.state == BackendState::Active)
}

fn lb_endpoint(backend: &Backend) -> endpoint::LbEndpoint {
    endpoint::LbEndpoint {
        health_status: core::HealthStatus::Healthy.into(),
        host_identifier: Some(HostIdentifier::Endpoint(endpoint::Endpoint {
            address: Some(address(SocketAddr::new(backend.address, backend.port))),
            ..Default::default()
        })),
        ..Default::default()
    }
}
