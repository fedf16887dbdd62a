use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use mesh_ebpf_abi::{
    BackendValue, Be16, Counter, Family, Protocol, ServiceFlags, ServiceKey, ServiceValue, SlotKey,
};
use proptest::prelude::*;

use super::{Balance, balance};
use crate::fixture::TestMaps;

const VIP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);

fn maps(backends: &[IpAddr]) -> TestMaps {
    let mut maps = TestMaps::default();
    let key = ServiceKey::new(VIP.into(), Be16::new(80), Protocol::Tcp);
    let count = backends.len() as u16;
    maps.services.insert(key, ServiceValue { service: 7, backends: count, flags: ServiceFlags::NONE });
    for (slot, address) in (0..).zip(backends) {
        maps.slots.insert(SlotKey { service: 7, slot }, 100 + slot);
        let backend = BackendValue::active((*address).into(), Be16::new(8080), Protocol::Tcp);
        maps.backends.insert(100 + slot, backend);
    }
    maps
}

fn dial(maps: &TestMaps, family: Family, hash: u32) -> Balance {
    balance((VIP.into(), Be16::new(80), Protocol::Tcp), family, hash, maps, || false)
}

#[test]
fn an_address_that_is_no_service_is_left_alone() {
    let maps = maps(&[]);
    let other = (VIP.into(), Be16::new(81), Protocol::Tcp);
    assert_eq!(balance(other, Family::V4, 0, &maps, || false), Balance::Pass);
    let udp = (VIP.into(), Be16::new(80), Protocol::Udp);
    assert_eq!(balance(udp, Family::V4, 0, &maps, || false), Balance::Pass);
}

#[test]
fn a_service_of_the_proxy_is_left_to_the_packet_programs() {
    let mut maps = maps(&[]);
    for value in maps.services.values_mut() {
        value.flags = ServiceFlags::L7_REDIRECT;
    }
    assert_eq!(dial(&maps, Family::V4, 0), Balance::LeaveToProxy);
}

#[test]
fn the_hash_chooses_the_slot() {
    let addresses = [IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2))];
    let maps = maps(&addresses);
    for (hash, address) in [(0, addresses[0]), (u32::MAX, addresses[1])] {
        let to = Balance::To { service: 7, address: address.into(), port: Be16::new(8080) };
        assert_eq!(dial(&maps, Family::V4, hash), to);
        assert_eq!(dial(&maps, Family::V6, hash), to, "IPv6 sockets dial v4-mapped addresses");
    }
}

#[test]
fn a_service_without_backends_refuses() {
    assert_eq!(dial(&maps(&[]), Family::V4, 0), Balance::Refuse(Counter::SocketLbNoBackend));
}

#[test]
fn a_slot_or_backend_that_is_missing_refuses() {
    let address = [IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1))];
    let mut no_slot = maps(&address);
    no_slot.slots.clear();
    let mut no_backend = maps(&address);
    no_backend.backends.clear();
    for maps in [no_slot, no_backend] {
        assert_eq!(dial(&maps, Family::V4, 0), Balance::Refuse(Counter::SocketLbMissingBackend));
    }
}

#[test]
fn an_ipv4_socket_never_gets_an_ipv6_backend() {
    let maps = maps(&[IpAddr::V6(Ipv6Addr::LOCALHOST)]);
    assert_eq!(dial(&maps, Family::V4, 0), Balance::Refuse(Counter::SocketLbMissingBackend));
    assert!(matches!(dial(&maps, Family::V6, 0), Balance::To { .. }));
}

#[test]
fn a_port_of_the_node_is_found_by_each_of_its_addresses() {
    let mut maps = maps(&[IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1))]);
    let value = *maps.services.values().next().unwrap();
    let port = |address: IpAddr| (address.into(), Be16::new(30080), Protocol::Tcp);
    maps.services.insert(ServiceKey::new(Family::V4.any(), Be16::new(30080), Protocol::Tcp), value);
    let own = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    maps.own.insert(own.into());
    let is_balanced = |address, is_of_host: bool| {
        matches!(balance(port(address), Family::V6, 0, &maps, || is_of_host), Balance::To { .. })
    };
    assert!(is_balanced(own, false) && is_balanced(own, true));
    assert!(!is_balanced(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)), true), "somebody else's address");
    let loopback = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
    assert!(is_balanced(loopback, true));
    assert!(!is_balanced(loopback, false), "a pod's own loopback address");
    assert!(!is_balanced(IpAddr::V6(Ipv6Addr::LOCALHOST), true), "no IPv6 backend, so nothing is offered");
}

proptest! {
    #[test]
    fn with_all_slots_filled_no_hash_is_refused(hash: u32, count in 1_u8..50) {
        extern crate std;
        let addresses: std::vec::Vec<IpAddr> =
            (0..count).map(|host| IpAddr::V4(Ipv4Addr::new(10, 0, 0, host))).collect();
        let maps = maps(&addresses);
        let verdict = dial(&maps, Family::V4, hash);
        prop_assert!(matches!(verdict, Balance::To { .. }), "{:?}", verdict);
    }
}
