//! What is wrong with a piece of JSON, and where.

use std::fmt;

/// Why JSON or YAML was refused.
///
/// `Display` names the field, the place in the text if there was a text, what is wrong and, for a
/// misspelt field, the names it may have meant. It never quotes the value of a sensitive field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct JsonError {
    /// From the root to the field, as `filter_chains[0].filters[0].name`; empty for the root.
    pub path: String,
    /// Line and column of the text, from 1, at which reading stopped.
    pub place: Option<(usize, usize)>,
    /// What is wrong, in one sentence.
    pub message: String,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        if let Some((line, column)) = self.place {
            write!(f, " (line {line}, column {column})")?;
        }
        Ok(())
    }
}

/// Why a message could not be printed.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// No such message in this Envoy release.
    #[error("unknown type {type_url}")]
    UnknownType {
        /// The URL in the `Any`.
        type_url: String,
    },
    /// The bytes are not what the type URL says.
    #[error("malformed {type_url}")]
    Malformed {
        /// The URL in the `Any`.
        type_url: String,
        /// What prost says.
        #[source]
        source: prost::DecodeError,
    },
    /// A value without a JSON form, or an `Any` inside that is unknown or malformed.
    #[error("{type_url} has no JSON form")]
    NoJsonForm {
        /// The URL in the outer `Any`.
        type_url: String,
        /// What the serializer says.
        #[source]
        source: serde_json::Error,
    },
}
