//! What is well and what is not, said so that somebody can mend it.

use mesh_k8s_api::{Severity as ObjectSeverity, Source};
use mesh_k8s_files::Problem as FileProblem;
use mesh_k8s_reflect::Problem as ApiProblem;
use mesh_model::{Note, Severity};
use serde::Serialize;

/// Health of one part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct PartHealth {
    /// Name of the part.
    pub(crate) name: &'static str,
    /// `ok`, `degraded` or `off`.
    pub(crate) state: &'static str,
    /// What is wrong, or a fact worth knowing.
    pub(crate) detail: String,
    /// How to mend it; empty where nothing has to be mended.
    pub(crate) fix: String,
}

impl PartHealth {
    /// A part that works.
    pub(crate) fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, state: "ok", detail: detail.into(), fix: String::new() }
    }

    /// A part that needs attention: what is wrong, and how to mend it.
    pub(crate) fn degraded(name: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, state: "degraded", detail: detail.into(), fix: fix.into() }
    }

    /// A part that is switched off here.
    pub(crate) fn off(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, state: "off", detail: detail.into(), fix: String::new() }
    }
}

/// Something wrong with a manifest or an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Problem {
    /// `error` (not served as written) or `warning`.
    pub(crate) severity: &'static str,
    /// The object, `Kind namespace/name`; empty when it could not be read so far.
    pub(crate) object: String,
    /// File, line where it is known, or document.
    pub(crate) source: String,
    /// Field path, empty for the whole.
    pub(crate) field: String,
    /// What is wrong.
    pub(crate) message: String,
    /// How to mend it; empty where the message says it.
    pub(crate) fix: String,
}

impl Problem {
    /// All of it on one line.
    pub(crate) fn text(&self) -> String {
        let places = [&self.source, &self.object, &self.field].into_iter().filter(|place| !place.is_empty());
        let place = places.map(String::as_str).collect::<Vec<_>>().join(": ");
        let fix = if self.fix.is_empty() { String::new() } else { format!(" (to mend: {})", self.fix) };
        format!("{place}: {}{fix}", self.message)
    }
}

impl From<&FileProblem> for Problem {
    fn from(problem: &FileProblem) -> Self {
        let file = problem.file.display();
        Self {
            severity: severity_name(problem.severity),
            object: problem.object.as_ref().map(ToString::to_string).unwrap_or_default(),
            source: match (problem.line, problem.document) {
                (Some(line), _) => format!("{file}:{line}"),
                (None, Some(document)) if document > 0 => format!("{file} document {}", document + 1),
                _ => file.to_string(),
            },
            field: problem.field.clone().unwrap_or_default(),
            message: problem.message.clone(),
            fix: problem.fix.clone(),
        }
    }
}

impl From<&ApiProblem> for Problem {
    fn from(problem: &ApiProblem) -> Self {
        Self {
            severity: severity_name(problem.severity),
            object: problem.object.to_string(),
            source: Source::Api.to_string(),
            field: problem.field.clone(),
            message: problem.message.clone(),
            fix: problem.fix.clone(),
        }
    }
}

fn severity_name(severity: ObjectSeverity) -> &'static str {
    match severity {
        ObjectSeverity::Error => "error",
        ObjectSeverity::Warning => "warning",
    }
}

impl From<&Note> for Problem {
    fn from(note: &Note) -> Self {
        Self {
            severity: match note.severity {
                Severity::Normal => "note",
                Severity::Warning => "warning",
            },
            object: note.origin.object.to_string(),
            source: note.origin.source.clone(),
            field: note.origin.field.clone(),
            message: format!("{}: {}", note.reason, note.message),
            fix: String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{PartHealth, Problem};

    #[test]
    fn a_degraded_part_says_what_to_do() {
        let part = PartHealth::degraded("proxy", "no proxy is connected", "see proxy.log");
        let shown = serde_json::to_value(&part).expect("plain data");
        assert_eq!(shown["state"], "degraded");
        assert_eq!(shown["fix"], "see proxy.log");
    }

    #[test]
    fn a_problem_on_one_line_leaves_out_what_is_not_known() {
        let problem = Problem {
            severity: "error",
            object: String::new(),
            source: "web.yaml:3".to_owned(),
            field: String::new(),
            message: "the document cannot be parsed".to_owned(),
            fix: "close the quote".to_owned(),
        };
        assert_eq!(problem.text(), "web.yaml:3: the document cannot be parsed (to mend: close the quote)");
    }
}
