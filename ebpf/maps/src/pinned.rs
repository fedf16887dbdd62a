//! Handles on the kernel's maps.

use std::fmt::Debug;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;

use aya::maps::{Array, HashMap, Map, MapData, MapInfo, PerCpuArray, RingBuf};
use mesh_ebpf_abi::events::{Event, EventError, decode};
use mesh_ebpf_abi::lb::listener_index;
use mesh_ebpf_abi::maps::MAX_PROXY_THREADS;
use mesh_ebpf_abi::{
    Addr, BackendValue, Counter, DirectFlowKey, DirectFlowValue, EndpointValue, Family, FragmentKey,
    FragmentValue, MasqueradeValue, NatKey, NatValue, NetKey, PodAddresses, ProxyConfig, ReverseKey,
    ReverseValue, ServiceKey, ServiceValue, SlotKey,
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::bridge::Plain;
use crate::dump::{MapsDump, by_name, sorted};
use crate::layout::{MapKind, MapLayout, layouts, names};
use crate::{LoadBalancerMaps, MapError, MapTable};

/// The two listening sockets of one proxy thread.
#[derive(Clone, Copy, Debug)]
pub struct ListenerPair<'fd> {
    /// Listens on a loopback IPv4 address, with IP_TRANSPARENT.
    pub v4: BorrowedFd<'fd>,
    /// Listens on the loopback IPv6 address, with IPV6_TRANSPARENT; none on a node without IPv6.
    pub v6: Option<BorrowedFd<'fd>>,
}

/// All maps of a datapath, opened from their pins.
pub struct PinnedMaps {
    services: HashTable<ServiceKey, ServiceValue>,
    slots: HashTable<SlotKey, u32>,
    backends: HashTable<u32, BackendValue>,
    sock_reverse: HashTable<ReverseKey, ReverseValue>,
    direct_flows: HashTable<DirectFlowKey, DirectFlowValue>,
    node_addresses: HashTable<Addr, u32>,
    masquerade: HashTable<u32, MasqueradeValue>,
    nets: HashTable<NetKey, u32>,
    endpoints: HashTable<Addr, EndpointValue>,
    pod_sources: HashTable<u32, PodAddresses>,
    tunnels: HashTable<NetKey, Addr>,
    nat: HashTable<NatKey, NatValue>,
    notes: HashTable<NatKey, u32>,
    fragments: HashTable<FragmentKey, FragmentValue>,
    /// Index to descriptor when written, to socket cookie when read.
    listeners: HashTable<u32, u64>,
    config: Array<MapData, Plain<ProxyConfig>>,
    counters: PerCpuArray<MapData, u64>,
    looking: PerCpuArray<MapData, u32>,
}

impl PinnedMaps {
    /// Opens all maps below a pin root and checks their layouts.
    ///
    /// # Errors
    /// The first map that is missing ([`MapError::Open`]) or was made with other sizes
    /// ([`MapError::Layout`]).
    pub fn open(pin_root: &Path) -> Result<Self, MapError> {
        for layout in layouts() {
            check_layout(pin_root, layout)?;
        }
        Ok(Self {
            services: HashTable::open(pin_root, names::SERVICES)?,
            slots: HashTable::open(pin_root, names::SLOTS)?,
            backends: HashTable::open(pin_root, names::BACKENDS)?,
            sock_reverse: HashTable::open(pin_root, names::SOCK_REVERSE)?,
            direct_flows: HashTable::open(pin_root, names::DIRECT_FLOWS)?,
            node_addresses: HashTable::open(pin_root, names::NODE_ADDRS)?,
            masquerade: HashTable::open(pin_root, names::MASQUERADE)?,
            nets: HashTable::open(pin_root, names::NETS)?,
            endpoints: HashTable::open(pin_root, names::ENDPOINTS)?,
            pod_sources: HashTable::open(pin_root, names::POD_SOURCES)?,
            tunnels: HashTable::open(pin_root, names::TUNNELS)?,
            nat: HashTable::open(pin_root, names::NAT)?,
            notes: HashTable::open(pin_root, names::NOTES)?,
            fragments: HashTable::open(pin_root, names::FRAGMENTS)?,
            listeners: HashTable::open(pin_root, names::LISTENERS)?,
            config: open(pin_root, names::CONFIG)?,
            counters: open(pin_root, names::COUNTERS)?,
            looking: open(pin_root, names::LOOKING)?,
        })
    }

