//! Counting.

use std::fmt;
use std::time::{Duration, Instant};

/// Troubles that are told in words; of the others there is only the number.
const TOLD: usize = 8;

/// What became of the requests of one load.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Requests written to a connection, or tried to be.
    pub sent: u64,
    /// Answered whole, with what was asked for.
    pub answered: u64,
    /// Sent on a connection, and never answered whole: nobody can tell whether they were carried out.
    pub lost: u64,
    /// Not begun: no connection could be had, or HTTP/2 said that the request was not processed.
    pub refused: u64,
    /// Answered with a status of 500 or more.
    pub failed: u64,
    /// Answered with something else than what was asked for, or past the proxy that should have been passed.
    pub wrong: u64,
    /// Connections opened.
    pub connections: u64,
    /// Connections that ended although nobody had announced it.
    pub cut: u64,
    /// The longest time between two answers, the end included.
    pub longest_gap: Duration,
    /// The longest time from the wish to the whole answer.
    pub slowest: Duration,
    /// The first troubles, in words.
    pub troubles: Vec<String>,
    last_answer: Option<Instant>,
    started: Option<Instant>,
}

impl Tally {
    /// Requests that did not get what they asked for.
    pub fn unanswered(&self) -> u64 {
        self.sent - self.answered
    }

    pub(super) fn answer(&mut self, wished: Instant) {
        let now = Instant::now();
        self.answered += 1;
        self.slowest = self.slowest.max(now - wished);
        self.close_gap(now);
        self.last_answer = Some(now);
    }

    /// Takes the time since the last answer into account.
    pub(super) fn close_gap(&mut self, now: Instant) {
        if let Some(last) = self.last_answer {
            self.longest_gap = self.longest_gap.max(now.saturating_duration_since(last));
        }
    }

    pub(super) fn trouble(&mut self, what: String) {
        let since = self.started.get_or_insert_with(Instant::now).elapsed();
        if self.troubles.len() < TOLD {
            self.troubles.push(format!("at {:.2} s: {what}", since.as_secs_f64()));
        }
    }

    pub(super) fn begin(&mut self) {
        self.started = Some(Instant::now());
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, answered, lost, refused, failed, wrong, connections, cut, .. } = self;
        write!(
            f,
            "sent {sent}, answered {answered}, lost {lost}, refused {refused}, failed {failed}, wrong {wrong}; \
             connections {connections}, cut {cut}; longest gap {} ms, slowest {} ms",
            self.longest_gap.as_millis(),
            self.slowest.as_millis()
        )
    }
}
