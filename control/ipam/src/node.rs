//! Both families of one node.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::pool::{Pool, Usage};

/// Why a pod gets no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IpamError {
    /// The node was given no range at all.
    #[error("this node has no range of pod addresses yet")]
    NoRange,
    /// Every address is in use.
    #[error("all {used} {family} addresses of this node are in use ({ranges})")]
    Exhausted {
        /// IPv4 or IPv6.
        family: &'static str,
        /// How many.
        used: u128,
        /// The ranges.
        ranges: String,
    },
}

/// The addresses of one node's pods: one of each family that the node has ranges of.
#[derive(Clone, Debug, Default)]
pub struct NodeIpam {
    v4: Pool,
    v6: Pool,
}

impl NodeIpam {
    /// Gives from these ranges from now on; the families may be mixed.
    pub fn set_ranges(&mut self, ranges: &[IpNet]) {
        let (v4, v6): (Vec<IpNet>, Vec<IpNet>) =
            ranges.iter().partition(|range| matches!(range, IpNet::V4(_)));
        self.v4.set_ranges(&v4);
        self.v6.set_ranges(&v6);
    }

    /// An address of each family, IPv4 first. All or none.
    ///
    /// # Errors
    /// [`IpamError`] when a family with ranges has no free address, or there is no range.
    pub fn allocate(&mut self, owner: &str) -> Result<Vec<IpAddr>, IpamError> {
        self.can_allocate()?;
        let pools = [&mut self.v4, &mut self.v6];
        Ok(pools.into_iter().filter_map(|pool| pool.allocate(owner)).collect())
    }

    /// Whether [`Self::allocate`] would succeed, and why not.
    pub fn can_allocate(&self) -> Result<(), IpamError> {
        let mut has_range = false;
        for (family, pool) in [("IPv4", &self.v4), ("IPv6", &self.v6)] {
            let usage: Vec<Usage> = pool.usage().into_iter().filter(|usage| !usage.is_leaving).collect();
            has_range |= !usage.is_empty();
            if !usage.is_empty() && !pool.has_free() {
                let ranges: Vec<String> = usage.iter().map(|usage| usage.range.to_string()).collect();
                let used = usage.iter().map(|usage| usage.used).sum();
                return Err(IpamError::Exhausted { family, used, ranges: ranges.join(", ") });
            }
        }
        if has_range { Ok(()) } else { Err(IpamError::NoRange) }
    }

    /// Takes these very addresses for a pod that lives. False for any that is not in a range, or another's; the
    /// others are taken all the same.
    pub fn claim(&mut self, addresses: &[IpAddr], owner: &str) -> bool {
        let claimed = addresses.iter().map(|address| self.pool(*address).claim(*address, owner));
        // All of them are tried.
        claimed.fold(true, |all, one| all & one)
    }

    /// Gives addresses back; those that are not this owner's are passed over.
    pub fn release(&mut self, addresses: &[IpAddr], owner: &str) {
        for address in addresses {
            self.pool(*address).release(*address, owner);
        }
    }

    /// The ranges of both families with their use.
    pub fn usage(&self) -> Vec<Usage> {
        let mut usage = self.v4.usage();
        usage.extend(self.v6.usage());
        usage
    }

    fn pool(&mut self, address: IpAddr) -> &mut Pool {
        if address.is_ipv4() { &mut self.v4 } else { &mut self.v6 }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use ipnet::IpNet;

    use super::{IpamError, NodeIpam};

    fn node(ranges: &[&str]) -> NodeIpam {
        let ranges: Vec<IpNet> = ranges.iter().map(|range| range.parse().expect("a range")).collect();
        let mut node = NodeIpam::default();
        node.set_ranges(&ranges);
        node
    }

    #[test]
    fn a_pod_gets_one_address_of_each_family_or_none() {
        let mut both = node(&["fd00::/120", "10.0.0.0/30"]);
        let given: Vec<String> =
            both.allocate("a").expect("there are some").iter().map(IpAddr::to_string).collect();
        assert_eq!(given, ["10.0.0.1", "fd00::1"]);
        both.allocate("b").expect("one more");
        let error = both.allocate("c").expect_err("IPv4 is used up");
        assert_eq!(error.to_string(), "all 2 IPv4 addresses of this node are in use (10.0.0.0/30)");
        assert_eq!(both.usage()[1].used, 2, "no IPv6 address is taken for a pod that gets none");
    }

    #[test]
    fn without_a_range_that_is_said() {
        assert_eq!(node(&[]).allocate("a"), Err(IpamError::NoRange));
    }

    #[test]
    fn what_lives_is_claimed_as_far_as_it_can_be() {
        let mut both = node(&["10.0.0.0/24", "fd00::/120"]);
        let live: Vec<IpAddr> = ["192.0.2.1", "fd00::1"].map(|text| text.parse().expect("an address")).into();
        assert!(!both.claim(&live, "a"), "the first is in no range");
        assert_eq!(both.allocate("b").expect("there are some")[1].to_string(), "fd00::2");
        both.release(&live, "a");
        assert_eq!(both.usage()[1].used, 1);
    }
}
