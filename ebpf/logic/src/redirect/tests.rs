use core::net::Ipv4Addr;

use mesh_ebpf_abi::{Addr, Be16, DropReason, Family, Protocol, ServiceFlags, ServiceKey, ServiceValue};
use proptest::prelude::*;

use super::{Redirect, holds_ends, new_connection, takes_packets};
use crate::fixture::TestMaps;
use crate::flow::{FourTuple, flow_hash, pick};

const VIP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);

fn maps(flags: ServiceFlags, threads: u32) -> TestMaps {
    let key = ServiceKey::new(VIP.into(), Be16::new(80), Protocol::Tcp);
    let mut maps = TestMaps { threads, ..TestMaps::default() };
    maps.services.insert(key, ServiceValue { service: 1, backends: 0, flags });
    maps
}

fn tuple(source_port: u16, destination_port: u16) -> FourTuple {
    FourTuple {
        source: Addr::from(Ipv4Addr::new(10, 0, 0, 7)),
        destination: VIP.into(),
        source_port: Be16::new(source_port),
        destination_port: Be16::new(destination_port),
    }
}

#[test]
fn a_connection_to_a_service_of_the_proxy_gets_a_listener_of_its_family() {
    let maps = maps(ServiceFlags::L7_REDIRECT, 1);
    assert_eq!(new_connection(&tuple(40000, 80), Family::V4, &maps), Redirect::Listener(0));
    assert_eq!(new_connection(&tuple(40000, 80), Family::V6, &maps), Redirect::Listener(1));
}

#[test]
fn other_addresses_and_services_balanced_in_the_kernel_pass() {
    let proxy = maps(ServiceFlags::L7_REDIRECT, 1);
    assert_eq!(new_connection(&tuple(40000, 81), Family::V4, &proxy), Redirect::Pass);
    let plain = maps(ServiceFlags::NONE, 1);
    assert_eq!(new_connection(&tuple(40000, 80), Family::V4, &plain), Redirect::Pass);
}

#[test]
fn without_a_proxy_its_services_are_dropped_and_never_leak() {
    let maps = maps(ServiceFlags::L7_REDIRECT, 0);
    let verdict = new_connection(&tuple(40000, 80), Family::V4, &maps);
    assert_eq!(verdict, Redirect::Drop(DropReason::NoListener));
}

#[test]
fn connections_spread_over_all_threads() {
    let mut counts = [0_u32; 8];
    for port in 30000..38000 {
        counts[pick(flow_hash(&tuple(port, 80)), 8) as usize] += 1;
    }
    // 1000 expected; six standard deviations are 180.
    assert!(counts.iter().all(|count| (820..=1180).contains(count)), "{counts:?}");
}

#[test]
fn half_open_and_waiting_sockets_take_their_packets_and_listeners_do_not() {
    let (established, syn_sent, time_wait, close, listen, new_syn_recv) = (1, 2, 6, 7, 10, 12);
    for state in [established, syn_sent, time_wait, new_syn_recv] {
        assert!(takes_packets(state), "{state}");
    }
    assert!(!takes_packets(listen) && !takes_packets(close));
}

#[test]
fn a_socket_in_time_wait_holds_its_ends_against_nobody() {
    let (established, syn_sent, time_wait, listen) = (1, 2, 6, 10);
    assert!(holds_ends(established) && holds_ends(syn_sent));
    assert!(!holds_ends(time_wait) && !holds_ends(listen));
}

proptest! {
    #[test]
    fn a_pick_is_always_below_its_bound(hash: u32, count in 1_u32..) {
        prop_assert!(pick(hash, count) < count);
    }
}
