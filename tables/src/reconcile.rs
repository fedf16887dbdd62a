//! Carries the rows of a table to a target: the thin edge between desired and real.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::database::{Change, Database};
use crate::table::{Row, Table};

/// Why a target refused a row. Shown to people: names the row and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct TargetError {
    /// What happened, with the facts.
    pub message: String,
}

/// What desired rows are applied to. Calls block for as long as a system call does; they run on the
/// reconciler's own task and never at the same time.
pub trait Target<R: Row>: Send + 'static {
    /// Makes the target hold `row`; called again with the same row it changes nothing.
    fn apply(&mut self, row: &R) -> Result<(), TargetError>;
    /// Takes out what `apply` put in for `key`; no error when it is not there.
    fn remove(&mut self, key: &R::Key) -> Result<(), TargetError>;
    /// Takes out everything that belongs to no key of `desired`, left by an earlier process. Returns how
    /// many were taken out. Called once the table is complete, and then each `prune_interval`.
    fn prune(&mut self, desired: &mut dyn Iterator<Item = &R>) -> Result<usize, TargetError>;
}

/// Timing of a reconciler.
#[derive(Clone, Copy, Debug)]
pub struct ReconcilerConfig {
    /// First wait before a refused row is tried again; doubles up to `retry_max`.
    pub retry_min: Duration,
    /// Longest wait before a refused row is tried again.
    pub retry_max: Duration,
    /// How often the whole table is applied again and the target pruned, against drift.
    pub refresh: Duration,
}

impl Default for ReconcilerConfig {
    fn default() -> Self {
        let (retry_min, retry_max) = (Duration::from_millis(50), Duration::from_secs(10));
        Self { retry_min, retry_max, refresh: Duration::from_secs(60) }
    }
}

/// How far a reconciler has come.
#[derive(Clone, Debug, Default)]
pub struct ReconcilerStatus {
    /// Every change up to this revision was tried.
    pub revision: u64,
    /// Rows the target refused, by the text of their key, with the reason of the last try.
    pub refused: BTreeMap<String, String>,
    /// Whether left-overs of an earlier process have been taken out.
    pub pruned: bool,
}

/// A running reconciler; dropping it stops it after the step at hand, leaving the target as it is.
pub struct ReconcilerHandle {
    status: watch::Receiver<ReconcilerStatus>,
    task: tokio::task::JoinHandle<()>,
}

impl ReconcilerHandle {
    /// Follows the status.
    pub fn status(&self) -> watch::Receiver<ReconcilerStatus> {
        self.status.clone()
    }

    /// Waits until every change up to `revision` was tried, at most until `deadline`. True when it was. The
    /// revision has to be one at which this reconciler's table changed (`Snapshot::last_change`).
    pub async fn reached(&self, revision: u64, deadline: Duration) -> bool {
        let mut status = self.status.clone();
        let reached = status.wait_for(|status| status.revision >= revision);
        matches!(tokio::time::timeout(deadline, reached).await, Ok(Ok(_)))
    }
}

impl Drop for ReconcilerHandle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Applies a table to a target.
pub struct Reconciler<R: Row, T: Target<R>> {
    database: Arc<Database>,
    table: Table<R>,
    target: T,
    config: ReconcilerConfig,
    retries: BTreeMap<R::Key, Retry>,
    status: watch::Sender<ReconcilerStatus>,
}

struct Retry {
    at: Instant,
    wait: Duration,
    reason: String,
}

impl<R: Row, T: Target<R>> Reconciler<R, T> {
    /// Starts the task that follows `table`.
    pub fn start(
        database: Arc<Database>,
        table: Table<R>,
        target: T,
        config: ReconcilerConfig,
    ) -> ReconcilerHandle {
        let (sender, status) = watch::channel(ReconcilerStatus::default());
        let reconciler = Self { database, table, target, config, retries: BTreeMap::new(), status: sender };
        ReconcilerHandle { status, task: tokio::spawn(reconciler.run()) }
    }

    /// Changes are applied as they come; the wait ends at a change, the next retry or the next refresh,
    /// whichever is first. Dropping the future between two of them loses nothing: the next run begins
    /// from the table.
    async fn run(mut self) {
        let mut changed = self.database.subscribe(self.table);
        let mut revision = 0;
        let mut pruned = false;
        let mut refresh_at = Instant::now() + self.config.refresh;
        loop {
            let snapshot = self.database.snapshot();
            for (at, change) in snapshot.changes(self.table, revision) {
                match change {
                    Change::Upsert(row) => self.apply(&row),
                    Change::Delete(key) => self.remove(&key),
                }
                revision = at;
            }
            revision = revision.max(snapshot.revision());
            self.retry_due(&snapshot);
            let refresh = Instant::now() >= refresh_at;
            if refresh {
                for row in snapshot.iter(self.table) {
                    self.apply(row);
                }
                refresh_at = Instant::now() + self.config.refresh;
            }
            if snapshot.is_complete(self.table) && (!pruned || refresh) {
                pruned = self.prune(&snapshot) || pruned;
            }
            self.publish(revision, pruned);
            self.database.write(|txn| txn.forget_deletions_before(self.table, revision));
            let wake_at = self.retries.values().map(|retry| retry.at).fold(refresh_at, Instant::min);
            tokio::select! {
                outcome = changed.changed() => if outcome.is_err() { return },
                () = tokio::time::sleep_until(wake_at) => {}
            }
        }
    }

    fn apply(&mut self, row: &R) {
        let outcome = self.target.apply(row);
        self.record(row.key(), outcome);
    }

    fn remove(&mut self, key: &R::Key) {
        let outcome = self.target.remove(key);
        self.record(key.clone(), outcome);
    }

    fn record(&mut self, key: R::Key, outcome: Result<(), TargetError>) {
        let Err(error) = outcome else {
            self.retries.remove(&key);
            return;
        };
        let wait = match self.retries.get(&key) {
            Some(retry) => (retry.wait * 2).min(self.config.retry_max),
            None => self.config.retry_min,
        };
        tracing::warn!(table = R::TABLE, row = ?key, error = %error, "target refused a row, will retry");
        self.retries.insert(key, Retry { at: Instant::now() + wait, wait, reason: error.message });
    }

    fn retry_due(&mut self, snapshot: &crate::Snapshot) {
        let now = Instant::now();
        let due: Vec<R::Key> =
            self.retries.iter().filter(|(_, retry)| retry.at <= now).map(|(key, _)| key.clone()).collect();
        for key in due {
            match snapshot.get(self.table, &key).cloned() {
                Some(row) => self.apply(&row),
                None => self.remove(&key),
            }
        }
    }

    fn prune(&mut self, snapshot: &crate::Snapshot) -> bool {
        match self.target.prune(&mut snapshot.iter(self.table).map(|row| &**row)) {
            Ok(0) => true,
            Ok(count) => {
                tracing::info!(table = R::TABLE, count, "took out what an earlier process left");
                true
            }
            Err(error) => {
                tracing::warn!(table = R::TABLE, error = %error, "could not prune, will retry");
                false
            }
        }
    }

    fn publish(&self, revision: u64, pruned: bool) {
        let refused =
            self.retries.iter().map(|(key, retry)| (format!("{key:?}"), retry.reason.clone())).collect();
        self.status.send_replace(ReconcilerStatus { revision, refused, pruned });
    }
}
