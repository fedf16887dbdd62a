//! What backends saw: which numbered requests, and how often.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Header by which a client numbers its requests.
pub const NUMBER: &str = "x-traffic-number";

/// Counts numbered requests over all backends that share it. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    seen: Arc<Mutex<HashMap<u64, u32>>>,
}

impl Ledger {
    /// Notes one request.
    pub fn enter(&self, number: u64) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner).entry(number).or_default() += 1;
    }

    /// Numbers that came more than once: somebody between client and backend sent them again.
    pub fn duplicated(&self) -> usize {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.values().filter(|count| **count > 1).count()
    }

    /// Different numbers seen.
    pub fn distinct(&self) -> usize {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}
