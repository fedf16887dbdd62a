//! Pure: which blocks of the cluster's ranges each node has.
//!
//! What was given is written in the nodes' own objects and nowhere else, so that whoever decides next knows it, and what
//! a node had is free when its object is gone.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use crate::dynamic::Mark;

/// The cluster's ranges of one family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterRanges {
    /// Blocks are cut from these, in this order.
    pub ranges: Vec<IpNet>,
    /// Length of a block's prefix.
    pub block: u8,
}

/// What is wrong with ranges that somebody asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangesError {
    /// Not one block fits.
    #[error(
        "the cluster's range {range} has no room for a block of /{block}: give a longer mask size or a larger range"
    )]
    TooSmall {
        /// The range.
        range: IpNet,
        /// The prefix of blocks.
        block: u8,
    },
    /// There is no such prefix.
    #[error("a mask size of {block} is longer than an address of {range}: it is at most {longest}")]
    NoPrefix {
        /// The range.
        range: IpNet,
        /// The prefix of blocks.
        block: u8,
        /// The longest.
        longest: u8,
    },
    /// An address would be given twice.
    #[error("the cluster's ranges {one} and {other} overlap: leave one out")]
    Overlap {
        /// One.
        one: IpNet,
        /// The other.
        other: IpNet,
    },
}

impl ClusterRanges {
    /// Checked; host bits are set to zero.
    ///
    /// # Errors
    /// [`RangesError`] for ranges that nothing, or something twice, could be given from.
    pub fn new(ranges: &[IpNet], block: u8) -> Result<Self, RangesError> {
        let ranges: Vec<IpNet> = ranges.iter().map(IpNet::trunc).collect();
        for (index, range) in ranges.iter().enumerate() {
            let longest = range.max_prefix_len();
            if block > longest {
                return Err(RangesError::NoPrefix { range: *range, block, longest });
            }
            if block < range.prefix_len() {
                return Err(RangesError::TooSmall { range: *range, block });
            }
            if let Some(other) = ranges[..index].iter().find(|other| overlap(other, range)) {
                return Err(RangesError::Overlap { one: *other, other: *range });
            }
        }
        Ok(Self { ranges, block })
    }

    /// The first block that overlaps none of `taken`. Costs as much as there are blocks before it.
    fn free_block(&self, taken: &Taken) -> Option<IpNet> {
        // The prefix was checked.
        let blocks = self.ranges.iter().filter_map(|range| range.subnets(self.block).ok());
        blocks.flatten().find(|block| !taken.overlaps(block))
    }
}

/// A node as its object tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeBlocks {
    /// Name.
    pub name: String,
    /// What it has.
    pub has: Vec<IpNet>,
    /// What its agent says of them; nothing where blocks are given once and for all.
    pub marks: BTreeMap<IpNet, Mark>,
}

/// What a node shall have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// Its name.
    pub name: String,
    /// All its blocks.
    pub blocks: Vec<IpNet>,
    /// Why it does not have what it needs.
    pub problem: Option<String>,
}

