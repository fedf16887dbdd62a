//! How long a listener that changes may wait for what it changes to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The listeners that serve as they were before they changed, and since when their server could have sent what is
/// missing. One that is away cannot: what was is better then than a part of what is to be.
#[derive(Debug, Default)]
pub(super) struct Patience {
    since: BTreeMap<Arc<str>, Instant>,
}

impl Patience {
    /// Of those that wait `now`, the ones that have for too long. To be asked every now and then; the time of
    /// each begins when it is first seen, and anew when the server has come back.
    pub(super) fn late<'a>(
        &mut self,
        waiting: impl Iterator<Item = &'a Arc<str>>,
        longest: Duration,
        connected: bool,
        now: Instant,
    ) -> Vec<Arc<str>> {
        if !connected {
            self.since.clear();
            return Vec::new();
        }
        self.since =
            waiting.map(|name| (name.clone(), self.since.get(name).copied().unwrap_or(now))).collect();
        let late = self.since.iter().filter(|(_, since)| now.saturating_duration_since(**since) >= longest);
        late.map(|(name, _)| name.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use super::Patience;

    #[test]
    fn listeners_wait_as_long_as_their_server_is_away_and_so_long_once_it_is_there() {
        const LONGEST: Duration = Duration::from_secs(5);
        let begun = Instant::now();
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let mut patience = Patience::default();
        let mut late = |waiting: &[&Arc<str>], connected, second| {
            let now = begun + Duration::from_secs(second);
            patience.late(waiting.iter().copied(), LONGEST, connected, now)
        };
        assert!(late(&[&a], true, 0).is_empty());
        assert!(late(&[&a, &b], true, 4).is_empty());
        assert_eq!(late(&[&a, &b], true, 5), std::slice::from_ref(&a));
        assert!(late(&[&b], false, 6).is_empty());
        assert!(late(&[&b], false, 10_000).is_empty(), "the server is away");
        assert!(late(&[&b], true, 10_001).is_empty(), "it has just come back");
        assert_eq!(late(&[&b], true, 10_006), std::slice::from_ref(&b));
        assert!(late(&[], true, 10_007).is_empty());
        assert!(late(&[&b], true, 10_008).is_empty(), "another change of the same listener");
    }
}
