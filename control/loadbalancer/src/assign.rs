//! Pure: address claims and pools to assignments (LB-IPAM).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use mesh_model::address::{AddressAssignments, AddressClaim, AddressPool};
use mesh_model::{ConditionIntent, ConditionScope, ConditionStatus, Note, ObjectKey, Severity};

/// Where addresses come from when no pool gives one.
#[derive(Clone, Debug, Default)]
pub struct AssignConfig {
    /// Addresses told on the command line: every claim that names none gets them all, pools are not asked.
    pub fixed: Vec<IpAddr>,
    /// The node's own addresses: for claims that no pool serves.
    pub node: Vec<IpAddr>,
}

/// The outcome of [`assign`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assigned {
    /// Addresses by object, sorted; an object without an address is absent.
    pub addresses: AddressAssignments,
    /// `AddressesAssigned` for every claim, and what is wrong with pools.
    pub conditions: Vec<ConditionIntent>,
    /// Warnings.
    pub notes: Vec<Note>,
}

/// Gives each claim its addresses: those it asks for, else the fixed ones, else one of each family from
/// the first pool (by name) that selects it, else the node's own.
///
/// `previous` keeps addresses where they are while they are still allowed, so that adding or removing an
/// object moves nobody else. Same input, same outcome. Costs O(claims log claims) while pools have room.
pub fn assign(
    claims: &[AddressClaim],
    pools: &[AddressPool],
    previous: &AddressAssignments,
    config: &AssignConfig,
) -> Assigned {
    let mut claims: Vec<&AddressClaim> = claims.iter().collect();
    claims.sort_by_key(|claim| claim.origin.precedence());
    let mut pools: Vec<&AddressPool> = pools.iter().collect();
    pools.sort_by(|a, b| a.origin.object.cmp(&b.origin.object));
    let mut state = Assignment { pools, taken: BTreeMap::new(), outcome: Assigned::default() };
    state.report_overlaps();
    for claim in claims.iter().filter(|claim| !claim.requested.is_empty()) {
        state.take_requested(claim);
    }
    let open: Vec<&&AddressClaim> = claims.iter().filter(|claim| claim.requested.is_empty()).collect();
    if config.fixed.is_empty() {
        for claim in &open {
            state.keep(claim, previous);
        }
    }
    for claim in open {
        state.give(claim, config);
    }
    state.outcome.conditions.sort();
    state.outcome.notes.sort();
    state.outcome
}

/// Who holds an address: an object, or all objects with one sharing key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Holder {
    Object(ObjectKey),
    Group(String),
}

impl Holder {
    fn of(claim: &AddressClaim) -> Self {
        match &claim.shared {
            Some(group) => Self::Group(group.clone()),
            None => Self::Object(claim.origin.object.clone()),
        }
    }
}

struct Assignment<'a> {
    pools: Vec<&'a AddressPool>,
    taken: BTreeMap<IpAddr, Holder>,
    outcome: Assigned,
}

