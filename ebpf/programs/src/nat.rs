//! Address translation at devices: what pods send outside leaves with the node's address, what clients send to
//! frontends goes to a backend, and the answers of both find back.

use aya_ebpf::bindings::{__sk_buff, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::helpers::generated::{
    bpf_l3_csum_replace, bpf_l4_csum_replace, bpf_sk_release, bpf_skb_store_bytes,
};
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use mesh_ebpf_abi::{Counter, DropReason, Family, NatKey};
use mesh_ebpf_logic::transport::protocol;
use mesh_ebpf_logic::{
    Covered, End, FourTuple, LinkLayer, Nat, NatWork, PacketEdit, Payload, frontend, nat, parse_quoted,
    parse_transport, rewrite,
};

use crate::constants::{frontend_mark, proxy_mark_mask};
use crate::events::emit;
use crate::maps::{KernelMaps, count, masquerade_of, masquerade_ports, nat_work};
use crate::sockets::{look_up_tcp, look_up_udp};
use crate::tc::{Skb, ifindex};

/// Egress of devices to the outside whose packets have an Ethernet header.
#[classifier]
pub fn mr_tc_egress(ctx: TcContext) -> i32 {
    egress(&ctx, LinkLayer::Ethernet)
}

/// Egress of devices without one.
#[classifier]
pub fn mr_tc_egress_l3(ctx: TcContext) -> i32 {
    egress(&ctx, LinkLayer::None)
}

/// What leaves through a tunnel; the verdict. A function of its own in the kernel too.
#[inline(never)]
pub(crate) fn leave_by_tunnel(skb: *mut __sk_buff) -> i32 {
    egress(&TcContext::new(skb), LinkLayer::Ethernet)
}

#[inline(always)]
fn egress(ctx: &TcContext, link: LinkLayer) -> i32 {
    // First of all: most devices of a node translate nothing, and their packets are to pay nothing.
    let Some(device) = masquerade_of(ifindex(ctx)) else { return TC_ACT_UNSPEC };
    let Some(work) = parsed(&Skb(ctx), link) else { return TC_ACT_UNSPEC };
    let family = work.packet.family;
    let is_sent_on = take_mark(ctx);
    let verdict = nat::leaving(work, device, is_sent_on, masquerade_ports(), &KernelMaps, |answer| {
        is_of_node(ctx, answer, family)
    });
    carry_out(ctx, work, verdict, End::Source)
}

/// What a device's program does with a packet. `UNSPEC`: the next one looks at it.
#[inline(always)]
fn carry_out(ctx: &TcContext, work: &NatWork, verdict: Nat, end: End) -> i32 {
    match verdict {
        Nat::Pass => TC_ACT_UNSPEC,
        Nat::Drop(reason) => drop(ctx, work, reason),
        Nat::Translate(to) => {
            if rewrite(&Skb(ctx), work, end, &to).is_none() {
                return drop(ctx, work, DropReason::WriteFailed);
            }
            count(match (end, to.by_frontend) {
                (End::Source, false) => Counter::Masqueraded,
                (End::Source, true) => Counter::AnsweredTc,
                (End::Destination, false) => Counter::Unmasqueraded,
                (End::Destination, true) => Counter::BalancedTc,
            });
            TC_ACT_UNSPEC
        }
    }
}

/// Whether a frontend sent the packet on, said by its mark, which has done its work then: it must not go on to what the
/// packet is wrapped in.
#[inline(always)]
fn take_mark(ctx: &TcContext) -> bool {
    // SAFETY: the context is valid as long as the program runs.
    unsafe {
        let skb = ctx.skb.skb;
        let is_marked = (*skb).mark & proxy_mark_mask() == frontend_mark();
        if is_marked {
            (*skb).mark &= !proxy_mark_mask();
        }
        is_marked
    }
}

/// Says that a frontend sends the packet on.
#[inline(always)]
fn set_mark(ctx: &TcContext) {
    // SAFETY: the context is valid as long as the program runs.
    unsafe {
        let skb = ctx.skb.skb;
        (*skb).mark = ((*skb).mark & !proxy_mark_mask()) | frontend_mark();
    }
}

/// Gives what a pod sends to a Service a backend, where its sockets are left alone; the verdict.
#[inline(never)]
pub(crate) fn from_pod(skb: *mut __sk_buff) -> i32 {
    let ctx = &TcContext::new(skb);
    let Some(work) = parsed(&Skb(ctx), LinkLayer::Ethernet) else { return TC_ACT_UNSPEC };
    let verdict = frontend::from_pod(work, &KernelMaps);
    carry_out(ctx, work, verdict, End::Destination)
}

/// Egress of the host's side of a pod's veth, where its sockets are left alone: what the pod is sent.
#[classifier]
pub fn mr_tc_to_pod(ctx: TcContext) -> i32 {
    let Some(work) = parsed(&Skb(&ctx), LinkLayer::Ethernet) else { return TC_ACT_UNSPEC };
    let verdict = frontend::to_pod(work, &KernelMaps);
    carry_out(&ctx, work, verdict, End::Source)
}

/// Gives an answer to a masqueraded packet back to its pod, and what is for a frontend to a backend; the verdict. A function of its own in the kernel too: its
/// caller has no room on its stack for it.
#[inline(never)]
pub(crate) fn ingress(skb: *mut __sk_buff, has_ethernet: bool) -> i32 {
    let ctx = &TcContext::new(skb);
    let Some(device) = masquerade_of(ifindex(ctx)) else { return TC_ACT_UNSPEC };
    let link = if has_ethernet { LinkLayer::Ethernet } else { LinkLayer::None };
    let Some(work) = parsed(&Skb(ctx), link) else { return TC_ACT_UNSPEC };
    let verdict = nat::coming(work, device, masquerade_ports(), &KernelMaps);
    if matches!(verdict, Nat::Translate(to) if to.by_frontend) {
        set_mark(ctx);
    }
    carry_out(ctx, work, verdict, End::Destination)
}

#[inline(always)]
fn parsed(packet: &Skb<'_>, link: LinkLayer) -> Option<&'static mut NatWork> {
    let work = nat_work()?;
    parse_transport(packet, link, &mut work.packet)?;
    if let Payload::Error(offset) = work.packet.payload {
        work.is_quoting = parse_quoted(packet, work.packet.family, offset, &mut work.quoted).is_some();
    }
    Some(work)
}

#[inline(always)]
fn drop(ctx: &TcContext, work: &NatWork, reason: DropReason) -> i32 {
    let counter = match reason {
        DropReason::NoBackend => Counter::DroppedTcNoBackend,
        _ => Counter::DroppedMasquerade,
    };
    count(counter);
    emit(&work.packet.tuple, work.packet.protocol, ifindex(ctx), counter, Some(reason));
    TC_ACT_SHOT
}

/// Whether a socket of the node would get the packets of an entry, a listener included.
#[inline(always)]
fn is_of_node(ctx: &TcContext, answer: &NatKey, family: Family) -> bool {
    let tuple = FourTuple {
        source: answer.remote,
        destination: answer.local,
        source_port: answer.remote_port,
        destination_port: answer.local_port,
    };
    let socket = match answer.protocol {
        protocol::TCP => look_up_tcp(ctx, &tuple, family),
        protocol::UDP => look_up_udp(ctx, &tuple, family),
        _ => None,
    };
    if let Some(socket) = socket {
        // SAFETY: looked up just before, and released once.
        unsafe { bpf_sk_release(socket.as_ptr().cast()) };
    }
    socket.is_some()
}

/// The checksum is of an IPv6 packet, where a change of the address is not made up for by one of an IP header's
/// checksum. Since Linux 6.16; older kernels refuse it, and do without.
const BPF_F_IPV6: u64 = 1 << 7;

impl PacketEdit for Skb<'_> {
    #[inline(always)]
    fn store<const N: usize>(&self, offset: u32, bytes: [u8; N]) -> bool {
        // SAFETY: the source has `N` bytes; the helper checks the packet's bounds.
        unsafe { bpf_skb_store_bytes(self.0.skb.skb.cast(), offset, bytes.as_ptr().cast(), N as u32, 0) == 0 }
    }

    #[inline(always)]
    fn adjust_header(&self, offset: u32, from: u32, to: u32) -> bool {
        // SAFETY: the helper checks the packet's bounds.
        unsafe { bpf_l3_csum_replace(self.0.skb.skb.cast(), offset, from.into(), to.into(), 4) == 0 }
    }

    #[inline(always)]
    fn adjust_header_word(&self, offset: u32, from: u32, to: u32) -> bool {
        // SAFETY: the helper checks the packet's bounds.
        unsafe { bpf_l3_csum_replace(self.0.skb.skb.cast(), offset, from.into(), to.into(), 2) == 0 }
    }

    #[inline(always)]
    fn adjust(&self, offset: u32, difference: u32, covered: Covered) -> bool {
        let mut flags = 0;
        if covered.by_pseudo_header {
            flags |= u64::from(BPF_F_PSEUDO_HDR);
        }
        if covered.is_udp {
            flags |= u64::from(BPF_F_MARK_MANGLED_0);
        }
        // SAFETY: the helper checks the packet's bounds.
        let replace = |flags| unsafe {
            bpf_l4_csum_replace(self.0.skb.skb.cast(), offset, 0, difference.into(), flags) == 0
        };
        if covered.is_v6 && covered.by_pseudo_header && replace(flags | BPF_F_IPV6) {
            return true;
        }
        replace(flags)
    }
}
