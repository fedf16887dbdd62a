extern crate std;

use std::cell::RefCell;
use std::vec::Vec;

use mesh_ebpf_abi::{Addr, Be16};

use super::{Covered, End, PacketEdit, add, fold};
use crate::nat::{NatWork, Translation};
use crate::parse::{LinkLayer, PacketBytes};
use crate::transport::{Payload, Transport};

fn rewrite(
    packet: &Memory,
    at: &Transport,
    quoted: Option<&Transport>,
    end: End,
    to: &Translation,
) -> Option<()> {
    let mut work = NatWork::EMPTY;
    work.packet = *at;
    work.quoted = quoted.copied().unwrap_or(Transport::EMPTY);
    work.is_quoting = quoted.is_some();
    super::rewrite(packet, &work, end, to)
}

fn parse_transport(packet: &Memory, link: LinkLayer) -> Option<Transport> {
    let mut parsed = Transport::EMPTY;
    crate::transport::parse_transport(packet, link, &mut parsed).map(|()| parsed)
}

fn parse_quoted(packet: &Memory, error: &Transport, offset: u32) -> Option<Transport> {
    let mut parsed = Transport::EMPTY;
    crate::transport::parse_quoted(packet, error.family, offset, &mut parsed).map(|()| parsed)
}

/// A packet in memory; the helpers as the kernel documents them.
struct Memory(RefCell<Vec<u8>>);

impl PacketBytes for Memory {
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        self.0.borrow().load(offset)
    }
}

impl PacketBytes for Vec<u8> {
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        self.as_slice().load(offset)
    }
}

impl PacketEdit for Memory {
    fn store<const N: usize>(&self, offset: u32, bytes: [u8; N]) -> bool {
        let mut packet = self.0.borrow_mut();
        let Some(place) = packet.get_mut(offset as usize..offset as usize + N) else { return false };
        place.copy_from_slice(&bytes);
        true
    }

    fn adjust_header(&self, offset: u32, from: u32, to: u32) -> bool {
        let covered = Covered { by_pseudo_header: false, is_v6: false, is_udp: false };
        self.adjust(offset, super::difference(from, to), covered)
    }

    fn adjust_header_word(&self, offset: u32, from: u32, to: u32) -> bool {
        self.adjust_header(offset, from, to)
    }

    fn adjust(&self, offset: u32, difference: u32, covered: Covered) -> bool {
        let Some(old) = self.load::<2>(offset).map(u16::from_ne_bytes) else { return false };
        if covered.is_udp && old == 0 {
            return true;
        }
        let new = !fold(add(u32::from(!old), difference));
        self.store(offset, if covered.is_udp && new == 0 { [0xff; 2] } else { new.to_ne_bytes() })
    }
}

fn sum(bytes: &[u8]) -> u32 {
    let mut sum = 0;
    for pair in bytes.chunks(2) {
        let pair = [pair[0], pair.get(1).copied().unwrap_or(0)];
        sum = add(sum, u16::from_ne_bytes(pair).into());
    }
    sum
}

/// What every checksum of a packet sums up to: 0xffff each where they are right.
fn sums(packet: &[u8]) -> (u16, u16) {
    let (header, pseudo, payload, protocol) = match packet[0] >> 4 {
        4 => (fold(sum(&packet[..20])), sum(&packet[12..20]), &packet[20..], packet[9]),
        _ => (0xffff, sum(&packet[8..40]), &packet[40..], packet[6]),
    };
    let length = u32::from((payload.len() as u16).to_be());
    let pseudo = match protocol {
        1 => 0,
        _ => add(pseudo, add(length, u32::from(u16::from(protocol).to_be()))),
    };
    (header, fold(add(pseudo, sum(payload))))
}

fn ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet =
        std::vec![0x45, 0, 0, 0, 0x12, 0x34, 0x40, 0, 64, protocol, 0, 0, 10, 0, 0, 7, 192, 0, 2, 9];
    let total = (20 + payload.len()) as u16;
    packet[2..4].copy_from_slice(&total.to_be_bytes());
    let check = !fold(sum(&packet));
    packet[10..12].copy_from_slice(&check.to_ne_bytes());
    packet.extend(payload);
    packet
}

