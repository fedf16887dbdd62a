//! Notes about objects.

use mesh_model::{Note, Origin, Severity};

/// Something the owner of the object should mend.
pub(crate) fn warning(origin: Origin, reason: &str, message: impl Into<String>) -> Note {
    Note { origin, severity: Severity::Warning, reason: reason.to_owned(), message: message.into() }
}