/// What each node shall have, in the order of `nodes`: at least one block of each family that has ranges, another one
/// when its agent has marked all it has as depleted, and none that the agent has released. Blocks stay where they are.
/// Of two nodes whose blocks overlap both keep them, and the later is told.
pub fn give(families: &[ClusterRanges], nodes: &[NodeBlocks]) -> Vec<Given> {
    let mut taken = Taken::default();
    let mut problems: BTreeMap<&str, String> = BTreeMap::new();
    for node in nodes {
        for block in &node.has {
            if let Some(other) = taken.overlapping(block) {
                let problem = format!(
                    "{block} overlaps {other} of another node: delete this node's pods, and take {block} out of spec.ipam.podCIDRs"
                );
                problems.entry(&node.name).or_insert(problem);
            }
        }
        // Also what is released now: packets to its last pods may be about.
        node.has.iter().for_each(|block| taken.insert(*block));
    }
    let given = nodes.iter().map(|node| {
        let is_released = |block: &IpNet| node.marks.get(block) == Some(&Mark::Released);
        let mut blocks: Vec<IpNet> = node.has.iter().filter(|block| !is_released(block)).copied().collect();
        let mut problem = problems.remove(node.name.as_str());
        for family in families.iter().filter(|family| !family.ranges.is_empty()) {
            let is_v4 = matches!(family.ranges[0], IpNet::V4(_));
            let of_family = |block: &&IpNet| matches!(block, IpNet::V4(_)) == is_v4;
            let is_enough =
                blocks.iter().filter(of_family).any(|block| node.marks.get(block) != Some(&Mark::Depleted));
            if is_enough {
                continue;
            }
            match family.free_block(&taken) {
                Some(block) => {
                    taken.insert(block);
                    blocks.push(block);
                }
                None => {
                    let ranges: Vec<String> = family.ranges.iter().map(ToString::to_string).collect();
                    let exhausted = format!(
                        "no /{} is free in {}: add a range to the cluster's (clusterPoolIPv4PodCIDRList, \
                         clusterPoolIPv6PodCIDRList), or remove nodes",
                        family.block,
                        ranges.join(", ")
                    );
                    problem.get_or_insert(exhausted);
                }
            }
        }
        Given { name: node.name.clone(), blocks, problem }
    });
    given.collect()
}

/// Blocks that somebody has, by their first address.
#[derive(Debug, Default)]
struct Taken(BTreeSet<IpNet>);

impl Taken {
    fn insert(&mut self, block: IpNet) {
        self.0.insert(block);
    }

    fn overlaps(&self, block: &IpNet) -> bool {
        self.overlapping(block).is_some()
    }

    /// One within `block`, or one around it: those around are known by their prefix.
    fn overlapping(&self, block: &IpNet) -> Option<IpNet> {
        let around = (0..=block.prefix_len())
            .filter_map(|prefix| IpNet::new(block.addr(), prefix).ok())
            .map(|around| around.trunc())
            .find(|around| self.0.contains(around));
        around.or_else(|| self.0.range(block..).next().filter(|next| block.contains(*next)).copied())
    }
}

fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ipnet::IpNet;
    use proptest::prelude::*;

    use super::{ClusterRanges, Given, NodeBlocks, RangesError, give, overlap};
    use crate::dynamic::Mark;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().expect("a range")).collect()
    }

    fn ranges(texts: &[&str], block: u8) -> ClusterRanges {
        ClusterRanges::new(&nets(texts), block).expect("they are good")
    }

    fn node(name: &str, has: &[&str]) -> NodeBlocks {
        NodeBlocks { name: name.to_owned(), has: nets(has), marks: BTreeMap::new() }
    }

    fn shown(given: &[Given]) -> Vec<String> {
        let line = |given: &Given| {
            let blocks: Vec<String> = given.blocks.iter().map(ToString::to_string).collect();
            format!("{}: {}", given.name, blocks.join(" "))
        };
        given.iter().map(line).collect()
    }

    #[test]
    fn each_node_gets_one_block_of_each_family_and_keeps_it() {
        let families = [ranges(&["10.0.0.0/22"], 24), ranges(&["fd00::/56"], 64)];
        let nodes =
            [node("a", &[]), node("b", &["10.0.0.0/24"]), node("c", &["10.9.0.0/24", "fd00:0:0:1::/64"])];
        let given = give(&families, &nodes);
        let expected =
            ["a: 10.0.1.0/24 fd00::/64", "b: 10.0.0.0/24 fd00:0:0:2::/64", "c: 10.9.0.0/24 fd00:0:0:1::/64"];
        assert_eq!(shown(&given), expected);
        // Whoever decides next, with what was written, decides the same.
        let written: Vec<NodeBlocks> = given
            .iter()
            .map(|given| NodeBlocks {
                name: given.name.clone(),
                has: given.blocks.clone(),
                ..NodeBlocks::default()
            })
            .collect();
        assert_eq!(shown(&give(&families, &written)), expected);
        // One that is gone leaves its block.
        assert_eq!(
            shown(&give(&families, &[node("d", &[]), written[0].clone()]))[0],
            "d: 10.0.0.0/24 fd00:0:0:1::/64"
        );
    }

    #[test]
    fn a_node_that_gets_none_and_one_whose_block_is_anothers_are_told() {
        let families = [ranges(&["10.0.0.0/24", "10.1.0.0/25"], 25)];
        let full = [node("a", &["10.0.0.0/24"]), node("b", &[]), node("c", &[])];
        let given = give(&families, &full);
        assert_eq!(shown(&given), ["a: 10.0.0.0/24", "b: 10.1.0.0/25", "c: "]);
        let problem = given[2].problem.clone().expect("it is told");
        assert!(problem.contains("no /25 is free in 10.0.0.0/24, 10.1.0.0/25"), "{problem}");
        let twice = give(&families, &[node("a", &["10.0.0.0/25"]), node("b", &["10.0.0.0/24"])]);
        assert_eq!(shown(&twice), ["a: 10.0.0.0/25", "b: 10.0.0.0/24"]);
        assert!(twice[0].problem.is_none() && twice[1].problem.is_some());
    }

    #[test]
    fn a_node_gets_another_block_when_all_are_depleted_and_loses_those_it_releases() {
        let families = [ranges(&["10.0.0.0/24"], 28)];
        let marked = |marks: &[(&str, Mark)]| NodeBlocks {
            name: "a".to_owned(),
            has: marks.iter().map(|(block, _)| block.parse().expect("a range")).collect(),
            marks: marks.iter().map(|(block, mark)| (block.parse().expect("a range"), *mark)).collect(),
        };
        let (one, two) = ("10.0.0.0/28", "10.0.0.16/28");
        let of = |marks: &[(&str, Mark)]| shown(&give(&families, &[marked(marks)])).remove(0);
        assert_eq!(of(&[(one, Mark::InUse), (two, Mark::Depleted)]), "a: 10.0.0.0/28 10.0.0.16/28");
        assert_eq!(
            of(&[(one, Mark::Depleted), (two, Mark::Depleted)]),
            "a: 10.0.0.0/28 10.0.0.16/28 10.0.0.32/28"
        );
        assert_eq!(of(&[(one, Mark::InUse), (two, Mark::Released)]), "a: 10.0.0.0/28");
        assert_eq!(of(&[(one, Mark::Depleted), (two, Mark::Released)]), "a: 10.0.0.0/28 10.0.0.32/28");
    }

    #[test]
    fn ranges_that_nothing_or_something_twice_could_be_given_from_are_refused() {
        let new = |texts: &[&str], block| {
            ClusterRanges::new(&nets(texts), block).map_err(|error| error.to_string())
        };
        assert!(matches!(ClusterRanges::new(&nets(&["10.0.0.0/24"]), 16), Err(RangesError::TooSmall { .. })));
        assert!(new(&["10.0.0.0/24"], 33).is_err_and(|why| why.contains("at most 32")));
        assert!(new(&["10.0.0.0/16", "10.0.3.0/24"], 24).is_err_and(|why| why.contains("overlap")));
        assert!(new(&["10.0.0.0/16"], 16).is_ok());
    }

    proptest! {
        #[test]
        fn no_two_nodes_share_an_address_however_they_come_and_go(
            steps in proptest::collection::vec((0u8..12, any::<bool>()), 1..60),
        ) {
            let families = [ranges(&["10.0.0.0/26", "10.7.0.0/27"], 28)];
            let mut nodes: Vec<NodeBlocks> = Vec::new();
            for (number, comes) in steps {
                let name = format!("n{number}");
                nodes.retain(|node| node.name != name);
                if comes {
                    nodes.push(node(&name, &[]));
                }
                for given in give(&families, &nodes) {
                    let node = nodes.iter_mut().find(|node| node.name == given.name).expect("it was asked for");
                    prop_assert_eq!(given.problem.is_none(), !given.blocks.is_empty());
                    node.has = given.blocks;
                }
                let all: Vec<&IpNet> = nodes.iter().flat_map(|node| &node.has).collect();
                prop_assert_eq!(all.len(), nodes.len().min(6));
                for (index, block) in all.iter().enumerate() {
                    prop_assert!(all[..index].iter().all(|other| !overlap(other, block)));
                }
            }
        }
    }
}
