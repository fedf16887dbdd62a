//! All files' content, merged into one set.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use mesh_k8s_api::{Object, ObjectSet, Severity, Source};

use crate::decode::Id;
use crate::problem::Problem;
use crate::read::{FileContent, read};

/// The files' content and the set made of it, without a folder behind it. Of one object in several files the
/// first file, in the order of paths, is served.
#[derive(Debug, Default)]
pub struct Store {
    files: BTreeMap<PathBuf, FileContent>,
    /// The files that have an object, in order.
    claims: BTreeMap<Id, BTreeSet<PathBuf>>,
    /// Objects that more than one file has.
    contested: BTreeSet<Id>,
    /// Files that could not be read at all, with the reason.
    unreadable: BTreeMap<PathBuf, Problem>,
    objects: ObjectSet,
    /// Rises with each change of `objects`.
    version: u64,
}

impl Store {
    /// The objects to serve.
    pub fn objects(&self) -> &ObjectSet {
        &self.objects
    }

    /// Rises with each change of the objects.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// The files that are known.
    pub(crate) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.files.keys().chain(self.unreadable.keys())
    }

    /// Takes in a new version of a file. Costs its parsing, and a logarithm for each of its objects.
    pub fn put(&mut self, file: &Path, bytes: &[u8]) {
        self.unreadable.remove(file);
        let old = self.files.remove(file).unwrap_or_default();
        let new = read(file, bytes, &old);
        let touched: BTreeSet<Id> = old.entries.keys().chain(new.entries.keys()).cloned().collect();
        self.files.insert(file.to_owned(), new);
        self.settle(file, touched);
    }

    /// A file exists and cannot be read: what it held stays.
    pub(crate) fn cannot_read(&mut self, file: &Path, problem: Problem) {
        self.unreadable.insert(file.to_owned(), problem);
    }

    /// A file is gone.
    pub fn remove(&mut self, file: &Path) {
        self.unreadable.remove(file);
        if let Some(old) = self.files.remove(file) {
            self.settle(file, old.entries.into_keys().collect());
        }
    }

    /// Decides anew who has each of the objects that `file` had or has.
    fn settle(&mut self, file: &Path, touched: BTreeSet<Id>) {
        let content = self.files.get(file);
        for id in touched {
            let claims = self.claims.entry(id.clone()).or_default();
            if content.is_some_and(|content| content.entries.contains_key(&id)) {
                claims.insert(file.to_owned());
            } else {
                claims.remove(file);
            }
            if claims.len() > 1 {
                self.contested.insert(id.clone());
            } else {
                self.contested.remove(&id);
            }
            let winner = claims.first().and_then(|first| self.files.get(first)?.entries.get(&id));
            let served = self.objects.get(id.0, &id.1);
            match (winner, served) {
                (Some(winner), Some(served)) if winner.object.ptr_eq(&served) => {}
                (Some(winner), _) => {
                    self.objects.insert(winner.object.clone());
                    self.version += 1;
                }
                (None, served) => {
                    self.objects.remove(id.0, &id.1);
                    self.claims.remove(&id);
                    self.version += u64::from(served.is_some());
                }
            }
        }
    }

    /// Everything that is wrong, in the order of files.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems: Vec<Problem> =
            self.files.values().flat_map(|content| content.problems.iter().cloned()).collect();
        problems.extend(self.unreadable.values().cloned());
        for id in &self.contested {
            let mut files = self.claims.get(id).into_iter().flatten();
            let Some(first) = files.next() else { continue };
            for file in files {
                if let Some(entry) = self.files.get(file).and_then(|content| content.entries.get(id)) {
                    problems.push(contest(&entry.object, first));
                }
            }
        }
        problems.sort_by(|a, b| a.file.cmp(&b.file));
        problems
    }
}

fn contest(object: &Object, first: &Path) -> Problem {
    let (file, document) = match object.source() {
        Source::File { path, document } => (path.clone(), Some(*document)),
        Source::Api => (PathBuf::new(), None),
    };
    Problem {
        file,
        document,
        line: None,
        object: Some(object.key()),
        field: None,
        severity: Severity::Error,
        message: format!("the same object is in {}, which is served", first.display()),
        fix: "remove one of them, or give it another name".to_owned(),
    }
}

#[cfg(test)]
mod tests;
