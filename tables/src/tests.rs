use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use proptest::prelude::*;

use crate::{Change, Database, Reconciler, ReconcilerConfig, Row, Snapshot, Table, Target, TargetError};

#[derive(Clone, Debug, PartialEq, serde::Serialize)]
struct Pair {
    key: u8,
    value: u8,
}

impl Row for Pair {
    type Key = u8;
    const TABLE: &'static str = "pairs";
    fn key(&self) -> u8 {
        self.key
    }
}

fn pair(key: u8, value: u8) -> Arc<Pair> {
    Arc::new(Pair { key, value })
}

fn content(snapshot: &Snapshot, table: Table<Pair>) -> BTreeMap<u8, u8> {
    snapshot.iter(table).map(|row| (row.key, row.value)).collect()
}

#[test]
fn a_snapshot_does_not_see_later_writes() {
    let database = Database::new();
    let table = database.add_table::<Pair>([]);
    database.write(|txn| txn.upsert(table, pair(1, 1)));
    let before = database.snapshot();
    database.write(|txn| txn.remove(table, &1));
    assert_eq!(before.len(table), 1);
    assert_eq!(database.snapshot().len(table), 0);
}

#[test]
fn an_equal_row_changes_nothing_and_wakes_nobody() {
    let database = Database::new();
    let table = database.add_table::<Pair>([]);
    database.write(|txn| txn.upsert(table, pair(1, 1)));
    let mut wake = database.subscribe(table);
    wake.mark_unchanged();
    let written = database.write(|txn| txn.replace(table, [pair(1, 1)]));
    assert_eq!(written, 0);
    assert!(!wake.has_changed().expect("the database lives"));
}

#[test]
fn a_part_of_a_table_is_replaced_and_the_rest_stays() {
    let database = Database::new();
    let table = database.add_table::<Pair>([]);
    database.write(|txn| txn.replace(table, [pair(1, 1), pair(2, 1), pair(3, 9)]));
    let count = database.write(|txn| txn.replace_part(table, |row| row.value == 1, [pair(2, 1), pair(4, 1)]));
    assert_eq!(count, 2);
    assert_eq!(content(&database.snapshot(), table), BTreeMap::from([(2, 1), (3, 9), (4, 1)]));
}

#[test]
fn a_table_is_complete_when_every_source_has_said_so() {
    let database = Database::new();
    let table = database.add_table::<Pair>(["files", "api"]);
    database.write(|txn| txn.complete(table, "files"));
    assert!(!database.snapshot().is_complete(table));
    database.write(|txn| txn.complete(table, "api"));
    assert!(database.snapshot().is_complete(table));
}

#[test]
fn the_dump_names_each_table() {
    let database = Database::new();
    let table = database.add_table::<Pair>([]);
    database.write(|txn| txn.upsert(table, pair(1, 2)));
    assert_eq!(database.snapshot().dump(), serde_json::json!({"pairs": [{"key": 1, "value": 2}]}));
}

proptest! {
    /// Whoever follows the changes from any point ends with the same content as the table.
    #[test]
    fn following_the_changes_gives_the_table(
        steps in proptest::collection::vec((0u8..8, proptest::option::of(0u8..4)), 0..60),
        forget_at in 0usize..60,
    ) {
        let database = Database::new();
        let table = database.add_table::<Pair>([]);
        let mut follower = BTreeMap::new();
        let mut seen = 0;
        for (step, (key, value)) in steps.into_iter().enumerate() {
            database.write(|txn| match value {
                Some(value) => txn.upsert(table, pair(key, value)),
                None => txn.remove(table, &key),
            });
            if step % 3 == 0 {
                let snapshot = database.snapshot();
                for (at, change) in snapshot.changes(table, seen) {
                    prop_assert!(at > seen);
                    seen = at;
                    match change {
                        Change::Upsert(row) => { follower.insert(row.key, row.value); }
                        Change::Delete(key) => { follower.remove(&key); }
                    }
                }
                prop_assert_eq!(&follower, &content(&snapshot, table));
            }
            if step == forget_at {
                database.write(|txn| txn.forget_deletions_before(table, seen));
            }
        }
    }
}

