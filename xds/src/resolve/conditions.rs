//! What is said about objects that lost or cannot be served, one condition for each place in an object.

use std::collections::{BTreeMap, BTreeSet};

use mesh_model::{ConditionIntent, ConditionScope, ConditionStatus, Origin};

/// How many causes a message spells out.
const SPELLED_OUT: usize = 3;

/// Why something is not served as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Problem {
    /// Another object has the same host, path and match.
    RouteConflict,
    /// Another object has another certificate for the same server name.
    CertificateConflict,
    /// Another listener owns the address and port.
    AddressConflict,
    /// A part of the rule cannot be carried out and was left out.
    UnsupportedValue,
    /// The port cannot be opened here.
    PortUnavailable,
    /// East-west needs redirection, or addresses that are not there.
    Unavailable,
}

impl Problem {
    fn kind(self) -> &'static str {
        match self {
            Self::RouteConflict | Self::CertificateConflict | Self::AddressConflict => "Conflicted",
            Self::UnsupportedValue => "PartiallyInvalid",
            Self::PortUnavailable | Self::Unavailable => "Programmed",
        }
    }

    fn status(self) -> ConditionStatus {
        match self.kind() {
            "Programmed" => ConditionStatus::False,
            _ => ConditionStatus::True,
        }
    }

    fn reason(self) -> &'static str {
        match self {
            Self::RouteConflict => "RouteConflict",
            Self::CertificateConflict => "CertificateConflict",
            Self::AddressConflict => "AddressConflict",
            Self::UnsupportedValue => "UnsupportedValue",
            Self::PortUnavailable => "PortUnavailable",
            Self::Unavailable => "Unavailable",
        }
    }
}

/// Collects problems; those of one place and kind become one condition.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    problems: BTreeMap<(Origin, ConditionScope, Problem), BTreeSet<String>>,
}

impl Conditions {
    /// Adds a problem of an object as a whole; `message` names field and fix.
    pub(super) fn add(&mut self, origin: Origin, problem: Problem, message: String) {
        self.add_scoped(origin, ConditionScope::Object, problem, message);
    }

    /// Adds a problem of a part of an object.
    pub(super) fn add_scoped(
        &mut self,
        origin: Origin,
        scope: ConditionScope,
        problem: Problem,
        message: String,
    ) {
        self.problems.entry((origin, scope, problem)).or_default().insert(message);
    }

    /// The conditions, sorted.
    pub(super) fn into_intents(self) -> Vec<ConditionIntent> {
        self.problems
            .into_iter()
            .map(|((origin, scope, problem), messages)| {
                let mut message = messages.iter().take(SPELLED_OUT).cloned().collect::<Vec<_>>().join("; ");
                if messages.len() > SPELLED_OUT {
                    message.push_str(&format!("; and {} more", messages.len() - SPELLED_OUT));
                }
                ConditionIntent {
                    origin,
                    scope,
                    kind: problem.kind().to_owned(),
                    status: problem.status(),
                    reason: problem.reason().to_owned(),
                    message,
                }
            })
            .collect()
    }
}
