//! The ranges of one family, and who has which address of them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

/// How much of a range is in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// The range.
    pub range: IpNet,
    /// Addresses that pods have.
    pub used: u128,
    /// Addresses that pods can have at all.
    pub capacity: u128,
    /// Nothing more is given from it; it goes with its last pod.
    pub is_leaving: bool,
}

/// The ranges of one family.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    ranges: Vec<Range>,
    /// Who has an address, by its number. Of all ranges at once, as a range that leaves may overlap one that came.
    owners: BTreeMap<u128, String>,
}

#[derive(Clone, Debug)]
struct Range {
    net: IpNet,
    is_leaving: bool,
    /// Where to look next, as a distance from the range's first address. One that became free is not given again before
    /// all others were: connections to its last owner may still be about.
    next: u128,
}

impl Pool {
    /// Gives from these ranges from now on, in this order; one that is inside of another is left out. One that is no
    /// longer among them stays until its last address is released.
    pub fn set_ranges(&mut self, ranges: &[IpNet]) {
        let mut known = std::mem::take(&mut self.ranges);
        for net in without_overlaps(ranges) {
            let place = known.iter().position(|range| range.net == net);
            let mut range = match place {
                Some(place) => known.remove(place),
                None => Range { net, is_leaving: false, next: 0 },
            };
            range.is_leaving = false;
            self.ranges.push(range);
        }
        self.ranges.extend(known.into_iter().map(|range| Range { is_leaving: true, ..range }));
        self.forget_empty();
    }

    /// The next free address. None: there is none.
    pub fn allocate(&mut self, owner: &str) -> Option<IpAddr> {
        let Self { ranges, owners } = self;
        let given = |range: &&mut Range| !range.is_leaving && !range.is_full(owners);
        let range = ranges.iter_mut().find(given)?;
        let place = range.free_place(owners)?;
        range.next = place + 1;
        let address = range.address(place);
        owners.insert(number(address), owner.to_owned());
        Some(address)
    }

    /// Takes this very address. False: it is in none of the ranges, or another's. What is given after it follows it:
    /// claims are of those who came before.
    pub fn claim(&mut self, address: IpAddr, owner: &str) -> bool {
        let number = number(address);
        let Some(range) = self.ranges.iter_mut().find(|range| range.is_usable(number)) else { return false };
        let has = self.owners.entry(number).or_insert_with(|| owner.to_owned()) == owner;
        if has {
            range.next = range.next.max(number - range.first() + 1);
        }
        has
    }

    /// Gives an address back. False: it is not this owner's.
    pub fn release(&mut self, address: IpAddr, owner: &str) -> bool {
        let number = number(address);
        let was_there = self.owners.get(&number).is_some_and(|has| has == owner);
        if was_there {
            self.owners.remove(&number);
        }
        self.forget_empty();
        was_there
    }

    /// The ranges with their use, in the order they are given from.
    pub fn usage(&self) -> Vec<Usage> {
        let usage = self.ranges.iter().map(|range| Usage {
            range: range.net,
            used: self.used(range),
            capacity: range.capacity(),
            is_leaving: range.is_leaving,
        });
        usage.collect()
    }

    /// Whether an address could be given now.
    pub fn has_free(&self) -> bool {
        self.ranges.iter().any(|range| !range.is_leaving && !range.is_full(&self.owners))
    }

    /// Owners in a range; what is in one that leaves and in one that stays is counted there.
    fn used(&self, range: &Range) -> u128 {
        let stays =
            |number: u128| self.ranges.iter().any(|other| !other.is_leaving && other.is_usable(number));
        let own = range.owners(&self.owners);
        own.filter(|number| !range.is_leaving || !stays(*number)).count() as u128
    }

    fn forget_empty(&mut self) {
        let empty: Vec<IpNet> = self
            .ranges
            .iter()
            .filter(|range| range.is_leaving && self.used(range) == 0)
            .map(|range| range.net)
            .collect();
        self.ranges.retain(|range| !empty.contains(&range.net));
    }
}

/// The ranges but for those that are inside of others: an address would be given by each of them.
pub fn without_overlaps(ranges: &[IpNet]) -> Vec<IpNet> {
    let mut apart: Vec<IpNet> = Vec::new();
    for range in ranges {
        let is_inside = ranges.iter().any(|other| other != range && other.contains(range));
        if !is_inside && !apart.contains(range) {
            apart.push(*range);
        }
    }
    apart
}

