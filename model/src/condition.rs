//! What is said about an object: conditions and notes. Times are set by whoever writes them out.

use serde::Serialize;

use crate::origin::{ObjectKey, Origin};

/// Truth of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold; the reason says why.
    False,
    /// Not known yet.
    Unknown,
}

impl From<bool> for ConditionStatus {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// Which part of an object's status a condition belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum ConditionScope {
    /// `status.conditions`.
    Object,
    /// `status.listeners[name].conditions` of a Gateway.
    Listener(String),
    /// `status.parents[parentRef].conditions` of a route.
    Parent(ParentRef),
}

/// A route's reference to its parent, as the route wrote it with defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ParentRef {
    /// The parent object.
    pub object: ObjectKey,
    /// `sectionName`.
    pub section: Option<String>,
    /// `port`.
    pub port: Option<u16>,
    /// Controller that answers for this parent.
    pub controller: String,
}

/// A condition that should be in the status of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ConditionIntent {
    /// The object, its generation and source.
    pub origin: Origin,
    /// The part of the status it belongs to.
    pub scope: ConditionScope,
    /// Type, such as `Accepted`.
    pub kind: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Reason in CamelCase.
    pub reason: String,
    /// For people: names the field and the fix when `status` is not true.
    pub message: String,
}

/// Weight of a note.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Severity {
    /// Worth knowing.
    Normal,
    /// Something the owner should mend.
    Warning,
}

/// An event about an object: what a cluster would record as an Event.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Note {
    /// The object and field.
    pub origin: Origin,
    /// Weight.
    pub severity: Severity,
    /// Reason in CamelCase.
    pub reason: String,
    /// For people: what is wrong and how to mend it.
    pub message: String,
}
