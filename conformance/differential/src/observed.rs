//! What a request led to, in a form that can be compared.

use std::collections::BTreeMap;

use http::HeaderMap;
use http::header::CONNECTION;
use serde::Serialize;

/// Headers or trailers: lower-case names, the values of a name in their order. The order of names means
/// nothing in HTTP and is not compared.
pub(crate) type Headers = BTreeMap<String, Vec<String>>;

/// What one request led to.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Exchange {
    /// What the client got.
    pub(crate) response: Response,
    /// What backends saw, in the order of arrival.
    pub(crate) backends: Vec<Seen>,
}

/// What a client got.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Response {
    /// 0 when the connection ended without an answer.
    pub(crate) status: u16,
    /// Statuses before the last one, such as 100.
    pub(crate) informational: Vec<u16>,
    pub(crate) version: String,
    pub(crate) headers: Headers,
    pub(crate) body: String,
    /// Whether the body came to its end.
    pub(crate) complete: bool,
    pub(crate) trailers: Headers,
    /// The echo after the protocol was switched.
    pub(crate) upgraded: Option<String>,
    /// The secret of the certificate that was shown, and the protocol that ALPN chose.
    pub(crate) certificate: Option<String>,
    pub(crate) alpn: Option<String>,
    /// How the connection ended, where there is no answer.
    pub(crate) error: Option<String>,
}

/// A request as a backend saw it.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Seen {
    pub(crate) backend: String,
    pub(crate) version: String,
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Headers,
    pub(crate) body: String,
    pub(crate) complete: bool,
    pub(crate) trailers: Headers,
}

/// Whether a value looks as it should.
type IsShape = fn(&str) -> bool;

/// Headers that two runs of one proxy do not answer alike: replaced by their shape. The whole list:
/// - `date`: the time of day
/// - `x-request-id`: a random UUID
/// - `x-envoy-upstream-service-time`: milliseconds
const VOLATILE: [(&str, IsShape, &str); 3] = [
    ("date", is_date, "<date>"),
    ("x-request-id", is_uuid, "<uuid>"),
    ("x-envoy-upstream-service-time", is_number, "<milliseconds>"),
];

/// Headers of a message; values are text or escaped bytes, volatile ones their shape.
pub(crate) fn headers(map: &HeaderMap) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in map {
        let text = value.as_bytes().escape_ascii().to_string();
        // Names of headers and options of the connection, which are the same in any case (RFC 9110, 7.6.1).
        let text = if name == CONNECTION { text.to_ascii_lowercase() } else { text };
        let shape = VOLATILE.iter().find(|(volatile, is_shape, _)| *volatile == name && is_shape(&text));
        let text = shape.map_or(text, |(_, _, shape)| (*shape).to_owned());
        headers.entry(name.as_str().to_owned()).or_default().push(text);
    }
    headers
}

fn is_date(text: &str) -> bool {
    text.len() == 29 && text.ends_with(" GMT")
}

fn is_uuid(text: &str) -> bool {
    let shape = |(index, byte): (usize, u8)| match index {
        8 | 13 | 18 | 23 => byte == b'-',
        14 => byte == b'4',
        _ => byte.is_ascii_hexdigit(),
    };
    text.len() == 36 && text.bytes().enumerate().all(shape)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::headers;

    #[test]
    fn a_volatile_header_of_the_wrong_shape_is_compared_as_it_is() {
        let mut map = HeaderMap::new();
        map.append("x-request-id", "b7a0b1c2-0000-4000-8000-0123456789ab".parse().unwrap());
        map.append("x-request-id", "mine".parse().unwrap());
        map.append("date", "yesterday".parse().unwrap());
        let headers = headers(&map);
        assert_eq!(headers["x-request-id"], ["<uuid>", "mine"]);
        assert_eq!(headers["date"], ["yesterday"]);
    }
}
