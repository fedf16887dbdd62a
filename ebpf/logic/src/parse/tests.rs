extern crate std;

use core::net::{Ipv4Addr, Ipv6Addr};
use std::vec::Vec;

use mesh_ebpf_abi::{Addr, Be16, Family};
use proptest::prelude::*;

use super::{LinkLayer, NotTcp, TcpFlags, TcpPacket, parse_tcp};
use crate::flow::FourTuple;

const V4: (Ipv4Addr, Ipv4Addr) = (Ipv4Addr::new(10, 0, 0, 7), Ipv4Addr::new(10, 96, 0, 1));
const V6: (Ipv6Addr, Ipv6Addr) =
    (Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 7), Ipv6Addr::new(0xfd00, 96, 0, 0, 0, 0, 0, 1));

fn tcp() -> Vec<u8> {
    let mut header = Vec::from([0; 20]);
    header[0..2].copy_from_slice(&40000_u16.to_be_bytes());
    header[2..4].copy_from_slice(&80_u16.to_be_bytes());
    header[12] = 5 << 4;
    header[13] = 2;
    header
}

/// An IPv4 packet with options of a multiple of four bytes.
fn ipv4(options: usize, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut packet = Vec::from([0; 20]);
    packet.resize(20 + options, 1);
    packet[0] = 0x45 + (options / 4) as u8;
    let total = (packet.len() + 20) as u16;
    packet[2..4].copy_from_slice(&total.to_be_bytes());
    packet[6] = 0x40;
    packet[9] = 6;
    packet[12..16].copy_from_slice(&V4.0.octets());
    packet[16..20].copy_from_slice(&V4.1.octets());
    packet.extend(tcp());
    change(&mut packet);
    packet
}

/// An IPv6 packet with extension headers: their numbers and whole bytes, first byte set here.
fn ipv6(extensions: &[(u8, &[u8])]) -> Vec<u8> {
    let mut packet = Vec::from([0; 40]);
    packet[0] = 0x60;
    packet[6] = extensions.first().map_or(6, |(number, _)| *number);
    packet[8..24].copy_from_slice(&V6.0.octets());
    packet[24..40].copy_from_slice(&V6.1.octets());
    for (index, (_, bytes)) in extensions.iter().enumerate() {
        packet.push(extensions.get(index + 1).map_or(6, |(number, _)| *number));
        packet.extend(&bytes[1..]);
    }
    packet.extend(tcp());
    packet
}

fn expected(source: Addr, destination: Addr, family: Family) -> Result<TcpPacket, NotTcp> {
    let tuple =
        FourTuple { source, destination, source_port: Be16::new(40000), destination_port: Be16::new(80) };
    Ok(TcpPacket { tuple, family, flags: TcpFlags(TcpFlags::SYN) })
}

fn expected_v4() -> Result<TcpPacket, NotTcp> {
    expected(V4.0.into(), V4.1.into(), Family::V4)
}

fn expected_v6() -> Result<TcpPacket, NotTcp> {
    expected(V6.0.into(), V6.1.into(), Family::V6)
}

/// Parses with and without an Ethernet header; both must agree.
fn check(packet: &[u8], expected: Result<TcpPacket, NotTcp>) {
    assert_eq!(parse_tcp(packet, LinkLayer::None), expected, "without a link header");
    let mut frame = Vec::from([0; 12]);
    frame.extend(if packet.first().is_some_and(|first| first >> 4 == 6) { [0x86, 0xdd] } else { [8, 0] });
    frame.extend(packet);
    assert_eq!(parse_tcp(frame.as_slice(), LinkLayer::Ethernet), expected, "with an Ethernet header");
}

#[test]
fn plain_packets_of_both_families_give_their_two_ends() {
    check(&ipv4(0, |_| {}), expected_v4());
    check(&ipv6(&[]), expected_v6());
}

#[test]
fn ipv4_options_are_stepped_over() {
    for options in [4, 8, 40] {
        check(&ipv4(options, |_| {}), expected_v4());
    }
}

#[test]
fn ipv6_extension_headers_are_stepped_over() {
    let eight: &[u8] = &[0; 8];
    let sixteen: &[u8] = &[0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let authentication: &[u8] = &[0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    check(&ipv6(&[(0, eight)]), expected_v6());
    check(&ipv6(&[(0, sixteen), (43, eight), (60, eight)]), expected_v6());
    check(&ipv6(&[(51, authentication)]), expected_v6());
    check(&ipv6(&[(60, eight); 6]), expected_v6());
}

#[test]
fn more_extension_headers_than_the_bound_are_left_to_the_stack() {
    let eight: &[u8] = &[0; 8];
    check(&ipv6(&[(60, eight); 7]), Err(NotTcp::OtherProtocol));
}

#[test]
fn fragments_are_left_to_the_stack_the_first_one_too() {
    check(&ipv4(0, |packet| packet[6] = 0x20), Err(NotTcp::Fragment));
    check(&ipv4(0, |packet| packet[7] = 1), Err(NotTcp::Fragment));
    check(&ipv6(&[(44, &[0; 8])]), Err(NotTcp::Fragment));
}

#[test]
fn other_protocols_are_left_to_the_stack() {
    check(&ipv4(0, |packet| packet[9] = 17), Err(NotTcp::OtherProtocol));
    check(&ipv6(&[(58, &[0; 8])]), Err(NotTcp::OtherProtocol));
    let arp = [[0; 12].as_slice(), &[8, 6], &[0; 28]].concat();
    assert_eq!(parse_tcp(arp.as_slice(), LinkLayer::Ethernet), Err(NotTcp::OtherProtocol));
}

#[test]
fn headers_that_contradict_themselves_are_malformed() {
    check(&ipv4(0, |packet| packet[0] = 0x44), Err(NotTcp::Malformed));
    check(&ipv4(0, |packet| packet[3] = 30), Err(NotTcp::Malformed));
    check(&ipv4(0, |packet| packet[32] = 4 << 4), Err(NotTcp::Malformed));
}

#[test]
fn every_shorter_packet_is_malformed() {
    for packet in [ipv4(8, |_| {}), ipv6(&[(0, &[0; 8])])] {
        for length in 0..packet.len() {
            assert_eq!(parse_tcp(&packet[..length], LinkLayer::None), Err(NotTcp::Malformed), "{length}");
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_without_a_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ethernet: bool,
    ) {
        let link = if ethernet { LinkLayer::Ethernet } else { LinkLayer::None };
        let _ = parse_tcp(bytes.as_slice(), link);
    }

    #[test]
    fn a_packet_with_any_ends_gives_these_ends(
        source: [u8; 4], destination: [u8; 4], ports: [u16; 2], options in 0_usize..=10,
    ) {
        let packet = ipv4(options * 4, |packet| {
            packet[12..16].copy_from_slice(&source);
            packet[16..20].copy_from_slice(&destination);
            let tcp = 20 + options * 4;
            packet[tcp..tcp + 2].copy_from_slice(&ports[0].to_be_bytes());
            packet[tcp + 2..tcp + 4].copy_from_slice(&ports[1].to_be_bytes());
        });
        let parsed = parse_tcp(packet.as_slice(), LinkLayer::None).unwrap();
        prop_assert_eq!(parsed.tuple, FourTuple {
            source: Ipv4Addr::from(source).into(),
            destination: Ipv4Addr::from(destination).into(),
            source_port: Be16::new(ports[0]),
            destination_port: Be16::new(ports[1]),
        });
    }
}
