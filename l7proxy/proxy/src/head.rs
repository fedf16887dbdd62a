//! The head of a request, checked and split into what routing needs.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Uri, Version, header, request};
use mesh_l7proxy_config::http_manager::{HttpManager, StripPort};

use crate::failure::Failure;
use crate::normalize::{Canonical, canonical};

/// Where a request goes, in one form for all who look.
pub(crate) struct Target {
    /// The host with its port, as matched and as sent upstream.
    pub(crate) authority: HeaderValue,
    /// As it came; shares the codec's buffer.
    uri: Uri,
    /// The path where its canonical form is another.
    path: Option<String>,
}

impl Target {
    pub(crate) fn authority(&self) -> &str {
        self.authority.to_str().unwrap_or_default()
    }

    pub(crate) fn path(&self) -> &str {
        self.path.as_deref().unwrap_or_else(|| self.uri.path())
    }

    pub(crate) fn query(&self) -> Option<&str> {
        self.uri.query()
    }

    /// The target with `path` in place of its own. Copies nothing when that is what came in. None: the
    /// change made something that is no path.
    pub(crate) fn with_path(&self, path: &str) -> Option<PathAndQuery> {
        match (self.uri.path_and_query(), self.query()) {
            // The target `http://host#fragment` has an empty path that calls itself `/`, and would be sent empty.
            (_, None) if path == "/" => Some(PathAndQuery::from_static("/")),
            (Some(whole), _) if whole.path() == path => Some(whole.clone()),
            (_, Some(query)) => format!("{path}?{query}").try_into().ok(),
            (_, None) => path.to_owned().try_into().ok(),
        }
    }
}

/// What a head asks for.
pub(crate) enum Checked {
    Target(Target),
    /// The path has escaped slashes that the listener sends back.
    RedirectTo(String),
}

/// Checks what the codec leaves open (RFC 9112, 3.2; RFC 9113, 8.3.1) and takes `host` out of the headers.
pub(crate) fn check(
    head: &mut request::Parts,
    manager: &HttpManager,
    local_port: u16,
) -> Result<Checked, Failure> {
    if head.method == Method::CONNECT {
        return Err(Failure::NoRoute);
    }
    if head.headers.get_all(header::HOST).iter().nth(1).is_some() {
        return Err(Failure::BadRequest("http1.multiple_hosts"));
    }
    if head.version == Version::HTTP_2 && head.headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(Failure::BadRequest("http2.transfer_encoding"));
    }
    // The codec takes any list that ends in `chunked`; another coding in it, or the same twice, would be
    // passed on as if it were the content.
    let mut codings = head.headers.get_all(header::TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next()
        && (!coding.as_bytes().eq_ignore_ascii_case(b"chunked") || codings.next().is_some())
    {
        return Err(Failure::UnknownCoding);
    }
    let host = head.headers.remove(header::HOST);
    let authority = match (head.uri.authority(), host) {
        // An absolute target replaces `host` (RFC 9112, 3.2.2). In HTTP/2 the two must agree.
        (Some(target), host) => {
            if head.version == Version::HTTP_2
                && host.is_some_and(|host| !host.as_bytes().eq_ignore_ascii_case(target.as_str().as_bytes()))
            {
                return Err(Failure::BadRequest("http2.host_and_authority_differ"));
            }
            HeaderValue::from_str(target.as_str())
                .map_err(|_| Failure::BadRequest("http.invalid_authority"))?
        }
        (None, Some(host)) => host,
        (None, None) => return Err(Failure::BadRequest("http1.missing_host")),
    };
    let authority = plain_authority(authority, manager, local_port)?;
    let path = head.uri.path();
    if !path.starts_with('/') {
        // `OPTIONS *` is for the server itself, which has nothing to say.
        return Err(Failure::NoRoute);
    }
    let changed = match canonical(path, manager.path) {
        Canonical::Path(Cow::Borrowed(_)) => None,
        Canonical::Path(Cow::Owned(path)) => Some(path),
        Canonical::RedirectTo(path) => {
            return Ok(Checked::RedirectTo(match head.uri.query() {
                Some(query) => format!("{path}?{query}"),
                None => path,
            }));
        }
        Canonical::Refused => return Err(Failure::BadRequest("path_normalization_failed")),
    };
    Ok(Checked::Target(Target { authority, uri: std::mem::take(&mut head.uri), path: changed }))
}

/// The authority, checked, without what the listener strips.
fn plain_authority(
    value: HeaderValue,
    manager: &HttpManager,
    local_port: u16,
) -> Result<HeaderValue, Failure> {
    let invalid = || Failure::BadRequest("http.invalid_authority");
    let text = value.to_str().map_err(|_| invalid())?;
    let (host, port) = split_authority(text).ok_or_else(invalid)?;
    let strip = match manager.strip_port {
        StripPort::Never => false,
        StripPort::Matching => port == Some(local_port),
        StripPort::Any => port.is_some(),
    };
    let rest = if strip { "" } else { &text[host.len()..] };
    let host = host.strip_suffix('.').filter(|_| manager.strip_trailing_dot).unwrap_or(host);
    if host.len() + rest.len() == text.len() {
        return Ok(value);
    }
    HeaderValue::from_maybe_shared(Bytes::from(format!("{host}{rest}"))).map_err(|_| invalid())
}

/// Host and port (RFC 3986, 3.2.2 and 3.2.3), without user information, which has no place in `host`.
fn split_authority(text: &str) -> Option<(&str, Option<u16>)> {
    let end = match text.strip_prefix('[') {
        Some(literal) => {
            let (address, _) = literal.split_once(']')?;
            address.parse::<Ipv6Addr>().ok()?;
            address.len() + 2
        }
        None => text.find(':').unwrap_or(text.len()),
    };
    let (host, port) = text.split_at(end);
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%".contains(&byte);
    if host.is_empty() || !(host.starts_with('[') || host.bytes().all(allowed)) {
        return None;
    }
    match port.strip_prefix(':') {
        None if port.is_empty() => Some((host, None)),
        Some("") => Some((host, None)),
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some((host, Some(digits.parse().ok()?)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::split_authority;

    #[test]
    fn authorities_are_a_host_and_perhaps_a_port() {
        for (text, expected) in [
            ("a.example", Some(("a.example", None))),
            ("a:80", Some(("a", Some(80)))),
            ("a:", Some(("a", None))),
            ("[::1]:8080", Some(("[::1]", Some(8080)))),
            ("[::1]", Some(("[::1]", None))),
            ("", None),
            (":80", None),
            ("a:80:80", None),
            ("a:+80", None),
            ("a:65536", None),
            ("u@a", None),
            ("a/b", None),
            ("a b", None),
            ("a?b", None),
            ("[::1", None),
            ("[::1]x", None),
            ("[a]", None),
            ("::1", None),
        ] {
            assert_eq!(split_authority(text), expected, "{text}");
        }
    }
}
