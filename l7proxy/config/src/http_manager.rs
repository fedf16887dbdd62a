//! HttpConnectionManager: what a filter chain does with HTTP.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use mesh_xds_proto::core::{self, http_protocol_options::HeadersWithUnderscoresAction};
use mesh_xds_proto::hcm::{
    self,
    http_connection_manager::{
        CodecType, PathWithEscapedSlashesAction, RouteSpecifier, ServerHeaderTransformation, StripPortMode,
        UpgradeConfig,
    },
    http_filter,
};
use mesh_xds_proto::router;

use crate::access_log::{self, LogFormat};
use crate::address::over_ads;
use crate::check::{At, Checked, fields, flag, number, timeout};
use crate::route::{self, RouteTable};

/// The settings of one HTTP filter chain.
#[derive(Debug)]
pub struct HttpManager {
    /// The codec.
    pub codec: Codec,
    /// Where routes come from.
    pub routes: RouteSource,
    /// The prefix of its statistics.
    pub stat_prefix: Arc<str>,
    /// What the `server` response header says, and when.
    pub server: ServerHeader,
    /// Limits of the head and of streams.
    pub limits: HttpLimits,
    /// Whether the peer's address is the client's, and forwarding headers are made here.
    pub use_remote_address: bool,
    /// Proxies in front that are believed.
    pub trusted_hops: u32,
    /// Leaves x-forwarded-for as it came.
    pub skip_xff_append: bool,
    /// Whether a request id is made when there is none.
    pub generate_request_id: bool,
    /// Whether an id that came from outside stays.
    pub preserve_external_request_id: bool,
    /// Whether the response carries the request id.
    pub request_id_in_response: bool,
    /// `via`, appended in both directions.
    pub via: Option<HeaderValue>,
    /// What happens to the path before routing.
    pub path: PathRules,
    /// Which part of the port in `host` is taken away before routing.
    pub strip_port: StripPort,
    /// Whether a dot at the end of the host is taken away.
    pub strip_trailing_dot: bool,
    /// Whether `upgrade: websocket` is carried through.
    pub websocket: bool,
    /// Leaves the x-envoy headers out of requests and responses.
    pub suppress_envoy_headers: bool,
    /// Every request is written to each.
    pub access_logs: Vec<LogFormat>,
}

/// Which codecs a connection may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// By ALPN, else by the first bytes.
    Auto,
    /// HTTP/1.x only.
    Http1,
    /// HTTP/2 only.
    Http2,
}

/// Where routes come from.
#[derive(Debug, Clone)]
pub enum RouteSource {
    /// Given in the listener.
    Inline(Arc<RouteTable>),
    /// Looked up in the snapshot for each request.
    Named(Arc<str>),
}

/// What happens to the `server` response header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerHeader {
    /// Always ours.
    Overwrite(HeaderValue),
    /// Ours where there is none.
    IfAbsent(HeaderValue),
    /// As it came.
    PassThrough,
}

/// Sizes and times. None: no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct HttpLimits {
    pub head_bytes: usize,
    pub header_fields: usize,
    /// From the first byte of a head to its last.
    pub request_headers: Option<Duration>,
    /// From the start of a request to the end of its body.
    pub request: Option<Duration>,
    /// Without a byte in either direction, while a request is under way.
    pub stream_idle: Option<Duration>,
    /// Without a request, before the connection is closed.
    pub connection_idle: Option<Duration>,
    pub max_stream_duration: Option<Duration>,
    pub max_connection_duration: Option<Duration>,
    pub max_requests_per_connection: Option<u32>,
    pub http2_streams: u32,
    pub http2_stream_window: u32,
    pub http2_connection_window: u32,
    pub http2_keepalive: Option<(Duration, Duration)>,
    /// Requests with an underscore in a header name.
    pub underscores: Underscores,
}

/// What happens to header names with an underscore, which some servers read as a hyphen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Underscores {
    /// They pass.
    Allow,
    /// The request is refused.
    Reject,
    /// The header is left out.
    Drop,
}

/// What happens to a path before anything looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathRules {
    /// Unreserved characters decoded, dot segments removed (RFC 3986, 6.2.2).
    pub normalize: bool,
    /// Several slashes become one.
    pub merge_slashes: bool,
    /// `%2F` and `%5C`.
    pub escaped_slashes: EscapedSlashes,
}

/// What happens to `%2F` and `%5C` in a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EscapedSlashes {
    /// They stay.
    Keep,
    /// 400.
    Reject,
    /// 307 to the path without them.
    Redirect,
    /// They are decoded.
    Decode,
}