fn ipv6(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = std::vec![0x60, 0, 0, 0, 0, payload.len() as u8, protocol, 64];
    packet.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
    packet.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
    packet.extend(payload);
    packet
}

/// Puts the right checksum at this place of what follows the IP header.
fn summed(mut packet: Vec<u8>, place: usize) -> Vec<u8> {
    let start = if packet[0] >> 4 == 4 { 20 } else { 40 };
    let (_, found) = sums(&packet);
    packet[start + place..start + place + 2].copy_from_slice(&(!found).to_ne_bytes());
    assert_eq!(sums(&packet), (0xffff, 0xffff));
    packet
}

fn tcp() -> Vec<u8> {
    let mut bytes = std::vec![0xa0, 0x01, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0];
    bytes.extend(b"some data");
    bytes
}

fn udp() -> Vec<u8> {
    let mut bytes = std::vec![0xa0, 0x01, 0, 53, 0, 12, 0, 0];
    bytes.extend(b"asks");
    bytes
}

fn all() -> [Vec<u8>; 6] {
    [
        summed(ipv4(6, &tcp()), 16),
        summed(ipv6(6, &tcp()), 16),
        summed(ipv4(17, &udp()), 6),
        summed(ipv6(17, &udp()), 6),
        summed(ipv4(1, &[8, 0, 0, 0, 0xa0, 1, 0, 1, 9, 9]), 2),
        summed(ipv6(58, &[128, 0, 0, 0, 0xa0, 1, 0, 1, 9, 9]), 2),
    ]
}

fn to(packet: &[u8]) -> Translation {
    let address: std::net::IpAddr = match packet[0] >> 4 {
        4 => "203.0.113.77".parse().unwrap(),
        _ => "2001:db8:77::abcd".parse().unwrap(),
    };
    Translation { address: Addr::from(address), port: Be16::new(1234), by_frontend: false }
}

#[test]
fn every_checksum_is_right_after_another_source() {
    for bytes in all() {
        let to = to(&bytes);
        let packet = Memory(RefCell::new(bytes));
        let at = parse_transport(&packet, LinkLayer::None).unwrap();
        assert_eq!(at.tuple.source_port.get(), 0xa001);
        rewrite(&packet, &at, None, End::Source, &to).unwrap();
        let again = parse_transport(&packet, LinkLayer::None).unwrap();
        assert_eq!((again.tuple.source, again.tuple.source_port), (to.address, to.port));
        assert_eq!(
            (again.tuple.destination, again.tuple.destination_port),
            (at.tuple.destination, at.tuple.destination_port)
        );
        assert_eq!(sums(&packet.0.borrow()), (0xffff, 0xffff), "{at:?}");
    }
}

#[test]
fn every_checksum_is_right_after_another_destination() {
    for bytes in all().into_iter().take(4) {
        let to = to(&bytes);
        let packet = Memory(RefCell::new(bytes));
        let at = parse_transport(&packet, LinkLayer::None).unwrap();
        rewrite(&packet, &at, None, End::Destination, &to).unwrap();
        let again = parse_transport(&packet, LinkLayer::None).unwrap();
        assert_eq!((again.tuple.destination, again.tuple.destination_port), (to.address, to.port));
        assert_eq!(sums(&packet.0.borrow()), (0xffff, 0xffff), "{at:?}");
    }
}

#[test]
fn what_ends_before_its_ports_has_its_addresses_and_nothing_else() {
    for whole in [ipv4(17, &udp()), ipv6(17, &udp()), ipv4(6, &tcp()), ipv6(6, &tcp()), ipv6(60, &[17, 0])] {
        let header = if whole[0] >> 4 == 4 { 20 } else { 40 };
        for length in header..header + 4 {
            let packet = Memory(RefCell::new(whole[..length.min(whole.len())].to_vec()));
            let at = parse_transport(&packet, LinkLayer::None).unwrap();
            assert_eq!(at.payload, Payload::Other, "{length} bytes of {whole:?}");
            assert!(
                at.tuple.source != crate::flow::FourTuple::UNKNOWN.source
                    && at.tuple.source_port == Be16::new(0)
            );
            assert!(parse_quoted(&packet, &at, 0).is_none());
        }
    }
}

