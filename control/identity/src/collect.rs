//! Pure: which identities nobody has any more.

use std::collections::BTreeSet;

/// An identity as its object tells. Times are seconds since the epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its number.
    pub number: u32,
    /// When it was made.
    pub made: i64,
    /// When it was last seen in use, by the annotation.
    pub heartbeat: Option<i64>,
}

/// How long things take, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// An identity in use is said to be so this often.
    pub interval: i64,
    /// One that was not in use for so long goes.
    pub timeout: i64,
}

impl Default for Timing {
    /// Cilium's.
    fn default() -> Self {
        Self { interval: 15 * 60, timeout: 30 * 60 }
    }
}

/// What to do with an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Say that it is in use.
    Beat(u32),
    /// Delete it.
    Delete(u32),
}

/// What to do now. `used` are the numbers that endpoints have. One that is not in use stays for a while: the endpoint
/// that it was made for may not be written yet, and a roll-out may need it again.
pub fn collect(found: &[Found], used: &BTreeSet<u32>, now: i64, timing: Timing) -> Vec<Action> {
    let action = |identity: &Found| {
        let last = identity.heartbeat.unwrap_or(identity.made).max(identity.made);
        match used.contains(&identity.number) {
            true => (identity.heartbeat.is_none() || now - last >= timing.interval)
                .then_some(Action::Beat(identity.number)),
            false => (now - last >= timing.timeout).then_some(Action::Delete(identity.number)),
        }
    };
    found.iter().filter_map(action).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Action, Found, Timing, collect};

    #[test]
    fn an_identity_in_use_beats_and_one_that_is_not_goes_after_a_while() {
        let (minute, now) = (60, 100 * 60);
        let found = |number, made, heartbeat: Option<i64>| Found {
            number,
            made: made * minute,
            heartbeat: heartbeat.map(|at| at * minute),
        };
        let all = [
            found(1, 99, None),
            found(2, 10, Some(99)),
            found(3, 10, Some(85)),
            found(4, 99, None),
            found(5, 10, Some(71)),
            found(6, 10, Some(70)),
            found(7, 70, None),
        ];
        let actions = collect(&all, &BTreeSet::from([1, 2, 3]), now, Timing::default());
        assert_eq!(actions, [Action::Beat(1), Action::Beat(3), Action::Delete(6), Action::Delete(7)]);
    }
}
