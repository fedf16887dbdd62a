//! Headers that belong to one connection, and headers that only we may set.

use bytes::Bytes;
use http::header::{self, Entry};
use http::{HeaderMap, HeaderName, HeaderValue, Version};
use mesh_l7proxy_config::http_manager::{HttpManager, ServerHeader, Underscores};

use crate::failure::Failure;

pub(crate) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(crate) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(crate) const X_ENVOY_EXTERNAL_ADDRESS: HeaderName = HeaderName::from_static("x-envoy-external-address");
pub(crate) const X_ENVOY_EXPECTED_TIMEOUT: HeaderName =
    HeaderName::from_static("x-envoy-expected-rq-timeout-ms");
pub(crate) const X_ENVOY_ORIGINAL_HOST: HeaderName = HeaderName::from_static("x-envoy-original-host");
pub(crate) const X_ENVOY_ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");
pub(crate) const X_ENVOY_UPSTREAM_SERVICE_TIME: HeaderName =
    HeaderName::from_static("x-envoy-upstream-service-time");

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    header::TE,
    header::UPGRADE,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    HTTP2_SETTINGS,
    header::TRANSFER_ENCODING,
    header::PROXY_AUTHENTICATE,
];

/// What was said about the connection, which ends here.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct HopByHop {
    /// The sender of a request takes trailers.
    pub(crate) trailers: bool,
    /// A request or response for a WebSocket.
    pub(crate) websocket: bool,
    /// Some other upgrade was asked for.
    pub(crate) other_upgrade: bool,
}

/// Takes the headers away that concern one connection (RFC 9110, 7.6.1), those that `connection` names
/// included, and tells what mattered in them. `trailer` stays: it announces fields that pass.
pub(crate) fn take_hop_by_hop(headers: &mut HeaderMap) -> HopByHop {
    let mut found = HopByHop::default();
    // Most messages have none, and looking at their few names costs less than asking for each of ours.
    if !headers.keys().any(|name| HOP_BY_HOP.contains(name)) {
        return found;
    }
    let mut nominated_upgrade = false;
    if headers.contains_key(header::CONNECTION) {
        let nominated: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
            .collect();
        for name in nominated {
            match name {
                header::UPGRADE => nominated_upgrade = true,
                header::TE => {}
                // A client must not be able to take away what is added for the backend to trust, nor what
                // frames or routes the message.
                name if is_ours(&name) || name == header::HOST || name == header::CONTENT_LENGTH => {}
                name => {
                    headers.remove(name);
                }
            }
        }
        headers.remove(header::CONNECTION);
    }
    if headers.contains_key(header::TE) {
        found.trailers = headers
            .get_all(header::TE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|coding| {
                coding.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("trailers")
            });
        headers.remove(header::TE);
    }
    if let Some(protocol) = headers.remove(header::UPGRADE)
        && nominated_upgrade
    {
        found.websocket = protocol.as_bytes().eq_ignore_ascii_case(b"websocket");
        // h2c is offered by clients that are content without (RFC 9113 has dropped it).
        found.other_upgrade = !found.websocket && !protocol.as_bytes().eq_ignore_ascii_case(b"h2c");
    }
    for name in
        [KEEP_ALIVE, PROXY_CONNECTION, HTTP2_SETTINGS, header::TRANSFER_ENCODING, header::PROXY_AUTHENTICATE]
    {
        headers.remove(name);
    }
    found
}

/// Headers by which a backend knows the client.
fn is_ours(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.starts_with("x-forwarded-") || name.starts_with("x-envoy-") || name == "x-request-id"
}

/// Applies the listener's rule on underscores and takes away what clients outside must not say.
pub(crate) fn admit(headers: &mut HeaderMap, manager: &HttpManager) -> Result<(), Failure> {
    if headers.len() > manager.limits.header_fields {
        return Err(Failure::HeadersTooLarge);
    }
    let rule = manager.limits.underscores;
    let untrusted = manager.use_remote_address;
    let unwanted = |name: &HeaderName| {
        let name = name.as_str();
        (untrusted && name.starts_with("x-envoy-"))
            || name == "x-forwarded-client-cert"
            || (rule == Underscores::Drop && name.contains('_'))
    };
    if rule == Underscores::Reject && headers.keys().any(|name| name.as_str().contains('_')) {
        return Err(Failure::BadRequest("unexpected_underscore"));
    }
    if headers.keys().any(unwanted) {
        let names: Vec<HeaderName> = headers.keys().filter(|name| unwanted(name)).cloned().collect();
        for name in names {
            headers.remove(name);
        }
    }
    Ok(())
}

/// What a request to an endpoint says about the connection to it.
pub(crate) fn for_upstream(headers: &mut HeaderMap, hop: HopByHop, http2: bool, websocket: bool) {
    if websocket {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        return;
    }
    if hop.trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        if !http2 {
            headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
        }
    }
    if !http2 {
        join_cookies(headers);
    }
}

/// HTTP/2 may send each cookie as a field of its own; HTTP/1 knows one field (RFC 9113, 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(header::COOKIE).iter();
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else { return };
    let mut joined = first.as_bytes().to_vec();
    for crumb in std::iter::once(second).chain(crumbs) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(crumb.as_bytes());
    }
    if let Ok(joined) = HeaderValue::from_maybe_shared(Bytes::from(joined)) {
        headers.insert(header::COOKIE, joined);
    }
}

/// Names the trailers that gRPC sends, so that an HTTP/1 client gets them: HTTP/2 servers do not announce
/// theirs, and the codec sends only announced ones.
pub(crate) fn announce_trailers(headers: &mut HeaderMap, hop: HopByHop, version: Version) {
    if version == Version::HTTP_2 || !hop.trailers || headers.contains_key(header::TRAILER) {
        return;
    }
    if is_grpc(headers) {
        headers.insert(
            header::TRAILER,
            HeaderValue::from_static("grpc-status, grpc-message, grpc-status-details-bin"),
        );
    }
}

/// Whether a message is one of gRPC's.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| {
        let rest = value.as_bytes().strip_prefix(b"application/grpc");
        rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
    })
}

/// Sets `server` and `via` as the listener says.
pub(crate) fn sign(headers: &mut HeaderMap, manager: &HttpManager) {
    match &manager.server {
        ServerHeader::Overwrite(name) => {
            headers.insert(header::SERVER, name.clone());
        }
        ServerHeader::IfAbsent(name) => {
            if let Entry::Vacant(entry) = headers.entry(header::SERVER) {
                entry.insert(name.clone());
            }
        }
        ServerHeader::PassThrough => {}
    }
    if let Some(via) = &manager.via {
        headers.append(header::VIA, via.clone());
    }
}