    /// Checks the layouts of those maps that are pinned already, so that a load that would reuse them can
    /// be refused before anything is touched.
    pub fn check_existing(pin_root: &Path) -> Result<(), MapError> {
        for layout in layouts() {
            if pin_root.join(layout.name).exists() {
                check_layout(pin_root, layout)?;
            }
        }
        Ok(())
    }

    /// Opens the events map, for one reader.
    pub fn open_events(pin_root: &Path) -> Result<RingBuf<MapData>, MapError> {
        open(pin_root, names::EVENTS)
    }

    /// Takes up to `most` events out of the events map and decodes them. Each is given to one reader, once.
    pub fn drain_events(pin_root: &Path, most: usize) -> Result<Vec<Result<Event, EventError>>, MapError> {
        let mut ring = Self::open_events(pin_root)?;
        Ok(std::iter::from_fn(|| ring.next().map(|bytes| decode(&bytes))).take(most).collect())
    }

    /// Puts the proxy's listeners, one pair a thread, where the programs find them, and tells the programs
    /// how many there are. An empty slice takes the proxy out: new connections to its services are dropped.
    ///
    /// Growing, the sockets come before the count; shrinking, the count before the sockets go, so that no
    /// program picks an empty place.
    pub fn set_listeners(&mut self, pairs: &[ListenerPair<'_>]) -> Result<(), MapError> {
        let most = MAX_PROXY_THREADS;
        let threads = u32::try_from(pairs.len()).ok().filter(|threads| *threads <= most);
        let Some(threads) = threads else {
            return Err(MapError::TooManyThreads { threads: pairs.len(), most });
        };
        for (thread, pair) in (0..threads).zip(pairs) {
            for (family, socket) in [(Family::V4, Some(pair.v4)), (Family::V6, pair.v6)] {
                let index = listener_index(thread, family);
                let Some(socket) = socket else {
                    self.listeners.remove(&index)?;
                    continue;
                };
                self.listeners.insert(&index, &u64::from(socket.as_raw_fd().unsigned_abs()))?;
            }
        }
        let config = ProxyConfig { threads, ..self.proxy_config()? };
        self.set_proxy_config(config)?;
        for index in threads * 2..most * 2 {
            self.listeners.remove(&index)?;
        }
        Ok(())
    }

    /// The listeners map's places that hold a socket: index and socket cookie. A closed socket is gone.
    pub fn listeners(&self) -> Result<Vec<(u32, u64)>, MapError> {
        let mut found = Vec::new();
        for index in 0..MAX_PROXY_THREADS * 2 {
            if let Some(cookie) = self.listeners.get(&index)? {
                found.push((index, cookie));
            }
        }
        Ok(found)
    }

    /// By device, the node's addresses that pods' packets leave with.
    pub fn masquerade(&mut self) -> &mut dyn MapTable<u32, MasqueradeValue> {
        &mut self.masquerade
    }

    /// What ranges of addresses are.
    pub fn nets(&mut self) -> &mut dyn MapTable<NetKey, u32> {
        &mut self.nets
    }

    /// This node's pods by their addresses.
    pub fn endpoints(&mut self) -> &mut dyn MapTable<Addr, EndpointValue> {
        &mut self.endpoints
    }

    /// By device, the addresses of the pod behind it, which it may send with.
    pub fn pod_sources(&mut self) -> &mut dyn MapTable<u32, PodAddresses> {
        &mut self.pod_sources
    }

    /// Ranges of other nodes' pods, with the address of their node.
    pub fn tunnels(&mut self) -> &mut dyn MapTable<NetKey, Addr> {
        &mut self.tunnels
    }

    /// Masqueraded connections and those of frontends; written by the programs.
    pub fn nat(&mut self) -> &mut dyn MapTable<NatKey, NatValue> {
        &mut self.nat
    }

    /// Connections that outside opens towards pods, and when they were last heard of; written by the programs.
    pub fn notes(&mut self) -> &mut dyn MapTable<NatKey, u32> {
        &mut self.notes
    }

    /// Ports of datagrams in fragments; written by the programs.
    pub fn fragments(&mut self) -> &mut dyn MapTable<FragmentKey, FragmentValue> {
        &mut self.fragments
    }

    /// By processor, whether its packet program looks for a socket at this moment.
    pub fn looking(&self) -> Result<Vec<bool>, MapError> {
        let values = self.looking.get(&0, 0);
        let values = values.map_err(|source| key_error(names::LOOKING, "read", &0, source))?;
        Ok(values.iter().map(|value| *value != 0).collect())
    }
}

impl LoadBalancerMaps for PinnedMaps {
    fn services(&mut self) -> &mut dyn MapTable<ServiceKey, ServiceValue> {
        &mut self.services
    }

