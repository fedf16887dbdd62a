extern crate std;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::IpAddr;

use mesh_ebpf_abi::{
    Addr, BackendValue, Be16, DropReason, FragmentKey, FragmentValue, MasqueradeValue, NatKey, NatValue,
    Protocol, ServiceFlags, ServiceKey, ServiceValue, SlotKey, device_flags,
};

use super::{from_pod, to_pod};
use crate::fixture::TestMaps;
use crate::flow::FourTuple;
use crate::maps::DatapathMaps;
use crate::nat::{Nat, NatMaps, NatPorts, NatWork, Translation, coming, leaving};
use crate::parse::TcpFlags;
use crate::transport::{Payload, Transport, protocol};

const PORTS: NatPorts = NatPorts { low: 1024, high: 29999 };
const NODE: &str = "198.51.100.1";
const CLIENT: &str = "203.0.113.9";

#[derive(Default)]
struct Maps {
    services: TestMaps,
    entries: RefCell<BTreeMap<NatKey, NatValue>>,
    notes: RefCell<BTreeMap<NatKey, u32>>,
    fragments: RefCell<BTreeMap<FragmentKey, FragmentValue>>,
    now: Cell<u32>,
}

impl Maps {
    /// Two backends behind port 30080 of the node, and behind an address of the Service's own.
    fn new(flags: ServiceFlags) -> Self {
        let mut maps = Self::default();
        maps.services.own.insert(ip(NODE));
        for (slot, backend) in (0..).zip(["10.0.0.7", "10.0.0.8"]) {
            maps.services.slots.insert(SlotKey { service: 1, slot }, 1 + slot);
            let value = BackendValue::active(ip(backend), Be16::new(8080), Protocol::Tcp);
            maps.services.backends.insert(1 + slot, value);
        }
        for (address, port) in [("0.0.0.0", 30080), ("192.0.2.80", 80)] {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let key = ServiceKey::new(ip(address), Be16::new(port), protocol);
                maps.services.services.insert(key, ServiceValue { service: 1, backends: 2, flags });
            }
        }
        maps
    }

    fn without_backends(mut self) -> Self {
        self.services.services.values_mut().for_each(|value| value.backends = 0);
        self
    }
}

impl DatapathMaps for Maps {
    fn service(&self, key: &ServiceKey) -> Option<ServiceValue> {
        self.services.service(key)
    }
    fn slot(&self, key: &SlotKey) -> Option<u32> {
        self.services.slot(key)
    }
    fn backend(&self, backend: u32) -> Option<BackendValue> {
        self.services.backend(backend)
    }
    fn is_node_address(&self, address: &Addr) -> bool {
        self.services.is_node_address(address)
    }
    fn proxy_threads(&self) -> u32 {
        1
    }
}