/// Which port is taken off `host`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StripPort {
    /// None.
    Never,
    /// The listener's own.
    Matching,
    /// Any.
    Any,
}

pub(crate) struct Compiled {
    pub(crate) manager: HttpManager,
    pub(crate) clusters: BTreeSet<Arc<str>>,
}

pub(crate) fn compile(message: &hcm::HttpConnectionManager, at: At<'_>) -> Checked<Compiled> {
    fields!(message, at => hcm::HttpConnectionManager {
        take: codec_type, stat_prefix, http_filters, common_http_protocol_options, http_protocol_options,
            http2_protocol_options, server_name, server_header_transformation, max_request_headers_kb,
            stream_idle_timeout, request_timeout, request_headers_timeout, access_log, use_remote_address,
            xff_num_trusted_hops, skip_xff_append, via, generate_request_id, preserve_external_request_id,
            always_set_request_id_in_response, upgrade_configs, normalize_path, merge_slashes,
            path_with_escaped_slashes_action, strip_matching_host_port, strip_trailing_host_dot, route_specifier,
            strip_port_mode;
        // Drain and flush times belong to the process; x-forwarded-client-cert is always removed, which is the
        // default; the internal address list only matters for headers that are always removed as well.
        ignore: http1_safe_max_connection_duration, stream_flush_timeout, drain_timeout, drain_timeout_jitter,
            delayed_close_timeout, access_log_flush_interval, flush_access_log_on_new_request,
            access_log_options, internal_address_config, stream_error_on_invalid_http_message,
            append_local_overload, set_current_client_cert_details;
        refuse: add_user_agent, tracing, http3_protocol_options, scheme_header_transformation,
            original_ip_detection_extensions, early_header_mutation_extensions, forward_client_cert_details,
            forward_client_cert_matcher, proxy_100_continue, represent_ipv4_remote_address_as_ipv4_mapped_ipv6,
            request_id_extension, local_reply_config, path_normalization_options, proxy_status_config,
            typed_header_validation_config, append_x_forwarded_port, add_proxy_protocol_connection_state,
            forward_proto_config
    });
    if let Some(options) = http_protocol_options {
        let at = at.field("http_protocol_options");
        fields!(options, at => core::Http1ProtocolOptions {
            take: ;
            // Trailers always pass; absolute targets are always taken, as RFC 9112 demands of servers.
            ignore: allow_absolute_url, enable_trailers, override_stream_error_on_invalid_http_message,
                use_balsa_parser, allow_custom_methods, accept_http_10, send_fully_qualified_url;
            refuse: default_host_for_http_10, header_key_format, allow_chunked_length, ignore_http_11_upgrade
        });
    }
    let suppress_envoy_headers = router_only(http_filters, at.field("http_filters"))?;
    let mut clusters = BTreeSet::new();
    let routes = match route_specifier {
        Some(RouteSpecifier::Rds(rds)) => {
            let at = at.field("rds");
            over_ads(&rds.config_source, at.field("config_source"))?;
            RouteSource::Named(rds.route_config_name.as_str().into())
        }
        Some(RouteSpecifier::RouteConfig(config)) => {
            let table = route::compile(config, at.field("route_config"))?;
            clusters = table.clusters();
            RouteSource::Inline(Arc::new(table))
        }
        Some(RouteSpecifier::ScopedRoutes(_)) => {
            return Err(at.field("scoped_routes").refuse("not supported by this proxy"));
        }
        None => return Err(at.field("route_specifier").refuse("one of rds or route_config is needed")),
    };
    let mut limits = HttpLimits {
        head_bytes: number(max_request_headers_kb).map_or(32, |kib| kib as usize).clamp(1, 8192) * 1024,
        header_fields: 100,
        request_headers: timeout(
            request_headers_timeout,
            Some(Duration::from_secs(10)),
            at.field("request_headers_timeout"),
        )?,
        request: timeout(request_timeout, None, at.field("request_timeout"))?,
        stream_idle: timeout(
            stream_idle_timeout,
            Some(Duration::from_secs(300)),
            at.field("stream_idle_timeout"),
        )?,
        connection_idle: Some(Duration::from_secs(3600)),
        max_stream_duration: None,
        max_connection_duration: None,
        max_requests_per_connection: None,
        http2_streams: 100,
        http2_stream_window: 64 * 1024,
        http2_connection_window: 1024 * 1024,
        http2_keepalive: None,
        underscores: Underscores::Allow,
    };
    if let Some(options) = common_http_protocol_options {
        common_options(options, &mut limits, at.field("common_http_protocol_options"))?;
    }
    if let Some(options) = http2_protocol_options {
        http2_options(options, &mut limits, at.field("http2_protocol_options"))?;
    }
    let server = if server_name.is_empty() { "envoy" } else { server_name };
    let server = HeaderValue::from_str(server)
        .map_err(|_| at.field("server_name").refuse("not a valid header value"))?;
    let at_logs = at.field("access_log");
    let manager = HttpManager {
        codec: match CodecType::try_from(*codec_type) {
            Ok(CodecType::Auto) => Codec::Auto,
            Ok(CodecType::Http1) => Codec::Http1,
            Ok(CodecType::Http2) => Codec::Http2,
            _ => return Err(at.field("codec_type").refuse("only AUTO, HTTP1 and HTTP2")),
        },
        routes,
        stat_prefix: stat_prefix.as_str().into(),
        server: match ServerHeaderTransformation::try_from(*server_header_transformation) {
            Ok(ServerHeaderTransformation::Overwrite) => ServerHeader::Overwrite(server),
            Ok(ServerHeaderTransformation::AppendIfAbsent) => ServerHeader::IfAbsent(server),
            Ok(ServerHeaderTransformation::PassThrough) => ServerHeader::PassThrough,
            Err(_) => return Err(at.field("server_header_transformation").refuse("unknown")),
        },
        limits,
        use_remote_address: flag(use_remote_address),
        trusted_hops: *xff_num_trusted_hops,
        skip_xff_append: *skip_xff_append,
        generate_request_id: generate_request_id.as_ref().is_none_or(|value| value.value),
        preserve_external_request_id: *preserve_external_request_id,
        request_id_in_response: *always_set_request_id_in_response,
        via: match via.as_str() {
            "" => None,
            via => Some(
                HeaderValue::from_str(via).map_err(|_| at.field("via").refuse("not a valid header value"))?,
            ),
        },
        path: PathRules {
            normalize: flag(normalize_path),
            merge_slashes: *merge_slashes,
            escaped_slashes: match PathWithEscapedSlashesAction::try_from(*path_with_escaped_slashes_action) {
                Ok(
                    PathWithEscapedSlashesAction::ImplementationSpecificDefault
                    | PathWithEscapedSlashesAction::KeepUnchanged,
                ) => EscapedSlashes::Keep,
                Ok(PathWithEscapedSlashesAction::RejectRequest) => EscapedSlashes::Reject,
                Ok(PathWithEscapedSlashesAction::UnescapeAndRedirect) => EscapedSlashes::Redirect,
                Ok(PathWithEscapedSlashesAction::UnescapeAndForward) => EscapedSlashes::Decode,
                Err(_) => return Err(at.field("path_with_escaped_slashes_action").refuse("unknown")),
            },
        },
        strip_port: match strip_port_mode {
            Some(StripPortMode::StripAnyHostPort(true)) => StripPort::Any,
            _ if *strip_matching_host_port => StripPort::Matching,
            _ => StripPort::Never,
        },
        strip_trailing_dot: *strip_trailing_host_dot,
        websocket: websocket(upgrade_configs, at.field("upgrade_configs"))?,
        suppress_envoy_headers,
        access_logs: access_log
            .iter()
            .enumerate()
            .map(|(index, log)| access_log::compile(log, at_logs.index(index)))
            .collect::<Checked<_>>()?,
    };
    Ok(Compiled { manager, clusters })
}

