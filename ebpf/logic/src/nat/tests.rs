extern crate std;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use mesh_ebpf_abi::{
    Addr, BackendValue, Be16, DropReason, Family, FragmentKey, FragmentValue, MasqueradeValue, NatKey,
    NatValue, ServiceKey, ServiceValue, SlotKey, device_flags, net_flags,
};

use super::{Nat, NatMaps, NatPorts, NatWork, Translation};
use crate::flow::FourTuple;
use crate::maps::DatapathMaps;
use crate::parse::TcpFlags;
use crate::transport::{Payload, Transport, protocol};

const PORTS: NatPorts = NatPorts { low: 1024, high: 29999 };

struct Maps {
    entries: RefCell<BTreeMap<NatKey, NatValue>>,
    notes: RefCell<BTreeMap<NatKey, u32>>,
    fragments: RefCell<BTreeMap<FragmentKey, FragmentValue>>,
    now: Cell<u32>,
    /// How often a note was written.
    noted: Cell<u32>,
    /// Addresses of the node beside the device's.
    own: RefCell<BTreeSet<Addr>>,
}

impl Maps {
    fn new() -> Self {
        Self {
            entries: RefCell::default(),
            notes: RefCell::default(),
            fragments: RefCell::default(),
            now: Cell::new(1000),
            noted: Cell::new(0),
            own: RefCell::default(),
        }
    }

    fn forget(&self, direction: u8) {
        self.entries.borrow_mut().retain(|key, _| key.direction != direction);
    }
}

impl DatapathMaps for Maps {
    fn service(&self, _: &ServiceKey) -> Option<ServiceValue> {
        None
    }
    fn slot(&self, _: &SlotKey) -> Option<u32> {
        None
    }
    fn backend(&self, _: u32) -> Option<BackendValue> {
        None
    }
    fn is_node_address(&self, address: &Addr) -> bool {
        self.own.borrow().contains(address)
    }
    fn proxy_threads(&self) -> u32 {
        0
    }
}

impl NatMaps for Maps {
    fn net_flags(&self, address: &Addr) -> u32 {
        let text = std::string::ToString::to_string(address);
        match () {
            () if text.starts_with("10.0.0.") || text.starts_with("fd00:") => net_flags::POD,
            () if text.starts_with("10.") => net_flags::NATIVE,
            () => 0,
        }
    }
    fn entry(&self, key: &NatKey) -> Option<NatValue> {
        self.entries.borrow().get(key).copied()
    }
    fn set_entry(&self, key: &NatKey, value: NatValue) {
        self.entries.borrow_mut().insert(*key, value);
    }
    fn add_entry(&self, key: &NatKey, value: NatValue) -> bool {
        let mut entries = self.entries.borrow_mut();
        let is_new = !entries.contains_key(key);
        entries.entry(*key).or_insert(value);
        is_new
    }
    fn remove_entry(&self, key: &NatKey) {
        self.entries.borrow_mut().remove(key);
    }
    fn note(&self, key: &NatKey) -> Option<u32> {
        self.notes.borrow().get(key).copied()
    }
    fn set_note(&self, key: &NatKey, seen: u32) {
        self.noted.set(self.noted.get() + 1);
        self.notes.borrow_mut().insert(*key, seen);
    }
    fn fragment(&self, key: &FragmentKey) -> Option<FragmentValue> {
        self.fragments.borrow().get(key).copied()
    }
    fn set_fragment(&self, key: &FragmentKey, value: FragmentValue) {
        self.fragments.borrow_mut().insert(*key, value);
    }
    fn now(&self) -> u32 {
        self.now.get()
    }
}

fn device() -> MasqueradeValue {
    MasqueradeValue {
        v4: ip("198.51.100.1"),
        v6: ip("2001:db8::1"),
        flags: device_flags::PODS_V4 | device_flags::PODS_V6,
    }
}

fn work(packet: &Transport, quoted: Option<&Transport>) -> NatWork {
    let other = quoted.copied().unwrap_or(Transport::EMPTY);
    NatWork { packet: *packet, quoted: other, is_quoting: quoted.is_some(), ..NatWork::EMPTY }
}

fn leaving(
    packet: &Transport,
    quoted: Option<&Transport>,
    device: &MasqueradeValue,
    ports: NatPorts,
    maps: &Maps,
    is_of_node: impl Fn(&NatKey) -> bool,
) -> Nat {
    super::leaving(&mut work(packet, quoted), device, false, ports, maps, is_of_node)
}

