//! A timer that is set more often than it runs out.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep};

/// Kept from one wait to the next. A later deadline than the last leaves the runtime's timer as it is: it runs
/// out early then, and is set again. Limits are minutes where requests take milliseconds, so most requests set
/// none.
#[derive(Default)]
pub(crate) struct Clock(Option<Pin<Box<Sleep>>>);

impl Clock {
    /// Ready when `deadline` has come.
    pub(crate) fn poll(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use tokio::time::Instant;

    use super::Clock;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_holds_whatever_was_waited_for_before() {
        let mut clock = Clock::default();
        for milliseconds in [50, 10, 100] {
            let begun = Instant::now();
            let deadline = begun + Duration::from_millis(milliseconds);
            poll_fn(|cx| clock.poll(deadline, cx)).await;
            assert_eq!(begun.elapsed(), Duration::from_millis(milliseconds));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_was_given_up_leaves_the_next_one_right() {
        let mut clock = Clock::default();
        let begun = Instant::now();
        for milliseconds in [20, 300] {
            let deadline = begun + Duration::from_millis(milliseconds);
            let waiting = poll_fn(|cx| clock.poll(deadline, cx));
            let _ = tokio::time::timeout(Duration::from_millis(5), waiting).await;
        }
        poll_fn(|cx| clock.poll(begun + Duration::from_millis(200), cx)).await;
        assert_eq!(begun.elapsed(), Duration::from_millis(200));
    }
}
