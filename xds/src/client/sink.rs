//! What the owner of the configuration implements.

use std::{
    collections::BTreeSet,
    fmt,
    task::{Context, Poll},
};

use mesh_xds_proto::Any;

/// Takes configuration from the client and says what else it needs.
///
/// Called from one task, one call at a time. Both methods are synchronous: what they return is
/// answered at once, and nothing is half applied when the client is dropped.
pub trait ConfigSink: Send {
    /// Applies one response that has something in it.
    ///
    /// Each resource stands alone: a bad one is named in the outcome and the last good one of its
    /// name stays, while the others of the same response take effect. `removed` may name resources
    /// that the sink never had: the server says so of names that it does not know.
    fn apply(&mut self, type_url: &str, added: Vec<DeltaResource>, removed: Vec<String>) -> ApplyOutcome;

    /// What the sink wants of a type, asked for each type of
    /// [`type_urls::IN_ORDER`](mesh_xds_proto::type_urls::IN_ORDER) on connecting and after each
    /// `apply`.
    fn subscription(&self, type_url: &str) -> Subscription;

    /// Ready with type URL and name of a resource that was refused, or not fully in effect, and serves now: the
    /// server has heard otherwise, so the client asks it for the resource once more and answers anew. Polled
    /// while a stream is open. Never, unless a sink says so.
    fn poll_again(&mut self, cx: &mut Context<'_>) -> Poll<(&'static str, String)> {
        let _ = cx;
        Poll::Pending
    }

    /// Whether a body may be a [`Patch`](mesh_xds_proto::Patch) of the version that the sink has acknowledged. One
    /// that does not fit is refused as any bad resource; the whole follows. No, unless a sink says so.
    fn takes_patches(&self) -> bool {
        false
    }
}

/// One resource as the server sent it.
#[derive(Clone, PartialEq)]
pub struct DeltaResource {
    /// Unique within its type.
    pub name: String,
    /// Opaque; equal versions of one name mean equal content.
    pub version: String,
    /// The message, or a patch of the one before.
    pub body: Any,
}

/// Without the body, which may hold a private key.
impl fmt::Debug for DeltaResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeltaResource")
            .field("name", &self.name)
            .field("version", &self.version)
            .field("type_url", &self.body.type_url)
            .field("bytes", &self.body.value.len())
            .finish()
    }
}

/// What became of a response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApplyOutcome {
    /// Resources that were refused, by name, each with a message that names the field and the fix.
    /// Empty is an ACK, anything else a NACK that carries these messages.
    pub rejected: Vec<(String, String)>,
}

/// Which resources of a type are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subscription {
    /// All that the server has for this node.
    Wildcard,
    /// These; with none, the type is not asked for. `*` among them is everything.
    Names(BTreeSet<String>),
}
