//! Packets at a device's ingress: to the proxy's sockets, or on their way.
//!
//! Design 13.1 and 13.5: the socket that the two ends of a packet belong to gets it, whoever owns the
//! address; else a service of the proxy gets one of the proxy's listeners. Packets to the node's own
//! addresses are left to the stack, which finds sockets itself and asks socket lookup for listeners. What
//! pods send from ports that the proxy borrows is noted on the way.

use core::ptr::NonNull;

use aya_ebpf::bindings::{
    BPF_F_CURRENT_NETNS, TC_ACT_OK, TC_ACT_SHOT, TC_ACT_UNSPEC, bpf_sock, bpf_sock_tuple,
    bpf_sock_tuple__bindgen_ty_1, bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1,
    bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2,
};
use aya_ebpf::helpers::generated::{bpf_sk_assign, bpf_sk_release, bpf_skb_load_bytes, bpf_skc_lookup_tcp};
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use mesh_ebpf_abi::{Counter, DropReason, Family};
use mesh_ebpf_logic::{
    DatapathMaps, Departure, FourTuple, LinkLayer, NotTcp, PacketBytes, Redirect, TcpPacket, direct_flow,
    holds_ends, new_connection, parse_tcp, takes_packets,
};

use crate::constants::{proxy_mark, proxy_mark_mask};
use crate::events::emit;
use crate::maps::{KernelMaps, LISTENERS, borrowed_ports, count, set_looking};

/// Ingress of devices whose packets have an Ethernet header: uplinks, VXLAN.
#[classifier]
pub fn mr_tc_ingress(ctx: TcContext) -> i32 {
    ingress(&ctx, LinkLayer::Ethernet, Sender::Anyone)
}

/// Ingress of the host's side of a pod's veth: what the pod sends.
#[classifier]
pub fn mr_tc_pod(ctx: TcContext) -> i32 {
    ingress(&ctx, LinkLayer::Ethernet, Sender::Pod)
}

/// Ingress of devices without one: TUN, IP tunnels.
#[classifier]
pub fn mr_tc_ingress_l3(ctx: TcContext) -> i32 {
    ingress(&ctx, LinkLayer::None, Sender::Anyone)
}

/// Does nothing; what attaching costs by itself is measured with it.
#[classifier]
pub fn mr_tc_empty(_ctx: TcContext) -> i32 {
    TC_ACT_UNSPEC
}

/// Who is behind a device.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sender {
    /// A pod of this node.
    Pod,
    Anyone,
}

#[inline(always)]
fn ingress(ctx: &TcContext, link: LinkLayer, sender: Sender) -> i32 {
    let packet = match parse_tcp(&Skb(ctx), link) {
        Ok(packet) => packet,
        Err(why) => {
            return pass(match why {
                NotTcp::OtherProtocol => Counter::PassedTcNotTcp,
                NotTcp::Fragment => Counter::PassedTcFragment,
                NotTcp::Malformed => Counter::PassedTcMalformed,
            });
        }
    };
    if KernelMaps.is_node_address(&packet.tuple.destination) {
        return leave(ctx, &packet, sender, Counter::PassedTcNodeAddress);
    }
    if borrowed_ports().contain(packet.tuple.destination_port)
        && direct_flow::is_own_answer(&packet, &KernelMaps)
    {
        return pass(Counter::PassedTcDirectFlow);
    }
    if let Some(socket) = connected_socket(ctx, &packet.tuple, packet.family) {
        return assign(ctx, socket, &packet.tuple, Counter::RedirectedTcEstablished);
    }
    match new_connection(&packet.tuple, packet.family, &KernelMaps) {
        Redirect::Pass => leave(ctx, &packet, sender, Counter::PassedTcOther),
        Redirect::Drop(reason) => drop(ctx, &packet.tuple, Counter::DroppedTcNoListener, reason),
        Redirect::Listener(index) => match LISTENERS.take(index) {
            Some(socket) => assign(ctx, socket, &packet.tuple, Counter::RedirectedTcNew),
            // The proxy died, and its sockets with it.
            None => drop(ctx, &packet.tuple, Counter::DroppedTcNoListener, DropReason::NoListener),
        },
    }
}

/// Passes on what is not for the proxy, and keeps a pod from using two ends that the proxy uses for it.
#[inline(always)]
fn leave(ctx: &TcContext, packet: &TcpPacket, sender: Sender, counter: Counter) -> i32 {
    if sender == Sender::Pod && borrowed_ports().contain(packet.tuple.source_port) {
        let departure = direct_flow::depart(packet, &KernelMaps, || {
            is_of_the_proxy(ctx, &packet.tuple.reversed(), packet.family)
        });
        if departure == Departure::Clash {
            return drop(ctx, &packet.tuple, Counter::DroppedTcPortClash, DropReason::PortClash);
        }
    }
    pass(counter)
}

