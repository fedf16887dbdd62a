//! Names of objects and hosts.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// Namespace and name of a namespaced object. Orders by namespace, then name, which is the order every
/// deterministic output uses.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamespacedName {
    /// Namespace; empty for cluster-scoped objects.
    pub namespace: String,
    /// Name, unique within the namespace and kind.
    pub name: String,
}

impl NamespacedName {
    /// Joins the two parts; no check is made of either.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for NamespacedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

impl Serialize for NamespacedName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A host name that a listener or route is for: lower case, without a port.
///
/// `Any` sorts first, then wildcards, then exact names; precedence between them is decided where routes
/// are resolved, not by this order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hostname {
    /// Every host.
    Any,
    /// `*.suffix`; the suffix is stored without `*.`.
    Wildcard(String),
    /// One host.
    Exact(String),
}

/// Why a text is no host name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostnameError {
    /// The text as given.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl fmt::Display for HostnameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a host name: {}", self.text, self.reason)
    }
}

impl std::error::Error for HostnameError {}

impl FromStr for Hostname {
    type Err = HostnameError;

    /// Accepts an RFC 1123 name, a `*.` wildcard of one, `*` and the empty text (both meaning every host).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = |reason| HostnameError { text: text.to_owned(), reason };
        if text.is_empty() || text == "*" {
            return Ok(Self::Any);
        }
        let (wildcard, rest) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if rest.len() > 253 {
            return Err(error("longer than 253 characters"));
        }
        for label in rest.split('.') {
            if label.is_empty() {
                return Err(error("has an empty label"));
            }
            if label.len() > 63 {
                return Err(error("has a label longer than 63 characters"));
            }
            if !label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
                return Err(error("has characters other than letters, digits and '-'"));
            }
            if label.starts_with('-') || label.ends_with('-') {
                return Err(error("has a label that starts or ends with '-'"));
            }
        }
        let rest = rest.to_ascii_lowercase();
        Ok(if wildcard { Self::Wildcard(rest) } else { Self::Exact(rest) })
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Wildcard(suffix) => write!(f, "*.{suffix}"),
            Self::Exact(name) => f.write_str(name),
        }
    }
}

impl Serialize for Hostname {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Hostname {
    /// The more specific of two names when one covers the other, as Gateway API intersects the host names
    /// of a listener and a route: a wildcard covers any number of labels. `None` when they do not meet.
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Any, any) => Some(any.clone()),
            (any, Self::Any) => Some(any.clone()),
            (Self::Exact(a), Self::Exact(b)) => (a == b).then(|| self.clone()),
            (Self::Exact(name), Self::Wildcard(suffix)) => covers(suffix, name).then(|| self.clone()),
            (Self::Wildcard(suffix), Self::Exact(name)) => covers(suffix, name).then(|| other.clone()),
            (Self::Wildcard(a), Self::Wildcard(b)) => {
                if a == b || covers(b, a) {
                    Some(self.clone())
                } else if covers(a, b) {
                    Some(other.clone())
                } else {
                    None
                }
            }
        }
    }
}

/// True when `name` lies at least one label below `suffix`.
fn covers(suffix: &str, name: &str) -> bool {
    name.strip_suffix(suffix).is_some_and(|head| head.len() > 1 && head.ends_with('.'))
}

#[cfg(test)]
mod tests;
