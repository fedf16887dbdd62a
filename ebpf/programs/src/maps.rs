//! The maps, from the one list, and the logic's view of them.

use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::ptr::NonNull;

use aya_ebpf::bindings::{BPF_NOEXIST, bpf_map_def, bpf_map_type, bpf_sock};
use aya_ebpf::helpers::generated::{bpf_ktime_get_ns, bpf_map_lookup_elem};
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::{Key, LpmTrie};
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf};
use mesh_ebpf_abi::{
    Addr, BackendValue, Counter, DirectFlowKey, DirectFlowValue, EndpointValue, FragmentKey, FragmentValue,
    MasqueradeValue, NatKey, NatValue, PodAddresses, Scratch, ServiceKey, ServiceValue, SlotKey,
};
use mesh_ebpf_logic::{BorrowedPorts, DatapathMaps, DirectFlows, NatMaps, NatPorts, NatWork};

use crate::constants::{masquerade_port_high, masquerade_port_low, upstream_port_high, upstream_port_low};

macro_rules! define {
    ($($(#[$doc:meta])* $id:ident = $name:tt: $kind:ident, $key:ty => $value:ty,
        entries $max:expr, flags $flags:expr;)*) => {
        $(define_one!($kind $id $name [$key] [$value] [$max] [$flags] $(#[$doc])*);)*
    };
}

macro_rules! define_one {
    (Hash $id:ident $name:tt [$key:ty] [$value:ty] [$max:expr] [$flags:expr] $(#[$doc:meta])*) => {
        $(#[$doc])*
        #[map(name = $name)]
        pub(crate) static $id: HashMap<$key, $value> = HashMap::pinned($max, $flags);
    };
    (LruHash $id:ident $name:tt [$key:ty] [$value:ty] [$max:expr] [$flags:expr] $(#[$doc:meta])*) => {
        $(#[$doc])*
        #[map(name = $name)]
        pub(crate) static $id: LruHashMap<$key, $value> = LruHashMap::pinned($max, $flags);
    };
    (LpmTrie $id:ident $name:tt [$key:ty] [$value:ty] [$max:expr] [$flags:expr] $(#[$doc:meta])*) => {
        $(#[$doc])*
        #[map(name = $name)]
        pub(crate) static $id: LpmTrie<Addr, $value> = LpmTrie::pinned($max, $flags);

        const _: () = assert!(size_of::<$key>() == size_of::<Key<Addr>>());
    };
    (Array $id:ident $name:tt [$key:ty] [$value:ty] [$max:expr] [$flags:expr] $(#[$doc:meta])*) => {
        $(#[$doc])*
        #[map(name = $name)]
        pub(crate) static $id: Array<$value> = Array::pinned($max, $flags);
    };
    (PerCpuArray $id:ident $name:tt [$key:ty] [$value:ty] [$max:expr] [$flags:expr] $(#[$doc:meta])*) => {
        $(#[$doc])*
        #[map(name = $name)]
        pub(crate) static $id: PerCpuArray<$value> = PerCpuArray::pinned($max, $flags);
    };
    (RingBuf $id:ident $name:tt [$key:ty] [$value:ty] [$max:expr] [$flags:expr] $(#[$doc:meta])*) => {
        $(#[$doc])*
        #[map(name = $name)]
        pub(crate) static $id: RingBuf = RingBuf::pinned($max, $flags);
    };
    (SockMap $id:ident $name:tt [$key:ty] [$value:ty] [$max:expr] [$flags:expr] $(#[$doc:meta])*) => {
        $(#[$doc])*
        #[map(name = $name)]
        pub(crate) static $id: SocketMap =
            SocketMap::pinned(size_of::<$key>() as u32, size_of::<$value>() as u32, $max, $flags);
    };
}
mesh_ebpf_abi::for_each_map!(define);

/// A socket map whose sockets a program may hold for itself.
///
/// Written by hand because aya's has 4-byte values, which user space cannot read back, and keeps the lookup
/// to itself.
#[repr(transparent)]
pub(crate) struct SocketMap(UnsafeCell<bpf_map_def>);

// SAFETY: the definition is read by the loader only; programs use its address.
unsafe impl Sync for SocketMap {}

impl SocketMap {
    const fn pinned(key_size: u32, value_size: u32, max_entries: u32, map_flags: u32) -> Self {
        const PIN_BY_NAME: u32 = 1;
        Self(UnsafeCell::new(bpf_map_def {
            type_: bpf_map_type::BPF_MAP_TYPE_SOCKMAP,
            key_size,
            value_size,
            max_entries,
            map_flags,
            id: 0,
            pinning: PIN_BY_NAME,
        }))
    }

    /// The socket at an index. The caller owns a reference and has to release it on every path.
    #[inline(always)]
    pub(crate) fn take(&self, index: u32) -> Option<NonNull<bpf_sock>> {
        let key: *const u32 = &index;
        // SAFETY: the map is a map, and the key has the map's key size.
        let socket = unsafe { bpf_map_lookup_elem(self.0.get().cast(), key.cast::<c_void>()) };
        NonNull::new(socket.cast())
    }
}

/// The maps as the logic sees them.
pub(crate) struct KernelMaps;

impl DatapathMaps for KernelMaps {
    #[inline(always)]
    fn service(&self, key: &ServiceKey) -> Option<ServiceValue> {
        // SAFETY: entries are replaced as a whole; a torn read could mix two versions of one service for
        // one packet, which is no worse than the packet having come a moment earlier or later.
        unsafe { SERVICES.get(key) }.copied()
    }

    #[inline(always)]
    fn slot(&self, key: &SlotKey) -> Option<u32> {
        // SAFETY: as in `service`; four bytes are read at once.
        unsafe { SLOTS.get(key) }.copied()
    }

    #[inline(always)]
    fn backend(&self, backend: u32) -> Option<BackendValue> {
        // SAFETY: as in `service`; the agent never changes a backend's address, it takes a new identifier.
        unsafe { BACKENDS.get(backend) }.copied()
    }

    #[inline(always)]
    fn is_node_address(&self, address: &Addr) -> bool {
        NODE_ADDRS.get_ptr(address).is_some()
    }

    #[inline(always)]
    fn proxy_threads(&self) -> u32 {
        CONFIG.get(0).map_or(0, |config| config.threads)
    }
}

impl DirectFlows for KernelMaps {
    #[inline(always)]
    fn get(&self, flow: &DirectFlowKey) -> Option<DirectFlowValue> {
        // SAFETY: the value is eight bytes, read at once.
        unsafe { DIRECT_FLOWS.get(flow) }.copied()
    }

    #[inline(always)]
    fn set(&self, flow: &DirectFlowKey, value: DirectFlowValue) {
        // Without memory for it the flow is noted by a later packet.
        let _ = DIRECT_FLOWS.insert(flow, value, 0);
    }

    #[inline(always)]
    fn remove(&self, flow: &DirectFlowKey) {
        let _ = DIRECT_FLOWS.remove(flow);
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        // SAFETY: the helper has no preconditions.
        unsafe { bpf_ktime_get_ns() }
    }
}

impl NatMaps for KernelMaps {
    #[inline(always)]
    fn net_flags(&self, address: &Addr) -> u32 {
        NETS.get(&Key::new(128, *address)).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn entry(&self, key: &NatKey) -> Option<NatValue> {
        // SAFETY: a torn read could mix two moments of one connection, of which only state and time differ.
        unsafe { NAT.get(key) }.copied()
    }

    #[inline(always)]
    fn set_entry(&self, key: &NatKey, value: NatValue) {
        // Without memory for it the connection is made anew by its next packet.
        let _ = NAT.insert(key, value, 0);
    }

    #[inline(always)]
    fn add_entry(&self, key: &NatKey, value: NatValue) -> bool {
        NAT.insert(key, value, u64::from(BPF_NOEXIST)).is_ok()
    }

    #[inline(always)]
    fn remove_entry(&self, key: &NatKey) {
        let _ = NAT.remove(key);
    }

    #[inline(always)]
    fn note(&self, key: &NatKey) -> Option<u32> {
        // SAFETY: four bytes are read at once.
        unsafe { NOTES.get(key) }.copied()
    }

    #[inline(always)]
    fn set_note(&self, key: &NatKey, seen: u32) {
        let _ = NOTES.insert(key, seen, 0);
    }

    #[inline(always)]
    fn fragment(&self, key: &FragmentKey) -> Option<FragmentValue> {
        // SAFETY: four bytes are read at once.
        unsafe { FRAGMENTS.get(key) }.copied()
    }

    #[inline(always)]
    fn set_fragment(&self, key: &FragmentKey, value: FragmentValue) {
        let _ = FRAGMENTS.insert(key, value, 0);
    }

    #[inline(always)]
    fn forget(&self, number: u32) -> u32 {
        let Some(place) = SCRATCH.get_ptr_mut(0) else { return number };
        // SAFETY: the map gave a valid pointer, whose last word is behind the room of `nat_work`. Volatile, as the
        // detour by memory is the point.
        unsafe {
            let last: *mut u32 = place.cast::<Scratch>().add(1).cast::<u32>().sub(1);
            last.write_volatile(number);
            last.read_volatile()
        }
    }

    #[inline(always)]
    fn now(&self) -> u32 {
        // SAFETY: the helper has no preconditions.
        (unsafe { bpf_ktime_get_ns() } >> 30) as u32
    }
}

/// A device's addresses, if anything of it is translated.
#[inline(always)]
pub(crate) fn masquerade_of(device: u32) -> Option<&'static MasqueradeValue> {
    // SAFETY: a torn read could mix the addresses of two moments for one packet.
    unsafe { MASQUERADE.get(&device) }
}

/// A pod of this node.
#[inline(always)]
pub(crate) fn endpoint(address: &Addr) -> Option<&'static EndpointValue> {
    // SAFETY: entries are replaced as a whole; a torn read could mix two pods of one address for one packet.
    unsafe { ENDPOINTS.get(address) }
}

/// The addresses of the pod behind a device, if it is one of ours.
#[inline(always)]
pub(crate) fn pod_behind(device: u32) -> Option<&'static PodAddresses> {
    // SAFETY: an index is given to one device, whose pod keeps its addresses.
    unsafe { POD_SOURCES.get(device) }
}

/// The node that a tunnel to an address ends at.
#[inline(always)]
pub(crate) fn tunnel_to(address: &Addr) -> Option<&'static Addr> {
    TUNNELS.get(&Key::new(128, *address))
}

/// This processor's place to work on a packet's translation, emptied.
#[inline(always)]
pub(crate) fn nat_work() -> Option<&'static mut NatWork> {
    const _: () = assert!(size_of::<NatWork>() <= size_of::<Scratch>() - 8 && align_of::<NatWork>() <= 8);
    let place = SCRATCH.get_ptr_mut(0)?;
    // SAFETY: the map gave a valid pointer to enough bytes, aligned as map values are. They are this processor's own,
    // and packet programs, which run with soft interrupts off, do not interrupt each other.
    unsafe {
        let work: *mut NatWork = place.cast();
        work.write(NatWork::EMPTY);
        Some(&mut *work)
    }
}

/// Ports that masqueraded connections leave by.
#[inline(always)]
pub(crate) fn masquerade_ports() -> NatPorts {
    NatPorts { low: masquerade_port_low(), high: masquerade_port_high() }
}

/// Source ports of the proxy's connections that keep a pod's address.
#[inline(always)]
pub(crate) fn borrowed_ports() -> BorrowedPorts {
    BorrowedPorts { low: upstream_port_low(), high: upstream_port_high() }
}

/// Says whether this processor's packet program is looking for a socket.
#[inline(always)]
pub(crate) fn set_looking(looking: bool) {
    if let Some(value) = LOOKING.get_ptr_mut(0) {
        // SAFETY: the map gave a valid pointer; the value is this processor's own, and no packet program
        // interrupts another on one processor.
        unsafe { value.write_volatile(u32::from(looking)) };
    }
}

/// Whether this processor's packet program is looking for a socket.
#[inline(always)]
pub(crate) fn is_looking() -> bool {
    LOOKING.get(0).is_some_and(|value| *value != 0)
}

/// Raises a counter of this processor.
#[inline(always)]
pub(crate) fn count(counter: Counter) {
    if let Some(value) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: the map gave a valid pointer; the value is this processor's own, and a program that
        // interrupts this one here can at worst lose one count.
        unsafe { *value = (*value).wrapping_add(1) };
    }
}
