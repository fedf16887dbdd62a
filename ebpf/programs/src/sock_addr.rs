//! Socket calls to services that the kernel balances: the address is changed before any packet exists.

use core::ptr::NonNull;

use aya_ebpf::bindings::{bpf_sock, bpf_sock_addr};
use aya_ebpf::helpers::generated::{
    bpf_get_netns_cookie, bpf_get_prandom_u32, bpf_get_socket_cookie, bpf_set_retval,
};
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use mesh_ebpf_abi::{Addr, Be16, Counter, DirectFlowKey, Family, Protocol, ReverseKey, ReverseValue};
use mesh_ebpf_logic::flow::number_hash;
use mesh_ebpf_logic::{Balance, balance, direct_flow};

use crate::constants::{client_address_mark, host_netns_cookie, socket_lb_host_only};
use crate::maps::{KernelMaps, SOCK_REVERSE, count};

const ALLOW: i32 = 1;
const REJECT: i32 = 0;
const ECONNREFUSED: i32 = 111;
const EADDRNOTAVAIL: i32 = 99;

/// connect() of IPv4 sockets.
#[cgroup_sock_addr(connect4)]
pub fn mr_connect4(ctx: SockAddrContext) -> i32 {
    connect(&Call::new(&ctx, Family::V4), Counter::SocketLbConnect4)
}

/// connect() of IPv6 sockets, to v4-mapped addresses too.
#[cgroup_sock_addr(connect6)]
pub fn mr_connect6(ctx: SockAddrContext) -> i32 {
    connect(&Call::new(&ctx, Family::V6), Counter::SocketLbConnect6)
}

/// sendto() and sendmsg() with an address, of IPv4 datagram sockets.
#[cgroup_sock_addr(sendmsg4)]
pub fn mr_sendmsg4(ctx: SockAddrContext) -> i32 {
    let call = Call::new(&ctx, Family::V4);
    translate(&call, number_hash(call.cookie()), Counter::SocketLbSendmsg4)
}

/// sendto() and sendmsg() with an address, of IPv6 datagram sockets.
#[cgroup_sock_addr(sendmsg6)]
pub fn mr_sendmsg6(ctx: SockAddrContext) -> i32 {
    let call = Call::new(&ctx, Family::V6);
    translate(&call, number_hash(call.cookie()), Counter::SocketLbSendmsg6)
}

/// recvmsg() and recvfrom() of IPv4 datagram sockets: replies come from the address that was dialled.
#[cgroup_sock_addr(recvmsg4)]
pub fn mr_recvmsg4(ctx: SockAddrContext) -> i32 {
    reverse(&Call::new(&ctx, Family::V4), Counter::SocketLbRecvmsg)
}

/// recvmsg() and recvfrom() of IPv6 datagram sockets.
#[cgroup_sock_addr(recvmsg6)]
pub fn mr_recvmsg6(ctx: SockAddrContext) -> i32 {
    reverse(&Call::new(&ctx, Family::V6), Counter::SocketLbRecvmsg)
}

/// getpeername() of IPv4 sockets: the peer is the address that was dialled.
#[cgroup_sock_addr(getpeername4)]
pub fn mr_getpeername4(ctx: SockAddrContext) -> i32 {
    reverse(&Call::new(&ctx, Family::V4), Counter::SocketLbGetpeername)
}

/// getpeername() of IPv6 sockets.
#[cgroup_sock_addr(getpeername6)]
pub fn mr_getpeername6(ctx: SockAddrContext) -> i32 {
    reverse(&Call::new(&ctx, Family::V6), Counter::SocketLbGetpeername)
}

/// Keeps the proxy off ports that the pod uses whose address it borrows, then balances.
#[inline(always)]
fn connect(call: &Call, balanced: Counter) -> i32 {
    if call.mark() == client_address_mark() && direct_flow::is_taken(&call.flow(), &KernelMaps) {
        count(Counter::RefusedConnectPortClash);
        // As for a port that another socket of the node has. SAFETY: the helper has no preconditions.
        unsafe { bpf_set_retval(-EADDRNOTAVAIL) };
        return REJECT;
    }
    translate(call, random(), balanced)
}

macro_rules! empty {
    ($($name:ident $hook:ident)*) => {$(
        /// Does nothing; what a hook costs by itself is measured with it.
        #[cgroup_sock_addr($hook)]
        pub fn $name(_ctx: SockAddrContext) -> i32 {
            ALLOW
        }
    )*};
}
empty! {
    mr_empty_conn4 connect4
    mr_empty_conn6 connect6
    mr_empty_send4 sendmsg4
    mr_empty_recv4 recvmsg4
    mr_empty_peer4 getpeername4
}

