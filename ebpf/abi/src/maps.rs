//! The list of maps, once.
//!
//! [`for_each_map!`](crate::for_each_map) takes the name of a macro and calls it with one line a map:
//! `STATIC_NAME = "kernel name": Kind, Key => Value, entries N, flags F;`. `ebpf/maps` turns the lines into
//! layouts and typed handles, `ebpf/programs` into statics. Kernel names have at most 15 bytes; all maps are
//! pinned under that name. A changed key, value or size needs a new `_vN`.

/// `BPF_F_NO_PREALLOC`: memory is taken when an entry is, not when the map is made.
pub const NO_PREALLOC: u32 = 1;
/// No flag.
pub const NO_FLAGS: u32 = 0;
/// Most proxy threads that the listeners map has room for.
pub const MAX_PROXY_THREADS: u32 = 128;

/// Calls a macro with the list of maps; see [`crate::maps`].
#[macro_export]
macro_rules! for_each_map {
    ($with:path) => {
        $with! {
            /// Addresses that clients dial. Written by the agent, read by all programs. Full: the agent
            /// reports the service as not programmed, connections to it are not balanced.
            SERVICES = "mr_services_v1": Hash, $crate::ServiceKey => $crate::ServiceValue,
                entries 65536, flags $crate::maps::NO_PREALLOC;
            /// The n-th backend of a service. Written by the agent (slots before the service's count when
            /// growing, after it when shrinking), read by the socket hooks.
            SLOTS = "mr_slots_v1": Hash, $crate::SlotKey => u32,
                entries 262144, flags $crate::maps::NO_PREALLOC;
            /// Backends by identifier. Written by the agent, read by the socket hooks.
            BACKENDS = "mr_backends_v1": Hash, u32 => $crate::BackendValue,
                entries 65536, flags $crate::maps::NO_PREALLOC;
            /// What a socket's owner dialled, for getpeername and recvmsg. Written and read by the socket
            /// hooks. Full: the oldest entries go, and those sockets see the backend's address.
            SOCK_REVERSE = "mr_sock_rev_v1": LruHash, $crate::ReverseKey => $crate::ReverseValue,
                entries 131072, flags $crate::maps::NO_FLAGS;
            /// The node's own addresses; the value is unused. Written by the agent, read by the packet
            /// program, which leaves packets to these to the stack. Empty: correct, and slower.
            NODE_ADDRS = "mr_nodeaddrs_v1": Hash, $crate::Addr => u32,
                entries 1024, flags $crate::maps::NO_PREALLOC;
            /// The proxy's listeners at thread * 2 + family (0 IPv4, 1 IPv6). Written by the agent, read by
            /// the packet and socket lookup programs. An entry goes when its socket is closed.
            /// User space writes a descriptor and reads the cookie of the socket.
            LISTENERS = "mr_listeners_v1": SockMap, u32 => u64,
                entries 256, flags $crate::maps::NO_FLAGS;
            /// One entry: what changes while the programs stay loaded. Written by the agent.
            CONFIG = "mr_config_v1": Array, u32 => $crate::ProxyConfig,
                entries 1, flags $crate::maps::NO_FLAGS;
            /// Counts by [`Counter`]($crate::Counter), one number a processor. Written by the programs. Has
            /// room for counters to come, so that a new one needs no new map.
            COUNTERS = "mr_counters_v1": PerCpuArray, u32 => u64,
                entries 64, flags $crate::maps::NO_FLAGS;
            /// 1 while this processor's packet program looks for a socket, which makes the kernel ask the
            /// socket lookup program too; that then stays out, because the packet program decides and counts
            /// by itself. Written by the one, read by the other.
            LOOKING = "mr_looking_v1": PerCpuArray, u32 => u32,
                entries 1, flags $crate::maps::NO_FLAGS;
            /// Pods' own connections whose source port the proxy might borrow, so that it does not. Written and
            /// read by the packet program, read by the connect hooks. Full: those longest silent go, and come
            /// back with their next packet.
            DIRECT_FLOWS = "mr_flows_v1": LruHash, $crate::DirectFlowKey => $crate::DirectFlowValue,
                entries 16384, flags $crate::maps::NO_FLAGS;
            /// By device, the node's addresses that packets of others leave with. Written by the agent, read by the
            /// packet programs of devices to the outside. A device that is not in it translates nothing.
            MASQUERADE = "mr_masq_v2": Hash, u32 => $crate::MasqueradeValue,
                entries 256, flags $crate::maps::NO_PREALLOC;
            /// Ranges of addresses, see [`net_flags`]($crate::net_flags). Written by the agent, read by the packet
            /// programs of devices to the outside.
            NETS = "mr_nets_v1": LpmTrie, $crate::NetKey => u32,
                entries 16384, flags $crate::maps::NO_PREALLOC;
            /// Masqueraded connections and those of frontends, two entries each. Written and read by the packet
            /// programs. Full: those longest silent go; their next packet makes them anew, by the same port where it
            /// is still free, to the same backend while the Service has the same ones.
            NAT = "mr_nat_v2": LruHash, $crate::NatKey => $crate::NatValue,
                entries 131072, flags $crate::maps::NO_FLAGS;
            /// Connections that outside opens towards pods by their own addresses, by the key of their answers; each with
            /// when it was last heard of, in units of 2^30 ns. Written and read by the packet programs. A map of its own:
            /// anybody outside can make entries. Full: those longest silent go, and answers to them are masqueraded.
            NOTES = "mr_notes_v1": LruHash, $crate::NatKey => u32,
                entries 32768, flags $crate::maps::NO_FLAGS;
            /// Ports of datagrams in fragments. Written and read by the same. Full: the oldest go, and what is left
            /// of them is dropped.
            FRAGMENTS = "mr_frags_v1": LruHash, $crate::FragmentKey => $crate::FragmentValue,
                entries 8192, flags $crate::maps::NO_FLAGS;
            /// Ranges of other nodes' pods, each with the address of its node, where tunnels to it end. Written by the
            /// agent, read by the program at the tunnel device's egress. Not in it: the packet is dropped and counted.
            TUNNELS = "mr_tunnels_v1": LpmTrie, $crate::NetKey => $crate::Addr,
                entries 16384, flags $crate::maps::NO_PREALLOC;
            /// This node's pods by their addresses. Written by the agent, read by the packet programs at ingress, which
            /// hand packets to a pod past the stack. Not in it: the stack delivers.
            ENDPOINTS = "mr_endpoints_v1": Hash, $crate::Addr => $crate::EndpointValue,
                entries 65536, flags $crate::maps::NO_PREALLOC;
            /// The addresses of the pod behind a device, by the device's index. Written by the agent before the programs
            /// are attached to it, read by the program at the pod's device, which drops what has another source. Not in
            /// it: the pods there are another network's, and may send as they like.
            POD_SOURCES = "mr_sources_v1": Hash, u32 => $crate::PodAddresses,
                entries 65536, flags $crate::maps::NO_PREALLOC;
            /// Room to work in. Written and read by one program at a time.
            SCRATCH = "mr_scratch_v1": PerCpuArray, u32 => $crate::Scratch,
                entries 1, flags $crate::maps::NO_FLAGS;
            /// Sampled events, see [`events`]($crate::events); the size is in bytes. Full: the event is lost
            /// and counted.
            EVENTS = "mr_events_v1": RingBuf, () => (),
                entries 262144, flags $crate::maps::NO_FLAGS;
        }
    };
}
