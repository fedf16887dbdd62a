use core::net::Ipv4Addr;

use mesh_ebpf_abi::{Addr, Be16, DirectFlowKey, DirectFlowValue, Family};

use super::{BorrowedPorts, CLOSING_NS, Departure, depart, is_own_answer, is_taken, key_of};
use crate::fixture::TestFlows;
use crate::flow::FourTuple;
use crate::parse::{TcpFlags, TcpPacket};

const SYN: u8 = TcpFlags::SYN;
const ACK: u8 = TcpFlags::ACK;
const FIN: u8 = TcpFlags::FIN | TcpFlags::ACK;
const RST: u8 = TcpFlags::RST | TcpFlags::ACK;
const SECOND: u64 = 1_000_000_000;

fn of_pod(flags: u8) -> TcpPacket {
    let tuple = FourTuple {
        source: Addr::from(Ipv4Addr::new(10, 244, 1, 11)),
        destination: Addr::from(Ipv4Addr::new(10, 244, 1, 12)),
        source_port: Be16::new(20000),
        destination_port: Be16::new(8080),
    };
    TcpPacket { tuple, family: Family::V4, flags: TcpFlags(flags) }
}

fn answer(flags: u8) -> TcpPacket {
    let packet = of_pod(flags);
    TcpPacket { tuple: packet.tuple.reversed(), ..packet }
}

fn flow() -> DirectFlowKey {
    key_of(&of_pod(0).tuple)
}

fn free() -> bool {
    false
}

fn of_the_proxy() -> bool {
    true
}

fn never_asked() -> bool {
    panic!("the flow is known")
}

#[test]
fn borrowed_ports_are_a_closed_range() {
    let ports = BorrowedPorts { low: 20000, high: 32000 };
    for (port, borrowed) in [(19999, false), (20000, true), (32000, true), (32001, false)] {
        assert_eq!(ports.contain(Be16::new(port)), borrowed, "{port}");
    }
}

#[test]
fn a_pods_first_packet_takes_the_ends_and_its_answers_are_its_own() {
    let flows = TestFlows::default();
    assert!(!is_own_answer(&answer(ACK), &flows));
    assert_eq!(depart(&of_pod(SYN), &flows, free), Departure::Noted);
    assert!(is_taken(&flow(), &flows));
    assert!(is_own_answer(&answer(ACK), &flows));
    assert_eq!(depart(&of_pod(ACK), &flows, never_asked), Departure::Noted);
}

#[test]
fn a_connection_older_than_the_programs_is_noted_by_its_next_packet() {
    let flows = TestFlows::default();
    assert_eq!(depart(&of_pod(ACK), &flows, free), Departure::Noted);
    assert!(is_taken(&flow(), &flows));
}

#[test]
fn the_ends_of_a_connection_of_the_proxy_are_not_given_away() {
    let flows = TestFlows::default();
    assert_eq!(depart(&of_pod(SYN), &flows, of_the_proxy), Departure::Clash);
    assert_eq!(depart(&of_pod(ACK), &flows, of_the_proxy), Departure::Stray);
    assert!(!is_taken(&flow(), &flows));
    assert!(!is_own_answer(&answer(ACK), &flows));
}

#[test]
fn a_closing_connection_keeps_its_ends_until_both_sides_have_forgotten_it() {
    let flows = TestFlows::default();
    depart(&of_pod(SYN), &flows, free);
    depart(&of_pod(FIN), &flows, never_asked);
    flows.wait(CLOSING_NS - 1);
    assert!(is_taken(&flow(), &flows));
    flows.wait(1);
    assert!(!is_taken(&flow(), &flows));
    assert_eq!(depart(&of_pod(SYN), &flows, of_the_proxy), Departure::Clash, "the proxy may have it now");
}

#[test]
fn a_half_closed_connection_that_still_receives_keeps_its_ends() {
    let flows = TestFlows::default();
    depart(&of_pod(SYN), &flows, free);
    depart(&of_pod(FIN), &flows, never_asked);
    for _ in 0..10 {
        flows.wait(CLOSING_NS / 2);
        assert_eq!(depart(&of_pod(ACK), &flows, never_asked), Departure::Noted);
    }
    assert!(is_taken(&flow(), &flows));
}

#[test]
fn acknowledgements_of_a_closing_connection_write_once_a_second() {
    let flows = TestFlows::default();
    depart(&of_pod(SYN), &flows, free);
    depart(&of_pod(FIN), &flows, never_asked);
    let written = flows.writes();
    depart(&of_pod(ACK), &flows, never_asked);
    assert_eq!(flows.writes(), written);
    flows.wait(2 * SECOND);
    depart(&of_pod(ACK), &flows, never_asked);
    assert_eq!(flows.writes(), written + 1);
}

#[test]
fn packets_of_an_open_connection_write_nothing() {
    let flows = TestFlows::default();
    depart(&of_pod(SYN), &flows, free);
    let written = flows.writes();
    for _ in 0..100 {
        flows.wait(SECOND);
        depart(&of_pod(ACK), &flows, never_asked);
    }
    assert_eq!(flows.writes(), written);
}

#[test]
fn a_reset_from_either_side_frees_the_ends_at_once() {
    let flows = TestFlows::default();
    depart(&of_pod(SYN), &flows, free);
    depart(&of_pod(RST), &flows, never_asked);
    assert!(!is_taken(&flow(), &flows));

    depart(&of_pod(SYN), &flows, free);
    assert!(is_own_answer(&answer(RST), &flows), "the pod must hear of it");
    assert!(!is_taken(&flow(), &flows));
}

#[test]
fn a_reset_alone_takes_nothing() {
    let flows = TestFlows::default();
    assert_eq!(depart(&of_pod(RST), &flows, free), Departure::Noted);
    assert!(!is_taken(&flow(), &flows));
}

#[test]
fn a_port_used_again_while_it_closes_is_open() {
    let flows = TestFlows::default();
    depart(&of_pod(SYN), &flows, free);
    depart(&of_pod(FIN), &flows, never_asked);
    flows.wait(SECOND);
    depart(&of_pod(SYN), &flows, never_asked);
    flows.wait(2 * CLOSING_NS);
    assert!(is_taken(&flow(), &flows));
}

#[test]
fn a_clock_that_differs_between_processors_frees_nothing_early() {
    let flows = TestFlows::default();
    flows.put(flow(), DirectFlowValue { closing_at: flows.clock() + SECOND });
    assert!(is_taken(&flow(), &flows));
}
