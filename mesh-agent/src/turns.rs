//! One at a time for each name, side by side for different names.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Names that somebody works on.
#[derive(Debug)]
pub(crate) struct Turns<K> {
    busy: Mutex<BTreeSet<K>>,
    freed: Condvar,
}

/// The right to work on a name, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a, K: Ord> {
    turns: &'a Turns<K>,
    name: K,
}

impl<K> Default for Turns<K> {
    fn default() -> Self {
        Self { busy: Mutex::default(), freed: Condvar::new() }
    }
}

impl<K: Ord + Clone> Turns<K> {
    /// Waits at most so long for the name to be free. None: it was not.
    pub(crate) fn take(&self, name: &K, patience: Duration) -> Option<Turn<'_, K>> {
        let busy = self.lock();
        let waited = self.freed.wait_timeout_while(busy, patience, |busy| busy.contains(name));
        let (mut busy, _) = waited.unwrap_or_else(PoisonError::into_inner);
        busy.insert(name.clone()).then(|| Turn { turns: self, name: name.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<K>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Ord> Drop for Turn<'_, K> {
    fn drop(&mut self) {
        let busy = self.turns.busy.lock();
        busy.unwrap_or_else(PoisonError::into_inner).remove(&self.name);
        self.turns.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Turns;

    #[test]
    fn a_name_is_worked_on_by_one_at_a_time() {
        let turns = Turns::default();
        let first = turns.take(&1, Duration::ZERO).expect("it is free");
        assert!(turns.take(&2, Duration::ZERO).is_some(), "another name does not wait");
        assert!(turns.take(&1, Duration::from_millis(10)).is_none());
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| turns.take(&1, Duration::from_secs(10)).is_some());
            drop(first);
            assert!(waits.join().expect("it ends"));
        });
        assert!(turns.take(&1, Duration::ZERO).is_some());
    }
}