#[test]
fn udp_without_a_checksum_stays_without() {
    let packet = Memory(RefCell::new(ipv4(17, &udp())));
    let at = parse_transport(&packet, LinkLayer::None).unwrap();
    rewrite(&packet, &at, None, End::Source, &to(&ipv4(17, &udp()))).unwrap();
    assert_eq!(packet.load::<2>(26), Some([0, 0]));
}

#[test]
fn an_error_is_about_the_packet_that_the_pod_sent() {
    for sent in all() {
        let is_v4 = sent[0] >> 4 == 4;
        let mut error =
            if is_v4 { std::vec![3, 4, 0, 0, 0, 0, 5, 0] } else { std::vec![2, 0, 0, 0, 0, 0, 5, 0] };
        error.extend(&sent);
        let bytes = if is_v4 { ipv4(1, &error) } else { ipv6(58, &error) };
        let packet = Memory(RefCell::new(summed(bytes, 2)));
        let at = parse_transport(&packet, LinkLayer::None).unwrap();
        let Payload::Error(offset) = at.payload else { panic!("{at:?}") };
        let quoted = parse_quoted(&packet, &at, offset).unwrap();
        assert_eq!(quoted.tuple.source_port.get(), 0xa001);
        let to = to(&sent);
        rewrite(&packet, &at, Some(&quoted), End::Destination, &to).unwrap();
        let again = parse_transport(&packet, LinkLayer::None).unwrap();
        let quoted_again = parse_quoted(&packet, &again, offset).unwrap();
        assert_eq!(again.tuple.destination, to.address);
        assert_eq!((quoted_again.tuple.source, quoted_again.tuple.source_port), (to.address, to.port));
        assert_eq!(sums(&packet.0.borrow()), (0xffff, 0xffff), "{at:?}");
        let inner = packet.0.borrow()[offset as usize..].to_vec();
        assert_eq!(sums(&inner).0, 0xffff, "the quoted header's own");
    }
}

#[test]
fn the_identifier_of_an_echo_is_of_whoever_asked_alone() {
    for (bytes, identifier) in [all()[4].clone(), all()[5].clone()].into_iter().zip([24, 44]) {
        let packet = Memory(RefCell::new(bytes.clone()));
        let at = parse_transport(&packet, LinkLayer::None).unwrap();
        let to = to(&bytes);
        rewrite(&packet, &at, None, End::Destination, &to).unwrap();
        let again = parse_transport(&packet, LinkLayer::None).unwrap();
        assert_eq!((again.tuple.destination, packet.load::<2>(identifier)), (to.address, Some([0xa0, 1])));
        assert_eq!(sums(&packet.0.borrow()), (0xffff, 0xffff));
    }
}

#[test]
fn a_packet_that_is_cut_is_not_half_rewritten_in_silence() {
    for bytes in all() {
        let to = to(&bytes);
        let whole = Memory(RefCell::new(bytes.clone()));
        let at = parse_transport(&whole, LinkLayer::None).unwrap();
        for length in 0..at.offset as usize + 8 {
            let packet = Memory(RefCell::new(bytes[..length].to_vec()));
            if let Some(at) = parse_transport(&packet, LinkLayer::None) {
                let done = rewrite(&packet, &at, None, End::Source, &to);
                assert!(done.is_none() || at.payload != Payload::Ports || length >= at.offset as usize + 8);
            }
        }
    }
}

#[test]
fn a_hop_is_taken_and_the_header_stays_right_until_there_is_none() {
    for packet in all() {
        let mut frame = [0; 14].to_vec();
        frame.extend(&packet);
        let place = if packet[0] >> 4 == 4 { 14 + 8 } else { 14 + 7 };
        let hops = frame[place];
        let memory = Memory(RefCell::new(frame.clone()));
        for left in (1..hops).rev() {
            crate::rewrite::one_hop(&memory).expect("there is one");
            let now = memory.0.borrow();
            assert_eq!(now[place], left);
            assert_eq!(sums(&now[14..]), sums(&packet));
        }
        let before = memory.0.borrow().clone();
        assert_eq!(crate::rewrite::one_hop(&memory), None, "its last");
        assert_eq!(*memory.0.borrow(), before, "left as it is");
    }
}
