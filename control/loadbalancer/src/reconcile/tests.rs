use std::collections::BTreeMap;
use std::net::IpAddr;

use mesh_ebpf_abi::{Addr, BackendValue, Be16, Protocol, ServiceFlags, ServiceValue, SlotKey};
use mesh_ebpf_maps::{LoadBalancerMaps, MemoryMaps};
use mesh_model::service;
use mesh_tables::Target;
use proptest::prelude::*;

use super::FrontendTarget;
use crate::tables::{Frontend, FrontendKey, FrontendKind, Reach, Scope};

fn key(number: u8) -> FrontendKey {
    FrontendKey {
        address: IpAddr::from([10, 96, 0, number]),
        port: 80,
        protocol: service::Protocol::Tcp,
        scope: Scope::Everyone,
    }
}

fn balanced(number: u8, backends: &[u8]) -> Frontend {
    let backends = backends.iter().map(|n| (IpAddr::from([10, 0, 0, *n]), 8080)).collect();
    Frontend {
        key: key(number),
        owner: "default/a".to_owned(),
        kind: FrontendKind::Balanced { backends, reach: Reach::Cluster },
    }
}

fn proxied(number: u8) -> Frontend {
    let kind = FrontendKind::Proxy { listener: "l".to_owned() };
    Frontend { key: key(number), owner: "default/a".to_owned(), kind }
}

/// What clients of each service get, read from the maps as the kernel programs read them.
fn served(maps: &mut MemoryMaps) -> BTreeMap<u8, Vec<u8>> {
    let services = maps.services().entries().expect("memory");
    let mut served = BTreeMap::new();
    for (key, value) in services {
        let backends = (0..u32::from(value.backends)).map(|slot| {
            let slot = SlotKey { service: value.service, slot };
            let id = maps.slots().get(&slot).expect("memory").expect("every slot below the count is filled");
            let backend = maps.backends().get(&id).expect("memory").expect("every slot's backend is there");
            last_byte(backend.address)
        });
        let backends =
            if value.flags.contains(ServiceFlags::L7_REDIRECT) { vec![255] } else { backends.collect() };
        served.insert(last_byte(key.address), backends);
    }
    served
}

fn last_byte(address: Addr) -> u8 {
    match address.to_ip() {
        IpAddr::V4(v4) => v4.octets()[3],
        IpAddr::V6(v6) => v6.octets()[15],
    }
}

#[test]
fn a_service_goes_to_the_proxy_and_comes_back() {
    let mut target = FrontendTarget::restore(MemoryMaps::new()).expect("memory");
    target.apply(&balanced(1, &[1, 2])).expect("room");
    target.apply(&proxied(1)).expect("room");
    assert_eq!(served(&mut target.maps), BTreeMap::from([(1, vec![255])]));
    assert!(target.maps.backends().entries().expect("memory").is_empty());
    target.apply(&balanced(1, &[2])).expect("room");
    assert_eq!(served(&mut target.maps), BTreeMap::from([(1, vec![2])]));
}

#[test]
fn a_restart_keeps_identifiers_and_prunes_what_nobody_wants() {
    let mut first = FrontendTarget::restore(MemoryMaps::new()).expect("memory");
    first.apply(&balanced(1, &[1, 2])).expect("room");
    first.apply(&balanced(2, &[2, 3])).expect("room");
    let mut maps = first.maps.clone();
    let before = maps.services().entries().expect("memory");
    // A process that died between two steps.
    let orphan = BackendValue::active(Addr::from(IpAddr::from([10, 0, 0, 9])), Be16::new(1), Protocol::Tcp);
    maps.backends().insert(&77, &orphan).expect("room");
    maps.slots().insert(&SlotKey { service: 78, slot: 0 }, &77).expect("room");

    let mut second = FrontendTarget::restore(maps).expect("memory");
    second.apply(&balanced(1, &[1, 2])).expect("room");
    let kept = second.maps.services().entries().expect("memory");
    assert_eq!(kept, before, "what is right is not written again");
    let rows = [balanced(1, &[1, 2])];
    let pruned = second.prune(&mut rows.iter()).expect("memory");
    assert_eq!(pruned, 3, "service 2, the orphaned slot and the orphaned backend");
    assert_eq!(served(&mut second.maps), BTreeMap::from([(1, vec![1, 2])]));
    assert_eq!(second.maps.backends().entries().expect("memory").len(), 2);
    second.apply(&balanced(3, &[4])).expect("room");
    let ids: Vec<u32> =
        second.maps.services().entries().expect("memory").iter().map(|(_, v)| v.service).collect();
    assert!(!ids.contains(&78) || ids.len() == 2, "an identifier with a slot is not given again: {ids:?}");
}

