//! Where a row comes from.

use std::fmt;

use serde::Serialize;

use crate::name::NamespacedName;

/// Group, kind and name of an API object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ObjectKey {
    /// API group, empty for the core group.
    pub group: String,
    /// Kind, such as `Ingress`.
    pub kind: String,
    /// Namespace and name.
    pub name: NamespacedName,
}

impl ObjectKey {
    /// Puts the parts together.
    pub fn new(group: impl Into<String>, kind: impl Into<String>, name: NamespacedName) -> Self {
        Self { group: group.into(), kind: kind.into(), name }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// The object, and the place in it, that a row was made from. Deleting the object deletes its rows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Origin {
    /// The object.
    pub object: ObjectKey,
    /// Its uid; a deterministic one for objects from a folder.
    pub uid: String,
    /// Generation of its spec when the row was made.
    pub generation: i64,
    /// Creation time in milliseconds since the epoch, for "the older wins"; `i64::MAX` when unknown.
    pub created_ms: i64,
    /// File and document it was read from, or `api`.
    pub source: String,
    /// Field path within the object, empty for the whole.
    pub field: String,
}

impl Origin {
    /// The same object, at `field`.
    pub fn at(&self, field: impl Into<String>) -> Self {
        Self { field: field.into(), ..self.clone() }
    }

    /// Key of the order in which conflicting objects win: the older first, then namespace and name.
    pub fn precedence(&self) -> (i64, &NamespacedName, &str) {
        (self.created_ms, &self.object.name, &self.object.kind)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.object)?;
        if !self.field.is_empty() {
            write!(f, " {}", self.field)?;
        }
        Ok(())
    }
}