/// A target that refuses a key until told otherwise.
#[derive(Default)]
struct Fake {
    content: BTreeMap<u8, u8>,
    refuses: BTreeSet<u8>,
    tries: u32,
}

struct Shared(Arc<Mutex<Fake>>);

impl Target<Pair> for Shared {
    fn apply(&mut self, row: &Pair) -> Result<(), TargetError> {
        let mut fake = self.0.lock();
        fake.tries += 1;
        if fake.refuses.contains(&row.key) {
            return Err(TargetError { message: "full".to_owned() });
        }
        fake.content.insert(row.key, row.value);
        Ok(())
    }
    fn remove(&mut self, key: &u8) -> Result<(), TargetError> {
        self.0.lock().content.remove(key);
        Ok(())
    }
    fn prune(&mut self, desired: &mut dyn Iterator<Item = &Pair>) -> Result<usize, TargetError> {
        let keys: BTreeSet<u8> = desired.map(|row| row.key).collect();
        let mut fake = self.0.lock();
        let before = fake.content.len();
        fake.content.retain(|key, _| keys.contains(key));
        Ok(before - fake.content.len())
    }
}

#[tokio::test(start_paused = true)]
async fn left_overs_are_pruned_only_when_the_table_is_complete() {
    let fake = Arc::new(Mutex::new(Fake { content: BTreeMap::from([(9, 9)]), ..Fake::default() }));
    let database = Arc::new(Database::new());
    let table = database.add_table::<Pair>(["source"]);
    let handle =
        Reconciler::start(database.clone(), table, Shared(fake.clone()), ReconcilerConfig::default());
    database.write(|txn| txn.upsert(table, pair(1, 1)));
    assert!(handle.reached(1, Duration::from_secs(1)).await);
    assert_eq!(fake.lock().content, BTreeMap::from([(1, 1), (9, 9)]));
    database.write(|txn| txn.complete(table, "source"));
    let mut status = handle.status();
    status.wait_for(|status| status.pruned).await.expect("the reconciler runs");
    assert_eq!(fake.lock().content, BTreeMap::from([(1, 1)]));
}

#[tokio::test(start_paused = true)]
async fn a_refused_row_is_tried_again_and_holds_back_no_other() {
    let fake = Arc::new(Mutex::new(Fake { refuses: BTreeSet::from([1]), ..Fake::default() }));
    let database = Arc::new(Database::new());
    let table = database.add_table::<Pair>([]);
    let handle =
        Reconciler::start(database.clone(), table, Shared(fake.clone()), ReconcilerConfig::default());
    database.write(|txn| txn.replace(table, [pair(1, 1), pair(2, 2)]));
    let mut status = handle.status();
    let refused = status.wait_for(|status| !status.refused.is_empty()).await.expect("runs").clone();
    assert_eq!(refused.refused["1"], "full");
    assert_eq!(fake.lock().content, BTreeMap::from([(2, 2)]));
    fake.lock().refuses.clear();
    status.wait_for(|status| status.refused.is_empty()).await.expect("runs");
    assert_eq!(fake.lock().content, BTreeMap::from([(1, 1), (2, 2)]));
    let tries = fake.lock().tries;
    assert!((3..10).contains(&tries), "tries back off: {tries}");
}

#[tokio::test(start_paused = true)]
async fn a_reconciler_is_waited_for_by_the_last_change_of_its_own_table() {
    let database = Arc::new(Database::new());
    let (quiet, busy) = (database.add_table::<Pair>([]), database.add_table::<Pair>([]));
    let fake = Arc::new(Mutex::new(Fake::default()));
    let handle = Reconciler::start(database.clone(), quiet, Shared(fake), ReconcilerConfig::default());
    database.write(|txn| txn.upsert(quiet, pair(1, 1)));
    assert!(handle.reached(database.snapshot().last_change(quiet), Duration::from_millis(1)).await);
    database.write(|txn| txn.upsert(busy, pair(1, 1)));
    let last = database.snapshot().last_change(quiet);
    assert!(last < database.snapshot().revision());
    assert!(handle.reached(last, Duration::from_millis(1)).await, "another table's change is not waited for");
}
