//! Access log formats, compiled to a list of pieces.

use http::HeaderName;
use mesh_xds_proto::core::{self, substitution_format_string::Format};
use mesh_xds_proto::{Struct, TypeUrl, access_log, file_access_log, stream_access_log, struct_value};

use crate::address::inline;
use crate::check::{At, Checked, fields};

/// How a line is written.
#[derive(Debug, Clone, PartialEq)]
pub enum LogFormat {
    /// The pieces one after the other. A line feed is added where the format has none.
    Text(Vec<Piece>),
    /// One object a line; each member's value is a string, or a number or null where its only piece is one.
    Json(Vec<(Box<str>, Vec<Piece>)>),
}

/// One part of a line.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    /// As it stands.
    Text(Box<str>),
    /// Taken from the request's record.
    Field(Field),
    /// A request header, cut after so many bytes: the first of the names that is present.
    Request(Vec<Subject>, Option<usize>),
    /// A response header, cut after so many bytes.
    Response(HeaderName, Option<usize>),
}

/// A header, or what HTTP/2 calls a pseudo header.
#[derive(Debug, Clone, PartialEq)]
pub enum Subject {
    /// `:method`.
    Method,
    /// `:path`, as the client sent it, with its query.
    Path,
    /// `:authority`.
    Authority,
    /// `:scheme`.
    Scheme,
    /// Any other.
    Header(HeaderName),
}

/// A command that reads the record. Named as Envoy's format documentation names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Field {
    StartTime,
    Protocol,
    ResponseCode,
    ResponseCodeDetails,
    ResponseFlags,
    BytesReceived,
    BytesSent,
    Duration,
    UpstreamHost,
    UpstreamCluster,
    RouteName,
    DownstreamRemoteAddress,
    DownstreamRemoteAddressWithoutPort,
    DownstreamDirectRemoteAddress,
    DownstreamLocalAddress,
    DownstreamLocalAddressWithoutPort,
    RequestedServerName,
}

/// What is logged when no format is given.
const DEFAULT_JSON: [(&str, &str); 18] = [
    ("start_time", "%START_TIME%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(:PATH)%"),
    ("authority", "%REQ(:AUTHORITY)%"),
    ("protocol", "%PROTOCOL%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("duration", "%DURATION%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER%"),
    ("route_name", "%ROUTE_NAME%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
];

/// One logger of an HTTP connection manager. Loggers to a file are taken only for the process's own
/// output: the proxy opens no files.
pub(crate) fn compile(message: &access_log::AccessLog, at: At<'_>) -> Checked<LogFormat> {
    fields!(message, at => access_log::AccessLog { take: config_type; ignore: name; refuse: filter });
    let at = at.field("typed_config");
    let Some(access_log::access_log::ConfigType::TypedConfig(any)) = config_type else {
        return Err(at.refuse("missing"));
    };
    if any.type_url == stream_access_log::StdoutAccessLog::type_url_of() {
        let message: stream_access_log::StdoutAccessLog = at.decode(any)?;
        use stream_access_log::stdout_access_log::AccessLogFormat;
        return match &message.access_log_format {
            None => default_format(at),
            Some(AccessLogFormat::LogFormat(format)) => format_string(format, at.field("log_format")),
        };
    }
    if any.type_url == file_access_log::FileAccessLog::type_url_of() {
        let message: file_access_log::FileAccessLog = at.decode(any)?;
        if message.path != "/dev/stdout" {
            return Err(at.field("path").refuse("only /dev/stdout"));
        }
        use file_access_log::file_access_log::AccessLogFormat;
        return match &message.access_log_format {
            None => default_format(at),
            Some(AccessLogFormat::Format(text)) => Ok(LogFormat::Text(pieces(text, at.field("format"))?)),
            Some(AccessLogFormat::JsonFormat(members) | AccessLogFormat::TypedJsonFormat(members)) => {
                json(members, at.field("json_format"))
            }
            Some(AccessLogFormat::LogFormat(format)) => format_string(format, at.field("log_format")),
        };
    }
    Err(at.refuse(format!("{}: only envoy.access_loggers.stdout and .file", any.type_url)))
}

fn default_format(at: At<'_>) -> Checked<LogFormat> {
    let member = |(name, format): (&str, &str)| Ok((name.into(), pieces(format, at)?));
    Ok(LogFormat::Json(DEFAULT_JSON.into_iter().map(member).collect::<Checked<_>>()?))
}

fn format_string(message: &core::SubstitutionFormatString, at: At<'_>) -> Checked<LogFormat> {
    fields!(message, at => core::SubstitutionFormatString {
        take: format; ignore: omit_empty_values, content_type, json_format_options; refuse: formatters
    });
    match format {
        None => default_format(at),
        Some(Format::TextFormat(text)) => Ok(LogFormat::Text(pieces(text, at.field("text_format"))?)),
        Some(Format::JsonFormat(members)) => json(members, at.field("json_format")),
        Some(Format::TextFormatSource(source)) => {
            let at = at.field("text_format_source");
            let text = String::from_utf8(inline(source, at)?).map_err(|_| at.refuse("not UTF-8"))?;
            Ok(LogFormat::Text(pieces(&text, at)?))
        }
    }
}

/// Members sorted by name, since a protobuf map has no order.
fn json(message: &Struct, at: At<'_>) -> Checked<LogFormat> {
    let mut members = Vec::new();
    for (name, value) in &message.fields {
        let at = at.field(name);
        let Some(struct_value::Kind::StringValue(format)) = &value.kind else {
            return Err(at.refuse("only strings"));
        };
        members.push((name.as_str().into(), pieces(format, at)?));
    }
    members.sort_by(|a: &(Box<str>, _), b| a.0.cmp(&b.0));
    Ok(LogFormat::Json(members))
}

fn pieces(format: &str, at: At<'_>) -> Checked<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut rest = format;
    while let Some(start) = rest.find('%') {
        text.push_str(&rest[..start]);
        rest = &rest[start + 1..];
        let end = rest.find('%').ok_or_else(|| at.refuse("a command has no closing percent sign"))?;
        if end == 0 {
            text.push('%');
        } else {
            if !text.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut text).into()));
            }
            pieces.push(command(&rest[..end], at)?);
        }
        rest = &rest[end + 1..];
    }
    text.push_str(rest);
    if !text.is_empty() {
        pieces.push(Piece::Text(text.into()));
    }
    Ok(pieces)
}