#[test]
fn a_full_map_is_an_error_that_names_it_and_leaves_the_rest() {
    let maps = MemoryMaps::new().with_capacities(1, 10, 10);
    let mut target = FrontendTarget::restore(maps).expect("memory");
    target.apply(&balanced(1, &[1])).expect("room");
    let error = target.apply(&balanced(2, &[2])).expect_err("no room").to_string();
    assert!(error.contains("is full"), "{error}");
    assert_eq!(served(&mut target.maps), BTreeMap::from([(1, vec![1])]));
    target.remove(&key(1)).expect("memory");
    target.apply(&balanced(2, &[2])).expect("room");
    assert_eq!(served(&mut target.maps), BTreeMap::from([(2, vec![2])]));
}

#[test]
fn a_service_without_backends_has_an_entry_that_refuses() {
    let mut target = FrontendTarget::restore(MemoryMaps::new()).expect("memory");
    target.apply(&balanced(1, &[])).expect("room");
    let entries = target.maps.services().entries().expect("memory");
    assert!(matches!(entries[..], [(_, ServiceValue { backends: 0, .. })]), "{entries:?}");
}

#[test]
fn sctp_is_refused_by_name() {
    let mut row = balanced(1, &[1]);
    row.key.protocol = service::Protocol::Sctp;
    let mut target = FrontendTarget::restore(MemoryMaps::new()).expect("memory");
    let error = target.apply(&row).expect_err("not balanced").to_string();
    assert!(error.contains("SCTP"), "{error}");
}

proptest! {
    /// After any changes the maps serve what was asked for last and hold nothing else.
    #[test]
    fn the_maps_hold_what_was_applied_last(
        steps in proptest::collection::vec(
            (0u8..4, prop_oneof![
                Just(None),
                Just(Some(None)),
                proptest::collection::btree_set(0u8..6, 0..5).prop_map(|set| Some(Some(set))),
            ]),
            0..40,
        ),
    ) {
        let mut target = FrontendTarget::restore(MemoryMaps::new()).expect("memory");
        let mut expected = BTreeMap::new();
        for (number, step) in steps {
            match step {
                None => {
                    target.remove(&key(number)).expect("memory");
                    expected.remove(&number);
                }
                Some(None) => {
                    target.apply(&proxied(number)).expect("room");
                    expected.insert(number, vec![255]);
                }
                Some(Some(backends)) => {
                    let backends: Vec<u8> = backends.into_iter().collect();
                    target.apply(&balanced(number, &backends)).expect("room");
                    expected.insert(number, backends);
                }
            }
            prop_assert_eq!(&served(&mut target.maps), &expected);
        }
        let used: usize = expected.values().filter(|b| **b != [255]).map(Vec::len).sum();
        prop_assert_eq!(target.maps.slots().entries().expect("memory").len(), used);
        let distinct: std::collections::BTreeSet<u8> =
            expected.values().filter(|b| **b != [255]).flatten().copied().collect();
        prop_assert_eq!(target.maps.backends().entries().expect("memory").len(), distinct.len());
    }
}