    fn slots(&mut self) -> &mut dyn MapTable<SlotKey, u32> {
        &mut self.slots
    }

    fn backends(&mut self) -> &mut dyn MapTable<u32, BackendValue> {
        &mut self.backends
    }

    fn sock_reverse(&mut self) -> &mut dyn MapTable<ReverseKey, ReverseValue> {
        &mut self.sock_reverse
    }

    fn direct_flows(&mut self) -> &mut dyn MapTable<DirectFlowKey, DirectFlowValue> {
        &mut self.direct_flows
    }

    fn node_addresses(&mut self) -> &mut dyn MapTable<Addr, u32> {
        &mut self.node_addresses
    }

    fn proxy_config(&self) -> Result<ProxyConfig, MapError> {
        let value = self.config.get(&0, 0);
        value.map(|plain| plain.0).map_err(|source| key_error(names::CONFIG, "read", &0, source))
    }

    fn set_proxy_config(&mut self, config: ProxyConfig) -> Result<(), MapError> {
        self.config.set(0, Plain(config), 0).map_err(|source| key_error(names::CONFIG, "write", &0, source))
    }

    fn counters(&self) -> Result<Vec<(Counter, u64)>, MapError> {
        Counter::ALL
            .iter()
            .map(|&counter| {
                let index = counter as u32;
                let values = self
                    .counters
                    .get(&index, 0)
                    .map_err(|source| key_error(names::COUNTERS, "read", &index, source))?;
                Ok((counter, values.iter().fold(0, |sum: u64, value| sum.wrapping_add(*value))))
            })
            .collect()
    }