impl Range {
    /// The places a pod can have. The first address of an IPv4 range names the network and its last is for
    /// everybody; the first of an IPv6 range is the routers' anycast address (RFC 4291, 2.6.1).
    fn usable(&self) -> std::ops::Range<u128> {
        let host_bits = u32::from(self.net.max_prefix_len() - self.net.prefix_len());
        let size = 1u128.checked_shl(host_bits).unwrap_or(u128::MAX);
        match (host_bits, &self.net) {
            (0 | 1, _) => 0..size,
            (_, IpNet::V4(_)) => 1..size - 1,
            (_, IpNet::V6(_)) => 1..size,
        }
    }

    /// Whether a pod can have the address of this number.
    fn is_usable(&self, number: u128) -> bool {
        number.checked_sub(self.first()).is_some_and(|place| self.usable().contains(&place))
    }

    /// The number of the first address.
    fn first(&self) -> u128 {
        number(self.net.network())
    }

    /// Numbers of those of its addresses that somebody has.
    fn owners<'a>(&self, owners: &'a BTreeMap<u128, String>) -> impl Iterator<Item = u128> + 'a {
        let (first, usable) = (self.first(), self.usable());
        // The last number is counted in, as one behind it may not be a number any more.
        let last = first.saturating_add(usable.end - 1);
        owners.range(first + usable.start..=last).map(|(number, _)| *number)
    }

    fn capacity(&self) -> u128 {
        let usable = self.usable();
        usable.end - usable.start
    }

    fn is_full(&self, owners: &BTreeMap<u128, String>) -> bool {
        self.owners(owners).count() as u128 >= self.capacity()
    }

    /// The first free place from `next` on, around the end. Costs as much as there are neighbours in use.
    fn free_place(&self, owners: &BTreeMap<u128, String>) -> Option<u128> {
        let (first, usable) = (self.first(), self.usable());
        let from = self.next.clamp(usable.start, usable.end);
        let free_in = |mut place: u128, end: u128| {
            for used in owners.range(first.saturating_add(place)..).map(|(used, _)| used - first) {
                if used != place || place == end {
                    break;
                }
                place += 1;
            }
            (place < end).then_some(place)
        };
        free_in(from, usable.end).or_else(|| free_in(usable.start, from))
    }

    fn address(&self, place: u128) -> IpAddr {
        let number = self.first() + place;
        match self.net {
            // Places of an IPv4 range are below 2^32.
            IpNet::V4(_) => IpAddr::V4(u32::try_from(number).unwrap_or_default().into()),
            IpNet::V6(_) => IpAddr::V6(number.into()),
        }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::IpAddr;

    use ipnet::IpNet;
    use proptest::prelude::*;

    use super::Pool;

    fn pool(ranges: &[&str]) -> Pool {
        let mut pool = Pool::default();
        pool.set_ranges(&nets(ranges));
        pool
    }

    fn nets(ranges: &[&str]) -> Vec<IpNet> {
        ranges.iter().map(|range| range.parse().expect("a range")).collect()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn every_host_address_is_given_once_and_no_other() {
        let mut small = pool(&["10.0.0.0/29"]);
        let given: Vec<String> =
            std::iter::from_fn(|| small.allocate("a")).map(|ip| ip.to_string()).collect();
        let expected: Vec<String> = (1..7).map(|host| format!("10.0.0.{host}")).collect();
        assert_eq!(given, expected);
        assert!(!small.has_free());
        let count = |range| {
            std::iter::from_fn({
                let mut pool = pool(&[range]);
                move || pool.allocate("a")
            })
            .count()
        };
        assert_eq!((count("10.0.0.8/31"), count("10.0.0.8/32")), (2, 1));
        assert_eq!((count("fd00::/125"), count("fd00::/128")), (7, 1));
    }

    #[test]
    fn an_address_comes_back_after_all_others() {
        let mut pool = pool(&["10.0.0.0/29"]);
        let first = pool.allocate("a").expect("there is one");
        assert!(!pool.release(first, "b") && pool.release(first, "a") && !pool.release(first, "a"));
        let next: Vec<IpAddr> = std::iter::from_fn(|| pool.allocate("b")).collect();
        assert_eq!((next.len(), next[5]), (6, first));
    }

    #[test]
    fn a_range_that_leaves_keeps_its_pods_and_gives_nothing() {
        let mut pool = pool(&["10.0.0.0/30", "10.1.0.0/30"]);
        let old = pool.allocate("a").expect("there is one");
        pool.set_ranges(&nets(&["10.1.0.0/30"]));
        assert_eq!(pool.allocate("b"), Some(ip("10.1.0.1")));
        assert!(pool.usage().iter().any(|usage| usage.is_leaving && usage.used == 1));
        assert!(pool.release(old, "a"));
        assert_eq!(pool.usage().len(), 1);
    }

    #[test]
    fn a_claim_is_for_one_owner_inside_of_a_range() {
        let mut pool = pool(&["10.0.0.0/24"]);
        assert!(pool.claim(ip("10.0.0.7"), "a"));
        assert!(pool.claim(ip("10.0.0.7"), "a"), "the same owner may say it again");
        assert!(!pool.claim(ip("10.0.0.7"), "b"));
        assert!(!pool.claim(ip("10.0.1.7"), "a") && !pool.claim(ip("10.0.0.255"), "a"));
    }

    #[test]
    fn ranges_that_overlap_give_no_address_twice() {
        let mut pool = pool(&["10.0.0.0/30", "10.0.0.0/29", "10.0.0.4/31", "10.0.0.0/29"]);
        let given: Vec<String> = std::iter::from_fn(|| pool.allocate("a")).map(|ip| ip.to_string()).collect();
        let expected: Vec<String> = (1..7).map(|host| format!("10.0.0.{host}")).collect();
        assert_eq!(given, expected);
        assert_eq!(pool.usage().len(), 1);
    }

    #[test]
    fn a_range_that_comes_over_one_that_leaves_gives_nothing_of_its_pods() {
        let mut pool = pool(&["10.0.0.0/29"]);
        let old: Vec<IpAddr> = (0..5).filter_map(|_| pool.allocate("a")).collect();
        pool.set_ranges(&nets(&["10.0.0.0/30"]));
        assert_eq!(pool.allocate("b"), None, "10.0.0.1 and 10.0.0.2 have pods");
        let used: Vec<(u128, bool)> =
            pool.usage().iter().map(|usage| (usage.used, usage.is_leaving)).collect();
        assert_eq!(used, [(2, false), (3, true)]);
        assert!(pool.release(old[1], "a"));
        assert_eq!(pool.allocate("b"), Some(old[1]));
        assert!(old[2..].iter().all(|address| pool.release(*address, "a")));
        assert_eq!(pool.usage().len(), 1);
    }

    #[test]
    fn after_a_restart_what_was_free_last_is_not_given_first() {
        let mut pool = pool(&["10.0.0.0/29"]);
        assert!(pool.claim(ip("10.0.0.4"), "b") && pool.claim(ip("10.0.0.2"), "a"));
        let next: Vec<IpAddr> = std::iter::from_fn(|| pool.allocate("c")).collect();
        assert_eq!(next, ["10.0.0.5", "10.0.0.6", "10.0.0.1", "10.0.0.3"].map(ip));
    }

    proptest! {
        #[test]
        fn nobody_shares_an_address(steps in proptest::collection::vec(any::<Option<u8>>(), 0..200)) {
            let mut pool = pool(&["10.0.0.0/28", "10.9.0.0/29"]);
            let mut given: Vec<IpAddr> = Vec::new();
            for step in steps {
                match step {
                    None => match pool.allocate("a") {
                        Some(address) => given.push(address),
                        None => prop_assert_eq!(given.len(), 14 + 6),
                    },
                    Some(which) if !given.is_empty() => {
                        let address = given.swap_remove(usize::from(which) % given.len());
                        prop_assert!(pool.release(address, "a"));
                    }
                    Some(_) => {}
                }
                let distinct: BTreeSet<&IpAddr> = given.iter().collect();
                prop_assert_eq!(distinct.len(), given.len());
                let used: u128 = pool.usage().iter().map(|usage| usage.used).sum();
                prop_assert_eq!(used, given.len() as u128);
            }
        }
    }
}
