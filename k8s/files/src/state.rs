//! What a folder holds at one moment, and how it is brought up to date.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use mesh_k8s_api::ObjectSet;

use crate::listing::{Listing, Stamp};
use crate::problem::Problem;
use crate::store::Store;

/// A file longer than this is not read.
const LONGEST_FILE: u64 = 64 << 20;

/// Everything that a folder holds at one moment.
#[derive(Clone, Debug)]
pub struct FolderState {
    /// The objects. Unchanged ones are shared with the state before.
    pub objects: Arc<ObjectSet>,
    /// What is wrong, in the order of files, then of lines.
    pub problems: Vec<Problem>,
    /// Rises by one with each published state, from 1.
    pub revision: u64,
    /// When the first event that led to this state was seen; for a rescan without one, when it began.
    pub read_at: Instant,
}

/// The files of a folder as they were last read.
#[derive(Debug)]
pub(crate) struct Folder {
    root: PathBuf,
    listing: Listing,
    stamps: BTreeMap<PathBuf, Stamp>,
    store: Store,
}

impl Folder {
    /// Nothing read yet.
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root, listing: Listing::default(), stamps: BTreeMap::new(), store: Store::default() }
    }

    /// The files as last listed.
    pub(crate) fn listing(&self) -> &Listing {
        &self.listing
    }

    /// Looks which files there are.
    pub(crate) fn list(&mut self) {
        self.listing = Listing::of(&self.root);
    }

    /// Reads the listed files that changed since they were read, and those `named`, even when they look the
    /// same. Files in `unfinished` are being written and left as they are. Returns whether a file went away
    /// between being listed and being read, so that it has to be listed again.
    pub(crate) fn read(&mut self, named: &BTreeSet<PathBuf>, unfinished: &BTreeSet<PathBuf>) -> bool {
        let mut again = false;
        for (path, found) in &self.listing.files {
            let changed = self.stamps.get(path) != Some(&found.stamp) || named.contains(path);
            if !changed || unfinished.contains(path) {
                continue;
            }
            match read_file(&found.real) {
                Ok(bytes) => self.store.put(path, &bytes),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    again = true;
                    continue;
                }
                Err(error) => {
                    let fix = "let the user that runs the agent read it; what it held before stays served";
                    self.store.cannot_read(
                        path,
                        Problem::of_file(path, format!("it cannot be read: {error}"), fix),
                    );
                }
            }
            self.stamps.insert(path.clone(), found.stamp);
        }
        let gone: Vec<PathBuf> =
            self.store.files().filter(|path| self.is_gone(path, unfinished)).cloned().collect();
        for path in gone {
            self.store.remove(&path);
            self.stamps.remove(&path);
        }
        again
    }

    /// A file that is not listed is gone, unless what it lies in could not be looked at: a volume that is
    /// not mounted, or a folder being exchanged, must not take the configuration away.
    fn is_gone(&self, path: &Path, unfinished: &BTreeSet<PathBuf>) -> bool {
        !self.listing.files.contains_key(path)
            && !unfinished.contains(path)
            && !self.listing.problems.iter().any(|problem| path.starts_with(&problem.file))
    }

    /// Rises with each change of the objects.
    pub(crate) fn version(&self) -> u64 {
        self.store.version()
    }

    /// The objects to serve.
    pub(crate) fn objects(&self) -> &ObjectSet {
        self.store.objects()
    }

    /// What is wrong.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        self.listing.problems.iter().cloned().chain(self.store.problems()).collect()
    }
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let mut bytes = Vec::new();
    file.take(LONGEST_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST_FILE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is longer than 64 MiB"));
    }
    Ok(bytes)
}
