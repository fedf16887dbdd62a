//! When to read: events gathered until they are quiet, and writers waited for until they are done.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long events are gathered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Read after this much quiet.
    pub quiet: Duration,
    /// The same after a file went away: who replaces a file by removing and writing it gets this long.
    pub quiet_after_removal: Duration,
    /// Read at the latest this long after the first event.
    pub longest: Duration,
    /// A file that was written to and not closed is read after this long all the same.
    pub unclosed: Duration,
    /// Look at everything this often, whatever the events say.
    pub rescan: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            quiet: Duration::from_millis(5),
            quiet_after_removal: Duration::from_millis(15),
            longest: Duration::from_millis(20),
            unclosed: Duration::from_secs(1),
            rescan: Duration::from_secs(10),
        }
    }
}

/// What happened to a file or folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Somebody writes to it and has not closed it.
    Writing,
    /// It is there, whole.
    Settled,
    /// It went away, perhaps for a moment.
    Removed,
}

/// Events that have not been acted on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pending {
    /// Files to read, even when they look unchanged.
    named: BTreeSet<PathBuf>,
    /// Files being written, and when they are read whether or not they are done.
    unfinished: BTreeMap<PathBuf, Instant>,
    first: Option<Instant>,
    quiet_at: Option<Instant>,
}

/// What to do now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Batch {
    /// Files to read, even when they look unchanged.
    pub(crate) named: BTreeSet<PathBuf>,
    /// Files to leave alone.
    pub(crate) unfinished: BTreeSet<PathBuf>,
    /// When the first of the events was seen.
    pub(crate) first: Option<Instant>,
}

impl Pending {
    /// Notes a change of a file, seen at `at`.
    pub(crate) fn file(&mut self, path: PathBuf, change: Change, at: Instant, timing: &Timing) {
        match change {
            Change::Writing => {
                self.named.remove(&path);
                self.unfinished.entry(path).or_insert(at + timing.unclosed);
            }
            Change::Settled | Change::Removed => {
                self.unfinished.remove(&path);
                self.named.insert(path);
                self.structure(change, at, timing);
            }
        }
    }

    /// Notes that the set of files may have changed.
    pub(crate) fn structure(&mut self, change: Change, at: Instant, timing: &Timing) {
        let quiet = if change == Change::Removed { timing.quiet_after_removal } else { timing.quiet };
        let first = *self.first.get_or_insert(at);
        let quiet_at = self.quiet_at.map_or(at + quiet, |now| now.max(at + quiet));
        self.quiet_at = Some(quiet_at.min(first + timing.longest));
    }

    /// When there is something to do next, if ever.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.unfinished.values().copied().chain(self.quiet_at).min()
    }

    /// Takes out what is to be done at `now`.
    pub(crate) fn take(&mut self, now: Instant) -> Batch {
        let overdue: Vec<PathBuf> =
            self.unfinished.iter().filter(|(_, due)| **due <= now).map(|(path, _)| path.clone()).collect();
        for path in overdue {
            self.unfinished.remove(&path);
            self.named.insert(path);
        }
        self.quiet_at = None;
        Batch {
            named: std::mem::take(&mut self.named),
            unfinished: self.unfinished.keys().cloned().collect(),
            first: self.first.take(),
        }
    }
}

#[cfg(test)]
mod tests;