impl Assignment<'_> {
    fn report_overlaps(&mut self) {
        for (index, pool) in self.pools.iter().enumerate() {
            let earlier = self.pools[..index].iter().find(|other| {
                other
                    .blocks
                    .iter()
                    .any(|a| pool.blocks.iter().any(|b| a.first <= b.last && b.first <= a.last))
            });
            let (status, reason, message) = match earlier {
                Some(other) => (
                    ConditionStatus::True,
                    "cidr_overlap",
                    format!(
                        "spec.blocks overlap with those of {}: take the range out of one",
                        other.origin.object
                    ),
                ),
                None => (ConditionStatus::False, "resolved", String::new()),
            };
            self.outcome.conditions.push(ConditionIntent {
                origin: pool.origin.at("spec.blocks"),
                scope: ConditionScope::Object,
                kind: "cilium.io/PoolConflict".to_owned(),
                status,
                reason: reason.to_owned(),
                message,
            });
        }
    }

    /// Several objects may ask for one address by name: they then share it.
    fn take_requested(&mut self, claim: &AddressClaim) {
        for address in &claim.requested {
            self.taken.entry(*address).or_insert_with(|| Holder::of(claim));
        }
        self.record(claim, claim.requested.iter().copied().collect(), "as spec.addresses asks");
    }

    /// Marks what the claim had before as taken, where a pool still offers it.
    fn keep(&mut self, claim: &AddressClaim, previous: &AddressAssignments) {
        let holder = Holder::of(claim);
        let had = previous.get(&claim.origin.object).map_or(&[][..], Vec::as_slice);
        for address in had {
            if self.offers(claim, *address) && !self.taken.contains_key(address) {
                self.taken.insert(*address, holder.clone());
            }
        }
    }

    fn offers(&self, claim: &AddressClaim, address: IpAddr) -> bool {
        self.selecting(claim).any(|pool| pool.blocks.iter().any(|b| b.first <= address && address <= b.last))
    }

    fn selecting(&self, claim: &AddressClaim) -> impl Iterator<Item = &AddressPool> {
        let pools: Vec<&AddressPool> =
            self.pools.iter().filter(|pool| pool.selector.matches(&claim.labels)).copied().collect();
        pools.into_iter()
    }

    fn give(&mut self, claim: &AddressClaim, config: &AssignConfig) {
        if !config.fixed.is_empty() {
            return self.record(claim, config.fixed.iter().copied().collect(), "as --address asks");
        }
        let holder = Holder::of(claim);
        let mut given: BTreeSet<IpAddr> =
            self.taken.iter().filter(|(_, by)| **by == holder).map(|(address, _)| *address).collect();
        for v4 in [true, false] {
            if !given.iter().any(|address| address.is_ipv4() == v4)
                && let Some(address) = self.draw(claim, v4)
            {
                self.taken.insert(address, holder.clone());
                given.insert(address);
            }
        }
        if !given.is_empty() {
            return self.record(claim, given, "from a CiliumLoadBalancerIPPool");
        }
        if self.selecting(claim).next().is_some() {
            return self.refuse(
                claim,
                "out_of_ips",
                "no address is left in the pools that select it: widen \
                 spec.blocks of a CiliumLoadBalancerIPPool or remove what is not needed",
            );
        }
        if config.node.is_empty() {
            return self.refuse(
                claim,
                "no_pool",
                "no CiliumLoadBalancerIPPool selects it: add one, set \
                 spec.addresses, or start the agent with --address",
            );
        }
        self.record(claim, config.node.iter().copied().collect(), "the node's own, as no pool selects it");
    }

    /// The lowest free address of a family.
    fn draw(&self, claim: &AddressClaim, v4: bool) -> Option<IpAddr> {
        let enabled = self.selecting(claim).filter(|pool| !pool.disabled);
        let blocks: Vec<_> = enabled.flat_map(|pool| pool.blocks.iter().copied()).collect();
        blocks.into_iter().filter(|block| block.first.is_ipv4() == v4).find_map(|block| {
            let mut candidate = block.first;
            // Taken addresses are walked in order beside the candidates, so a full block costs O(taken).
            for taken in self.taken.range(block.first..=block.last).map(|(address, _)| *address) {
                if taken != candidate {
                    break;
                }
                candidate = next(candidate)?;
            }
            (candidate <= block.last).then_some(candidate)
        })
    }

    fn record(&mut self, claim: &AddressClaim, addresses: BTreeSet<IpAddr>, how: &str) {
        let addresses: Vec<IpAddr> = addresses.into_iter().collect();
        let list: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
        self.condition(claim, ConditionStatus::True, "assigned", format!("{} ({how})", list.join(", ")));
        self.outcome.addresses.insert(claim.origin.object.clone(), addresses);
    }

    fn refuse(&mut self, claim: &AddressClaim, reason: &str, message: &str) {
        self.condition(claim, ConditionStatus::False, reason, message.to_owned());
        self.outcome.notes.push(Note {
            origin: claim.origin.clone(),
            severity: Severity::Warning,
            reason: "NoAddress".to_owned(),
            message: message.to_owned(),
        });
    }

    fn condition(&mut self, claim: &AddressClaim, status: ConditionStatus, reason: &str, message: String) {
        self.outcome.conditions.push(ConditionIntent {
            origin: claim.origin.clone(),
            scope: ConditionScope::Object,
            kind: "millrace.io/AddressAssigned".to_owned(),
            status,
            reason: reason.to_owned(),
            message,
        });
    }
}

/// The address after this one; `None` at the end of the family.
fn next(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => u32::from(v4).checked_add(1).map(|n| IpAddr::V4(n.into())),
        IpAddr::V6(v6) => u128::from(v6).checked_add(1).map(|n| IpAddr::V6(n.into())),
    }
}

#[cfg(test)]
mod tests;
