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
}

#[derive(Clone, Debug)]
struct Range {
    net: IpNet,
    is_leaving: bool,
    /// Who has an address, by its distance from the range's first.
    owners: BTreeMap<u128, String>,
    /// Where to look next. An address that became free is not given again before all others were: connections to
    /// its last owner may still be about.
    next: u128,
}

impl Pool {
    /// Gives from these ranges from now on, in this order. One that is no longer among them stays until its last
    /// address is released.
    pub fn set_ranges(&mut self, ranges: &[IpNet]) {
        let mut known = std::mem::take(&mut self.ranges);
        for net in ranges {
            let place = known.iter().position(|range| range.net == *net);
            let mut range = match place {
                Some(place) => known.remove(place),
                None => Range { net: *net, is_leaving: false, owners: BTreeMap::new(), next: 0 },
            };
            range.is_leaving = false;
            self.ranges.push(range);
        }
        let leaving = known.into_iter().filter(|range| !range.owners.is_empty());
        self.ranges.extend(leaving.map(|range| Range { is_leaving: true, ..range }));
    }

    /// The next free address. None: there is none.
    pub fn allocate(&mut self, owner: &str) -> Option<IpAddr> {
        let range =
            self.ranges.iter_mut().filter(|range| !range.is_leaving).find(|range| !range.is_full())?;
        let place = range.free_place()?;
        range.next = place + 1;
        range.owners.insert(place, owner.to_owned());
        Some(range.address(place))
    }

    /// Takes this very address. False: it is in none of the ranges, or another's.
    pub fn claim(&mut self, address: IpAddr, owner: &str) -> bool {
        let Some((range, place)) = self.place_of(address) else { return false };
        if !range.usable().contains(&place) {
            return false;
        }
        range.owners.entry(place).or_insert_with(|| owner.to_owned()) == owner
    }

    /// Gives an address back. False: it is not this owner's.
    pub fn release(&mut self, address: IpAddr, owner: &str) -> bool {
        let Some((range, place)) = self.place_of(address) else { return false };
        let was_there = range.owners.get(&place).is_some_and(|has| has == owner);
        if was_there {
            range.owners.remove(&place);
        }
        self.ranges.retain(|range| !range.is_leaving || !range.owners.is_empty());
        was_there
    }

    /// The ranges with their use, in the order they are given from.
    pub fn usage(&self) -> Vec<Usage> {
        let usage = self.ranges.iter().map(|range| Usage {
            range: range.net,
            used: range.owners.len() as u128,
            capacity: range.capacity(),
            is_leaving: range.is_leaving,
        });
        usage.collect()
    }

    /// Whether an address could be given now.
    pub fn has_free(&self) -> bool {
        self.ranges.iter().any(|range| !range.is_leaving && !range.is_full())
    }

    fn place_of(&mut self, address: IpAddr) -> Option<(&mut Range, u128)> {
        let range = self.ranges.iter_mut().find(|range| range.net.contains(&address))?;
        let place = number(address) - number(range.net.network());
        Some((range, place))
    }
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

    fn capacity(&self) -> u128 {
        let usable = self.usable();
        usable.end - usable.start
    }

    fn is_full(&self) -> bool {
        self.owners.len() as u128 >= self.capacity()
    }

    /// The first free place from `next` on, around the end. Costs as much as there are neighbours in use.
    fn free_place(&self) -> Option<u128> {
        let usable = self.usable();
        let from = self.next.clamp(usable.start, usable.end);
        let free_in = |mut place: u128, end: u128| {
            for used in self.owners.range(place..end).map(|(used, _)| *used) {
                if used != place {
                    break;
                }
                place += 1;
            }
            (place < end).then_some(place)
        };
        free_in(from, usable.end).or_else(|| free_in(usable.start, from))
    }

    fn address(&self, place: u128) -> IpAddr {
        let number = number(self.net.network()) + place;
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