    fn dump(&self) -> Result<MapsDump, MapError> {
        let mut node_addresses: Vec<Addr> =
            self.node_addresses.entries()?.into_iter().map(|(address, _)| address).collect();
        node_addresses.sort_unstable();
        Ok(MapsDump {
            config: self.proxy_config()?,
            listeners: self.listeners()?.into_iter().map(|(index, _)| index).collect(),
            services: sorted(self.services.entries()?),
            slots: sorted(self.slots.entries()?),
            backends: sorted(self.backends.entries()?),
            sock_reverse: sorted(self.sock_reverse.entries()?),
            direct_flows: sorted(self.direct_flows.entries()?),
            node_addresses,
            counters: by_name(self.counters()?),
        })
    }
}

/// A hash map of the kernel (or another that the same system calls serve) as a table.
struct HashTable<K, V> {
    name: &'static str,
    /// How many entries it has room for.
    capacity: u32,
    map: HashMap<MapData, Plain<K>, Plain<V>>,
}

impl<K, V> HashTable<K, V>
where
    K: FromBytes + IntoBytes + Immutable + Copy + 'static,
    V: FromBytes + IntoBytes + Immutable + Copy + 'static,
{
    fn open(pin_root: &Path, name: &'static str) -> Result<Self, MapError> {
        let path = pin_root.join(name);
        let open = || {
            // The variant is aya's idea of the kind. The socket map is opened as a hash as well, because
            // aya's own handle for it knows 4-byte values only, with which the kernel refuses reads.
            let map = Map::HashMap(MapData::from_pin(&path)?);
            HashMap::try_from(map)
        };
        let map = open().map_err(|source| MapError::Open {
            map: name,
            path: path.clone(),
            source: Box::new(source),
        })?;
        let layout = layouts().iter().find(|layout| layout.name == name);
        let capacity = layout.expect("names and layouts come from one list").max_entries;
        Ok(Self { name, capacity, map })
    }
}

impl<K, V> MapTable<K, V> for HashTable<K, V>
where
    K: FromBytes + IntoBytes + Immutable + Copy + Debug + 'static,
    V: FromBytes + IntoBytes + Immutable + Copy + 'static,
{
    fn get(&self, key: &K) -> Result<Option<V>, MapError> {
        match self.map.get(&Plain(*key), 0) {
            Ok(value) => Ok(Some(value.0)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(source) => Err(key_error(self.name, "read", key, source)),
        }
    }

    fn insert(&mut self, key: &K, value: &V) -> Result<(), MapError> {
        self.map.insert(Plain(*key), Plain(*value), 0).map_err(|source| match is_full(&source) {
            true => MapError::Full { map: self.name, entries: self.capacity, key: format!("{key:?}") },
            false => key_error(self.name, "write", key, source),
        })
    }

    fn remove(&mut self, key: &K) -> Result<bool, MapError> {
        match self.map.remove(&Plain(*key)) {
            Ok(()) => Ok(true),
            Err(error) if is_absent(&error) => Ok(false),
            Err(source) => Err(key_error(self.name, "remove", key, source)),
        }
    }

    fn entries(&self) -> Result<Vec<(K, V)>, MapError> {
        let mut entries = Vec::new();
        for entry in self.map.iter() {
            match entry {
                Ok((key, value)) => entries.push((key.0, value.0)),
                // Removed between being listed and being read.
                Err(error) if is_absent(&error) => {}
                Err(source) => return Err(MapError::List { map: self.name, source: Box::new(source) }),
            }
        }
        Ok(entries)
    }
}

fn open<T: TryFrom<Map, Error = aya::maps::MapError>>(
    pin_root: &Path,
    name: &'static str,
) -> Result<T, MapError> {
    let path = pin_root.join(name);
    MapData::from_pin(&path)
        .and_then(Map::from_map_data)
        .and_then(T::try_from)
        .map_err(|source| MapError::Open { map: name, path, source: Box::new(source) })
}

fn check_layout(pin_root: &Path, layout: &MapLayout) -> Result<(), MapError> {
    let path = pin_root.join(layout.name);
    let info = MapInfo::from_pin(&path).map_err(|source| MapError::Open {
        map: layout.name,
        path: path.clone(),
        source: Box::new(source),
    })?;
    let mismatch = |field, found: String, expected: String| {
        Err(MapError::Layout { map: layout.name, path: path.clone(), field, found, expected })
    };
    let kind = info.map_type().ok().and_then(MapKind::of_kernel);
    if kind != Some(layout.kind) {
        let found = kind.map_or_else(|| "another kind".to_owned(), |kind| format!("{kind:?}"));
        return mismatch("kind", found, format!("{:?}", layout.kind));
    }
    for (field, found, expected) in [
        ("key size", info.key_size(), layout.key_size),
        ("value size", info.value_size(), layout.value_size),
        ("max entries", info.max_entries(), layout.max_entries),
        ("flags", info.map_flags(), layout.flags),
    ] {
        if found != expected {
            return mismatch(field, found.to_string(), expected.to_string());
        }
    }
    Ok(())
}

fn key_error(
    map: &'static str,
    operation: &'static str,
    key: &impl Debug,
    source: aya::maps::MapError,
) -> MapError {
    MapError::Key { map, operation, key: format!("{key:?}"), source: Box::new(source) }
}

/// Whether the kernel says that there is no such entry. A socket map says EINVAL when asked to remove what
/// an empty place holds.
fn is_absent(error: &aya::maps::MapError) -> bool {
    match error {
        aya::maps::MapError::KeyNotFound | aya::maps::MapError::ElementNotFound => true,
        aya::maps::MapError::SyscallError(error) => {
            matches!(error.io_error.raw_os_error(), Some(ENOENT | EINVAL))
        }
        _ => false,
    }
}

/// Whether the kernel says that there is no room for one entry more.
fn is_full(error: &aya::maps::MapError) -> bool {
    match error {
        aya::maps::MapError::SyscallError(error) => error.io_error.raw_os_error() == Some(E2BIG),
        _ => false,
    }
}

const ENOENT: i32 = 2;
const E2BIG: i32 = 7;
const EINVAL: i32 = 22;