/// Exactly one filter, the router. Returns whether x-envoy headers are suppressed.
fn router_only(filters: &[hcm::HttpFilter], at: At<'_>) -> Checked<bool> {
    let mut suppress = None;
    for (index, filter) in filters.iter().enumerate() {
        let at = at.index(index);
        fields!(filter, at => hcm::HttpFilter {
            take: name, is_optional, config_type; ignore: ; refuse: disabled
        });
        let at_config = at.field("typed_config");
        let any = match config_type {
            Some(http_filter::ConfigType::TypedConfig(any)) => any,
            Some(http_filter::ConfigType::ConfigDiscovery(_)) => {
                return Err(at.field("config_discovery").refuse("not supported by this proxy"));
            }
            None => return Err(at_config.refuse("missing")),
        };
        match at_config.decode::<router::Router>(any) {
            Ok(message) => {
                let message = &message;
                fields!(message, at_config => router::Router {
                    take: suppress_envoy_headers;
                    ignore: dynamic_stats, suppress_grpc_request_failure_code_stats,
                        reject_connect_request_early_data;
                    refuse: start_child_span, upstream_log, upstream_log_options, strict_check_headers,
                        respect_expected_rq_timeout, upstream_http_filters
                });
                suppress = Some(*suppress_envoy_headers);
            }
            // Envoy skips an optional filter that it does not know; that is what the flag is for.
            Err(_) if *is_optional => {}
            Err(_) => {
                return Err(at_config.refuse(format!(
                    "filter {name:?} ({}) is not supported by this proxy; only envoy.filters.http.router",
                    any.type_url
                )));
            }
        }
    }
    suppress.ok_or_else(|| at.refuse("envoy.filters.http.router is missing"))
}

