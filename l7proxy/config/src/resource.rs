//! What comes in and what is said about it.

use std::fmt;
use std::net::SocketAddr;

use mesh_xds_proto::Any;

/// One resource as an xDS server sent it.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedResource {
    /// The name under which it was subscribed.
    pub name: String,
    /// The server's version of this one resource.
    pub version: String,
    /// The message, or a [`Patch`](mesh_xds_proto::Patch) of the version that the store has.
    pub body: Any,
}

/// A resource that was not taken. Its last good version, if any, stays in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The resource.
    pub name: String,
    /// Where in it, such as `filter_chains[0].filters[0].typed_config.rds`. Empty: the whole message.
    pub field: String,
    /// What is wrong there and what would be accepted.
    pub reason: String,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.name, self.field, self.reason)
    }
}

/// A socket to hold for a listener.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bind {
    /// The listener's name.
    pub listener: String,
    /// Where to listen. TCP.
    pub address: SocketAddr,
    /// Whether the socket needs `IP_TRANSPARENT`.
    pub transparent: bool,
    /// The data thread that owns this socket; none: every thread has a socket of its own with
    /// `SO_REUSEPORT`.
    pub thread: Option<usize>,
}