#[test]
fn a_full_map_leaves_the_last_good_state_and_no_rest_of_what_did_not_fit() {
    let maps = MemoryMaps::new().with_capacities(1, 3, 3);
    let mut target = FrontendTarget::restore(maps).expect("memory");
    target.apply(&balanced(1, &[1, 2])).expect("room");
    // One more fits, two more do not; and a second service does not fit at all.
    let error = target.apply(&balanced(1, &[2, 3, 4, 5])).expect_err("four backends are too many");
    for part in ["mr_", "is full with 3 entries", "remove"] {
        assert!(error.message.contains(part), "{error}");
    }
    assert!(target.apply(&balanced(2, &[1])).is_err());
    assert_eq!(served(&mut target.maps), BTreeMap::from([(1, vec![1, 2])]));
    assert_eq!(target.maps.slots().entries().expect("memory").len(), 2);
    assert_eq!(target.maps.backends().entries().expect("memory").len(), 2);
    target.apply(&balanced(1, &[2, 3, 4])).expect_err("a map that is full while old and new are both there");
    target.apply(&balanced(1, &[1, 2, 3])).expect("there is room again");
    assert_eq!(served(&mut target.maps), BTreeMap::from([(1, vec![1, 2, 3])]));
}

/// Maps as no agent of ours leaves them, with these entries.
fn damaged(services: &[(u8, u32, u16)], slots: &[(u32, u32, u32)], backends: &[(u32, u8)]) -> MemoryMaps {
    let mut maps = MemoryMaps::new();
    for (number, service, backends) in services {
        let address = Addr::from(key(*number).address);
        let key = mesh_ebpf_abi::ServiceKey::new(address, Be16::new(80), Protocol::Tcp);
        let value = ServiceValue { service: *service, backends: *backends, flags: ServiceFlags::NONE };
        maps.services().insert(&key, &value).expect("room");
    }
    for (service, slot, backend) in slots {
        maps.slots().insert(&SlotKey { service: *service, slot: *slot }, backend).expect("room");
    }
    for (id, number) in backends {
        let address = Addr::from(IpAddr::from([10, 0, 0, *number]));
        let value = BackendValue::active(address, Be16::new(8080), Protocol::Tcp);
        maps.backends().insert(id, &value).expect("room");
    }
    maps
}

#[test]
fn maps_that_somebody_damaged_are_mended() {
    for (what, maps) in [
        ("a slot is missing", damaged(&[(1, 1, 3)], &[(1, 0, 1), (1, 1, 2)], &[(1, 1), (2, 2)])),
        ("a slot's backend is missing", damaged(&[(1, 1, 2)], &[(1, 0, 9), (1, 1, 2)], &[(1, 1), (2, 2)])),
        (
            "a backend has two identifiers",
            damaged(&[(1, 1, 2)], &[(1, 0, 1), (1, 1, 2)], &[(1, 1), (2, 2), (3, 1)]),
        ),
        (
            "two services have one identifier",
            damaged(&[(1, 1, 2), (2, 1, 2)], &[(1, 0, 1), (1, 1, 2)], &[(1, 1), (2, 2)]),
        ),
        ("a backend has no identifier", damaged(&[(1, 1, 2)], &[(1, 0, 0), (1, 1, 2)], &[(0, 1), (2, 2)])),
        (
            "the last identifiers are taken",
            damaged(&[(3, u32::MAX, 0), (4, 1, 0)], &[], &[(u32::MAX, 9), (1, 8)]),
        ),
    ] {
        let wanted = [balanced(1, &[1, 2]), balanced(2, &[2])];
        let mut target = FrontendTarget::restore(maps).expect("memory");
        for row in &wanted {
            target.apply(row).expect("room");
        }
        target.prune(&mut wanted.iter()).expect("memory");
        let mut maps = target.into_maps();
        assert_eq!(served(&mut maps), BTreeMap::from([(1, vec![1, 2]), (2, vec![2])]), "{what}");
        assert_eq!(maps.backends().entries().expect("memory").len(), 2, "{what}");
        assert_eq!(maps.slots().entries().expect("memory").len(), 3, "{what}");
    }
}