fn websocket(configs: &[UpgradeConfig], at: At<'_>) -> Checked<bool> {
    let mut on = false;
    for (index, config) in configs.iter().enumerate() {
        let at = at.index(index);
        fields!(config, at => UpgradeConfig { take: upgrade_type, enabled; ignore: ; refuse: filters });
        if !upgrade_type.eq_ignore_ascii_case("websocket") {
            return Err(at.field("upgrade_type").refuse(format!("{upgrade_type:?}: only websocket")));
        }
        on = enabled.as_ref().is_none_or(|enabled| enabled.value);
    }
    Ok(on)
}

fn common_options(options: &core::HttpProtocolOptions, limits: &mut HttpLimits, at: At<'_>) -> Checked<()> {
    fields!(options, at => core::HttpProtocolOptions {
        take: idle_timeout, max_connection_duration, max_headers_count, max_stream_duration,
            headers_with_underscores_action, max_requests_per_connection;
        ignore: max_connection_duration_jitter;
        refuse: max_response_headers_kb
    });
    limits.connection_idle = timeout(idle_timeout, limits.connection_idle, at.field("idle_timeout"))?;
    limits.max_stream_duration = timeout(max_stream_duration, None, at.field("max_stream_duration"))?;
    limits.max_connection_duration =
        timeout(max_connection_duration, None, at.field("max_connection_duration"))?;
    limits.max_requests_per_connection = number(max_requests_per_connection).filter(|max| *max > 0);
    if let Some(count) = number(max_headers_count) {
        limits.header_fields = count as usize;
    }
    limits.underscores = match HeadersWithUnderscoresAction::try_from(*headers_with_underscores_action) {
        Ok(HeadersWithUnderscoresAction::Allow) => Underscores::Allow,
        Ok(HeadersWithUnderscoresAction::RejectRequest) => Underscores::Reject,
        Ok(HeadersWithUnderscoresAction::DropHeader) => Underscores::Drop,
        Err(_) => return Err(at.field("headers_with_underscores_action").refuse("unknown")),
    };
    Ok(())
}

fn http2_options(options: &core::Http2ProtocolOptions, limits: &mut HttpLimits, at: At<'_>) -> Checked<()> {
    fields!(options, at => core::Http2ProtocolOptions {
        take: max_concurrent_streams, initial_stream_window_size, initial_connection_window_size,
            connection_keepalive;
        // The codec has guards of its own against floods of frames.
        ignore: hpack_table_size, max_outbound_frames, max_outbound_control_frames,
            max_consecutive_inbound_frames_with_empty_payload, max_inbound_priority_frames_per_stream,
            max_inbound_window_update_frames_per_data_frame_sent, stream_error_on_invalid_http_messaging,
            override_stream_error_on_invalid_http_message, use_oghttp2_codec, max_metadata_size,
            enable_huffman_encoding, max_header_field_size_kb, disallow_obs_text, stream_reset_burst,
            stream_reset_rate;
        refuse: allow_connect, allow_metadata, custom_settings_parameters
    });
    // 2^31 - 1 is the largest window (RFC 9113, 6.9.1).
    const LARGEST_WINDOW: u32 = 0x7fff_ffff;
    limits.http2_streams = number(max_concurrent_streams).unwrap_or(limits.http2_streams).max(1);
    limits.http2_stream_window = number(initial_stream_window_size)
        .unwrap_or(limits.http2_stream_window)
        .clamp(65_535, LARGEST_WINDOW);
    limits.http2_connection_window = number(initial_connection_window_size)
        .unwrap_or(limits.http2_connection_window)
        .clamp(65_535, LARGEST_WINDOW);
    if let Some(keepalive) = connection_keepalive {
        let at = at.field("connection_keepalive");
        fields!(keepalive, at => core::KeepaliveSettings {
            take: interval, timeout; ignore: interval_jitter; refuse: connection_idle_interval
        });
        let interval = crate::check::timeout(interval, None, at.field("interval"))?;
        let answer = crate::check::timeout(timeout, Some(Duration::from_secs(20)), at.field("timeout"))?;
        limits.http2_keepalive = interval.zip(answer);
    }
    Ok(())
}