fn command(command: &str, at: At<'_>) -> Checked<Piece> {
    let unknown = || at.refuse(format!("%{command}% is not supported by this proxy"));
    let (call, limit) = match command.rsplit_once("):") {
        Some((call, limit)) => (format!("{call})"), Some(limit.parse::<usize>().map_err(|_| unknown())?)),
        None => (command.to_owned(), None),
    };
    if let Some(names) = call.strip_prefix("REQ(").and_then(|rest| rest.strip_suffix(')')) {
        let subjects = names.split('?').map(|name| subject(name, at)).collect::<Checked<Vec<_>>>()?;
        return Ok(Piece::Request(subjects, limit));
    }
    if let Some(name) = call.strip_prefix("RESP(").and_then(|rest| rest.strip_suffix(')')) {
        return match subject(name, at)? {
            Subject::Header(name) => Ok(Piece::Response(name, limit)),
            _ => Err(unknown()),
        };
    }
    Ok(Piece::Field(match call.as_str() {
        "START_TIME" => Field::StartTime,
        "PROTOCOL" => Field::Protocol,
        "RESPONSE_CODE" => Field::ResponseCode,
        "RESPONSE_CODE_DETAILS" => Field::ResponseCodeDetails,
        "RESPONSE_FLAGS" => Field::ResponseFlags,
        "BYTES_RECEIVED" => Field::BytesReceived,
        "BYTES_SENT" => Field::BytesSent,
        "DURATION" => Field::Duration,
        "UPSTREAM_HOST" => Field::UpstreamHost,
        "UPSTREAM_CLUSTER" => Field::UpstreamCluster,
        "ROUTE_NAME" => Field::RouteName,
        "DOWNSTREAM_REMOTE_ADDRESS" => Field::DownstreamRemoteAddress,
        "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => Field::DownstreamRemoteAddressWithoutPort,
        "DOWNSTREAM_DIRECT_REMOTE_ADDRESS" => Field::DownstreamDirectRemoteAddress,
        "DOWNSTREAM_LOCAL_ADDRESS" => Field::DownstreamLocalAddress,
        "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => Field::DownstreamLocalAddressWithoutPort,
        "REQUESTED_SERVER_NAME" => Field::RequestedServerName,
        _ => return Err(unknown()),
    }))
}

fn subject(name: &str, at: At<'_>) -> Checked<Subject> {
    Ok(match name.to_ascii_lowercase().as_str() {
        ":method" => Subject::Method,
        ":path" => Subject::Path,
        ":authority" | "host" => Subject::Authority,
        ":scheme" => Subject::Scheme,
        // Set by Envoy on rewritten paths; the record keeps the original path, so this is the same.
        "x-envoy-original-path" => Subject::Path,
        other => Subject::Header(
            HeaderName::from_bytes(other.as_bytes())
                .map_err(|_| at.refuse(format!("{name:?} is not a header name")))?,
        ),
    })
}