/// Leaves the packet to other programs of the device, then to the stack. `UNSPEC` means that to clsact
/// and, as `TCX_NEXT`, to tcx.
#[inline(always)]
fn pass(counter: Counter) -> i32 {
    count(counter);
    TC_ACT_UNSPEC
}

#[inline(always)]
fn drop(ctx: &TcContext, tuple: &FourTuple, counter: Counter, reason: DropReason) -> i32 {
    count(counter);
    emit(tuple, ifindex(ctx), counter, Some(reason));
    TC_ACT_SHOT
}

/// Gives the packet to a socket, releases the socket, and marks the packet, so that a routing rule delivers
/// it locally whatever its address. `OK` ends the chain: no other program may send it elsewhere.
#[inline(always)]
fn assign(ctx: &TcContext, socket: NonNull<bpf_sock>, tuple: &FourTuple, counter: Counter) -> i32 {
    // SAFETY: the socket was taken by a lookup and not released yet; it is released once, on the next line.
    let failed = unsafe {
        let result = bpf_sk_assign(ctx.skb.skb.cast(), socket.as_ptr().cast(), 0);
        bpf_sk_release(socket.as_ptr().cast());
        result != 0
    };
    if failed {
        return drop(ctx, tuple, Counter::DroppedTcAssignFailed, DropReason::AssignFailed);
    }
    // SAFETY: the context is valid as long as the program runs.
    unsafe {
        let skb = ctx.skb.skb;
        (*skb).mark = ((*skb).mark & !proxy_mark_mask()) | proxy_mark();
    }
    count(counter);
    emit(tuple, ifindex(ctx), counter, None);
    TC_ACT_OK
}

/// The socket whose two ends are the packet's, if it wants packets; the caller has to release it.
#[inline(always)]
fn connected_socket(ctx: &TcContext, tuple: &FourTuple, family: Family) -> Option<NonNull<bpf_sock>> {
    let socket = look_up(ctx, tuple, family)?;
    if takes_packets(state(socket)) {
        Some(socket)
    } else {
        release(socket);
        None
    }
}

/// Whether a connection of the proxy would get packets with these two ends. One in TIME_WAIT would not: the
/// pod's own answers pass it by.
#[inline(always)]
fn is_of_the_proxy(ctx: &TcContext, tuple: &FourTuple, family: Family) -> bool {
    let Some(socket) = look_up(ctx, tuple, family) else {
        return false;
    };
    let state = state(socket);
    release(socket);
    holds_ends(state)
}

/// Any socket for the two ends; the caller has to release it.
#[inline(always)]
fn look_up(ctx: &TcContext, tuple: &FourTuple, family: Family) -> Option<NonNull<bpf_sock>> {
    let (source, destination) = (tuple.source.words(), tuple.destination.words());
    let (sport, dport) = (tuple.source_port.to_network(), tuple.destination_port.to_network());
    let mut ends = match family {
        Family::V4 => bpf_sock_tuple__bindgen_ty_1 {
            ipv4: bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 {
                saddr: source[3],
                daddr: destination[3],
                sport,
                dport,
            },
        },
        Family::V6 => bpf_sock_tuple__bindgen_ty_1 {
            ipv6: bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2 {
                saddr: source,
                daddr: destination,
                sport,
                dport,
            },
        },
    };
    let size = match family {
        Family::V4 => size_of::<bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1>(),
        Family::V6 => size_of::<bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2>(),
    };
    let ends: *mut bpf_sock_tuple = (&raw mut ends).cast();
    // The device's own network namespace: the node's, for the host's side of a pod's veth.
    let netns = BPF_F_CURRENT_NETNS as i64 as u64;
    set_looking(true);
    // SAFETY: the tuple is filled for the size given, which tells the helper the family.
    let socket = unsafe { bpf_skc_lookup_tcp(ctx.skb.skb.cast(), ends, size as u32, netns, 0) };
    set_looking(false);
    NonNull::new(socket)
}

#[inline(always)]
fn state(socket: NonNull<bpf_sock>) -> u32 {
    // SAFETY: looked up and not released yet; `state` may be read of every socket, half-open ones too.
    unsafe { (*socket.as_ptr()).state }
}

#[inline(always)]
fn release(socket: NonNull<bpf_sock>) {
    // SAFETY: looked up before, and each caller releases once.
    unsafe { bpf_sk_release(socket.as_ptr().cast()) };
}

#[inline(always)]
fn ifindex(ctx: &TcContext) -> u32 {
    // SAFETY: the context is valid as long as the program runs.
    unsafe { (*ctx.skb.skb).ifindex }
}

struct Skb<'a>(&'a TcContext);

impl PacketBytes for Skb<'_> {
    #[inline(always)]
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        // SAFETY: the destination has `N` bytes; the helper checks the packet's bounds.
        let result =
            unsafe { bpf_skb_load_bytes(self.0.skb.skb.cast(), offset, bytes.as_mut_ptr().cast(), N as u32) };
        (result == 0).then_some(bytes)
    }
}
