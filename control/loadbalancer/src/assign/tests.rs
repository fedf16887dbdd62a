use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use mesh_model::address::{
    AddressAssignments, AddressBlock, AddressClaim, AddressPool, LabelRequirement, LabelSelector,
};
use mesh_model::{ConditionStatus, NamespacedName, ObjectKey, Origin};
use proptest::prelude::*;

use super::{AssignConfig, Assigned, assign};

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn origin(kind: &str, name: &str) -> Origin {
    Origin {
        object: ObjectKey::new("", kind, NamespacedName::new("default", name)),
        uid: String::new(),
        generation: 1,
        created_ms: 0,
        source: String::new(),
        field: String::new(),
    }
}

fn claim(name: &str) -> AddressClaim {
    AddressClaim { origin: origin("Gateway", name), requested: vec![], shared: None, labels: BTreeMap::new() }
}

fn pool(first: &str, last: &str) -> AddressPool {
    AddressPool {
        origin: origin("CiliumLoadBalancerIPPool", first),
        blocks: vec![AddressBlock { first: ip(first), last: ip(last) }],
        cidrs: vec![],
        selector: LabelSelector::default(),
        disabled: false,
    }
}

fn given(assigned: &Assigned, name: &str) -> Vec<String> {
    let object = origin("Gateway", name).object;
    assigned.addresses.get(&object).map_or(vec![], |found| found.iter().map(IpAddr::to_string).collect())
}

#[test]
fn a_claim_gets_one_address_of_each_family_from_the_pools() {
    let pools = [pool("192.0.2.1", "192.0.2.2"), pool("2001:db8::1", "2001:db8::f")];
    let assigned = assign(&[claim("a"), claim("b")], &pools, &BTreeMap::new(), &AssignConfig::default());
    assert_eq!(given(&assigned, "a"), ["192.0.2.1", "2001:db8::1"]);
    assert_eq!(given(&assigned, "b"), ["192.0.2.2", "2001:db8::2"]);
}

#[test]
fn a_full_pool_is_told_with_the_fix() {
    let pools = [pool("192.0.2.1", "192.0.2.1")];
    let assigned = assign(&[claim("a"), claim("b")], &pools, &BTreeMap::new(), &AssignConfig::default());
    assert!(given(&assigned, "b").is_empty());
    let told = assigned.conditions.iter().find(|c| c.origin.object.name.name == "b").expect("a condition");
    assert_eq!((told.status, told.reason.as_str()), (ConditionStatus::False, "out_of_ips"));
    assert!(told.message.contains("widen spec.blocks"));
}

#[test]
fn addresses_stay_when_an_earlier_object_appears() {
    let pools = [pool("192.0.2.1", "192.0.2.9")];
    let config = AssignConfig::default();
    let first = assign(&[claim("m")], &pools, &BTreeMap::new(), &config);
    let second = assign(&[claim("a"), claim("m")], &pools, &first.addresses, &config);
    assert_eq!(given(&second, "m"), given(&first, "m"));
    assert_eq!(given(&second, "a"), ["192.0.2.2"]);
}

#[test]
fn what_is_asked_for_by_name_wins_over_what_another_had() {
    let pools = [pool("192.0.2.1", "192.0.2.9")];
    let config = AssignConfig::default();
    let first = assign(&[claim("a")], &pools, &BTreeMap::new(), &config);
    let asking = AddressClaim { requested: vec![ip("192.0.2.1")], ..claim("z") };
    let second = assign(&[claim("a"), asking], &pools, &first.addresses, &config);
    assert_eq!(given(&second, "z"), ["192.0.2.1"]);
    assert_eq!(given(&second, "a"), ["192.0.2.2"]);
}

#[test]
fn a_sharing_group_gets_the_same_addresses() {
    let shared = |name| AddressClaim { shared: Some("cilium-ingress".to_owned()), ..claim(name) };
    let pools = [pool("192.0.2.1", "192.0.2.9")];
    let assigned = assign(&[shared("a"), shared("b")], &pools, &BTreeMap::new(), &AssignConfig::default());
    assert_eq!(given(&assigned, "a"), given(&assigned, "b"));
}

#[test]
fn fixed_addresses_come_before_pools_and_the_nodes_own_last() {
    let pools = [pool("192.0.2.1", "192.0.2.9")];
    let config = AssignConfig { fixed: vec![ip("198.51.100.7")], node: vec![ip("10.0.0.1")] };
    assert_eq!(given(&assign(&[claim("a")], &pools, &BTreeMap::new(), &config), "a"), ["198.51.100.7"]);
    let config = AssignConfig { fixed: vec![], ..config };
    assert_eq!(given(&assign(&[claim("a")], &pools, &BTreeMap::new(), &config), "a"), ["192.0.2.1"]);
    assert_eq!(given(&assign(&[claim("a")], &[], &BTreeMap::new(), &config), "a"), ["10.0.0.1"]);
}

#[test]
fn a_pool_serves_only_what_it_selects() {
    let selector =
        LabelSelector { requirements: vec![LabelRequirement::In("team".into(), vec!["red".into()])] };
    let pools = [AddressPool { selector, ..pool("192.0.2.1", "192.0.2.9") }];
    let red = AddressClaim { labels: BTreeMap::from([("team".into(), "red".into())]), ..claim("red") };
    let assigned = assign(&[red, claim("blue")], &pools, &BTreeMap::new(), &AssignConfig::default());
    assert_eq!(given(&assigned, "red"), ["192.0.2.1"]);
    assert!(given(&assigned, "blue").is_empty());
}

proptest! {
    /// No two claims hold one address, none moves, and order does not matter.
    #[test]
    fn addresses_are_unique_stable_and_independent_of_order(
        before in proptest::collection::btree_set(0u8..12, 0..8),
        after in proptest::collection::btree_set(0u8..12, 0..8),
    ) {
        let pools = [pool("192.0.2.1", "192.0.2.6")];
        let config = AssignConfig::default();
        let claims = |names: &BTreeSet<u8>| -> Vec<AddressClaim> {
            names.iter().map(|n| claim(&format!("c{n:02}"))).collect()
        };
        let first = assign(&claims(&before), &pools, &BTreeMap::new(), &config).addresses;
        let mut wanted = claims(&after);
        let second = assign(&wanted, &pools, &first, &config);
        wanted.reverse();
        prop_assert_eq!(&second, &assign(&wanted, &pools, &first, &config));
        let all: Vec<IpAddr> = second.addresses.values().flatten().copied().collect();
        let unique: BTreeSet<IpAddr> = all.iter().copied().collect();
        prop_assert_eq!(all.len(), unique.len());
        prop_assert_eq!(all.len(), after.len().min(6));
        let moved = |was: &AddressAssignments| second.addresses.iter()
            .any(|(object, now)| was.get(object).is_some_and(|then| then != now));
        prop_assert!(!moved(&first));
    }
}
