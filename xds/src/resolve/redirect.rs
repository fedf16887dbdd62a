//! Which port a redirect names.

use mesh_model::Hostname;
use mesh_model::l7::Redirect;

/// How clients reach the side of a listener that a route table is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entrance {
    /// `http` or `https`.
    pub(super) scheme: &'static str,
    /// Port that clients connect to.
    pub(super) port: u16,
    /// Port where clients find `http` when an object says nothing else: 80, or where 80 is served.
    pub(super) http_port: u16,
    /// The same for `https` and 443.
    pub(super) https_port: u16,
}

fn well_known(scheme: &str, port: u16) -> bool {
    matches!((scheme, port), ("http", 80) | ("https", 443))
}

/// The redirect with its port decided for requests to `host`, after Gateway API's
/// `HTTPRequestRedirectFilter.port`: as written, else the scheme's port when a scheme is written, else the
/// listener's. A port that goes without saying is not written.
pub(super) fn resolve_redirect(redirect: &Redirect, host: &Hostname, entrance: Entrance) -> Redirect {
    let mut resolved = redirect.clone();
    let scheme = redirect.scheme.as_deref().unwrap_or(entrance.scheme);
    let port = redirect.port.unwrap_or(match redirect.scheme.as_deref() {
        Some("http") => entrance.http_port,
        Some("https") => entrance.https_port,
        _ => entrance.port,
    });
    if !well_known(scheme, port) {
        resolved.port = Some(port);
        return resolved;
    }
    resolved.port = None;
    if resolved.hostname.is_some() {
        return resolved;
    }
    // Without a host of its own a redirect repeats the request's Host, port included. Naming the host
    // drops that port; where the host is not known, writing the port out replaces it.
    if let Hostname::Exact(name) = host {
        resolved.hostname = Some(name.clone());
    } else if !well_known(entrance.scheme, entrance.port) {
        resolved.port = Some(port);
    }
    resolved
}
