use std::net::Ipv4Addr;

use mesh_ebpf_abi::{Be16, Counter, Protocol, ServiceFlags, ServiceKey, ServiceValue};

use super::MemoryMaps;
use crate::{LoadBalancerMaps, MapError};

fn key(port: u16) -> ServiceKey {
    ServiceKey::new(Ipv4Addr::new(10, 96, 0, 1).into(), Be16::new(port), Protocol::Tcp)
}

const VALUE: ServiceValue = ServiceValue { service: 1, backends: 0, flags: ServiceFlags::L7_REDIRECT };

#[test]
fn an_entry_is_read_back_until_it_is_removed() {
    let mut maps = MemoryMaps::new();
    maps.services().insert(&key(80), &VALUE).unwrap();
    assert_eq!(maps.services().get(&key(80)).unwrap(), Some(VALUE));
    assert!(maps.services().remove(&key(80)).unwrap());
    assert!(!maps.services().remove(&key(80)).unwrap());
    assert_eq!(maps.services().get(&key(80)).unwrap(), None);
}

#[test]
fn a_full_map_refuses_a_new_key_by_name_and_still_takes_a_known_one() {
    let mut maps = MemoryMaps::new().with_capacities(1, 10, 10);
    maps.services().insert(&key(80), &VALUE).unwrap();
    maps.services().insert(&key(80), &ServiceValue { backends: 3, ..VALUE }).unwrap();
    let error = maps.services().insert(&key(81), &VALUE).unwrap_err();
    assert!(matches!(error, MapError::Full { entries: 1, .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("mr_services_v1") && text.contains("10.96.0.1"), "{text}");
}

#[test]
fn a_dump_shows_every_counter_by_name_and_entries_in_order() {
    let mut maps = MemoryMaps::new();
    maps.count(Counter::RedirectedTcNew, 2);
    maps.services().insert(&key(443), &VALUE).unwrap();
    maps.services().insert(&key(80), &VALUE).unwrap();
    let dump = maps.dump().unwrap();
    assert_eq!(dump.counters.len(), Counter::ALL.len());
    assert_eq!(dump.counters["redirected_tc_new"], 2);
    let ports: Vec<u16> = dump.services.iter().map(|entry| entry.key.port.get()).collect();
    assert_eq!(ports, [80, 443]);
}
