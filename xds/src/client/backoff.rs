//! When to try again.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(50);
const LAST: Duration = Duration::from_secs(5);

/// Doubles from 50 ms to 5 s; each wait is between half and all of it, so that many proxies do not
/// come back at once.
#[derive(Debug)]
pub(super) struct Backoff {
    ceiling: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { ceiling: FIRST }
    }
}

impl Backoff {
    pub(super) fn reset(&mut self) {
        self.ceiling = FIRST;
    }

    pub(super) fn next(&mut self) -> Duration {
        let wait = self.ceiling.mul_f64(0.5 + 0.5 * fastrand::f64());
        self.ceiling = (self.ceiling * 2).min(LAST);
        wait
    }
}
