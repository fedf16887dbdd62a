//! Complaints about one object, collected while it is read; they become conditions and notes.

use mesh_model::{ConditionIntent, ConditionScope, ConditionStatus, Note, Origin, Severity};

/// Why a field cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Field path within the object.
    pub(crate) field: String,
    /// Reason for a condition.
    pub(crate) reason: &'static str,
    /// What is wrong and how to mend it, without the field.
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(field: impl Into<String>, reason: &'static str, message: impl Into<String>) -> Self {
        Self { field: field.into(), reason, message: message.into() }
    }

    /// Field and message in one text.
    pub(crate) fn text(&self) -> String {
        format!("{}: {}", self.field, self.message)
    }

    /// A warning about the object.
    pub(crate) fn note(&self, origin: &Origin) -> Note {
        Note {
            origin: origin.at(&self.field),
            severity: Severity::Warning,
            reason: self.reason.to_owned(),
            message: self.text(),
        }
    }
}

/// How many complaints a message spells out: the API bounds messages.
const SPELLED_OUT: usize = 8;

/// The first texts in one, separated by semicolons.
pub(crate) fn join<'a>(refusals: impl IntoIterator<Item = &'a Refusal>) -> String {
    join_texts(refusals.into_iter().map(Refusal::text).collect())
}

/// The same for texts.
pub(crate) fn join_texts(mut texts: Vec<String>) -> String {
    let more = texts.len().saturating_sub(SPELLED_OUT);
    texts.truncate(SPELLED_OUT);
    if more > 0 {
        texts.push(format!("and {more} more"));
    }
    texts.join("; ")
}

/// `1 listener`, `2 listeners`.
pub(crate) fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Makes the conditions of one part of an object's status.
pub(crate) struct Conditions<'a> {
    pub(crate) origin: &'a Origin,
    pub(crate) scope: ConditionScope,
    pub(crate) rows: Vec<ConditionIntent>,
}

impl<'a> Conditions<'a> {
    pub(crate) fn new(origin: &'a Origin, scope: ConditionScope) -> Self {
        Self { origin, scope, rows: Vec::new() }
    }

    pub(crate) fn add(&mut self, kind: &str, status: bool, reason: &str, message: impl Into<String>) {
        self.rows.push(ConditionIntent {
            origin: self.origin.clone(),
            scope: self.scope.clone(),
            kind: kind.to_owned(),
            status: ConditionStatus::from(status),
            reason: reason.to_owned(),
            message: message.into(),
        });
    }
}