fn coming(
    packet: &Transport,
    quoted: Option<&Transport>,
    device: &MasqueradeValue,
    ports: NatPorts,
    maps: &Maps,
) -> Nat {
    super::coming(&mut work(packet, quoted), device, ports, maps)
}

fn ip(text: &str) -> Addr {
    text.parse::<IpAddr>().unwrap().into()
}

fn packet(protocol: u8, from: (&str, u16), to: (&str, u16), flags: u8) -> Transport {
    let tuple = FourTuple {
        source: ip(from.0),
        destination: ip(to.0),
        source_port: Be16::new(from.1),
        destination_port: Be16::new(to.1),
    };
    Transport {
        family: tuple.source.family(),
        protocol,
        tuple,
        flags: TcpFlags(flags),
        network: 14,
        offset: 34,
        payload: Payload::Ports,
        fragment: None,
    }
}

fn syn(port: u16) -> Transport {
    packet(protocol::TCP, ("10.0.0.7", port), ("192.0.2.9", 443), TcpFlags::SYN)
}

fn leave(maps: &Maps, packet: &Transport) -> Nat {
    leaving(packet, None, &device(), PORTS, maps, |_| false)
}

fn translated(nat: Nat) -> Translation {
    match nat {
        Nat::Translate(translation) => translation,
        other => panic!("{other:?}"),
    }
}

/// What outside answers to a packet that left so.
fn answer(sent: &Transport, as_: Translation, flags: u8) -> Transport {
    let tuple = FourTuple { source: as_.address, source_port: as_.port, ..sent.tuple };
    Transport { tuple: tuple.reversed(), flags: TcpFlags(flags), ..*sent }
}

#[test]
fn a_pod_leaves_with_the_nodes_address_and_is_answered() {
    let maps = Maps::new();
    let sent = syn(40000);
    let out = translated(leave(&maps, &sent));
    assert_eq!(out.address, ip("198.51.100.1"));
    assert!((1024..=29999).contains(&out.port.get()));
    assert_eq!(translated(leave(&maps, &sent)), out, "its next packet the same way");
    let came = answer(&sent, out, TcpFlags::SYN | TcpFlags::ACK);
    let back = translated(coming(&came, None, &device(), PORTS, &maps));
    assert_eq!((back.address, back.port.get()), (ip("10.0.0.7"), 40000));

    let six = packet(protocol::UDP, ("fd00::7", 5353), ("2001:db8:9::9", 53), 0);
    let out = translated(leave(&maps, &six));
    assert_eq!((six.family, out.address), (Family::V6, ip("2001:db8::1")));
}

#[test]
fn only_pods_are_masqueraded_and_only_towards_the_outside() {
    let maps = Maps::new();
    let passes = |from: &str, to: &str, device: &MasqueradeValue| {
        let packet = packet(protocol::TCP, (from, 40000), (to, 443), TcpFlags::SYN);
        leaving(&packet, None, device, PORTS, &maps, |_| false) == Nat::Pass
    };
    assert!(passes("198.51.100.1", "192.0.2.9", &device()), "the node's own");
    assert!(passes("10.0.0.7", "10.0.0.8", &device()) && passes("10.0.0.7", "10.7.7.7", &device()));
    assert!(
        passes("10.0.0.7", "192.0.2.9", &MasqueradeValue::default()),
        "a device that masquerades nothing"
    );
    assert!(!passes("10.0.0.7", "192.0.2.9", &device()));
    assert!(coming(&syn(1), None, &device(), PORTS, &maps) == Nat::Pass);
}

