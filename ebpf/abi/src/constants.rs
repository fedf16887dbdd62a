//! Constants that are set when programs are loaded, so that the verifier drops dead branches.

/// Calls a macro with the list of constants, one line each: `NAME field: type = default;`.
///
/// The kernel package turns a line into a static of that name, the loader into a field and an override.
#[macro_export]
macro_rules! for_each_constant {
    ($with:path) => {
        $with! {
            /// Cookie of the node's network namespace. With `socket_lb_host_only` the socket hooks balance
            /// sockets of this namespace alone.
            HOST_NETNS_COOKIE host_netns_cookie: u64 = 0;
            /// Mark of packets that go to the proxy's sockets; a routing rule delivers them locally.
            PROXY_MARK proxy_mark: u32 = $crate::constants::PROXY_MARK;
            /// The bits of the mark that belong to [`PROXY_MARK`]; the others stay as they were.
            PROXY_MARK_MASK proxy_mark_mask: u32 = $crate::constants::PROXY_MARK_MASK;
            /// Mark of the proxy's sockets that keep a client's address.
            CLIENT_ADDRESS_MARK client_address_mark: u32 = $crate::constants::CLIENT_ADDRESS_MARK;
            /// First source port of such sockets.
            UPSTREAM_PORT_LOW upstream_port_low: u32 = $crate::constants::UPSTREAM_PORTS.0 as u32;
            /// Last source port of such sockets.
            UPSTREAM_PORT_HIGH upstream_port_high: u32 = $crate::constants::UPSTREAM_PORTS.1 as u32;
            /// First port that masqueraded connections leave by.
            MASQUERADE_PORT_LOW masquerade_port_low: u32 = $crate::constants::MASQUERADE_PORTS.0 as u32;
            /// Last port of those.
            MASQUERADE_PORT_HIGH masquerade_port_high: u32 = $crate::constants::MASQUERADE_PORTS.1 as u32;
            /// Mark of packets that a frontend sends on to a backend, from one device to the other.
            FRONTEND_MARK frontend_mark: u32 = $crate::constants::FRONTEND_MARK;
            /// 1: pods' packets to Services are balanced at their devices, as their sockets are left alone.
            POD_LB pod_lb: u32 = 0;
            /// 1: packets for this node's pods are handed to them past the stack.
            HOST_ROUTING host_routing: u32 = 0;
            /// One event in so many is written to the events map; 0 is none.
            EVENT_SAMPLING event_sampling: u32 = 0;
            /// 1: leave the sockets of other namespaces (pods) alone.
            SOCKET_LB_HOST_ONLY socket_lb_host_only: u32 = 0;
        }
    };
}

/// The usual mark of packets that go to the proxy, Cilium's `TO_PROXY`.
pub const PROXY_MARK: u32 = 0x200;
/// The usual mark of packets that a frontend sends on.
pub const FRONTEND_MARK: u32 = 0x600;
/// The bits in which the kind of a mark is kept.
pub const PROXY_MARK_MASK: u32 = 0xf00;
/// The usual mark of upstream sockets that keep a client's address.
pub const CLIENT_ADDRESS_MARK: u32 = 0x900;
/// First and last source port of such sockets, as usual: outside of pods' `ip_local_port_range`, whose default
/// begins at 32768.
pub const UPSTREAM_PORTS: (u16, u16) = (20000, 32000);
/// First and last port that masqueraded connections leave by, as usual: below the node ports of Services (30000) and
/// below what the node's own processes choose (`ip_local_port_range`, from 32768).
pub const MASQUERADE_PORTS: (u16, u16) = (1024, 29999);
