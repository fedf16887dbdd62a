//! Waiting for a state, not for a time.

use std::time::{Duration, Instant};

/// Asks until the answer is there; fails with the last reason when the deadline has passed.
pub fn until<T>(
    what: &str,
    deadline: Duration,
    mut ask: impl FnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let end = Instant::now() + deadline;
    loop {
        match ask() {
            Ok(answer) => return Ok(answer),
            Err(error) if Instant::now() > end => {
                return Err(error.context(format!("{what} did not happen within {deadline:?}")));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}
