//! One table: rows by key, and the order in which they last changed.

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::sync::Arc;

use imbl::OrdMap;
use serde::Serialize;

/// A row. Equal rows are the same row: writing one over the other changes nothing and wakes nobody.
pub trait Row: PartialEq + Serialize + Send + Sync + 'static {
    /// Primary key.
    type Key: Ord + Clone + Send + Sync + std::fmt::Debug + 'static;
    /// Name of the table, unique within a database; appears in dumps and logs.
    const TABLE: &'static str;
    /// The key of this row.
    fn key(&self) -> Self::Key;
}

/// Handle on a table of a [`crate::Database`]; cheap to copy, of no use with another database.
pub struct Table<R> {
    pub(crate) index: usize,
    pub(crate) row: PhantomData<fn() -> R>,
}

impl<R> Clone for Table<R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for Table<R> {}

/// A row and the revision that wrote it.
pub(crate) struct Entry<R> {
    pub(crate) revision: u64,
    pub(crate) row: Arc<R>,
}

impl<R> Clone for Entry<R> {
    fn clone(&self) -> Self {
        Self { revision: self.revision, row: self.row.clone() }
    }
}

/// The state of a table at one moment. Cloning is O(1); a write copies O(log n) nodes.
pub(crate) struct State<R: Row> {
    pub(crate) rows: OrdMap<R::Key, Entry<R>>,
    /// Key by the revision of its last change; a key without a row was deleted at that revision.
    pub(crate) changes: OrdMap<u64, R::Key>,
    /// Revision of each deletion still in `changes`.
    pub(crate) deleted: OrdMap<R::Key, u64>,
    /// Who still has to say that its rows are all there.
    pub(crate) pending: BTreeSet<&'static str>,
}

impl<R: Row> Clone for State<R> {
    fn clone(&self) -> Self {
        Self {
            rows: self.rows.clone(),
            changes: self.changes.clone(),
            deleted: self.deleted.clone(),
            pending: self.pending.clone(),
        }
    }
}

impl<R: Row> State<R> {
    pub(crate) fn new(pending: BTreeSet<&'static str>) -> Self {
        Self { rows: OrdMap::new(), changes: OrdMap::new(), deleted: OrdMap::new(), pending }
    }

    /// Writes `row` at `revision`; false when an equal row is there already.
    pub(crate) fn upsert(&mut self, revision: u64, row: Arc<R>) -> bool {
        let key = row.key();
        if let Some(entry) = self.rows.get(&key) {
            if *entry.row == *row {
                return false;
            }
            self.changes.remove(&entry.revision);
        } else if let Some(deleted_at) = self.deleted.remove(&key) {
            self.changes.remove(&deleted_at);
        }
        self.changes.insert(revision, key.clone());
        self.rows.insert(key, Entry { revision, row });
        true
    }

    /// Deletes the row of `key` at `revision`; false when there is none.
    pub(crate) fn remove(&mut self, revision: u64, key: &R::Key) -> bool {
        let Some(entry) = self.rows.remove(key) else { return false };
        self.changes.remove(&entry.revision);
        self.changes.insert(revision, key.clone());
        self.deleted.insert(key.clone(), revision);
        true
    }

    /// Forgets deletions older than `revision`, once nobody follows from before it.
    pub(crate) fn forget_deletions_before(&mut self, revision: u64) {
        let old: Vec<(R::Key, u64)> = self
            .deleted
            .iter()
            .filter(|(_, deleted_at)| **deleted_at < revision)
            .map(|(key, deleted_at)| (key.clone(), *deleted_at))
            .collect();
        for (key, deleted_at) in old {
            self.deleted.remove(&key);
            self.changes.remove(&deleted_at);
        }
    }
}
