//! The HTTP connection manager of a chain.

use mesh_xds_proto::hcm::http_connection_manager::{
    CodecType, PathWithEscapedSlashesAction, RouteSpecifier, UpgradeConfig,
};
use mesh_xds_proto::listener::Filter;
use mesh_xds_proto::listener::filter::ConfigType;
use mesh_xds_proto::{any, core, hcm, router};

use super::messages::{ads, boolean, duration, number};
use super::{EscapedSlashes, LowerConfig, access_log};
use crate::resolve::{Chain, Direction, EffectiveListener};

/// Streams that a client may have open on one HTTP/2 connection.
const CONCURRENT_STREAMS: u32 = 100;
/// Bytes of a stream and of a connection that may wait unread.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// The filter that speaks HTTP on a chain.
pub(super) fn connection_manager(
    listener: &EffectiveListener,
    chain: &Chain,
    config: &LowerConfig,
) -> Filter {
    let idle_timeout = match listener.direction {
        Direction::Inbound => config.inbound_idle_timeout,
        Direction::Outbound => config.outbound_idle_timeout,
    };
    let message = hcm::HttpConnectionManager {
        codec_type: CodecType::Auto.into(),
        stat_prefix: format!("{}/{}", listener.label, if chain.tls.is_some() { "https" } else { "http" }),
        route_specifier: Some(RouteSpecifier::Rds(hcm::Rds {
            config_source: Some(ads()),
            route_config_name: chain.route_table.clone(),
        })),
        http_filters: vec![hcm::HttpFilter {
            name: "envoy.filters.http.router".to_owned(),
            config_type: Some(hcm::http_filter::ConfigType::TypedConfig(any(&router::Router::default()))),
            ..Default::default()
        }],
        server_name: config.server_name.clone(),
        use_remote_address: boolean(true),
        // Between pods, the caller's id is what ties a request to the one that led to it.
        preserve_external_request_id: listener.direction == Direction::Outbound,
        xff_num_trusted_hops: chain.trusted_hops,
        stream_idle_timeout: duration(config.stream_idle_timeout),
        common_http_protocol_options: Some(core::HttpProtocolOptions {
            idle_timeout: duration(idle_timeout),
            ..Default::default()
        }),
        http2_protocol_options: Some(core::Http2ProtocolOptions {
            max_concurrent_streams: number(CONCURRENT_STREAMS),
            initial_stream_window_size: number(STREAM_WINDOW),
            initial_connection_window_size: number(CONNECTION_WINDOW),
            ..Default::default()
        }),
        upgrade_configs: vec![UpgradeConfig { upgrade_type: "websocket".to_owned(), ..Default::default() }],
        access_log: if config.access_log { vec![access_log::stdout()] } else { Vec::new() },
        normalize_path: boolean(true),
        merge_slashes: true,
        path_with_escaped_slashes_action: match config.escaped_slashes {
            EscapedSlashes::Keep => PathWithEscapedSlashesAction::KeepUnchanged,
            EscapedSlashes::Reject => PathWithEscapedSlashesAction::RejectRequest,
            EscapedSlashes::Redirect => PathWithEscapedSlashesAction::UnescapeAndRedirect,
        }
        .into(),
        ..Default::default()
    };
    Filter {
        name: "envoy.filters.network.http_connection_manager".to_owned(),
        config_type: Some(ConfigType::TypedConfig(any(&message))),
    }
}