#[test]
fn no_two_connections_share_a_port_towards_one_destination() {
    let maps = Maps::new();
    let ports = NatPorts { low: 2000, high: 2127 };
    let mut given = BTreeSet::new();
    let mut refused = 0;
    for number in 0..64u16 {
        match leaving(&syn(40000 + number), None, &device(), ports, &maps, |_| false) {
            Nat::Translate(to) => assert!(given.insert(to.port.get()), "{} twice", to.port.get()),
            Nat::Drop(DropReason::NoNatPort) => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(given.len() > 60 && given.len() + refused == 64, "{} and {refused}", given.len());
    // Who was refused tries again a second later, and other ports.
    maps.now.set(1001);
    let other = packet(protocol::TCP, ("10.0.0.7", 40000), ("192.0.2.10", 443), TcpFlags::SYN);
    translated(leaving(&other, None, &device(), ports, &maps, |_| false));
}

#[test]
fn a_port_of_the_nodes_own_socket_is_not_taken() {
    let maps = Maps::new();
    let first = translated(leave(&Maps::new(), &syn(40000))).port;
    let out = leaving(&syn(40000), None, &device(), PORTS, &maps, |key| {
        assert_eq!((key.remote, key.local), (ip("192.0.2.9"), ip("198.51.100.1")));
        key.local_port == first
    });
    assert_ne!(translated(out).port, first);
}

#[test]
fn a_port_is_free_again_when_its_connection_has_ended_for_a_while() {
    let maps = Maps::new();
    let one = NatPorts { low: 2000, high: 2000 };
    let try_with = |port| leaving(&syn(port), None, &device(), one, &maps, |_| false);
    let out = translated(try_with(40000));
    let came = |flags| coming(&answer(&syn(40000), out, flags), None, &device(), one, &maps);
    came(TcpFlags::SYN | TcpFlags::ACK);
    maps.now.set(1000 + 7200);
    assert_eq!(try_with(40001), Nat::Drop(DropReason::NoNatPort), "open, and silent for two hours");
    came(TcpFlags::FIN | TcpFlags::ACK);
    maps.now.set(1000 + 7200 + 60);
    assert_eq!(try_with(40001), Nat::Drop(DropReason::NoNatPort), "just ended");
    maps.now.set(1000 + 7200 + 65);
    translated(try_with(40001));
    // What is left of the first has lost its way, and does not get into the other's.
    let late = packet(protocol::TCP, ("10.0.0.7", 40000), ("192.0.2.9", 443), TcpFlags::ACK | TcpFlags::FIN);
    assert_eq!(leaving(&late, None, &device(), one, &maps, |_| false), Nat::Drop(DropReason::NoNatPort));
    let back = translated(came(TcpFlags::ACK));
    assert_eq!(back.port.get(), 40001);
}

#[test]
fn a_connection_that_was_forgotten_goes_on_by_the_same_port() {
    for direction in [NatKey::LEAVING, NatKey::COMING] {
        let maps = Maps::new();
        let out = translated(leave(&maps, &syn(40000)));
        maps.forget(direction);
        let data = packet(protocol::TCP, ("10.0.0.7", 40000), ("192.0.2.9", 443), TcpFlags::ACK);
        maps.now.set(1020);
        assert_eq!(translated(leave(&maps, &data)), out);
        assert_eq!(maps.entries.borrow().len(), 2);
    }
}

#[test]
fn what_outside_opened_is_answered_by_the_pods_own_address() {
    let maps = Maps::new();
    let asked = packet(protocol::TCP, ("192.0.2.9", 50000), ("10.0.0.7", 8080), TcpFlags::SYN);
    assert_eq!(coming(&asked, None, &device(), PORTS, &maps), Nat::Pass);
    let answered =
        packet(protocol::TCP, ("10.0.0.7", 8080), ("192.0.2.9", 50000), TcpFlags::SYN | TcpFlags::ACK);
    assert_eq!(leave(&maps, &answered), Nat::Pass);
    let other = packet(protocol::TCP, ("10.0.0.7", 8080), ("192.0.2.9", 50001), TcpFlags::SYN);
    translated(leave(&maps, &other));
    let pong = Transport {
        payload: Payload::EchoReply,
        ..packet(protocol::ICMP, ("10.0.0.7", 0), ("192.0.2.9", 7), 0)
    };
    assert_eq!(leave(&maps, &pong), Nat::Pass);
}

#[test]
fn errors_find_the_pod_whose_packet_they_quote() {
    let maps = Maps::new();
    let sent = syn(40000);
    let out = translated(leave(&maps, &sent));
    let quoted =
        Transport { tuple: FourTuple { source: out.address, source_port: out.port, ..sent.tuple }, ..sent };
    let error = Transport {
        payload: Payload::Error(42),
        ..packet(protocol::ICMP, ("192.0.2.254", 0), ("198.51.100.1", 0), 0)
    };
    let back = translated(coming(&error, Some(&quoted), &device(), PORTS, &maps));
    assert_eq!((back.address, back.port.get()), (ip("10.0.0.7"), 40000));
    assert_eq!(coming(&error, Some(&syn(1)), &device(), PORTS, &maps), Nat::Pass, "about no packet of ours");
    // And the other way: the pod says that nobody listens for what was answered.
    let refused = Transport {
        payload: Payload::Error(42),
        ..packet(protocol::ICMP, ("10.0.0.7", 0), ("192.0.2.9", 0), 0)
    };
    let came = Transport { tuple: sent.tuple.reversed(), ..sent };
    assert_eq!(translated(leaving(&refused, Some(&came), &device(), PORTS, &maps, |_| false)), out);
}

#[test]
fn fragments_follow_their_first() {
    let maps = Maps::new();
    let first =
        Transport { fragment: Some(7), ..packet(protocol::UDP, ("10.0.0.7", 40000), ("192.0.2.9", 53), 0) };
    let later = Transport {
        payload: Payload::Fragment,
        tuple: FourTuple { source_port: Be16::new(0), destination_port: Be16::new(0), ..first.tuple },
        ..first
    };
    assert_eq!(leave(&maps, &later), Nat::Drop(DropReason::NoFirstFragment));
    let out = translated(leave(&maps, &first));
    assert_eq!(translated(leave(&maps, &later)), out);
}

#[test]
fn protocols_without_ports_do_not_leak_the_pods_address() {
    let maps = Maps::new();
    let sctp = Transport { payload: Payload::Other, ..packet(132, ("10.0.0.7", 0), ("192.0.2.9", 0), 0) };
    assert_eq!(leave(&maps, &sctp), Nat::Drop(DropReason::NatUnsupported));
}

/// What somebody outside sends to the pod by its own address.
fn to_pod(protocol: u8, from: (&str, u16), flags: u8) -> Transport {
    packet(protocol, from, ("10.0.0.7", 40000), flags)
}

#[test]
fn a_pod_that_connects_is_masqueraded_whatever_was_noted() {
    let maps = Maps::new();
    let opened = to_pod(protocol::TCP, ("192.0.2.9", 443), TcpFlags::SYN);
    assert_eq!(coming(&opened, None, &device(), PORTS, &maps), Nat::Pass);
    let out = translated(leave(&maps, &syn(40000)));
    let data = Transport { flags: TcpFlags(TcpFlags::ACK), ..syn(40000) };
    assert_eq!(translated(leave(&maps, &data)), out, "nor does the note have what follows");
}

#[test]
fn a_note_of_datagrams_is_over_when_outside_is_silent() {
    let maps = Maps::new();
    let asked = to_pod(protocol::UDP, ("192.0.2.9", 53), 0);
    let says = packet(protocol::UDP, ("10.0.0.7", 40000), ("192.0.2.9", 53), 0);
    assert_eq!(coming(&asked, None, &device(), PORTS, &maps), Nat::Pass);
    for later in [0, 60, 119] {
        maps.now.set(1000 + later);
        assert_eq!(leave(&maps, &says), Nat::Pass, "an answer after {later}");
    }
    coming(&asked, None, &device(), PORTS, &maps);
    maps.now.set(1000 + 119 + 119);
    assert_eq!(leave(&maps, &says), Nat::Pass, "outside was heard again");
    maps.now.set(1000 + 119 + 121);
    let out = translated(leave(&maps, &says));
    assert_eq!(out.address, ip("198.51.100.1"));
}

#[test]
fn a_connection_that_outside_opened_keeps_its_note_by_what_the_pod_says() {
    let maps = Maps::new();
    let opened = to_pod(protocol::TCP, ("192.0.2.9", 50000), TcpFlags::SYN);
    coming(&opened, None, &device(), PORTS, &maps);
    let says = packet(protocol::TCP, ("10.0.0.7", 40000), ("192.0.2.9", 50000), TcpFlags::ACK);
    for hours in 1..20 {
        maps.now.set(1000 + hours * 3600);
        assert_eq!(leave(&maps, &says), Nat::Pass, "after {hours} hours");
    }
}

#[test]
fn notes_take_no_room_from_connections_and_are_written_once_in_a_while() {
    let maps = Maps::new();
    for _ in 0..100 {
        coming(&to_pod(protocol::UDP, ("192.0.2.9", 53), 0), None, &device(), PORTS, &maps);
    }
    assert_eq!((maps.entries.borrow().len(), maps.noted.get()), (0, 1));
}

#[test]
fn nobody_is_answered_by_a_port_whose_connection_was_silent_for_its_lifetime() {
    let udp = packet(protocol::UDP, ("10.0.0.7", 40000), ("192.0.2.9", 53), 0);
    for (sent, is_answered, lifetime) in
        [(syn(40000), false, 60), (syn(40000), true, 21600), (udp, false, 60), (udp, true, 120)]
    {
        let maps = Maps::new();
        let out = translated(leave(&maps, &sent));
        let came = answer(&sent, out, TcpFlags::ACK);
        if is_answered {
            translated(coming(&came, None, &device(), PORTS, &maps));
        }
        let before = maps.entries.borrow().clone();
        maps.now.set(1000 + lifetime);
        assert_eq!(coming(&came, None, &device(), PORTS, &maps), Nat::Pass, "{sent:?} after {lifetime}");
        assert_eq!(*maps.entries.borrow(), before, "nothing brings it back");
        // The pod may have it again, where no socket of the node has it by now.
        let again =
            leaving(&Transport { flags: TcpFlags(0), ..sent }, None, &device(), PORTS, &maps, |key| {
                key.local_port == out.port
            });
        assert_ne!(translated(again).port, out.port);
    }
}

#[test]
fn a_clock_that_another_processor_read_later_ends_nothing() {
    let maps = Maps::new();
    let out = translated(leave(&maps, &syn(40000)));
    maps.now.set(999);
    let one = NatPorts { low: u32::from(out.port.get()), high: u32::from(out.port.get()) };
    let other = leaving(&syn(40001), None, &device(), one, &maps, |_| false);
    assert_eq!(other, Nat::Drop(DropReason::NoNatPort), "the port is in use");
    let came = answer(&syn(40000), out, TcpFlags::SYN | TcpFlags::ACK);
    assert_eq!(translated(coming(&came, None, &device(), PORTS, &maps)).port.get(), 40000);
}

#[test]
fn connections_keep_the_address_they_left_with_while_the_node_has_it() {
    let maps = Maps::new();
    let sent = packet(protocol::UDP, ("10.0.0.7", 40000), ("192.0.2.9", 53), 0);
    let out = translated(leave(&maps, &sent));
    let other = MasqueradeValue { v4: ip("198.51.100.0"), ..device() };
    maps.own.borrow_mut().insert(ip("198.51.100.1"));
    let leave = || translated(leaving(&sent, None, &other, PORTS, &maps, |_| false));
    assert_eq!(leave(), out);
    let back = translated(coming(&answer(&sent, out, 0), None, &other, PORTS, &maps));
    assert_eq!(back.port.get(), 40000);
    maps.own.borrow_mut().clear();
    assert_eq!(leave().address, ip("198.51.100.0"), "nobody would answer to the other one");
    assert_eq!(leave().address, ip("198.51.100.0"));
}

#[test]
fn two_processors_do_not_take_one_port() {
    let maps = Maps::new();
    let one = NatPorts { low: 2000, high: 2000 };
    translated(leaving(&syn(40000), None, &device(), one, &maps, |_| false));
    maps.now.set(1000 + 60);
    let mine = Cell::new(None);
    let late = leaving(&syn(40001), None, &device(), one, &maps, |_| {
        mine.set(mine.get().or_else(|| Some(leaving(&syn(40002), None, &device(), one, &maps, |_| false))));
        false
    });
    translated(mine.take().unwrap());
    assert_eq!(late, Nat::Drop(DropReason::NoNatPort));
    let came = answer(
        &syn(0),
        Translation { address: ip("198.51.100.1"), port: Be16::new(2000), by_frontend: false },
        0,
    );
    assert_eq!(translated(coming(&came, None, &device(), one, &maps)).port.get(), 40002);
}

#[test]
fn a_pod_says_nothing_about_the_connections_of_others() {
    let maps = Maps::new();
    let sent = syn(40000);
    let out = translated(leave(&maps, &sent));
    let error = |from| Transport {
        payload: Payload::Error(42),
        ..packet(protocol::ICMP, (from, 0), ("192.0.2.9", 0), 0)
    };
    let quoted = Transport { tuple: sent.tuple.reversed(), ..sent };
    let tell = |from| leaving(&error(from), Some(&quoted), &device(), PORTS, &maps, |_| false);
    assert_eq!(tell("10.0.0.8"), Nat::Drop(DropReason::NatUnsupported));
    assert_eq!(translated(tell("10.0.0.7")), out);
    assert_eq!(translated(tell("198.51.100.1")), out, "the node may, as a router");
}

#[test]
fn all_of_an_echo_reply_in_fragments_has_the_pods_own_address() {
    let maps = Maps::new();
    let reply = packet(protocol::ICMP, ("10.0.0.7", 0), ("192.0.2.9", 77), 0);
    let first = Transport { payload: Payload::EchoReply, fragment: Some(9), ..reply };
    let later = Transport {
        payload: Payload::Fragment,
        tuple: FourTuple { destination_port: Be16::new(0), ..first.tuple },
        ..first
    };
    assert_eq!(leave(&maps, &first), Nat::Pass);
    assert_eq!(leave(&maps, &later), Nat::Pass);
    let other = Transport { fragment: Some(10), ..later };
    assert_eq!(leave(&maps, &other), Nat::Drop(DropReason::NoFirstFragment));
}
