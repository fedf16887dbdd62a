//! One short name for each protobuf package that the rest of the mesh uses.

use envoy_types::pb;

pub use pb::google::protobuf::{
    Any, BoolValue, BytesValue, DoubleValue, Duration, Empty, ListValue, StringValue, Struct, Timestamp,
    UInt32Value, UInt64Value, Value, value as struct_value,
};

// --- the resources
/// `envoy.config.cluster.v3`: `Cluster`, `CircuitBreakers`, `OutlierDetection`.
pub use pb::envoy::config::cluster::v3 as cluster;
/// `envoy.config.core.v3`: addresses, config sources, header options, metadata, `Node`.
pub use pb::envoy::config::core::v3 as core;
/// `envoy.config.endpoint.v3`: `ClusterLoadAssignment`, `LbEndpoint`.
pub use pb::envoy::config::endpoint::v3 as endpoint;
/// `envoy.config.listener.v3`: `Listener`, `FilterChain`, `FilterChainMatch`.
pub use pb::envoy::config::listener::v3 as listener;
/// `envoy.config.route.v3`: `RouteConfiguration`, `VirtualHost`, `Route`.
pub use pb::envoy::config::route::v3 as route;
/// `envoy.extensions.transport_sockets.tls.v3`: TLS contexts, `Secret`.
pub use pb::envoy::extensions::transport_sockets::tls::v3 as tls;
/// `envoy.service.discovery.v3`: delta and state-of-the-world requests, client and server stubs.
pub use pb::envoy::service::discovery::v3 as discovery;
/// `google.rpc`: the `Status` in a NACK.
pub use pb::google::rpc;

// --- what the resources carry as Any
/// `envoy.config.accesslog.v3`: `AccessLog` and its filters.
pub use pb::envoy::config::accesslog::v3 as access_log;
/// `envoy.config.common.mutation_rules.v3`.
pub use pb::envoy::config::common::mutation_rules::v3 as mutation_rules;
/// `envoy.config.rbac.v3`: policies, principals, permissions.
pub use pb::envoy::config::rbac::v3 as rbac;
/// `envoy.config.trace.v3`.
pub use pb::envoy::config::trace::v3 as trace;
/// `envoy.extensions.access_loggers.file.v3`.
pub use pb::envoy::extensions::access_loggers::file::v3 as file_access_log;
/// `envoy.extensions.access_loggers.stream.v3`: logs to stdout and stderr.
pub use pb::envoy::extensions::access_loggers::stream::v3 as stream_access_log;
/// `envoy.extensions.filters.http.cors.v3`.
pub use pb::envoy::extensions::filters::http::cors::v3 as cors;
/// `envoy.extensions.filters.http.ext_authz.v3`.
pub use pb::envoy::extensions::filters::http::ext_authz::v3 as ext_authz;
/// `envoy.extensions.filters.http.header_mutation.v3`.
pub use pb::envoy::extensions::filters::http::header_mutation::v3 as header_mutation;
/// `envoy.extensions.filters.http.local_ratelimit.v3`.
pub use pb::envoy::extensions::filters::http::local_ratelimit::v3 as local_rate_limit;
/// `envoy.extensions.filters.http.rbac.v3`.
pub use pb::envoy::extensions::filters::http::rbac::v3 as rbac_filter;
/// `envoy.extensions.filters.http.router.v3`.
pub use pb::envoy::extensions::filters::http::router::v3 as router;
/// `envoy.extensions.filters.listener.http_inspector.v3`.
pub use pb::envoy::extensions::filters::listener::http_inspector::v3 as http_inspector;
/// `envoy.extensions.filters.listener.original_dst.v3`.
pub use pb::envoy::extensions::filters::listener::original_dst::v3 as original_dst;
/// `envoy.extensions.filters.listener.original_src.v3`.
pub use pb::envoy::extensions::filters::listener::original_src::v3 as original_src;
/// `envoy.extensions.filters.listener.proxy_protocol.v3`.
pub use pb::envoy::extensions::filters::listener::proxy_protocol::v3 as proxy_protocol;
/// `envoy.extensions.filters.listener.tls_inspector.v3`.
pub use pb::envoy::extensions::filters::listener::tls_inspector::v3 as tls_inspector;
/// `envoy.extensions.filters.network.direct_response.v3`.
pub use pb::envoy::extensions::filters::network::direct_response::v3 as direct_response;
/// `envoy.extensions.filters.network.http_connection_manager.v3`.
pub use pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
/// `envoy.extensions.filters.network.tcp_proxy.v3`.
pub use pb::envoy::extensions::filters::network::tcp_proxy::v3 as tcp_proxy;
/// `envoy.extensions.transport_sockets.proxy_protocol.v3`.
pub use pb::envoy::extensions::transport_sockets::proxy_protocol::v3 as proxy_protocol_upstream;
/// `envoy.extensions.transport_sockets.raw_buffer.v3`.
pub use pb::envoy::extensions::transport_sockets::raw_buffer::v3 as raw_buffer;
/// `envoy.extensions.upstreams.http.v3`: `HttpProtocolOptions` of a cluster.
pub use pb::envoy::extensions::upstreams::http::v3 as http_protocol_options;

// --- shared parts
/// `envoy.type.matcher.v3`: `StringMatcher`, `RegexMatcher`, `PathMatcher`.
pub use pb::envoy::r#type::matcher::v3 as matcher;
/// `envoy.type.metadata.v3`.
pub use pb::envoy::r#type::metadata::v3 as metadata_key;
/// `envoy.type.tracing.v3`.
pub use pb::envoy::r#type::tracing::v3 as tracing_tag;
/// `envoy.type.v3`: percentages, ranges, status codes.
pub use pb::envoy::r#type::v3 as envoy_type;

/// The load balancing policies, one module each.
pub mod load_balancing {
    use envoy_types::pb::envoy::extensions::load_balancing_policies as policies;

    pub use policies::common::v3 as common;
    pub use policies::least_request::v3 as least_request;
    pub use policies::maglev::v3 as maglev;
    pub use policies::random::v3 as random;
    pub use policies::ring_hash::v3 as ring_hash;
    pub use policies::round_robin::v3 as round_robin;
}

/// The substitution formatters of access logs and header values.
pub mod formatter {
    use envoy_types::pb::envoy::extensions::formatter as formatters;

    pub use formatters::metadata::v3 as metadata;
    pub use formatters::req_without_query::v3 as req_without_query;
}