impl NatMaps for Maps {
    fn net_flags(&self, _: &Addr) -> u32 {
        0
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
    let payload = Payload::Ports;
    let family = tuple.source.family();
    Transport {
        family,
        protocol,
        tuple,
        flags: TcpFlags(flags),
        network: 14,
        offset: 34,
        payload,
        fragment: None,
    }
}

fn work(packet: &Transport, quoted: Option<&Transport>) -> NatWork {
    let mut work = NatWork::EMPTY;
    work.packet = *packet;
    work.quoted = quoted.copied().unwrap_or(Transport::EMPTY);
    work.is_quoting = quoted.is_some();
    work
}

fn device() -> MasqueradeValue {
    MasqueradeValue { v4: ip(NODE), v6: MasqueradeValue::UNSET, flags: device_flags::FRONTENDS }
}

fn come(maps: &Maps, packet: &Transport) -> Nat {
    coming(&mut work(packet, None), &device(), PORTS, maps)
}

fn leave(maps: &Maps, packet: &Transport, is_sent_on: bool) -> Nat {
    leaving(&mut work(packet, None), &device(), is_sent_on, PORTS, maps, |_| false)
}

fn syn(port: u16, to: (&str, u16)) -> Transport {
    packet(protocol::TCP, (CLIENT, port), to, TcpFlags::SYN)
}

fn translated(nat: Nat) -> Translation {
    match nat {
        Nat::Translate(translation) => translation,
        other => panic!("{other:?}"),
    }
}

/// The packet with its destination translated.
fn sent_on(packet: &Transport, to: Translation) -> Transport {
    let tuple = FourTuple { destination: to.address, destination_port: to.port, ..packet.tuple };
    Transport { tuple, ..*packet }
}

fn answer(packet: &Transport, flags: u8) -> Transport {
    Transport { tuple: packet.tuple.reversed(), flags: TcpFlags(flags), ..*packet }
}

#[test]
fn a_port_of_the_node_leads_to_a_backend_whose_answers_have_the_ports_address() {
    let maps = Maps::new(ServiceFlags::EXTERNAL);
    for to in [(NODE, 30080), ("192.0.2.80", 80)] {
        let asked = syn(20000 + to.1, to);
        let backend = translated(come(&maps, &asked));
        assert!(backend.by_frontend && backend.port.get() == 8080, "{backend:?}");
        let later = Transport { flags: TcpFlags(TcpFlags::ACK), ..asked };
        assert_eq!(translated(come(&maps, &later)), backend, "its next packet the same way");
        let answered = answer(&sent_on(&asked, backend), TcpFlags::SYN | TcpFlags::ACK);
        let seen = translated(leave(&maps, &answered, false));
        assert_eq!((seen.address, seen.port.get()), (ip(to.0), to.1));
    }
    assert_eq!(come(&maps, &syn(1, (NODE, 30081))), Nat::Pass, "nobody offers that");
    assert_eq!(come(&maps, &syn(1, ("192.0.2.81", 80))), Nat::Pass);
}

#[test]
fn a_backend_elsewhere_is_reached_with_the_nodes_address_and_answers_by_it() {
    let maps = Maps::new(ServiceFlags::EXTERNAL);
    let asked = syn(40000, (NODE, 30080));
    let forwarded = sent_on(&asked, translated(come(&maps, &asked)));
    let out = translated(leave(&maps, &forwarded, true));
    assert_eq!((out.address, out.by_frontend), (ip(NODE), false));
    let tuple = FourTuple { source: out.address, source_port: out.port, ..forwarded.tuple };
    let back = answer(&Transport { tuple, ..forwarded }, TcpFlags::SYN | TcpFlags::ACK);
    let to_client = translated(come(&maps, &back));
    assert_eq!((to_client.address, to_client.port.get()), (ip(CLIENT), 40000));
    let seen = translated(leave(&maps, &sent_on(&back, to_client), false));
    assert_eq!((seen.address, seen.port.get()), (ip(NODE), 30080));
}

/// As for a pod in the node's network namespace.
#[test]
fn a_backend_at_the_frontends_own_address_answers_with_the_frontends_port() {
    let mut maps = Maps::new(ServiceFlags::EXTERNAL);
    for backend in maps.services.backends.values_mut() {
        backend.address = ip(NODE);
    }
    let asked = syn(40000, (NODE, 30080));
    let answered = answer(&sent_on(&asked, translated(come(&maps, &asked))), TcpFlags::SYN | TcpFlags::ACK);
    assert_eq!((answered.tuple.source, answered.tuple.source_port.get()), (ip(NODE), 8080));
    let seen = translated(leave(&maps, &answered, false));
    assert_eq!((seen.address, seen.port.get()), (ip(NODE), 30080));
}

#[test]
fn what_is_not_open_to_the_outside_is_for_pods_alone() {
    let maps = Maps::new(ServiceFlags::NONE);
    let asked = syn(40000, ("192.0.2.80", 80));
    assert_eq!(come(&maps, &asked), Nat::Pass);
    let backend = translated(from_pod(&mut work(&asked, None), &maps));
    let answered = answer(&sent_on(&asked, backend), TcpFlags::SYN | TcpFlags::ACK);
    let seen = translated(to_pod(&mut work(&answered, None), &maps));
    assert_eq!((seen.address, seen.port.get()), (ip("192.0.2.80"), 80));
    let other = packet(protocol::TCP, ("10.0.0.9", 80), (CLIENT, 40000), TcpFlags::ACK);
    assert_eq!(to_pod(&mut work(&other, None), &maps), Nat::Pass);
}

#[test]
fn services_of_the_proxy_are_left_to_it() {
    let maps = Maps::new(ServiceFlags::L7_REDIRECT.with(ServiceFlags::EXTERNAL));
    let asked = syn(40000, ("192.0.2.80", 80));
    assert_eq!(come(&maps, &asked), Nat::Pass);
    assert_eq!(from_pod(&mut work(&asked, None), &maps), Nat::Pass);
}

#[test]
fn clients_outside_get_backends_of_this_node_where_the_service_says_so() {
    let mut maps = Maps::new(ServiceFlags::EXTERNAL.with(ServiceFlags::EXTERNAL_LOCAL));
    let asked = |port| syn(port, (NODE, 30080));
    assert_eq!(come(&maps, &asked(1)), Nat::Drop(DropReason::NoBackend), "not written yet");
    let key = ServiceKey::new(ip("0.0.0.0"), Be16::new(30080), Protocol::Tcp);
    let flags = ServiceFlags::EXTERNAL.with(ServiceFlags::EXTERNAL_LOCAL);
    let here = ServiceValue { service: 2, backends: 1, flags };
    maps.services.services.insert(ServiceKey { scope: ServiceKey::OUTSIDE, ..key }, here);
    maps.services.slots.insert(SlotKey { service: 2, slot: 0 }, 2);
    for port in 1000..1020 {
        assert_eq!(translated(come(&maps, &asked(port))).address, ip("10.0.0.8"));
    }
    let pods =
        (1000..1020).map(|port| translated(from_pod(&mut work(&asked(port), None), &Maps::new(flags))));
    assert!(pods.into_iter().any(|to| to.address == ip("10.0.0.7")), "others get all of them");
}

#[test]
fn without_backends_the_stack_refuses_for_the_node_and_nobody_for_others() {
    let maps = Maps::new(ServiceFlags::EXTERNAL).without_backends();
    assert_eq!(come(&maps, &syn(1, (NODE, 30080))), Nat::Pass);
    assert_eq!(come(&maps, &syn(1, ("192.0.2.80", 80))), Nat::Drop(DropReason::NoBackend));
}

#[test]
fn a_connection_keeps_its_backend_whatever_becomes_of_the_service() {
    let mut maps = Maps::new(ServiceFlags::EXTERNAL);
    let asked = syn(40000, (NODE, 30080));
    let first = translated(come(&maps, &asked));
    maps.services.services.values_mut().for_each(|value| value.service = 9);
    maps.services.slots.insert(SlotKey { service: 9, slot: 0 }, 9);
    maps.services.slots.insert(SlotKey { service: 9, slot: 1 }, 9);
    let other = BackendValue::active(ip("10.0.0.99"), Be16::new(8080), Protocol::Tcp);
    maps.services.backends = BTreeMap::from([(9, other)]);
    let later = Transport { flags: TcpFlags(TcpFlags::ACK), ..asked };
    assert_eq!(translated(come(&maps, &later)), first);
    // A new one by the same ends does not go where nobody is any more.
    assert_eq!(translated(come(&maps, &asked)).address, ip("10.0.0.99"));
}

#[test]
fn datagrams_move_on_when_their_backend_is_gone_or_after_a_silence() {
    let mut maps = Maps::new(ServiceFlags::EXTERNAL);
    let asked = packet(protocol::UDP, (CLIENT, 40000), (NODE, 30080), 0);
    let first = translated(come(&maps, &asked));
    maps.now.set(119);
    assert_eq!(translated(come(&maps, &asked)), first);
    let gone = maps.services.backends.iter().find(|(_, value)| value.address == first.address);
    let gone = *gone.unwrap().0;
    // Its number has been given to another.
    let other = BackendValue::active(ip("10.0.0.99"), Be16::new(8080), Protocol::Udp);
    maps.services.backends.insert(gone, other);
    assert_eq!(translated(come(&maps, &asked)).address, ip("10.0.0.99"));
}

#[test]
fn a_connection_that_was_forgotten_gets_the_same_backend() {
    let maps = Maps::new(ServiceFlags::EXTERNAL);
    for port in 1000..1050 {
        let asked = syn(port, (NODE, 30080));
        let first = translated(come(&maps, &asked));
        maps.entries.borrow_mut().clear();
        let later = Transport { flags: TcpFlags(TcpFlags::ACK), ..asked };
        assert_eq!(translated(come(&maps, &later)), first);
    }
}

#[test]
fn two_frontends_never_give_one_client_the_same_ends_at_a_backend() {
    let maps = Maps::new(ServiceFlags::EXTERNAL);
    let mut clashes = 0;
    for port in 1000..1100 {
        let one = translated(come(&maps, &syn(port, (NODE, 30080))));
        match come(&maps, &syn(port, ("192.0.2.80", 80))) {
            Nat::Translate(other) => assert_ne!(other.address, one.address),
            other => {
                assert_eq!(other, Nat::Drop(DropReason::NoNatPort));
                clashes += 1;
            }
        }
    }
    assert!((20..80).contains(&clashes), "{clashes}");
}

#[test]
fn errors_about_a_frontends_packets_find_both_sides() {
    let maps = Maps::new(ServiceFlags::EXTERNAL);
    let asked = packet(protocol::UDP, (CLIENT, 40000), (NODE, 30080), 0);
    let backend = translated(come(&maps, &asked));
    let error = |from: &str, to: &str| Transport {
        payload: Payload::Error(42),
        ..packet(protocol::ICMP, (from, 0), (to, 0), 0)
    };
    // The backend says that nobody listens: to the client it is the frontend that says so.
    let refused = sent_on(&asked, backend);
    let mut about = work(&error("10.0.0.7", CLIENT), Some(&refused));
    let seen = translated(leaving(&mut about, &device(), false, PORTS, &maps, |_| false));
    assert_eq!((seen.address, seen.port.get()), (ip(NODE), 30080));
    // A router says that an answer was too big: it is the backend that has to know.
    let answered = answer(&asked, 0);
    let too_big =
        translated(coming(&mut work(&error("203.0.113.1", NODE), Some(&answered)), &device(), PORTS, &maps));
    assert_eq!((too_big.address, too_big.port), (backend.address, backend.port));
    let stranger = packet(protocol::UDP, (NODE, 30080), (CLIENT, 40001), 0);
    let about = coming(&mut work(&error("203.0.113.1", NODE), Some(&stranger)), &device(), PORTS, &maps);
    assert_eq!(about, Nat::Pass, "about no connection of ours");
}

#[test]
fn a_pod_is_not_sent_to_itself() {
    let maps = Maps::new(ServiceFlags::NONE);
    let verdicts = (1000..1040).map(|port| {
        let asked = packet(protocol::TCP, ("10.0.0.7", port), ("192.0.2.80", 80), TcpFlags::SYN);
        from_pod(&mut work(&asked, None), &maps)
    });
    for verdict in verdicts {
        match verdict {
            Nat::Translate(to) => assert_eq!(to.address, ip("10.0.0.8")),
            other => assert_eq!(other, Nat::Drop(DropReason::NatUnsupported)),
        }
    }
}
