//! The head of a request, checked and split into what routing needs.

use std::borrow::Cow;

use bytes::Bytes;
use http::uri::Authority;
use http::{HeaderValue, Method, Version, header, request};
use mesh_l7proxy_config::http_manager::{HttpManager, StripPort};

use crate::failure::Failure;
use crate::normalize::{Canonical, canonical};

/// Where a request goes, in one form for all who look.
pub(crate) struct Target {
    /// The host with its port, as matched and as sent upstream.
    pub(crate) authority: HeaderValue,
    pub(crate) path: String,
    pub(crate) query: Option<String>,
}

/// What a head asks for.
pub(crate) enum Checked {
    Target(Target),
    /// The path has escaped slashes that the listener sends back.
    RedirectTo(String),
}

impl Target {
    pub(crate) fn authority(&self) -> &str {
        self.authority.to_str().unwrap_or_default()
    }
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
    let query = head.uri.query().map(str::to_owned);
    match canonical(path, manager.path) {
        Canonical::Path(path) => {
            Ok(Checked::Target(Target { authority, path: Cow::into_owned(path), query }))
        }
        Canonical::RedirectTo(path) => Ok(Checked::RedirectTo(match &query {
            Some(query) => format!("{path}?{query}"),
            None => path,
        })),
        Canonical::Refused => Err(Failure::BadRequest("path_normalization_failed")),
    }
}

/// The authority without user information, and without what the listener strips.
fn plain_authority(
    value: HeaderValue,
    manager: &HttpManager,
    local_port: u16,
) -> Result<HeaderValue, Failure> {
    let invalid = || Failure::BadRequest("http.invalid_authority");
    let text = value.to_str().map_err(|_| invalid())?;
    let parsed: Authority = text.parse().map_err(|_| invalid())?;
    if text.contains('@') || parsed.host().is_empty() {
        return Err(invalid());
    }
    let mut plain = text;
    let port = parsed.port_u16();
    let strip = match manager.strip_port {
        StripPort::Never => false,
        StripPort::Matching => port == Some(local_port),
        StripPort::Any => port.is_some(),
    };
    if strip {
        plain = parsed.host();
    }
    if manager.strip_trailing_dot {
        let (host, rest) = plain.split_at(parsed.host().len());
        if let Some(host) = host.strip_suffix('.') {
            let changed = Bytes::from(format!("{host}{rest}"));
            return HeaderValue::from_maybe_shared(changed).map_err(|_| invalid());
        }
    }
    if plain.len() == text.len() {
        Ok(value.clone())
    } else {
        HeaderValue::from_str(plain).map_err(|_| invalid())
    }
}
