//! New hosts and paths, of forwarded requests and of redirects.

use http::HeaderValue;
use mesh_model::l7::check_host;

use crate::check::{At, Checked};
use crate::route::action::PathChange;
use crate::route::paths::PathMatch;

/// An exact path is its own prefix; an expression has none.
pub(super) fn replaced_prefix(path: &PathMatch, replacement: &str, at: At<'_>) -> Checked<PathChange> {
    match path {
        PathMatch::Exact(prefix) | PathMatch::Prefix(prefix) | PathMatch::SeparatedPrefix(prefix) => {
            Ok(PathChange::Prefix { matched: prefix.len(), replacement: replacement.into() })
        }
        PathMatch::IgnoreCase(inner) => replaced_prefix(inner, replacement, at),
        PathMatch::Regex(_) => Err(at.refuse("needs a prefix or path match; use regex_rewrite")),
    }
}

pub(super) fn host_value(host: &str, at: At<'_>) -> Checked<HeaderValue> {
    check_host(host).map_err(|why| at.refuse(format!("{host:?} {why}")))?;
    HeaderValue::from_str(host).map_err(|_| at.refuse(format!("{host:?} is not a host")))
}
