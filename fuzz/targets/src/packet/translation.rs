//! Any packet through address translation, in both directions.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use mesh_ebpf_abi::{
    Addr, BackendValue, Be16, Family, FragmentKey, FragmentValue, MasqueradeValue, NatKey, NatValue,
    Protocol, ServiceFlags, ServiceKey, ServiceValue, SlotKey, net_flags,
};
use mesh_ebpf_logic::rewrite::{add, difference, fold};
use mesh_ebpf_logic::{
    Covered, DatapathMaps, End, LinkLayer, Nat, NatMaps, NatPorts, NatWork, PacketBytes, PacketEdit, Payload,
    Translation, nat, parse_quoted, parse_transport, rewrite,
};

const PORTS: NatPorts = NatPorts { low: 2000, high: 2007 };
const ALL_PORTS: NatPorts = NatPorts { low: 0, high: 0xffff };

/// A packet leaves, and one comes; each is given back what it had.
pub(super) fn run(link: LinkLayer, fill: u8, bytes: &[u8]) {
    let maps = Maps {
        fill,
        entries: RefCell::default(),
        notes: RefCell::default(),
        fragments: RefCell::default(),
        reads: Cell::new(0),
    };
    let device = MasqueradeValue {
        v4: Addr::v4(u32::from_ne_bytes([192, 0, 2, 1])),
        v6: Addr::v6([0x0100_0120; 4]),
        flags: u32::MAX,
    };
    for end in [End::Source, End::Destination] {
        let packet = Memory(RefCell::new(bytes.to_vec()));
        let Some(mut work) = parsed(&packet, link) else { return };
        let verdict = match end {
            End::Source => nat::leaving(&mut work, &device, fill & 8 != 0, PORTS, &maps, |key| {
                key.local_port.get() & 7 == 3
            }),
            End::Destination => {
                // It came for the node.
                let own = work.packet.tuple.destination;
                nat::coming(&mut work, &MasqueradeValue { v4: own, v6: own, ..device }, ALL_PORTS, &maps)
            }
        };
        let Nat::Translate(to) = verdict else { continue };
        check(&packet, bytes, link, &work, end, &to);
    }
}

fn parsed(packet: &Memory, link: LinkLayer) -> Option<NatWork> {
    let mut work = NatWork::EMPTY;
    parse_transport(packet, link, &mut work.packet)?;
    if let Payload::Error(offset) = work.packet.payload {
        work.is_quoting = parse_quoted(packet, work.packet.family, offset, &mut work.quoted).is_some();
    }
    Some(work)
}

fn check(packet: &Memory, bytes: &[u8], link: LinkLayer, work: &NatWork, end: End, to: &Translation) {
    let (at, before) = (&work.packet, end_of(work, end));
    if rewrite(packet, work, end, to).is_none() {
        // It must not go on, so what is in it is no matter.
        return;
    }
    let now = parsed(packet, link).expect("it is still a packet");
    let (address, port) = end_of(&now, end);
    assert_eq!(address, to.address, "another address than was decided");
    if matches!(at.payload, Payload::Ports | Payload::Echo | Payload::EchoReply) {
        assert_eq!(port, to.port, "another port than was decided");
    }
    let other = if end == End::Source { End::Destination } else { End::Source };
    if matches!(at.payload, Payload::Ports) {
        assert_eq!(end_of(&now, other), end_of(work, other), "the other end has changed");
    }
    // Back, and all is as it was: sums are adjusted, not made anew.
    let back = Translation { address: before.0, port: before.1, by_frontend: false };
    if work.is_quoting && quoted_end(work, end) != before {
        // An error from a router on the way: its own address is not known any more.
        return;
    }
    rewrite(packet, &now, end, &back).expect("what could be written once can be written again");
    assert!(are_alike(&packet.0.borrow(), bytes), "what was changed and changed back is another packet");
}

/// An end of a packet; what an error quotes has it the other way round.
fn end_of(work: &NatWork, end: End) -> (Addr, Be16) {
    let tuple = &work.packet.tuple;
    let (address, port) = match end {
        End::Source => (tuple.source, tuple.source_port),
        End::Destination => (tuple.destination, tuple.destination_port),
    };
    (address, if work.is_quoting { quoted_end(work, end).1 } else { port })
}

fn quoted_end(work: &NatWork, end: End) -> (Addr, Be16) {
    let tuple = &work.quoted.tuple;
    match end {
        End::Source => (tuple.destination, tuple.destination_port),
        End::Destination => (tuple.source, tuple.source_port),
    }
}

/// Whether two packets differ by nothing but the two zeros of ones' complement sums.
fn are_alike(one: &[u8], other: &[u8]) -> bool {
    let words = |bytes: &[u8]| -> Vec<u16> {
        let word = |pair: &[u8]| u16::from_ne_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]);
        bytes.chunks(2).map(word).map(|word| if word == 0xffff { 0 } else { word }).collect()
    };
    words(one) == words(other)
}

/// A packet in memory; the helpers as the kernel documents them.
struct Memory(RefCell<Vec<u8>>);

impl PacketBytes for Memory {
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        self.0.borrow().as_slice().load(offset)
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
        self.adjust(offset, difference(from, to), covered)
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

/// Maps that have what is looked for as often as the first byte says.
struct Maps {
    fill: u8,
    entries: RefCell<BTreeMap<NatKey, NatValue>>,
    notes: RefCell<BTreeMap<NatKey, u32>>,
    fragments: RefCell<BTreeMap<FragmentKey, FragmentValue>>,
    reads: Cell<u8>,
}

impl DatapathMaps for Maps {
    fn service(&self, key: &ServiceKey) -> Option<ServiceValue> {
        let is_there = key.port.get() & 3 != u16::from(self.fill & 3);
        let flags = ServiceFlags::EXTERNAL;
        is_there.then_some(ServiceValue { service: 1, backends: u16::from(self.fill >> 6), flags })
    }

    fn slot(&self, key: &SlotKey) -> Option<u32> {
        Some(key.slot + 1)
    }

    fn backend(&self, backend: u32) -> Option<BackendValue> {
        let address = if self.fill & 16 == 0 { Addr::v4(0x0800_000a) } else { Addr::v6([8; 4]) };
        (backend != 3).then_some(BackendValue::active(address, Be16::new(4712), Protocol::Tcp))
    }

    fn is_node_address(&self, address: &Addr) -> bool {
        address.words()[3] & 1 == 0
    }

    fn proxy_threads(&self) -> u32 {
        1
    }
}

impl NatMaps for Maps {
    fn net_flags(&self, address: &Addr) -> u32 {
        // Nearly all are pods, so that nearly all packets leave with another address.
        if address.words()[3] & 0xff == 9 {
            net_flags::NATIVE
        } else {
            net_flags::POD * u32::from(self.fill & 1)
        }
    }

    fn entry(&self, key: &NatKey) -> Option<NatValue> {
        let known = self.entries.borrow().get(key).copied();
        self.reads.set(self.reads.get().wrapping_add(1));
        let is_there = self.fill.rotate_right(u32::from(self.reads.get()) & 7) & 2 != 0;
        let family = key.local.family();
        let address = if family == Family::V4 { Addr::v4(0x0700_000a) } else { Addr::v6([7; 4]) };
        let of_another = NatValue {
            address,
            port: Be16::new(4711),
            state: self.fill & 3,
            padding: 0,
            seen: 90,
            backend: u32::from(self.fill >> 5),
        };
        known.or_else(|| is_there.then_some(of_another))
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
        100
    }
}
