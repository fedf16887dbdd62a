//! What is said about one Ingress: complaints are collected while it is read and become conditions and notes.

use mesh_model::{ConditionIntent, ConditionScope, ConditionStatus, Note, Origin, Severity};

/// How many complaints a message spells out: the API bounds messages.
const SPELLED_OUT: usize = 8;

/// What a complaint means for the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// A part of the specification is not served.
    Refused,
    /// Something that the object names cannot be used.
    Unresolved,
    /// The object is served as asked or by a default; the owner should know why.
    Warned,
    /// Worth knowing, nothing to mend.
    Told,
}

#[derive(Debug)]
struct Complaint {
    effect: Effect,
    field: String,
    reason: &'static str,
    message: String,
}

/// The complaints about one Ingress, in the order of its fields.
#[derive(Debug, Default)]
pub(crate) struct Report {
    complaints: Vec<Complaint>,
}

impl Report {
    /// Adds a complaint about `field`; `message` says what is wrong and how to mend it, without the field.
    pub(crate) fn add(&mut self, effect: Effect, field: &str, reason: &'static str, message: String) {
        self.complaints.push(Complaint { effect, field: field.to_owned(), reason, message });
    }

    /// The notes alone, for an object that is not ours and so gets no conditions.
    pub(crate) fn into_notes(self, origin: &Origin) -> Vec<Note> {
        self.complaints.into_iter().map(|complaint| complaint.into_note(origin)).collect()
    }

    /// Conditions and notes of an Ingress of ours. `summary` says what is served; `None` when nothing is.
    pub(crate) fn finish(
        self,
        origin: &Origin,
        summary: Option<String>,
    ) -> (Vec<ConditionIntent>, Vec<Note>) {
        let condition = |kind: &str, status, reason: &str, message| ConditionIntent {
            origin: origin.clone(),
            scope: ConditionScope::Object,
            kind: kind.to_owned(),
            status,
            reason: reason.to_owned(),
            message,
        };
        let accepted = match (summary, self.first(Effect::Refused)) {
            (Some(summary), None) => condition("Accepted", ConditionStatus::True, "Accepted", summary),
            (Some(summary), Some(_)) => condition(
                "Accepted",
                ConditionStatus::True,
                "PartiallyInvalid",
                format!("{summary}; not served: {}", self.join(Effect::Refused)),
            ),
            (None, refused) => {
                let message = match self.join(Effect::Refused) {
                    text if text.is_empty() => {
                        "nothing in spec can be served; give it a rule with a path or a defaultBackend"
                            .to_owned()
                    }
                    text => text,
                };
                condition("Accepted", ConditionStatus::False, refused.unwrap_or("Invalid"), message)
            }
        };
        let resolved = match self.first(Effect::Unresolved) {
            None => condition(
                "ResolvedRefs",
                ConditionStatus::True,
                "ResolvedRefs",
                "all Services and Secrets that are named can be used".to_owned(),
            ),
            Some(reason) => {
                condition("ResolvedRefs", ConditionStatus::False, reason, self.join(Effect::Unresolved))
            }
        };
        (vec![accepted, resolved], self.into_notes(origin))
    }

    fn first(&self, effect: Effect) -> Option<&'static str> {
        self.complaints.iter().find(|complaint| complaint.effect == effect).map(|complaint| complaint.reason)
    }

    /// The first complaints in one text; the notes have all.
    fn join(&self, effect: Effect) -> String {
        let mut texts: Vec<String> = self
            .complaints
            .iter()
            .filter(|complaint| complaint.effect == effect)
            .map(|complaint| format!("{}: {}", complaint.field, complaint.message))
            .collect();
        let more = texts.len().saturating_sub(SPELLED_OUT);
        texts.truncate(SPELLED_OUT);
        if more > 0 {
            texts.push(format!("and {more} more"));
        }
        texts.join("; ")
    }
}

impl Complaint {
    fn into_note(self, origin: &Origin) -> Note {
        Note {
            message: format!("{}: {}", self.field, self.message),
            origin: origin.at(self.field),
            severity: if self.effect == Effect::Told { Severity::Normal } else { Severity::Warning },
            reason: self.reason.to_owned(),
        }
    }
}
