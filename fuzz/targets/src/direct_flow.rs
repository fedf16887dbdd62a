//! Pods' own connections on ports that the proxy borrows, in maps that another agent left.
//!
//! Holds, beside a model that knows until when a connection's ends are taken: two never have the same ends; a
//! pod's connection keeps them for as long as it lives and both sides remember it, no longer; its packets
//! are never taken for another's, and those of an open connection write nothing.

mod model;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use mesh_ebpf_abi::{Addr, Be16, DirectFlowKey, DirectFlowValue, Family};
use mesh_ebpf_logic::direct_flow::{CLOSING_NS, Departure, depart, is_own_answer, is_taken};
use mesh_ebpf_logic::{DirectFlows, FourTuple, TcpFlags, TcpPacket};

use self::model::Ends;

/// Events of one input.
const MOST: usize = 256;

/// Connections that differ in one part each, the second being the first with its ends the other way round.
const FLOWS: [([u8; 4], u16, [u8; 4], u16); 4] = [
    ([10, 0, 0, 1], 20000, [10, 0, 0, 2], 8080),
    ([10, 0, 0, 2], 8080, [10, 0, 0, 1], 20000),
    ([10, 0, 0, 1], 20001, [10, 0, 0, 2], 8080),
    ([10, 0, 0, 1], 20000, [10, 0, 0, 3], 8080),
];

/// What another agent left of each connection, two bits of the first byte each; then events, two bytes each:
/// connection and kind, and what else there is to it.
pub fn run(data: &[u8]) {
    let [left, events @ ..] = data else { return };
    let mut world = World::new(*left);
    for event in events.chunks_exact(2).take(MOST) {
        world.happens(usize::from(event[0] >> 6), event[0] & 7, event[1]);
        world.holds();
    }
}

struct World {
    maps: Maps,
    /// What has to be true of each connection's ends.
    ends: [Ends; FLOWS.len()],
    /// Which the proxy has.
    of_proxy: [bool; FLOWS.len()],
}

impl World {
    fn new(left: u8) -> Self {
        let mut world = Self {
            maps: Maps { entries: RefCell::default(), now: Cell::new(1 << 40), writes: Cell::new(0) },
            ends: [Ends::FREE; FLOWS.len()],
            of_proxy: [false; FLOWS.len()],
        };
        for flow in 0..FLOWS.len() {
            let closing_at = match left >> (2 * flow) & 3 {
                0 => continue,
                1 => 0,
                2 => world.maps.now() - CLOSING_NS / 2,
                // A clock far ahead.
                _ => 1 << 60,
            };
            world.maps.entries.borrow_mut().insert(key(flow), DirectFlowValue { closing_at });
            world.ends[flow] = if closing_at == 0 { Ends::OPEN } else { Ends::closing(closing_at) };
        }
        world.holds();
        world
    }

    fn happens(&mut self, flow: usize, kind: u8, more: u8) {
        match kind {
            0..=2 => self.departs(flow, TcpFlags(more)),
            3 => self.answered(flow, TcpFlags(more)),
            4 => {
                const STEPS: [u64; 4] = [1, 999_999_999, CLOSING_NS / 2, CLOSING_NS - 1];
                let time = STEPS[usize::from(more & 3)] * u64::from(more >> 2);
                self.maps.now.set(self.maps.now() + time);
            }
            5 => {
                // The proxy's connect() fails where a pod has the ends.
                self.of_proxy[flow] |= !is_taken(&key(flow), &self.maps);
            }
            6 => self.of_proxy[flow] = false,
            _ => {
                // A map under pressure forgets.
                self.maps.entries.borrow_mut().remove(&key(flow));
                self.ends[flow] = Ends::FREE;
            }
        }
    }

    fn departs(&mut self, flow: usize, flags: TcpFlags) {
        let (now, written) = (self.maps.now(), self.maps.writes.get());
        let was_taken = self.is_taken(flow);
        let was_asked = Cell::new(false);
        let departure = depart(&packet(flow, flags), &self.maps, || {
            was_asked.set(true);
            self.of_proxy[flow]
        });
        assert_eq!(was_asked.get(), !was_taken, "a socket is looked for where the flow is not known");
        let expected = match (was_taken, self.of_proxy[flow]) {
            (false, true) if flags.open() => Departure::Clash,
            (false, true) => Departure::Stray,
            _ => Departure::Noted,
        };
        assert_eq!(departure, expected, "{flags:?}");
        if departure == Departure::Noted {
            let was_open = self.ends[flow] == Ends::OPEN;
            self.ends[flow] = self.ends[flow].after(flags, was_taken, now);
            assert!(
                !(was_taken && was_open && self.ends[flow] == Ends::OPEN)
                    || self.maps.writes.get() == written,
                "a packet of an open connection wrote"
            );
        }
    }

    fn answered(&mut self, flow: usize, flags: TcpFlags) {
        let was_taken = self.is_taken(flow);
        let packet = packet(flow, flags);
        let answer = TcpPacket { tuple: packet.tuple.reversed(), ..packet };
        assert_eq!(is_own_answer(&answer, &self.maps), was_taken, "{flags:?}");
        if flags.contain(TcpFlags::RST) {
            self.ends[flow] = Ends::FREE;
        }
    }

    /// What the maps say, which has to be what the model says where that knows.
    fn is_taken(&mut self, flow: usize) -> bool {
        let now = self.maps.now();
        let taken = is_taken(&key(flow), &self.maps);
        let ends = &mut self.ends[flow];
        assert!(taken || !ends.surely_taken(now), "flow {flow} is free at {now} and should be {ends:?}");
        assert!(!taken || ends.maybe_taken(now), "flow {flow} is taken at {now} and should be {ends:?}");
        if !taken {
            *ends = Ends::FREE;
        }
        taken
    }

    fn holds(&mut self) {
        for flow in 0..FLOWS.len() {
            assert!(!(self.is_taken(flow) && self.of_proxy[flow]), "flow {flow} has two owners");
        }
    }
}

fn packet(flow: usize, flags: TcpFlags) -> TcpPacket {
    let DirectFlowKey { source, destination, source_port, destination_port } = key(flow);
    let tuple = FourTuple { source, destination, source_port, destination_port };
    TcpPacket { tuple, family: Family::V4, flags }
}

fn key(flow: usize) -> DirectFlowKey {
    let (source, source_port, destination, destination_port) = FLOWS[flow];
    DirectFlowKey {
        source: Addr::from(Ipv4Addr::from(source)),
        destination: Addr::from(Ipv4Addr::from(destination)),
        source_port: Be16::new(source_port),
        destination_port: Be16::new(destination_port),
    }
}

struct Maps {
    entries: RefCell<BTreeMap<DirectFlowKey, DirectFlowValue>>,
    now: Cell<u64>,
    writes: Cell<u32>,
}

impl DirectFlows for Maps {
    fn get(&self, flow: &DirectFlowKey) -> Option<DirectFlowValue> {
        self.entries.borrow().get(flow).copied()
    }

    fn set(&self, flow: &DirectFlowKey, value: DirectFlowValue) {
        self.writes.set(self.writes.get() + 1);
        self.entries.borrow_mut().insert(*flow, value);
    }

    fn remove(&self, flow: &DirectFlowKey) {
        self.writes.set(self.writes.get() + 1);
        self.entries.borrow_mut().remove(flow);
    }

    fn now(&self) -> u64 {
        self.now.get()
    }
}
