//! One file's bytes to its objects and problems.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use mesh_k8s_api::{FieldPath, Finding, Kind, Severity};
use mesh_model::ObjectKey;
use serde_json::Value;

use crate::decode::{Entry, Id, Place, decode};
use crate::document::{Document, documents};
use crate::identify::{Identity, Stranger, flatten, identify, normalise};
use crate::problem::Problem;
use crate::report::Report;
use crate::yaml::{parse_json, parse_yaml};

/// Problems of one file that are told one by one.
const MOST_PROBLEMS: usize = 100;

/// What a file holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct FileContent {
    /// Its objects. Some may be of an earlier version of the file, see [`read`].
    pub(crate) entries: BTreeMap<Id, Entry>,
    /// What is wrong with it, in the order of its lines.
    pub(crate) problems: Vec<Problem>,
    /// Objects of kinds that are not read, with the entries that are kept because such an object came up
    /// where they were.
    foreign: BTreeMap<ObjectKey, BTreeSet<Id>>,
}

/// What could not be read of a file.
#[derive(Default)]
struct Damage {
    /// A document is unreadable, so what it held is not known.
    all: bool,
    /// These objects were refused.
    refused: BTreeSet<Id>,
    /// Objects of kinds that are not read.
    foreign: BTreeSet<ObjectKey>,
}

/// Reads `bytes`. What the new version spoils is kept from the `old` one, so that the last good state serves
/// on:
///
/// * an object that is refused keeps its last good version;
/// * while any document cannot be parsed, everything that the file held and no good document of it holds now
///   stays, because it may be in the part that is broken or not yet written;
/// * an object whose kind turned into one that is not read stays.
pub(crate) fn read(file: &Path, bytes: &[u8], old: &FileContent) -> FileContent {
    let mut content = FileContent::default();
    let mut damage = Damage::default();
    match std::str::from_utf8(bytes) {
        Ok(text) if file.extension().is_some_and(|extension| extension == "json") => {
            read_json(file, text, old, &mut content, &mut damage);
        }
        Ok(text) => {
            for document in documents(text) {
                let mut problems = Vec::new();
                let mut report = Report::new(file, document, &mut problems);
                match parse_yaml(document.text) {
                    Ok(value) => {
                        Reader { file, old, content: &mut content, damage: &mut damage }.value(
                            document.index,
                            value,
                            &mut report,
                        );
                    }
                    Err(error) => {
                        report.syntax(error);
                        damage.all = true;
                    }
                }
                content.problems.append(&mut problems);
            }
        }
        Err(error) => {
            content.problems.push(Problem::of_file(
                file,
                format!("the file is no UTF-8 text: bad byte at offset {}", error.valid_up_to()),
                "save it as UTF-8; what the file held before stays served until then",
            ));
            damage.all = true;
        }
    }
    keep_last_good(&mut content, damage, old);
    limit(file, &mut content.problems);
    content
}

/// Keeps the first problems and the number of the others: a file of something else altogether should not
/// fill every list of problems.
fn limit(file: &Path, problems: &mut Vec<Problem>) {
    let Some(more) = problems.len().checked_sub(MOST_PROBLEMS).filter(|more| *more > 0) else { return };
    problems.truncate(MOST_PROBLEMS);
    problems.push(Problem::of_file(
        file,
        format!("it has {more} more problems"),
        "mend the first ones first",
    ));
}

fn read_json(file: &Path, text: &str, old: &FileContent, content: &mut FileContent, damage: &mut Damage) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (values, error) = parse_json(text);
    let count = values.len();
    let mut problems = Vec::new();
    for (index, value) in values.into_iter().enumerate() {
        // Only a file of one value has lines that the YAML parser can find again.
        let whole = Document { index, line: 1, text: if count == 1 { text } else { "" } };
        let mut report = Report::new(file, whole, &mut problems);
        Reader { file, old, content, damage }.value(index, value, &mut report);
    }
    if let Some(error) = error {
        Report::new(file, Document { index: count, line: 1, text }, &mut problems).syntax(error);
        damage.all = true;
    }
    content.problems.append(&mut problems);
}

struct Reader<'a> {
    file: &'a Path,
    old: &'a FileContent,
    content: &'a mut FileContent,
    damage: &'a mut Damage,
}

impl Reader<'_> {
    /// Takes the objects out of one document.
    fn value(&mut self, document: usize, value: Value, report: &mut Report<'_>) {
        let mut objects = Vec::new();
        flatten(value, FieldPath::default(), &mut objects);
        for (base, value) in objects {
            match identify(&value) {
                Ok(identity) => self.object(&identity, document, value, &base, report),
                Err(Stranger::Unclear(finding)) => {
                    self.damage.all = true;
                    report.finding(None, &base, *finding);
                }
                Err(Stranger::Foreign(foreign)) => {
                    let (key, finding) = *foreign;
                    report.finding(Some(key.clone()), &base, finding);
                    self.damage.foreign.insert(key);
                }
                Err(Stranger::Version(version)) => {
                    let (identity, finding) = *version;
                    report.finding(Some(key(&identity)), &base, finding);
                    self.damage.refused.insert((identity.kind, identity.name));
                }
            }
        }
    }

    fn object(
        &mut self,
        identity: &Identity,
        document: usize,
        mut value: Value,
        base: &FieldPath,
        report: &mut Report<'_>,
    ) {
        let id = (identity.kind, identity.name.clone());
        if self.content.entries.contains_key(&id) {
            let finding = Finding {
                path: FieldPath::default(),
                severity: Severity::Error,
                message: "the same object is in this file twice; the first one is served".to_owned(),
                fix: "remove one of them, or give it another name".to_owned(),
            };
            return report.finding(Some(key(identity)), base, finding);
        }
        let mut findings = Vec::from_iter(normalise(identity, &mut value));
        let place = Place { file: self.file, document };
        match decode(identity, value, place, self.old.entries.get(&id), &mut findings) {
            Some(entry) => drop(self.content.entries.insert(id, entry)),
            None => drop(self.damage.refused.insert(id)),
        }
        for finding in findings {
            report.finding(Some(key(identity)), base, finding);
        }
    }
}

fn keep_last_good(content: &mut FileContent, damage: Damage, old: &FileContent) {
    for foreign in damage.foreign {
        // A kind that was foreign before keeps what it kept; it takes hold of nothing new, so that removing
        // an object beside it works.
        let kept = match old.foreign.get(&foreign) {
            Some(kept) => kept.clone(),
            None => old.entries.keys().filter(|id| same_name(id, &foreign)).cloned().collect(),
        };
        content.foreign.insert(foreign, kept);
    }
    for (id, entry) in &old.entries {
        let kept = damage.all
            || damage.refused.contains(id)
            || content.foreign.values().any(|kept| kept.contains(id));
        if kept {
            content.entries.entry(id.clone()).or_insert_with(|| entry.clone());
        }
    }
}

/// True when a foreign object has the name that `id` has, its namespace filled in.
fn same_name(id: &Id, foreign: &ObjectKey) -> bool {
    let (kind, name) = id;
    let namespace = match (kind.namespaced(), foreign.name.namespace.as_str()) {
        (false, _) => "",
        (true, "") => "default",
        (true, namespace) => namespace,
    };
    name.name == foreign.name.name && name.namespace == namespace
}

fn key(identity: &Identity) -> ObjectKey {
    let kind: Kind = identity.kind;
    ObjectKey::new(kind.group(), kind.as_str(), identity.name.clone())
}
