//! Numbers of sets of labels.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

/// Numbers that are given within a cluster; 24 bits hold the number of the cluster and one of these. Those below are
/// reserved.
const NUMBERS: RangeInclusive<u32> = 256..=65535;

/// A set of labels, by label.
type Labels = BTreeMap<String, String>;

/// The identities that a cluster has. Whoever reads the same objects has the same numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identities {
    by_labels: BTreeMap<Labels, u32>,
    taken: BTreeSet<u32>,
}

/// Which number a set of labels has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The cluster has it already.
    Known(u32),
    /// Nobody has this one: it is theirs once it is written.
    New(u32),
    /// All are taken.
    Full,
}

impl Identities {
    /// Of those that were read, number and labels. Where two agents gave the same labels a number at the same time,
    /// everybody takes the smaller one; the other is nobody's, and is collected.
    pub fn new(read: impl IntoIterator<Item = (u32, Labels)>) -> Self {
        let mut identities = Self::default();
        for (number, labels) in read {
            identities.taken.insert(number);
            let smallest = identities.by_labels.entry(labels).or_insert(number);
            *smallest = number.min(*smallest);
        }
        identities
    }

    /// The number of these labels.
    pub fn find(&self, labels: &Labels) -> Option<u32> {
        self.by_labels.get(labels).copied()
    }

    /// The number these labels have or can have. `seed` is random, so that two agents seldom try the same one.
    pub fn choose(&self, labels: &Labels, seed: u32) -> Choice {
        if let Some(number) = self.find(labels) {
            return Choice::Known(number);
        }
        let count = NUMBERS.end() - NUMBERS.start() + 1;
        let start = NUMBERS.start() + seed % count;
        let mut from_there = (start..=*NUMBERS.end()).chain(*NUMBERS.start()..start);
        from_there.find(|number| !self.taken.contains(number)).map_or(Choice::Full, Choice::New)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Choice, Identities, Labels};

    fn labels(value: &str) -> Labels {
        BTreeMap::from([("k8s:app".to_owned(), value.to_owned())])
    }

    #[test]
    fn labels_keep_their_number_and_others_get_a_free_one() {
        let known = Identities::new([(300, labels("a")), (301, labels("b"))]);
        assert_eq!(known.choose(&labels("a"), 7), Choice::Known(300));
        assert_eq!(known.choose(&labels("c"), 0), Choice::New(256));
        assert_eq!(known.choose(&labels("c"), 44), Choice::New(302), "300 and 301 are taken");
        assert_eq!(known.choose(&labels("c"), 65535 - 256), Choice::New(65535));
    }

    #[test]
    fn of_two_numbers_for_the_same_labels_all_take_the_smaller_and_give_neither() {
        let twice = [(400, labels("a")), (300, labels("a"))];
        let mut other = twice.clone();
        other.reverse();
        assert_eq!(Identities::new(twice.clone()), Identities::new(other));
        let known = Identities::new(twice);
        assert_eq!(known.find(&labels("a")), Some(300));
        assert_eq!(known.choose(&labels("b"), 400 - 256), Choice::New(401));
    }

    #[test]
    fn when_all_are_taken_that_is_said() {
        let all = Identities::new((256..=65535).map(|number| (number, labels(&number.to_string()))));
        assert_eq!(all.choose(&labels("one more"), 9), Choice::Full);
    }
}
