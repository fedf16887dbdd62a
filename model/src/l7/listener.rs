//! Where traffic enters from outside.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::name::{Hostname, NamespacedName};
use crate::origin::{ObjectKey, Origin};

/// Key of a listener: the object that asked for it, and a section name unique within that object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerKey {
    /// The Gateway or Ingress.
    pub object: ObjectKey,
    /// Listener name of a Gateway; `http`, `https-<host>` of an Ingress.
    pub section: String,
}

impl fmt::Display for ListenerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.object, self.section)
    }
}

impl Serialize for ListenerKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What is spoken on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum ListenerProtocol {
    /// HTTP/1 and HTTP/2 (prior knowledge) in clear text.
    Http,
    /// HTTP over TLS that ends here.
    Https,
}

/// TLS of a listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListenerTls {
    /// Secrets with the certificates, in order of preference; at least one.
    pub certificates: Vec<NamespacedName>,
}

/// One listener: a port, a host name and what is spoken there, on the addresses its object is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listener {
    /// Key.
    pub key: ListenerKey,
    /// Where it was asked for.
    pub origin: Origin,
    /// Port on those addresses.
    pub port: u16,
    /// What is spoken.
    pub protocol: ListenerProtocol,
    /// Host it is for. TLS listeners are chosen by SNI with it.
    pub hostname: Hostname,
    /// TLS, exactly for [`ListenerProtocol::Https`].
    pub tls: Option<ListenerTls>,
    /// Number of trusted proxies in front, for X-Forwarded-For.
    pub trusted_hops: u32,
}
