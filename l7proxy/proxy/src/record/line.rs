//! A record as a line of the access log.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::Version;
use mesh_l7proxy_config::access_log::{Field, LogFormat, Piece, Subject};

use super::{Logged, Record};

impl Record {
    /// The line, with its line feed. Text from clients has control characters and quotes escaped, so that
    /// no request can forge a line.
    pub(super) fn line(&self, logged: &Logged, format: &LogFormat, duration: Duration) -> String {
        let mut line = String::with_capacity(512);
        match format {
            LogFormat::Text(pieces) => {
                for piece in pieces {
                    if let Piece::Text(text) = piece {
                        line.push_str(text);
                        continue;
                    }
                    let mut value = String::new();
                    if self.piece(logged, piece, duration, &mut value).is_some() {
                        escape(&value, &mut line);
                    } else {
                        line.push('-');
                    }
                }
                if !line.ends_with('\n') {
                    line.push('\n');
                }
            }
            LogFormat::Json(members) => {
                line.push('{');
                for (index, (name, pieces)) in members.iter().enumerate() {
                    if index > 0 {
                        line.push(',');
                    }
                    quote(name, &mut line);
                    line.push(':');
                    self.member(logged, pieces, duration, &mut line);
                }
                line.push_str("}\n");
            }
        }
        line
    }

    fn member(&self, logged: &Logged, pieces: &[Piece], duration: Duration, line: &mut String) {
        let mut value = String::new();
        if let [piece] = pieces {
            match self.piece(logged, piece, duration, &mut value) {
                None => line.push_str("null"),
                Some(Kind::Number) => line.push_str(&value),
                Some(Kind::Text) => quote(&value, line),
            }
            return;
        }
        for piece in pieces {
            if self.piece(logged, piece, duration, &mut value).is_none() {
                value.push('-');
            }
        }
        quote(&value, line);
    }

    /// Appends a piece. None: there is no such value for this request.
    fn piece(&self, logged: &Logged, piece: &Piece, duration: Duration, out: &mut String) -> Option<Kind> {
        match piece {
            Piece::Text(text) => {
                out.push_str(text);
                Some(Kind::Text)
            }
            Piece::Field(field) => self.field(logged, *field, duration, out),
            Piece::Request(subjects, limit) => {
                let found = subjects.iter().find_map(|subject| match subject {
                    Subject::Method => Some(logged.method.as_str().as_bytes()),
                    Subject::Path => logged.uri.path_and_query().map(|path| path.as_str().as_bytes()),
                    Subject::Authority => logged.authority.as_ref().map(|authority| authority.as_bytes()),
                    Subject::Scheme => Some(if self.connection.tls { b"https" } else { b"http" }),
                    Subject::Header(name) => logged
                        .request
                        .iter()
                        .find(|(held, _)| held == name)
                        .map(|(_, value)| value.as_bytes()),
                })?;
                push_limited(found, *limit, out);
                Some(Kind::Text)
            }
            Piece::Response(name, limit) => {
                let (_, value) = logged.response.iter().find(|(held, _)| held == name)?;
                push_limited(value.as_bytes(), *limit, out);
                Some(Kind::Text)
            }
        }
    }

    fn field(&self, logged: &Logged, field: Field, duration: Duration, out: &mut String) -> Option<Kind> {
        let connection = &self.connection;
        let address = |address: SocketAddr, out: &mut String| {
            let _ = write!(out, "{address}");
            Some(Kind::Text)
        };
        let number = |number: u128, out: &mut String| {
            let _ = write!(out, "{number}");
            Some(Kind::Number)
        };
        let text = |text: &str, out: &mut String| {
            out.push_str(text);
            (!text.is_empty()).then_some(Kind::Text)
        };
        let client = logged.client.unwrap_or(connection.peer);
        match field {
            Field::StartTime => {
                write_time(logged.wall, out);
                Some(Kind::Text)
            }
            Field::Protocol => text(
                match self.version {
                    Version::HTTP_10 => "HTTP/1.0",
                    Version::HTTP_2 => "HTTP/2",
                    _ => "HTTP/1.1",
                },
                out,
            ),
            Field::ResponseCode => number(self.status.map_or(0, |status| status.as_u16()).into(), out),
            Field::ResponseCodeDetails => text(self.details, out),
            Field::ResponseFlags => {
                self.flags.write(out);
                Some(Kind::Text)
            }
            Field::BytesReceived => number(self.received.get().into(), out),
            Field::BytesSent => number(self.sent.into(), out),
            Field::Duration => number(duration.as_millis(), out),
            Field::UpstreamHost => address(self.upstream_host?, out),
            Field::UpstreamCluster => text(&self.cluster.as_ref()?.name, out),
            Field::RouteName => text(logged.route.as_deref()?, out),
            Field::DownstreamRemoteAddress => address(client, out),
            Field::DownstreamRemoteAddressWithoutPort => {
                let _ = write!(out, "{}", client.ip());
                Some(Kind::Text)
            }
            Field::DownstreamDirectRemoteAddress => address(connection.peer, out),
            Field::DownstreamLocalAddress => address(connection.local, out),
            Field::DownstreamLocalAddressWithoutPort => {
                let _ = write!(out, "{}", connection.local.ip());
                Some(Kind::Text)
            }
            Field::RequestedServerName => text(connection.server_name.as_deref()?, out),
        }
    }
}

/// How a value stands in JSON.
enum Kind {
    Text,
    Number,
}

fn push_limited(bytes: &[u8], limit: Option<usize>, out: &mut String) {
    let size = limit.unwrap_or(bytes.len()).min(bytes.len());
    out.push_str(&String::from_utf8_lossy(&bytes[..size]));
}

fn escape(value: &str, out: &mut String) {
    for c in value.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
}

fn quote(value: &str, out: &mut String) {
    out.push('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// `2026-11-21T07:05:09.123Z`.
fn write_time(time: SystemTime, out: &mut String) {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Civil date from days since 1970 in the proleptic Gregorian calendar, counting years from March, so
    // that the leap day comes last.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let _ = write!(
        out,
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        since.subsec_millis()
    );
}
