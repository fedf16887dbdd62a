//! Packets at a device's ingress: to the proxy's sockets, or on their way.
//!
//! Design 13.1 and 13.5: the socket that the two ends of a packet belong to gets it, whoever owns the
//! address; else a service of the proxy gets one of the proxy's listeners. Packets to the node's own
//! addresses are left to the stack, which finds sockets itself and asks socket lookup for listeners. What
//! pods send from ports that the proxy borrows is noted on the way.

use core::ptr::NonNull;

use aya_ebpf::bindings::{__sk_buff, TC_ACT_OK, TC_ACT_SHOT, TC_ACT_UNSPEC, bpf_sock};
use aya_ebpf::helpers::generated::{bpf_sk_assign, bpf_sk_release, bpf_skb_load_bytes};
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use mesh_ebpf_abi::{Counter, DropReason, Family};
use mesh_ebpf_logic::transport::protocol;
use mesh_ebpf_logic::{
    DatapathMaps, Departure, FourTuple, LinkLayer, NotTcp, Origin, PacketBytes, Redirect, TcpPacket,
    direct_flow, holds_ends, new_connection, origin, parse_destination, parse_tcp, takes_packets,
};

use crate::constants::{pod_lb, proxy_mark, proxy_mark_mask};
use crate::deliver::deliver;
use crate::events::emit;
use crate::maps::{KernelMaps, LISTENERS, borrowed_ports, count, pod_behind};
use crate::nat;
use crate::sockets::look_up_tcp;

/// Ingress of devices whose packets have an Ethernet header: uplinks.
#[classifier]
pub fn mr_tc_ingress(ctx: TcContext) -> i32 {
    deliver(ctx.skb.skb, from_outside(&ctx, true))
}

/// Ingress of the host's side of a pod's veth: what the pod sends.
#[classifier]
pub fn mr_tc_pod(ctx: TcContext) -> i32 {
    match sender_of(ctx.skb.skb) {
        FOREIGN => return TC_ACT_SHOT,
        // Past the stack there would be nobody to hold it back.
        LINK => return redirect_from_pod(ctx.skb.skb),
        _ => {}
    }
    if pod_lb() == 0 {
        let verdict = redirect_from_pod(ctx.skb.skb);
        return deliver(ctx.skb.skb, verdict);
    }
    match nat::from_pod(ctx.skb.skb) {
        TC_ACT_UNSPEC => redirect_from_pod(ctx.skb.skb),
        verdict => verdict,
    }
}

/// It is the pod's.
const OWN: i32 = 0;
/// It is of the link between pod and node.
const LINK: i32 = 1;
/// It is somebody else's; that was counted.
const FOREIGN: i32 = 2;

/// Whose name a pod's packet is in. A function of its own in the kernel too.
#[inline(never)]
fn sender_of(skb: *mut __sk_buff) -> i32 {
    let ctx = &TcContext::new(skb);
    let Some(pod) = pod_behind(ifindex(ctx)) else { return OWN };
    let packet = Skb(ctx);
    match origin(&packet, pod) {
        Origin::Own => OWN,
        Origin::Link => LINK,
        Origin::Foreign(source) => {
            let destination = parse_destination(&packet).unwrap_or_default();
            let tuple = FourTuple { source, destination, ..FourTuple::UNKNOWN };
            let counter = Counter::DroppedTcInvalidSource;
            count(counter);
            emit(&tuple, 0, ifindex(ctx), counter, Some(DropReason::InvalidSource));
            FOREIGN
        }
    }
}

/// A function of its own in the kernel too, as [`redirect_from_outside`].
#[inline(never)]
fn redirect_from_pod(skb: *mut __sk_buff) -> i32 {
    redirect(&TcContext::new(skb), LinkLayer::Ethernet, Sender::Pod)
}

/// Ingress of devices without one: TUN, IP tunnels.
#[classifier]
pub fn mr_tc_ingress_l3(ctx: TcContext) -> i32 {
    from_outside(&ctx, false)
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

/// First to the pod that a packet answers, then to the proxy, if it is for it.
#[inline(always)]
pub(crate) fn from_outside(ctx: &TcContext, has_ethernet: bool) -> i32 {
    match nat::ingress(ctx.skb.skb, has_ethernet) {
        TC_ACT_UNSPEC => redirect_from_outside(ctx.skb.skb, has_ethernet),
        verdict => verdict,
    }
}

/// A function of its own in the kernel too: its stack and that of [`nat::ingress`] are not needed at the same time.
#[inline(never)]
fn redirect_from_outside(skb: *mut __sk_buff, has_ethernet: bool) -> i32 {
    let link = if has_ethernet { LinkLayer::Ethernet } else { LinkLayer::None };
    redirect(&TcContext::new(skb), link, Sender::Anyone)
}

#[inline(always)]
fn redirect(ctx: &TcContext, link: LinkLayer, sender: Sender) -> i32 {
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
    emit(tuple, protocol::TCP, ifindex(ctx), counter, Some(reason));
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
    emit(tuple, protocol::TCP, ifindex(ctx), counter, None);
    TC_ACT_OK
}

/// The socket whose two ends are the packet's, if it wants packets; the caller has to release it.
#[inline(always)]
fn connected_socket(ctx: &TcContext, tuple: &FourTuple, family: Family) -> Option<NonNull<bpf_sock>> {
    let socket = look_up_tcp(ctx, tuple, family)?;
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
    let Some(socket) = look_up_tcp(ctx, tuple, family) else {
        return false;
    };
    let state = state(socket);
    release(socket);
    holds_ends(state)
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
pub(crate) fn ifindex(ctx: &TcContext) -> u32 {
    // SAFETY: the context is valid as long as the program runs.
    unsafe { (*ctx.skb.skb).ifindex }
}

pub(crate) struct Skb<'a>(pub(crate) &'a TcContext);

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
