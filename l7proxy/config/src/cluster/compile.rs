//! Cluster and ClusterLoadAssignment to what the data path uses.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mesh_xds_proto::cluster::{self, circuit_breakers, cluster as parts};
use mesh_xds_proto::core::{self, HealthStatus, RoutingPriority};
use mesh_xds_proto::endpoint::{self, lb_endpoint};
use mesh_xds_proto::http_protocol_options::{
    self as options,
    http_protocol_options::{UpstreamProtocolOptions, explicit_http_config::ProtocolConfig},
};
use mesh_xds_proto::load_balancing::{least_request, random, round_robin};
use mesh_xds_proto::{Any, TypeUrl};

use super::{Balancing, ClusterSettings, Endpoint, Endpoints, Health, Limits, UpstreamProtocol};
use crate::address::{over_ads, socket_address};
use crate::check::{At, Checked, duration, fields, number, timeout};

/// The key of `typed_extension_protocol_options`, fixed by Envoy.
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// The settings, and the endpoints if they are inline.
pub(crate) fn compile(
    message: &cluster::Cluster,
    at: At<'_>,
) -> Checked<(ClusterSettings, Option<Arc<Endpoints>>)> {
    fields!(message, at => cluster::Cluster {
        take: name, eds_cluster_config, connect_timeout, lb_policy, load_assignment, circuit_breakers,
            typed_extension_protocol_options, common_lb_config, load_balancing_policy, cluster_discovery_type,
            lb_config, http2_protocol_options, max_requests_per_connection;
        // Names for statistics, resolver settings (nothing is resolved) and start-up order.
        ignore: alt_stat_name, metadata, dns_lookup_family, wait_for_warm_on_init, cleanup_interval,
            protocol_selection, ignore_health_on_host_removal, close_connections_on_host_health_failure,
            per_connection_buffer_limit_bytes, track_cluster_stats, track_timeout_budgets;
        refuse: transport_socket_matches, transport_socket_matcher, stats_matcher,
            per_connection_buffer_high_watermark_timeout, health_checks, upstream_http_protocol_options,
            common_http_protocol_options, http_protocol_options, dns_refresh_rate, dns_jitter,
            dns_failure_refresh_rate, respect_dns_ttl, dns_resolvers, use_tcp_for_dns_lookups,
            dns_resolution_config, typed_dns_resolver_config, outlier_detection, upstream_bind_config,
            lb_subset_config, transport_socket, upstream_connection_options, filters, lrs_server,
            lrs_report_endpoint_metrics, upstream_config, preconnect_policy,
            connection_pool_per_downstream_connection, queuing_policies
    });
    let at_type = at.field("type");
    let (eds_name, inline) = match cluster_discovery_type {
        Some(parts::ClusterDiscoveryType::Type(kind)) if *kind == parts::DiscoveryType::Eds as i32 => {
            let at = at.field("eds_cluster_config");
            let Some(config) = eds_cluster_config else { return Err(at.refuse("missing")) };
            let parts::EdsClusterConfig { eds_config, service_name } = config;
            over_ads(eds_config, at.field("eds_config"))?;
            let service = if service_name.is_empty() { name } else { service_name };
            (Some(service.as_str().into()), None)
        }
        Some(parts::ClusterDiscoveryType::Type(kind)) if *kind == parts::DiscoveryType::Static as i32 => {
            let at = at.field("load_assignment");
            let assignment = load_assignment.as_ref().ok_or_else(|| at.refuse("missing"))?;
            (None, Some(Arc::new(compile_endpoints(assignment, None, at)?)))
        }
        None => return Err(at_type.refuse("missing")),
        Some(_) => return Err(at_type.refuse("only EDS and STATIC")),
    };
    let (protocol, idle_timeout, max_requests) =
        protocol(typed_extension_protocol_options, http2_protocol_options.is_some(), at)?;
    let settings = ClusterSettings {
        name: name.as_str().into(),
        eds_name,
        balancing: balancing(*lb_policy, lb_config.as_ref(), load_balancing_policy.as_ref(), at)?,
        protocol,
        connect_timeout: match connect_timeout {
            None => Duration::from_secs(5),
            Some(value) => duration(value, at.field("connect_timeout"))?,
        },
        idle_timeout,
        max_requests_per_connection: max_requests.or(number(max_requests_per_connection)),
        limits: limits(circuit_breakers.as_ref(), at.field("circuit_breakers"))?,
        panic_percent: panic_percent(common_lb_config.as_ref(), at.field("common_lb_config"))?,
    };
    Ok((settings, inline))
}

fn panic_percent(message: Option<&parts::CommonLbConfig>, at: At<'_>) -> Checked<u32> {
    let Some(message) = message else { return Ok(0) };
    fields!(message, at => parts::CommonLbConfig {
        take: healthy_panic_threshold;
        ignore: update_merge_window, ignore_new_hosts_until_first_hc, close_connections_on_host_set_change;
        refuse: consistent_hashing_lb_config, override_host_status, locality_config_specifier
    });
    Ok(healthy_panic_threshold.as_ref().map_or(0, |percent| percent.value.clamp(0.0, 100.0) as u32))
}