#[inline(always)]
fn translate(call: &Call, hash: u32, balanced: Counter) -> i32 {
    if socket_lb_host_only() != 0 && call.netns_cookie() != host_netns_cookie() {
        return ALLOW;
    }
    let Some(protocol) = Protocol::from_number(call.protocol()) else {
        return ALLOW;
    };
    let (dialled, port) = (call.address(), call.port());
    let is_of_host = || call.netns_cookie() == host_netns_cookie();
    match balance((dialled, port, protocol), call.family, hash, &KernelMaps, is_of_host) {
        Balance::Pass => ALLOW,
        Balance::LeaveToProxy => {
            count(Counter::SocketLbLeftToProxy);
            ALLOW
        }
        Balance::Refuse(counter) => {
            count(counter);
            // What a service without backends says through iptables too; without it the caller would get
            // EPERM. SAFETY: the helper has no preconditions.
            unsafe { bpf_set_retval(-ECONNREFUSED) };
            REJECT
        }
        Balance::To { service, address, port: backend_port } => {
            let key = ReverseKey::new(call.cookie(), address, backend_port);
            // If it fails the connection works all the same, and the caller sees the backend's address.
            let _ = SOCK_REVERSE.insert(key, ReverseValue::new(dialled, port, service), 0);
            call.set(address, backend_port);
            count(balanced);
            ALLOW
        }
    }
}

#[inline(always)]
fn reverse(call: &Call, reversed: Counter) -> i32 {
    let key = ReverseKey::new(call.cookie(), call.address(), call.port());
    // SAFETY: an entry is written once for a key and replaced as a whole.
    if let Some(value) = unsafe { SOCK_REVERSE.get(key) } {
        call.set(value.address, value.port);
        count(reversed);
    }
    ALLOW
}

#[inline(always)]
fn random() -> u32 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_get_prandom_u32() }
}

/// The call's context, for one family.
///
/// SAFETY of all that follows: the context is valid as long as the program runs, and the verifier lets each
/// field be read and written at its own width.
struct Call {
    context: *mut bpf_sock_addr,
    family: Family,
}

impl Call {
    #[inline(always)]
    fn new(ctx: &SockAddrContext, family: Family) -> Self {
        Self { context: ctx.sock_addr, family }
    }

    #[inline(always)]
    fn protocol(&self) -> u32 {
        unsafe { (*self.context).protocol }
    }

    /// Mark of the socket (`SO_MARK`).
    #[inline(always)]
    fn mark(&self) -> u32 {
        match self.socket() {
            Some(socket) => unsafe { (*socket.as_ptr()).mark },
            None => 0,
        }
    }

    /// The two ends that the connection will have; the source is what the socket is bound to.
    #[inline(always)]
    fn flow(&self) -> DirectFlowKey {
        let (source, port) = match (self.socket(), self.family) {
            (Some(socket), Family::V4) => unsafe {
                let socket = socket.as_ptr();
                (Addr::v4((*socket).src_ip4), (*socket).src_port as u16)
            },
            (Some(socket), Family::V6) => unsafe {
                let socket = socket.as_ptr();
                // One by one: the verifier takes no copy of the whole array.
                let words = (&raw const (*socket).src_ip6).cast::<u32>();
                let address = Addr::v6([
                    words.read_volatile(),
                    words.add(1).read_volatile(),
                    words.add(2).read_volatile(),
                    words.add(3).read_volatile(),
                ]);
                (address, (*socket).src_port as u16)
            },
            (None, _) => (Addr::default(), 0),
        };
        DirectFlowKey {
            source,
            destination: self.address(),
            source_port: Be16::new(port),
            destination_port: self.port(),
        }
    }

    #[inline(always)]
    fn socket(&self) -> Option<NonNull<bpf_sock>> {
        NonNull::new(unsafe { (*self.context).__bindgen_anon_1.sk })
    }

    #[inline(always)]
    fn address(&self) -> Addr {
        match self.family {
            Family::V4 => Addr::v4(unsafe { (*self.context).user_ip4 }),
            Family::V6 => Addr::v6(unsafe { (*self.context).user_ip6 }),
        }
    }

    #[inline(always)]
    fn port(&self) -> Be16 {
        Be16::from_network(unsafe { (*self.context).user_port } as u16)
    }

    #[inline(always)]
    fn set(&self, address: Addr, port: Be16) {
        let [a, b, c, d] = address.words();
        unsafe {
            match self.family {
                Family::V4 => (*self.context).user_ip4 = d,
                Family::V6 => {
                    // One by one: the verifier takes no copy of the whole array.
                    let words = (&raw mut (*self.context).user_ip6).cast::<u32>();
                    words.write_volatile(a);
                    words.add(1).write_volatile(b);
                    words.add(2).write_volatile(c);
                    words.add(3).write_volatile(d);
                }
            }
            (*self.context).user_port = u32::from(port.to_network());
        }
    }

    #[inline(always)]
    fn cookie(&self) -> u64 {
        unsafe { bpf_get_socket_cookie(self.context.cast()) }
    }

    #[inline(always)]
    fn netns_cookie(&self) -> u64 {
        unsafe { bpf_get_netns_cookie(self.context.cast()) }
    }
}
