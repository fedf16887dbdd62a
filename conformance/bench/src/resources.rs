//! What the proxy and Envoy are told over xDS: the same bytes for both, in the shape that our agent lowers to.

use std::net::SocketAddr;

use anyhow::Context;
use mesh_xds::server::ResourceSet;
use mesh_xds_proto::json::decode_any_value;
use mesh_xds_proto::route::header_matcher::HeaderMatchSpecifier;
use mesh_xds_proto::route::route_action::ClusterSpecifier;
use mesh_xds_proto::route::route_match::PathSpecifier;
use mesh_xds_proto::route::{
    HeaderMatcher, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost, route::Action,
};
use mesh_xds_proto::{Any, Duration, any, matcher};
use serde_json::{Value, json};

use crate::generator::Request;

/// Name of the listener, of its route table and of the cluster.
const NAME: &str = "bench";

/// The header that header routes look at.
const TENANT: &str = "x-tenant";

/// How a route matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The whole path.
    Exact,
    /// A path prefix, by segments.
    Prefix,
    /// A path that all routes of the host share, and a header.
    Header,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Exact, Self::Prefix, Self::Header];

    /// The host whose routes are of this kind.
    fn host(self) -> &'static str {
        match self {
            Self::Exact => "exact.example",
            Self::Prefix => "prefix.example",
            Self::Header => "header.example",
        }
    }

    fn route(self, index: usize) -> Route {
        let path = format!("/shop-{index:06}/items");
        let (path, headers) = match self {
            Self::Exact => (PathSpecifier::Path(path), Vec::new()),
            Self::Prefix => (PathSpecifier::PathSeparatedPrefix(path), Vec::new()),
            Self::Header => (PathSpecifier::Path(path), vec![tenant(index)]),
        };
        route(format!("{}-{index}", self.host()), path, headers)
    }

    /// A request for the route of that position.
    pub(crate) fn request(self, index: usize) -> Request {
        let path = format!("/shop-{index:06}/items");
        let (path, headers) = match self {
            Self::Exact => (path, Vec::new()),
            Self::Prefix => (format!("{path}/42"), Vec::new()),
            Self::Header => (path, vec![(TENANT, format!("tenant-{index}"))]),
        };
        Request { host: self.host().to_owned(), path, headers }
    }
}

fn tenant(index: usize) -> HeaderMatcher {
    let value = matcher::StringMatcher {
        match_pattern: Some(matcher::string_matcher::MatchPattern::Exact(format!("tenant-{index}"))),
        ..Default::default()
    };
    HeaderMatcher {
        name: TENANT.to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(value)),
        ..Default::default()
    }
}

fn route(name: String, path: PathSpecifier, headers: Vec<HeaderMatcher>) -> Route {
    Route {
        name,
        r#match: Some(RouteMatch { path_specifier: Some(path), headers, ..Default::default() }),
        action: Some(Action::Route(RouteAction {
            cluster_specifier: Some(ClusterSpecifier::Cluster(NAME.to_owned())),
            timeout: Some(Duration { seconds: 0, nanos: 0 }),
            ..Default::default()
        })),
        ..Default::default()
    }
}

/// A table with everything for one cluster.
pub(crate) fn catch_all() -> RouteConfiguration {
    let all = route(NAME.to_owned(), PathSpecifier::Prefix("/".to_owned()), Vec::new());
    table(vec![host(NAME, "*", vec![all])])
}

/// Three hosts, each with `count` routes of one kind.
pub(crate) fn by_kind(count: usize) -> RouteConfiguration {
    let routes = |kind: Kind| (0..count).map(|index| kind.route(index)).collect();
    table(Kind::ALL.into_iter().map(|kind| host(kind.host(), kind.host(), routes(kind))).collect())
}

/// `hosts` hosts with `each` routes: exact paths, prefixes and headers in turn. `probe` puts one more route in
/// front of the last host's.
pub(crate) fn spread(hosts: usize, each: usize, probe: Option<usize>) -> RouteConfiguration {
    let hosts = (0..hosts).map(|number| {
        let name = spread_host(number);
        let mut routes: Vec<Route> =
            (0..each).map(|index| Kind::ALL[index % 3].route(number * each + index)).collect();
        if let Some(probe) = probe.filter(|_| number + 1 == hosts) {
            routes.insert(0, route("probe".to_owned(), PathSpecifier::Path(probe_path(probe)), Vec::new()));
        }
        host(&name, &name, routes)
    });
    table(hosts.collect())
}

