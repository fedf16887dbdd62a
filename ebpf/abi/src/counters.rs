//! Counters of the kernel programs: the indices of the counters map.

macro_rules! counters {
    ($($(#[$doc:meta])* $variant:ident = $number:literal $name:literal,)*) => {
        /// What is counted. Numbers are given once and never reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u32)]
        pub enum Counter {
            $($(#[$doc])* $variant = $number,)*
        }

        impl Counter {
            /// All counters, by number.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name in dumps and metrics.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

counters! {
    /// Packet assigned to a proxy listener: a new connection.
    RedirectedTcNew = 0 "redirected_tc_new",
    /// Packet assigned to a socket that exists already: the proxy's downstream or a kept-source upstream.
    RedirectedTcEstablished = 1 "redirected_tc_established",
    /// Connection of a local client, or to a local address, assigned to a proxy listener by socket lookup.
    RedirectedSkLookup = 2 "redirected_sk_lookup",
    /// Packet to a service of the proxy dropped: no listener.
    DroppedTcNoListener = 3 "dropped_tc_no_listener",
    /// Packet to a service of the proxy dropped: the kernel refused to assign it.
    DroppedTcAssignFailed = 4 "dropped_tc_assign_failed",
    /// Connection to a service of the proxy refused by socket lookup: no listener.
    DroppedSkLookupNoListener = 5 "dropped_sk_lookup_no_listener",
    /// Packet passed on: not IP, or not TCP.
    PassedTcNotTcp = 6 "passed_tc_not_tcp",
    /// Packet passed on: a fragment.
    PassedTcFragment = 7 "passed_tc_fragment",
    /// Packet passed on: too short, or headers that contradict themselves; the stack judges it.
    PassedTcMalformed = 8 "passed_tc_malformed",
    /// Packet passed on: the stack delivers it to one of the node's own addresses.
    PassedTcNodeAddress = 9 "passed_tc_node_address",
    /// Packet passed on: TCP, but neither a socket nor a service of the proxy.
    PassedTcOther = 10 "passed_tc_other",
    /// connect() over IPv4 balanced.
    SocketLbConnect4 = 11 "socket_lb_connect4",
    /// connect() over IPv6 (or v4-mapped) balanced.
    SocketLbConnect6 = 12 "socket_lb_connect6",
    /// sendmsg() over IPv4 balanced.
    SocketLbSendmsg4 = 13 "socket_lb_sendmsg4",
    /// sendmsg() over IPv6 (or v4-mapped) balanced.
    SocketLbSendmsg6 = 14 "socket_lb_sendmsg6",
    /// recvmsg() answered with the service's address.
    SocketLbRecvmsg = 15 "socket_lb_recvmsg",
    /// getpeername() answered with the service's address.
    SocketLbGetpeername = 16 "socket_lb_getpeername",
    /// connect() or sendmsg() to a service of the proxy left alone.
    SocketLbLeftToProxy = 17 "socket_lb_left_to_proxy",
    /// connect() or sendmsg() refused: the service has no backend.
    SocketLbNoBackend = 18 "socket_lb_no_backend",
    /// connect() or sendmsg() refused: a slot or its backend is missing.
    SocketLbMissingBackend = 19 "socket_lb_missing_backend",
    /// Event lost: the events map was full.
    EventsLost = 20 "events_lost",
    /// Packet passed on: for a pod's own connection on a port that the proxy borrows for others.
    PassedTcDirectFlow = 21 "passed_tc_direct_flow",
    /// A pod's SYN dropped: the proxy has a connection with the same two ends. The pod repeats it.
    DroppedTcPortClash = 22 "dropped_tc_port_clash",
    /// connect() of the proxy refused: the pod whose address it keeps has a connection with the same two ends.
    RefusedConnectPortClash = 23 "refused_connect_port_clash",
    /// Packet of a pod sent on with the node's address.
    Masqueraded = 24 "masqueraded",
    /// Answer to such a packet given back the pod's address.
    Unmasqueraded = 25 "unmasqueraded",
    /// Packet of a pod dropped: it cannot leave with the node's address.
    DroppedMasquerade = 26 "dropped_masquerade",
    /// Packet to a frontend sent on to a backend by a device's program.
    BalancedTc = 27 "balanced_tc",
    /// A backend's answer to such a packet given the frontend's address.
    AnsweredTc = 28 "answered_tc",
    /// Packet to a frontend dropped: no backend for it.
    DroppedTcNoBackend = 29 "dropped_tc_no_backend",
    /// Packet sent to another node through a tunnel.
    Tunnelled = 30 "tunnelled",
    /// Packet from another node's tunnel.
    Untunnelled = 31 "untunnelled",
    /// Packet for a tunnel dropped: no node has its destination's range, or the key could not be set.
    DroppedTunnel = 32 "dropped_tunnel",
    /// Packet handed to a pod of this node past the stack.
    Delivered = 33 "delivered",
    /// A pod's packet dropped: its source is not the pod's address.
    DroppedTcInvalidSource = 34 "dropped_tc_invalid_source",
}

const _: () = {
    let mut index = 0;
    while index < Counter::ALL.len() {
        assert!(Counter::ALL[index] as usize == index, "counters are numbered without a gap");
        index += 1;
    }
    assert!(Counter::ALL.len() <= 64, "the counters map has 64 entries");
};
