//! What is wrong with an object, said so that its owner can mend it.

use serde::Serialize;

use crate::path::FieldPath;

/// Weight of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Severity {
    /// Something is not served as it was written: the last good version is, or nothing.
    Error,
    /// Served, without the part that was not understood.
    Warning,
}

/// Something wrong with a field of an object. It never holds a value out of a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The field within the object; empty for the whole.
    pub path: FieldPath,
    /// Weight.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub fix: String,
}