/// A request that only the probe's route answers.
pub(crate) fn probe_request(hosts: usize, probe: usize) -> Request {
    Request { host: spread_host(hosts - 1), path: probe_path(probe), headers: Vec::new() }
}

/// A request that is answered whatever the probe is.
pub(crate) fn steady_request() -> Request {
    Request { host: spread_host(0), ..Kind::Exact.request(0) }
}

fn spread_host(number: usize) -> String {
    format!("shop-{number:04}.example")
}

fn probe_path(probe: usize) -> String {
    format!("/probe-{probe}")
}

fn host(name: &str, domain: &str, routes: Vec<Route>) -> VirtualHost {
    VirtualHost { name: name.to_owned(), domains: vec![domain.to_owned()], routes, ..Default::default() }
}

fn table(virtual_hosts: Vec<VirtualHost>) -> RouteConfiguration {
    RouteConfiguration {
        name: NAME.to_owned(),
        virtual_hosts,
        ignore_port_in_host_matching: true,
        validate_clusters: Some(mesh_xds_proto::BoolValue { value: false }),
        ..Default::default()
    }
}

/// Everything but the routes.
#[derive(Clone, Debug)]
pub(crate) struct Fixed {
    listener: Any,
    cluster: Any,
    assignment: Any,
}

impl Fixed {
    /// A listener on `front`, a cluster with `backend`.
    ///
    /// # Errors
    /// The messages below do not fit Envoy's.
    pub(crate) fn new(front: SocketAddr, backend: SocketAddr, log: bool) -> anyhow::Result<Self> {
        let decode = |value: Value| decode_any_value(&value).context("a resource of the benchmark");
        Ok(Self {
            listener: decode(listener(front, log))?,
            cluster: decode(cluster())?,
            assignment: decode(assignment(backend))?,
        })
    }

    /// With this route table.
    pub(crate) fn with(&self, table: &RouteConfiguration) -> ResourceSet {
        let mut set = ResourceSet::default();
        for resource in [&self.listener, &self.cluster, &self.assignment] {
            set.insert(NAME, resource.clone());
        }
        set.insert(NAME, any(table));
        set
    }
}

fn ads() -> Value {
    json!({ "ads": {}, "resource_api_version": "V3" })
}

fn address(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}

fn listener(front: SocketAddr, log: bool) -> Value {
    const HCM: &str = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    let access_log = json!([{
        "name": "envoy.access_loggers.stdout",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
        },
    }]);
    json!({
        "@type": "type.googleapis.com/envoy.config.listener.v3.Listener",
        "name": NAME,
        "address": address(front),
        "traffic_direction": "INBOUND",
        "filter_chains": [{ "name": "http", "filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": HCM,
                "codec_type": "AUTO",
                "stat_prefix": NAME,
                "rds": { "config_source": ads(), "route_config_name": NAME },
                "http_filters": [{
                    "name": "envoy.filters.http.router",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                        "dynamic_stats": false,
                    },
                }],
                "server_name": NAME,
                // Envoy's own advice for comparisons.
                "generate_request_id": false,
                "use_remote_address": true,
                "stream_idle_timeout": "300s",
                "common_http_protocol_options": { "idle_timeout": "3600s" },
                "http2_protocol_options": {
                    "max_concurrent_streams": 100,
                    "initial_stream_window_size": 65536,
                    "initial_connection_window_size": 1_048_576,
                },
                "upgrade_configs": [{ "upgrade_type": "websocket" }],
                "access_log": if log { access_log } else { json!([]) },
                "normalize_path": true,
                "merge_slashes": true,
                "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
            },
        }] }],
    })
}

fn cluster() -> Value {
    const LIMIT: u32 = 1_000_000;
    json!({
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": NAME,
        "type": "EDS",
        "eds_cluster_config": { "eds_config": ads(), "service_name": NAME },
        "connect_timeout": "5s",
        "lb_policy": "ROUND_ROBIN",
        "circuit_breakers": { "thresholds": [{
            "max_connections": LIMIT, "max_pending_requests": LIMIT, "max_requests": LIMIT, "max_retries": LIMIT,
        }] },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "common_http_protocol_options": { "idle_timeout": "60s" },
                "explicit_http_config": { "http_protocol_options": {} },
            },
        },
    })
}

fn assignment(backend: SocketAddr) -> Value {
    json!({
        "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": NAME,
        "endpoints": [{ "lb_endpoints": [{
            "health_status": "HEALTHY",
            "endpoint": { "address": address(backend) },
        }] }],
    })
}
