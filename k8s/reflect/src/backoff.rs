//! How long to wait before the next attempt.

use std::time::Duration;

/// Waits that double, each with jitter, so that many clients of one server do not come back at the same moment.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    attempts: u32,
}

impl Backoff {
    /// Begins at `first` and stays at `longest`.
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, attempts: 0 }
    }

    /// The next wait: between a half and the whole of `first` doubled for each attempt before.
    pub(crate) fn next(&mut self) -> Duration {
        let doubled = self.first.saturating_mul(1 << self.attempts.min(20));
        self.attempts = self.attempts.saturating_add(1);
        let whole = doubled.min(self.longest);
        whole.mul_f64(fastrand::f64().mul_add(0.5, 0.5))
    }

    /// An attempt succeeded.
    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Backoff;

    #[test]
    fn waits_double_up_to_the_longest_and_never_fall_below_half() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        for whole in [100, 200, 400, 800, 1600, 2000, 2000] {
            let wait = backoff.next().as_millis();
            assert!((whole / 2..=whole).contains(&wait), "{wait} of {whole}");
        }
        for _ in 0..100 {
            assert!(backoff.next() <= Duration::from_secs(2));
        }
        backoff.reset();
        assert!(backoff.next() <= Duration::from_millis(100));
    }
}
