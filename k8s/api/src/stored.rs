//! An object and what is known about it beside its content.

use std::fmt;
use std::path::PathBuf;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use mesh_model::{NamespacedName, ObjectKey, Origin};

use crate::kind::Kind;

/// Where an object was read from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// A document of a file.
    File {
        /// The file, as the user sees it (a symbolic link's own path, not its target).
        path: PathBuf,
        /// Index of the document in the file, from 0.
        document: usize,
    },
    /// An API server.
    Api,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, document: 0 } => write!(f, "{}", path.display()),
            Self::File { path, document } => write!(f, "{} document {}", path.display(), document + 1),
            Self::Api => f.write_str("api"),
        }
    }
}

/// A type of API object.
pub trait Resource {
    /// Its kind.
    const KIND: Kind;

    /// `metadata`.
    fn metadata(&self) -> &ObjectMeta;

    /// Namespace and name, empty where the object has none.
    fn namespaced_name(&self) -> NamespacedName {
        let metadata = self.metadata();
        NamespacedName {
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
        }
    }
}

/// An object with its source and the facts that a cluster would keep for it.
///
/// `Debug` leaves the content out, so that no dump of a set can show a Secret.
#[derive(Clone, PartialEq)]
pub struct Stored<T> {
    /// The object. Its namespace is filled in (`default` when the manifest has none).
    pub object: T,
    /// Where it was read.
    pub source: Source,
    /// The API server's uid, or one worked out from kind, name and file.
    pub uid: String,
    /// Rises with each change of content.
    pub generation: i64,
    /// `creationTimestamp` in milliseconds since the epoch, `i64::MAX` when the object has none: such
    /// objects take precedence by name, which does not change over a restart.
    pub created_ms: i64,
}

impl<T: Resource> Stored<T> {
    /// Group, kind, namespace and name.
    pub fn key(&self) -> ObjectKey {
        ObjectKey::new(T::KIND.group(), T::KIND.as_str(), self.object.namespaced_name())
    }

    /// The whole object as the origin of a row.
    pub fn origin(&self) -> Origin {
        Origin {
            object: self.key(),
            uid: self.uid.clone(),
            generation: self.generation,
            created_ms: self.created_ms,
            source: self.source.to_string(),
            field: String::new(),
        }
    }
}

impl<T> fmt::Debug for Stored<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stored")
            .field("source", &self.source)
            .field("uid", &self.uid)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}