fn protocol(
    typed: &HashMap<String, Any>,
    legacy_http2: bool,
    at: At<'_>,
) -> Checked<(UpstreamProtocol, Option<Duration>, Option<u32>)> {
    let default_idle = Some(Duration::from_secs(3600));
    let at = at.field("typed_extension_protocol_options");
    if let Some(other) = typed.keys().find(|key| *key != HTTP_OPTIONS) {
        return Err(at.field(other).refuse("not supported by this proxy"));
    }
    let Some(any) = typed.get(HTTP_OPTIONS) else {
        let protocol = if legacy_http2 { UpstreamProtocol::Http2 } else { UpstreamProtocol::Http1 };
        return Ok((protocol, default_idle, None));
    };
    let at = at.field(HTTP_OPTIONS);
    let message: options::HttpProtocolOptions = at.decode(any)?;
    let message = &message;
    fields!(message, at => options::HttpProtocolOptions {
        take: common_http_protocol_options, upstream_protocol_options;
        ignore: ;
        refuse: upstream_http_protocol_options, http_filters, header_validation_config, outlier_detection,
            request_mirror_policies, hash_policy, retry_policy
    });
    let (mut idle, mut max_requests) = (default_idle, None);
    if let Some(common) = common_http_protocol_options {
        let at = at.field("common_http_protocol_options");
        fields!(common, at => core::HttpProtocolOptions {
            take: idle_timeout, max_requests_per_connection;
            ignore: headers_with_underscores_action;
            refuse: max_connection_duration, max_connection_duration_jitter, max_headers_count,
                max_response_headers_kb, max_stream_duration
        });
        idle = timeout(idle_timeout, default_idle, at.field("idle_timeout"))?;
        max_requests = number(max_requests_per_connection).filter(|max| *max > 0);
    }
    let protocol = match upstream_protocol_options {
        Some(UpstreamProtocolOptions::ExplicitHttpConfig(explicit)) => match &explicit.protocol_config {
            Some(ProtocolConfig::HttpProtocolOptions(_)) | None => UpstreamProtocol::Http1,
            Some(ProtocolConfig::Http2ProtocolOptions(_)) => UpstreamProtocol::Http2,
            Some(ProtocolConfig::Http3ProtocolOptions(_)) => {
                return Err(at
                    .field("explicit_http_config")
                    .field("http3_protocol_options")
                    .refuse("HTTP/3 is not supported by this proxy"));
            }
        },
        Some(UpstreamProtocolOptions::UseDownstreamProtocolConfig(_)) => UpstreamProtocol::Downstream,
        Some(UpstreamProtocolOptions::AutoConfig(_)) => {
            return Err(at
                .field("auto_config")
                .refuse("needs TLS to the endpoints, which is not supported yet"));
        }
        None => return Err(at.refuse("explicit_http_config or use_downstream_protocol_config is needed")),
    };
    Ok((protocol, idle, max_requests))
}

fn balancing(
    policy: i32,
    config: Option<&parts::LbConfig>,
    typed: Option<&cluster::LoadBalancingPolicy>,
    at: At<'_>,
) -> Checked<Balancing> {
    let at_policy = at.field("lb_policy");
    if let Some(typed) = typed {
        return typed_balancing(typed, at.field("load_balancing_policy"));
    }
    let balancing = match parts::LbPolicy::try_from(policy) {
        Ok(parts::LbPolicy::RoundRobin) => Balancing::RoundRobin,
        Ok(parts::LbPolicy::Random) => Balancing::Random,
        Ok(parts::LbPolicy::LeastRequest) => Balancing::LeastRequest { choices: 2 },
        _ => return Err(at_policy.refuse("only ROUND_ROBIN, LEAST_REQUEST and RANDOM")),
    };
    match config {
        None => Ok(balancing),
        Some(parts::LbConfig::LeastRequestLbConfig(config)) => {
            let at = at.field("least_request_lb_config");
            fields!(config, at => parts::LeastRequestLbConfig {
                take: choice_count; ignore: ; refuse: active_request_bias, slow_start_config
            });
            Ok(match balancing {
                Balancing::LeastRequest { .. } => least_request_of(number(choice_count)),
                other => other,
            })
        }
        Some(parts::LbConfig::RoundRobinLbConfig(config)) => {
            let at = at.field("round_robin_lb_config");
            fields!(config, at => parts::RoundRobinLbConfig { take: ; ignore: ; refuse: slow_start_config });
            Ok(balancing)
        }
        Some(_) => Err(at.field("lb_config").refuse("not supported by this proxy")),
    }
}

/// Envoy picks the first policy that it knows; so do we.
fn typed_balancing(message: &cluster::LoadBalancingPolicy, at: At<'_>) -> Checked<Balancing> {
    for policy in &message.policies {
        let Some(any) =
            policy.typed_extension_config.as_ref().and_then(|config| config.typed_config.as_ref())
        else {
            continue;
        };
        if any.type_url == round_robin::RoundRobin::type_url_of() {
            return Ok(Balancing::RoundRobin);
        }
        if any.type_url == random::Random::type_url_of() {
            return Ok(Balancing::Random);
        }
        if any.type_url == least_request::LeastRequest::type_url_of() {
            let message: least_request::LeastRequest = at.decode(any)?;
            return Ok(least_request_of(number(&message.choice_count)));
        }
    }
    Err(at.field("policies").refuse("none of round_robin, least_request and random"))
}

