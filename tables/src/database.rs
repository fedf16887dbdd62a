//! The root of all tables: one pointer that writers swap and readers load.

use std::any::Any;
use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::table::{Row, State, Table};

/// A table's state with its row type erased: the root holds tables of every type.
trait AnyTable: Send + Sync {
    fn as_any(&self) -> &dyn Any;
    fn boxed_clone(&self) -> Box<dyn AnyTable>;
    fn as_any_mut(&mut self) -> &mut dyn Any;
    fn name(&self) -> &'static str;
    fn dump(&self) -> serde_json::Value;
}

impl<R: Row> AnyTable for State<R> {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn boxed_clone(&self) -> Box<dyn AnyTable> {
        Box::new(self.clone())
    }
    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
    fn name(&self) -> &'static str {
        R::TABLE
    }
    fn dump(&self) -> serde_json::Value {
        let rows = self.rows.values().map(|entry| serde_json::to_value(&*entry.row));
        rows.filter_map(Result::ok).collect()
    }
}

struct Root {
    tables: Vec<Arc<dyn AnyTable>>,
    revision: u64,
}

/// All tables of a process. Clone the `Arc` around it; there are no statics.
pub struct Database {
    root: ArcSwap<Root>,
    /// Held for the length of a write transaction; readers never take it.
    writer: Mutex<Vec<watch::Sender<u64>>>,
}

impl Default for Database {
    fn default() -> Self {
        Self::new()
    }
}

impl Database {
    /// A database without tables.
    pub fn new() -> Self {
        let root = Root { tables: Vec::new(), revision: 0 };
        Self { root: ArcSwap::from_pointee(root), writer: Mutex::new(Vec::new()) }
    }

    /// Adds a table. `initializers` name the sources that each have to call
    /// [`Transaction::complete`] before the table counts as complete.
    pub fn add_table<R: Row>(&self, initializers: impl IntoIterator<Item = &'static str>) -> Table<R> {
        let mut wakers = self.writer.lock();
        let root = self.root.load();
        let mut tables = root.tables.clone();
        let pending: BTreeSet<_> = initializers.into_iter().collect();
        tables.push(Arc::new(State::<R>::new(pending)));
        let index = tables.len() - 1;
        self.root.store(Arc::new(Root { tables, revision: root.revision }));
        wakers.push(watch::Sender::new(0));
        Table { index, row: PhantomData }
    }

    /// All tables at this moment. One pointer load.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { root: self.root.load_full() }
    }

    /// Runs `change` on a private copy and publishes the outcome in one step; subscribers of the tables
    /// that changed are woken. Writers wait for each other, readers for nobody.
    pub fn write<T>(&self, change: impl FnOnce(&mut Transaction) -> T) -> T {
        let wakers = self.writer.lock();
        let root = self.root.load_full();
        let mut transaction = Transaction {
            revision: root.revision,
            tables: root.tables.clone(),
            open: root.tables.iter().map(|_| None).collect(),
            changed: BTreeSet::new(),
        };
        let outcome = change(&mut transaction);
        let Transaction { revision, mut tables, open, changed } = transaction;
        for (index, table) in open.into_iter().enumerate() {
            if let Some(table) = table {
                tables[index] = Arc::from(table);
            }
        }
        self.root.store(Arc::new(Root { tables, revision }));
        for index in changed {
            wakers[index].send_replace(revision);
        }
        outcome
    }

    /// Wakes when the table changes. The value is the revision of the last change; wake-ups may be joined.
    pub fn subscribe<R: Row>(&self, table: Table<R>) -> watch::Receiver<u64> {
        self.writer.lock()[table.index].subscribe()
    }
}

/// All tables at one moment.
#[derive(Clone)]
pub struct Snapshot {
    root: Arc<Root>,
}

/// A change of a row since some revision.
pub enum Change<R: Row> {
    /// The row is now this.
    Upsert(Arc<R>),
    /// There is no row of this key any more.
    Delete(R::Key),
}

impl Snapshot {
    fn state<R: Row>(&self, table: Table<R>) -> &State<R> {
        let state = self.root.tables[table.index].as_any().downcast_ref();
        state.expect("a table handle is used with the database that made it")
    }

    /// Revision of the last write to any table.
    pub fn revision(&self) -> u64 {
        self.root.revision
    }

    /// The row of `key`.
    pub fn get<R: Row>(&self, table: Table<R>, key: &R::Key) -> Option<&Arc<R>> {
        self.state(table).rows.get(key).map(|entry| &entry.row)
    }

    /// All rows in key order.
    pub fn iter<R: Row>(&self, table: Table<R>) -> impl Iterator<Item = &Arc<R>> {
        self.state(table).rows.values().map(|entry| &entry.row)
    }

