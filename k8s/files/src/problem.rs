//! What is wrong with an input, said so that its owner can mend it.

use std::fmt;
use std::path::PathBuf;

use mesh_k8s_api::Severity;
use mesh_model::ObjectKey;
use serde::Serialize;

/// One thing that is wrong with a file, a document or an object.
///
/// `Display` puts it on one line: file, line, object, field, what is wrong, and how to mend it. It never
/// holds a value out of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Problem {
    /// The file, or the folder.
    pub file: PathBuf,
    /// Index of the document within the file, from 0; `None`: the file as a whole.
    pub document: Option<usize>,
    /// Line within the file, from 1, where it is known.
    pub line: Option<u32>,
    /// The object, as far as it could be read.
    pub object: Option<ObjectKey>,
    /// Field path, such as `spec.rules[0].host`.
    pub field: Option<String>,
    /// Weight.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub fix: String,
}

impl Problem {
    /// A problem of the file as a whole.
    pub(crate) fn of_file(file: impl Into<PathBuf>, message: String, fix: &str) -> Self {
        Self {
            file: file.into(),
            document: None,
            line: None,
            object: None,
            field: None,
            severity: Severity::Error,
            message,
            fix: fix.to_owned(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        match (self.line, self.document) {
            (Some(line), _) => write!(f, ":{line}")?,
            (None, Some(document)) if document > 0 => write!(f, " document {}", document + 1)?,
            _ => {}
        }
        f.write_str(": ")?;
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        if let Some(field) = &self.field {
            write!(f, "{field}: ")?;
        }
        write!(f, "{} (to mend: {})", self.message, self.fix)
    }
}