fn least_request_of(choices: Option<u32>) -> Balancing {
    Balancing::LeastRequest { choices: choices.unwrap_or(2).clamp(2, 16) }
}

fn limits(message: Option<&cluster::CircuitBreakers>, at: At<'_>) -> Checked<Limits> {
    let mut limits = Limits::default();
    let Some(message) = message else { return Ok(limits) };
    fields!(message, at => cluster::CircuitBreakers { take: thresholds; ignore: ; refuse: per_host_thresholds });
    let at = at.field("thresholds");
    for (index, threshold) in thresholds.iter().enumerate() {
        let at = at.index(index);
        fields!(threshold, at => circuit_breakers::Thresholds {
            take: priority, max_connections, max_pending_requests, max_requests, max_retries;
            ignore: track_remaining;
            refuse: retry_budget, max_connection_pools
        });
        // Routes carry no priority, so the set for high priority is never asked.
        if *priority == RoutingPriority::Default as i32 {
            limits = Limits {
                connections: number(max_connections).unwrap_or(limits.connections),
                pending: number(max_pending_requests).unwrap_or(limits.pending),
                requests: number(max_requests).unwrap_or(limits.requests),
                retries: number(max_retries).unwrap_or(limits.retries),
            };
        }
    }
    Ok(limits)
}

/// A load assignment. Endpoints that `previous` had with the same address keep their request count.
pub(crate) fn compile_endpoints(
    message: &endpoint::ClusterLoadAssignment,
    previous: Option<&Endpoints>,
    at: At<'_>,
) -> Checked<Endpoints> {
    fields!(message, at => endpoint::ClusterLoadAssignment {
        take: endpoints, policy; ignore: cluster_name; refuse: named_endpoints
    });
    if let Some(policy) = policy {
        let at = at.field("policy");
        fields!(policy, at => endpoint::cluster_load_assignment::Policy {
            take: ; ignore: overprovisioning_factor, endpoint_stale_after, weighted_priority_health;
            refuse: drop_overloads
        });
    }
    let known: HashMap<SocketAddr, &Arc<Endpoint>> =
        previous.into_iter().flat_map(Endpoints::all).map(|endpoint| (endpoint.address, endpoint)).collect();
    let mut all = Vec::new();
    let at = at.field("endpoints");
    for (index, locality) in endpoints.iter().enumerate() {
        let at = at.index(index);
        fields!(locality, at => endpoint::LocalityLbEndpoints {
            take: lb_endpoints, priority;
            // Localities are told apart only by locality-aware balancing, which clusters here refuse.
            ignore: locality, metadata, load_balancing_weight, proximity;
            refuse: lb_config
        });
        let at = at.field("lb_endpoints");
        for (index, message) in lb_endpoints.iter().enumerate() {
            all.push(one_endpoint(message, *priority, &known, at.index(index))?);
        }
    }
    Ok(Endpoints::new(all))
}

fn one_endpoint(
    message: &endpoint::LbEndpoint,
    priority: u32,
    known: &HashMap<SocketAddr, &Arc<Endpoint>>,
    at: At<'_>,
) -> Checked<Arc<Endpoint>> {
    fields!(message, at => endpoint::LbEndpoint {
        take: health_status, load_balancing_weight, host_identifier; ignore: metadata; refuse:
    });
    let Some(lb_endpoint::HostIdentifier::Endpoint(host)) = host_identifier else {
        return Err(at.field("endpoint").refuse("missing"));
    };
    let at_host = at.field("endpoint");
    fields!(host, at_host => endpoint::Endpoint {
        take: address, hostname; ignore: observability_name, health_check_config; refuse: additional_addresses
    });
    let address = socket_address(address, at_host.field("address"))?;
    let health = match HealthStatus::try_from(*health_status) {
        Ok(HealthStatus::Unknown | HealthStatus::Healthy) => Health::Healthy,
        Ok(HealthStatus::Degraded) => Health::Degraded,
        Ok(HealthStatus::Unhealthy | HealthStatus::Draining | HealthStatus::Timeout) => Health::Unusable,
        Err(_) => return Err(at.field("health_status").refuse("unknown status")),
    };
    let weight = number(load_balancing_weight).unwrap_or(1);
    if weight == 0 {
        return Err(at.field("load_balancing_weight").refuse("must be at least 1"));
    }
    let before = known.get(&address);
    if let Some(before) = before.filter(|before| {
        before.weight == weight
            && before.health == health
            && before.priority == priority
            && *before.hostname == **hostname
    }) {
        return Ok(Arc::clone(before));
    }
    Ok(Arc::new(Endpoint {
        address,
        hostname: hostname.as_str().into(),
        weight,
        health,
        priority,
        active: before.map(|before| before.active.clone()).unwrap_or_default(),
    }))
}