    /// Number of rows.
    pub fn len<R: Row>(&self, table: Table<R>) -> usize {
        self.state(table).rows.len()
    }

    /// Revision of the last change of this table that is still remembered: what to wait for with
    /// [`crate::ReconcilerHandle::reached`]. A reconciler does not hear of other tables' changes.
    pub fn last_change<R: Row>(&self, table: Table<R>) -> u64 {
        self.state(table).changes.get_max().map_or(0, |(revision, _)| *revision)
    }

    /// Whether every source of the table has said that its rows are there.
    pub fn is_complete<R: Row>(&self, table: Table<R>) -> bool {
        self.state(table).pending.is_empty()
    }

    /// What changed after `revision`, oldest first, each key once, with its latest state.
    pub fn changes<R: Row>(&self, table: Table<R>, revision: u64) -> impl Iterator<Item = (u64, Change<R>)> {
        let state = self.state(table);
        state.changes.range(revision + 1..).map(|(at, key)| {
            let change = match state.rows.get(key) {
                Some(entry) => Change::Upsert(entry.row.clone()),
                None => Change::Delete(key.clone()),
            };
            (*at, change)
        })
    }

    /// Every table as JSON, by name: what `millrace` shows of the agent's state.
    pub fn dump(&self) -> serde_json::Value {
        let tables = self.root.tables.iter().map(|table| (table.name().to_owned(), table.dump()));
        serde_json::Value::Object(tables.collect())
    }
}

/// A write in progress. Sees its own changes.
pub struct Transaction {
    revision: u64,
    tables: Vec<Arc<dyn AnyTable>>,
    open: Vec<Option<Box<dyn AnyTable>>>,
    changed: BTreeSet<usize>,
}

impl Transaction {
    fn state<R: Row>(&mut self, table: Table<R>) -> &mut State<R> {
        let slot = &mut self.open[table.index];
        let erased = slot.get_or_insert_with(|| self.tables[table.index].boxed_clone());
        erased.as_any_mut().downcast_mut().expect("a table handle is used with the database that made it")
    }

    fn step<R: Row>(&mut self, table: Table<R>, change: impl FnOnce(&mut State<R>, u64) -> bool) -> bool {
        let revision = self.revision + 1;
        let changed = change(self.state(table), revision);
        if changed {
            self.revision = revision;
            self.changed.insert(table.index);
        }
        changed
    }

    /// Writes a row; false when an equal one is there.
    pub fn upsert<R: Row>(&mut self, table: Table<R>, row: impl Into<Arc<R>>) -> bool {
        let row = row.into();
        self.step(table, |state, revision| state.upsert(revision, row))
    }

    /// Deletes a row; false when there is none.
    pub fn remove<R: Row>(&mut self, table: Table<R>, key: &R::Key) -> bool {
        self.step(table, |state, revision| state.remove(revision, key))
    }

    /// Makes the table hold exactly `rows`; rows that are equal to what is there do not change. Costs
    /// O(rows). Returns the number of rows written or deleted.
    pub fn replace<R: Row>(&mut self, table: Table<R>, rows: impl IntoIterator<Item = Arc<R>>) -> usize {
        self.replace_part(table, |_| true, rows)
    }

    /// The same for the part of the table that `is_part` says yes to; the rows of others stay, unless `rows` has one
    /// of their keys.
    pub fn replace_part<R: Row>(
        &mut self,
        table: Table<R>,
        is_part: impl Fn(&R) -> bool,
        rows: impl IntoIterator<Item = Arc<R>>,
    ) -> usize {
        let part = self.state(table).rows.iter().filter(|(_, entry)| is_part(&entry.row));
        let mut unseen: BTreeSet<R::Key> = part.map(|(key, _)| key.clone()).collect();
        let mut count = 0;
        for row in rows {
            unseen.remove(&row.key());
            count += usize::from(self.upsert(table, row));
        }
        for key in unseen {
            count += usize::from(self.remove(table, &key));
        }
        count
    }

    /// Says that the rows of `initializer` are all in the table. Wakes subscribers when it was the last.
    pub fn complete<R: Row>(&mut self, table: Table<R>, initializer: &'static str) {
        let state = self.state(table);
        if state.pending.remove(initializer) && state.pending.is_empty() {
            self.changed.insert(table.index);
        }
    }

    /// Forgets the deletions before `revision`; those who follow the table have passed it.
    pub fn forget_deletions_before<R: Row>(&mut self, table: Table<R>, revision: u64) {
        self.state(table).forget_deletions_before(revision);
    }
}
