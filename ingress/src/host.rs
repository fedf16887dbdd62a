//! Host names as Ingress understands them: a wildcard stands for exactly one label.

use mesh_model::Hostname;

/// True when every host that `inner` names is one that `outer` names.
pub(crate) fn covers(outer: &Hostname, inner: &Hostname) -> bool {
    match (outer, inner) {
        (Hostname::Any, _) => true,
        (Hostname::Wildcard(suffix), Hostname::Exact(name)) => {
            name.split_once('.').is_some_and(|(_, parent)| parent == suffix)
        }
        _ => outer == inner,
    }
}

/// The narrower of two host names when one covers the other; `None` when no host is named by both.
pub(crate) fn narrower(left: &Hostname, right: &Hostname) -> Option<Hostname> {
    if covers(left, right) {
        Some(right.clone())
    } else if covers(right, left) {
        Some(left.clone())
    } else {
        None
    }
}

/// Reads a host name of an Ingress; an IP address is none. The error says what is wrong.
pub(crate) fn parse(text: &str) -> Result<Hostname, String> {
    if text.parse::<std::net::IpAddr>().is_ok() {
        return Err(format!("{text:?} is an IP address; name a host or leave the field out"));
    }
    text.parse().map_err(|error| format!("{error}; write a name such as app.example.com or *.example.com"))
}

#[cfg(test)]
mod tests;
