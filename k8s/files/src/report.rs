//! Collects the problems of one document and knows where in the file they are.

use std::cell::OnceCell;
use std::path::Path;

use mesh_k8s_api::{FieldPath, Finding, Severity};
use mesh_model::ObjectKey;

use crate::document::Document;
use crate::problem::Problem;
use crate::yaml::{Lines, SyntaxError};

/// The problems of one document.
pub(crate) struct Report<'a> {
    file: &'a Path,
    document: Document<'a>,
    lines: OnceCell<Lines>,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Report<'a> {
    /// A report that adds to `problems`.
    pub(crate) fn new(file: &'a Path, document: Document<'a>, problems: &'a mut Vec<Problem>) -> Self {
        Self { file, document, lines: OnceCell::new(), problems }
    }

    /// The document's text cannot be parsed.
    pub(crate) fn syntax(&mut self, error: SyntaxError) {
        let line = error.line.map(|line| self.document.line + line - 1);
        self.problems.push(Problem {
            file: self.file.to_owned(),
            document: Some(self.document.index),
            line,
            object: None,
            field: None,
            severity: Severity::Error,
            message: format!("the document cannot be parsed: {}", error.message),
            fix: "correct the text near this line (indentation, quotes, brackets); \
                  what the file held before stays served until then"
                .to_owned(),
        });
    }

    /// Something is wrong with an object that lies at `base` in the document.
    pub(crate) fn finding(&mut self, object: Option<ObjectKey>, base: &FieldPath, finding: Finding) {
        let lines = self.lines.get_or_init(|| Lines::of(self.document.text));
        let line = lines.find(&base.join(&finding.path)).map(|line| self.document.line + line - 1);
        let field = finding.path.to_string();
        self.problems.push(Problem {
            file: self.file.to_owned(),
            document: Some(self.document.index),
            line,
            object,
            field: (!field.is_empty()).then_some(field),
            severity: finding.severity,
            message: finding.message,
            fix: finding.fix,
        });
    }
}
