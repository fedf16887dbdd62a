//! Load-balancing maps as an agent finds them: left by one that died, or by one of another version.
//!
//! Holds: whatever is in the maps, the agent brings them to what it wants, so that the programs find a wanted
//! backend for every connection; what belongs to nothing is taken out.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use mesh_control_loadbalancer::{Frontend, FrontendKey, FrontendKind, FrontendTarget, Reach, Scope};
use mesh_ebpf_abi::{
    Addr, BackendValue, Be16, Family, Protocol, ServiceFlags, ServiceKey, ServiceValue, SlotKey,
};
use mesh_ebpf_logic::{Balance, DatapathMaps, balance};
use mesh_ebpf_maps::{LoadBalancerMaps, MapsDump, MemoryMaps};
use mesh_model::service;
use mesh_tables::Target;

/// Entries that the input can name.
const MOST: usize = 64;

/// Entries of the maps, three bytes each, then what is wanted, two bytes each.
pub fn run(data: &[u8]) {
    let (found, wanted) = data.split_at(data.len() / 2);
    let mut maps = MemoryMaps::new();
    for entry in found.chunks_exact(3).take(MOST) {
        put(&mut maps, entry[0], entry[1], entry[2]);
    }
    let wanted = frontends(wanted);
    let (mut maps, _) = reconciled(maps, &wanted);

    let left = maps.services().entries().expect(MEMORY);
    assert_eq!(left.len(), wanted.len(), "services that nobody wants are left");
    let held: usize = left.iter().map(|(_, value)| usize::from(value.backends)).sum();
    let slots = maps.slots().entries().expect(MEMORY);
    assert_eq!(slots.len(), held, "slots that belong to nothing are left");
    let mut used: Vec<u32> = slots.iter().map(|(_, backend)| *backend).collect();
    used.sort_unstable();
    used.dedup();
    assert_eq!(maps.backends().entries().expect(MEMORY).len(), used.len(), "backends are left");
    assert!(!used.contains(&0), "0 is no identifier");

    let before = dump(&maps);
    let maps = RefCell::new(maps);
    for row in wanted.values() {
        reached(row, &Programs(&maps));
    }
    // A second agent finds everything as it should be.
    let (maps, taken_out) = reconciled(maps.into_inner(), &wanted);
    assert_eq!((taken_out, dump(&maps)), (0, before), "a restart changed what was right");
}

const MEMORY: &str = "maps in memory can be read";

/// What an agent that starts makes of the maps, and how many entries it took out.
fn reconciled(maps: MemoryMaps, wanted: &Frontends) -> (MemoryMaps, usize) {
    let mut target = FrontendTarget::restore(maps).expect(MEMORY);
    for row in wanted.values() {
        target.apply(row).expect("there is room");
    }
    let taken_out = target.prune(&mut wanted.values()).expect(MEMORY);
    (target.into_maps(), taken_out)
}

fn dump(maps: &MemoryMaps) -> MapsDump {
    maps.dump().expect(MEMORY)
}

type Frontends = BTreeMap<FrontendKey, Frontend>;

fn frontends(bytes: &[u8]) -> Frontends {
    let rows = bytes.chunks_exact(2).take(MOST).map(|pair| {
        let key = FrontendKey {
            address: address(pair[0] % 4),
            port: 80,
            protocol: service::Protocol::Tcp,
            scope: Scope::Everyone,
        };
        let kind = match pair[1] {
            odd if odd & 1 == 1 => FrontendKind::Proxy { listener: "web".to_owned() },
            set => FrontendKind::Balanced {
                backends: (0..4)
                    .filter(|bit| set >> (bit + 1) & 1 == 1)
                    .map(|n| (address(10 + n), 8080))
                    .collect(),
                reach: Reach::Cluster,
            },
        };
        (key, Frontend { key, owner: "default/web".to_owned(), kind })
    });
    rows.collect()
}

fn address(number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, number))
}

/// Every connection to a wanted frontend is treated as wanted.
fn reached(row: &Frontend, maps: &Programs<'_>) {
    let dialled = (Addr::from(row.key.address), Be16::new(row.key.port), Protocol::Tcp);
    for hash in [0, 1 << 28, 1 << 29, 1 << 30, 1 << 31, 3 << 30, u32::MAX] {
        match (balance(dialled, Family::V4, hash, maps, || true), &row.kind) {
            (Balance::LeaveToProxy, FrontendKind::Proxy { .. }) => {}
            (Balance::Refuse(_), FrontendKind::Balanced { backends, .. }) if backends.is_empty() => {}
            (Balance::To { address, port, .. }, FrontendKind::Balanced { backends, .. })
                if backends.contains(&(address.to_ip(), port.get())) => {}
            (found, kind) => panic!("{kind:?} is treated as {found:?}"),
        }
    }
}

/// An entry of a map: few numbers, so that entries refer to each other.
fn put(maps: &mut MemoryMaps, map: u8, key: u8, value: u8) {
    let (low, high) = (u32::from(value & 15), value >> 4);
    let outcome = match map % 3 {
        0 => {
            let key = ServiceKey::new(Addr::from(address(key % 6)), Be16::new(80), Protocol::Tcp);
            let flags = if value & 1 == 0 { ServiceFlags::NONE } else { ServiceFlags::L7_REDIRECT };
            let service = if low == 15 { u32::MAX } else { low };
            maps.services().insert(&key, &ServiceValue { service, backends: high.into(), flags })
        }
        1 => {
            let key = SlotKey { service: u32::from(key & 15), slot: u32::from(key >> 4) };
            maps.slots().insert(&key, &low)
        }
        _ => {
            let address = Addr::from(address(10 + high % 6));
            let id = if key == u8::MAX { u32::MAX } else { u32::from(key & 15) };
            maps.backends().insert(&id, &BackendValue::active(address, Be16::new(8080), Protocol::Tcp))
        }
    };
    outcome.expect("there is room");
}

/// The maps as the kernel programs read them.
struct Programs<'a>(&'a RefCell<MemoryMaps>);

impl DatapathMaps for Programs<'_> {
    fn service(&self, key: &ServiceKey) -> Option<ServiceValue> {
        self.0.borrow_mut().services().get(key).expect(MEMORY)
    }

    fn slot(&self, key: &SlotKey) -> Option<u32> {
        self.0.borrow_mut().slots().get(key).expect(MEMORY)
    }

    fn backend(&self, backend: u32) -> Option<BackendValue> {
        self.0.borrow_mut().backends().get(&backend).expect(MEMORY)
    }

    fn is_node_address(&self, _: &Addr) -> bool {
        false
    }

    fn proxy_threads(&self) -> u32 {
        1
    }
}
