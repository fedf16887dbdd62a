//! Who the client is, and what the backend is told about it.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use http::header::Entry;
use http::{HeaderMap, HeaderValue};
use mesh_l7proxy_config::random;

use crate::connection::Connection;
use crate::headers::{X_ENVOY_EXTERNAL_ADDRESS, X_FORWARDED_FOR, X_FORWARDED_PROTO, X_REQUEST_ID};

/// The client as far as it can be trusted, and the scheme it used.
pub(crate) struct Client {
    /// With the port of the connection if the peer is the client itself, else zero.
    pub(crate) address: SocketAddr,
    pub(crate) scheme: &'static str,
}

/// Determines the client and sets x-forwarded-for, x-forwarded-proto, x-request-id and the x-envoy headers,
/// as Envoy does with `use_remote_address` and `xff_num_trusted_hops`.
pub(crate) fn identify(headers: &mut HeaderMap, connection: &Connection) -> Client {
    let manager = &connection.manager;
    let peer = connection.peer;
    let hops = manager.trusted_hops as usize;
    let own_scheme = if connection.tls { "https" } else { "http" };
    // The list says what each proxy saw; only the last entries were written by proxies that we trust.
    let claimed = match (manager.use_remote_address, hops) {
        (true, 0) => None,
        (true, hops) => from_the_right(headers, hops - 1),
        (false, hops) => from_the_right(headers, hops),
    };
    let address = claimed.map_or(peer, |address| SocketAddr::new(address, 0));
    // As in Envoy, no address is internal by itself: whoever comes to an edge is outside.
    let external = manager.use_remote_address;
    if manager.use_remote_address && !manager.skip_xff_append {
        append_address(headers, connection);
    }
    let believed = !manager.use_remote_address || hops > 0;
    let scheme = match headers.get(X_FORWARDED_PROTO).filter(|_| believed).map(HeaderValue::as_bytes) {
        Some(b"https") => "https",
        Some(b"http") => "http",
        _ => {
            headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(own_scheme));
            own_scheme
        }
    };
    if external && !manager.suppress_envoy_headers {
        let is_peer = address.ip() == peer.ip();
        let value = if is_peer { connection.peer_text() } else { text(address.ip()) };
        headers.insert(X_ENVOY_EXTERNAL_ADDRESS, value);
    }
    if manager.generate_request_id {
        let replace = external && !manager.preserve_external_request_id;
        match headers.entry(X_REQUEST_ID) {
            Entry::Occupied(_) if !replace => {}
            Entry::Occupied(mut entry) => {
                entry.insert(request_id());
            }
            Entry::Vacant(entry) => {
                entry.insert(request_id());
            }
        }
    }
    Client { address, scheme }
}

/// The entry so many places from the right of all x-forwarded-for lists together.
fn from_the_right(headers: &HeaderMap, places: usize) -> Option<IpAddr> {
    let mut entries: Vec<&str> = Vec::new();
    for value in headers.get_all(X_FORWARDED_FOR) {
        entries.extend(value.to_str().ok()?.split(',').map(str::trim));
    }
    let entry = entries.len().checked_sub(places + 1).and_then(|index| entries.get(index))?;
    entry.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

fn append_address(headers: &mut HeaderMap, connection: &Connection) {
    let address = connection.peer_text();
    let mut list = Vec::new();
    for value in headers.get_all(X_FORWARDED_FOR) {
        list.extend_from_slice(value.as_bytes());
        list.extend_from_slice(b",");
    }
    if list.is_empty() {
        headers.insert(X_FORWARDED_FOR, address);
        return;
    }
    list.extend_from_slice(address.as_bytes());
    let joined = HeaderValue::from_maybe_shared(Bytes::from(list));
    headers.insert(X_FORWARDED_FOR, joined.unwrap_or(address));
}

/// An address as the value of a header.
pub(crate) fn text(address: IpAddr) -> HeaderValue {
    HeaderValue::from_str(&address.to_string()).expect("an address is a valid header value")
}

/// A random UUID (RFC 9562, 5.4).
fn request_id() -> HeaderValue {
    let (high, low) = (random::bits(), random::bits());
    let mut id = String::with_capacity(36);
    let _ = write!(
        id,
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        ((low >> 48) & 0x3fff) | 0x8000,
        low & 0xffff_ffff_ffff
    );
    HeaderValue::from_maybe_shared(Bytes::from(id)).expect("hexadecimal digits and hyphens")
}
