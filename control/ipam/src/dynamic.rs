//! Pure: blocks that come and go with the pods of a node (cluster-pool v2): what the agent says of each.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use ipnet::IpNet;

use crate::pool::Usage;

/// What an agent says of a block, in `status.ipam.pod-cidrs` of its CiliumNode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// It gives from it.
    InUse,
    /// It needs another one soon.
    Depleted,
    /// It gives nothing from it any more, and no pod has an address of it.
    Released,
}

impl Mark {
    /// The mark of this name.
    pub fn find(name: &str) -> Option<Self> {
        [Self::InUse, Self::Depleted, Self::Released].into_iter().find(|mark| mark.as_str() == name)
    }

    /// As Cilium writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InUse => "in-use",
            Self::Depleted => "depleted",
            Self::Released => "released",
        }
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// When another block is asked for, and when one is released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Fewer free addresses than this of a family: another block.
    pub allocate: u128,
    /// A block that nobody uses is released where at least so many addresses are free without it.
    pub release: u128,
}

impl Default for Thresholds {
    /// Cilium's.
    fn default() -> Self {
        Self { allocate: 8, release: 16 }
    }
}

/// A mark for each of `blocks`, the ones that the node has. `released` were marked so before: nothing is given from them,
/// and what was released once stays released, because the operator may have given it to another node by now. `usage` is
/// of the blocks that are given from; one that it does not have is new, or was not taken up again after a restart.
///
/// The newest block of a family is released first, and never the last one.
pub fn marks(
    blocks: &[IpNet],
    usage: &[Usage],
    released: &BTreeSet<IpNet>,
    thresholds: Thresholds,
) -> BTreeMap<IpNet, Mark> {
    let mut marks = BTreeMap::new();
    for is_v4 in [true, false] {
        let of_family = |block: &&IpNet| matches!(block, IpNet::V4(_)) == is_v4;
        let all: Vec<IpNet> = blocks.iter().filter(of_family).copied().collect();
        marks.extend(
            all.iter().filter(|block| released.contains(*block)).map(|block| (*block, Mark::Released)),
        );
        let mut kept: Vec<(IpNet, u128, u128)> = all
            .iter()
            .filter(|block| !released.contains(*block))
            .map(|block| match usage.iter().find(|usage| usage.range == *block) {
                Some(usage) => (*block, usage.used, usage.capacity.saturating_sub(usage.used)),
                // It may have pods that are not counted yet, and must not go.
                None => (*block, 1, u128::MAX / 2),
            })
            .collect();
        while kept.len() > 1 {
            let unused = kept.iter().rposition(|(_, used, _)| *used == 0);
            let Some(place) = unused else { break };
            let free_without: u128 = free(&kept).saturating_sub(kept[place].2);
            if free_without < thresholds.release {
                break;
            }
            let (block, ..) = kept.remove(place);
            marks.insert(block, Mark::Released);
        }
        let mark = if free(&kept) < thresholds.allocate { Mark::Depleted } else { Mark::InUse };
        marks.extend(
            kept.iter().map(|(block, _, free)| (*block, if *free == 0 { Mark::Depleted } else { mark })),
        );
    }
    marks
}

fn free(blocks: &[(IpNet, u128, u128)]) -> u128 {
    blocks.iter().fold(0, |sum, (_, _, free)| sum.saturating_add(*free))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ipnet::IpNet;

    use super::{Mark, Thresholds, marks};
    use crate::pool::Usage;

    fn block(number: u8) -> IpNet {
        format!("10.0.{number}.0/28").parse().expect("a range")
    }

    /// Of blocks of fourteen addresses, by how many are in use.
    fn of(used: &[u128], released: &[u8]) -> Vec<&'static str> {
        let blocks: Vec<IpNet> = (0u8..).zip(used).map(|(number, _)| block(number)).collect();
        let usage: Vec<Usage> = blocks
            .iter()
            .zip(used)
            .map(|(range, used)| Usage { range: *range, used: *used, capacity: 14, is_leaving: false })
            .collect();
        let released: BTreeSet<IpNet> = released.iter().map(|number| block(*number)).collect();
        marks(&blocks, &usage, &released, Thresholds::default()).values().map(|mark| mark.as_str()).collect()
    }

    #[test]
    fn a_block_is_asked_for_before_the_last_address_is_given() {
        assert_eq!(of(&[6], &[]), ["in-use"]);
        assert_eq!(of(&[7], &[]), ["depleted"]);
        assert_eq!(of(&[14, 6], &[]), ["depleted", "in-use"]);
        assert_eq!(of(&[14, 7], &[]), ["depleted", "depleted"]);
        assert!(of(&[], &[]).is_empty());
    }

    #[test]
    fn blocks_that_nobody_uses_are_released_newest_first_while_enough_stays_free() {
        assert_eq!(of(&[0, 0], &[]), ["in-use", "in-use"], "fourteen would stay, sixteen have to");
        assert_eq!(of(&[0, 0, 0], &[]), ["in-use", "in-use", "released"]);
        assert_eq!(of(&[5, 0, 7, 0], &[]), ["in-use", "released", "in-use", "released"]);
        assert_eq!(of(&[5, 0, 7], &[]), ["in-use", "released", "in-use"]);
        assert_eq!(of(&[14, 14, 1], &[]), ["depleted", "depleted", "in-use"]);
    }

    #[test]
    fn a_block_that_was_not_taken_up_yet_is_never_released() {
        let blocks = [block(0), block(1), block(2)];
        let marks = marks(&blocks, &[], &BTreeSet::new(), Thresholds::default());
        assert!(marks.values().all(|mark| *mark == Mark::InUse), "{marks:?}");
    }

    #[test]
    fn what_was_released_once_stays_so() {
        assert_eq!(of(&[14, 0], &[1]), ["depleted", "released"]);
        assert_eq!(Mark::find("released"), Some(Mark::Released));
        assert_eq!(Mark::find("in use"), None);
    }
}
