//! One line of JSON for each request.

use std::sync::LazyLock;

use mesh_xds_proto::core::substitution_format_string::Format;
use mesh_xds_proto::stream_access_log::stdout_access_log::AccessLogFormat;
use mesh_xds_proto::{Any, Struct, Value, access_log, any, canonical, core, stream_access_log, struct_value};

/// Field and command operator.
const FIELDS: [(&str, &str); 19] = [
    ("authority", "%REQ(:AUTHORITY)%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("cluster", "%UPSTREAM_CLUSTER%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("duration_ms", "%DURATION%"),
    ("forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("route", "%ROUTE_NAME%"),
    ("server_name", "%REQUESTED_SERVER_NAME%"),
    ("time", "%START_TIME%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
];

/// The access log on standard output.
pub(super) fn stdout() -> access_log::AccessLog {
    access_log::AccessLog {
        name: "envoy.access_loggers.stdout".to_owned(),
        filter: None,
        config_type: Some(access_log::access_log::ConfigType::TypedConfig(STDOUT.clone())),
    }
}

/// Made once. A `Struct` is a hash map, whose bytes would differ from one run to the next; the canonical
/// form is the same always.
static STDOUT: LazyLock<Any> = LazyLock::new(|| {
    let value = |operator: &str| Value { kind: Some(struct_value::Kind::StringValue(operator.to_owned())) };
    let fields = FIELDS.iter().map(|(name, operator)| ((*name).to_owned(), value(operator))).collect();
    canonical(&any(&stream_access_log::StdoutAccessLog {
        access_log_format: Some(AccessLogFormat::LogFormat(core::SubstitutionFormatString {
            format: Some(Format::JsonFormat(Struct { fields })),
            ..Default::default()
        })),
    }))
});
