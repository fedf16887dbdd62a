//! Packets between nodes, wrapped in VXLAN: one device for all of them, and each packet says which node it goes to.

use core::mem::offset_of;

use aya_ebpf::bindings::{
    __sk_buff, BPF_F_TUNINFO_IPV6, BPF_F_ZERO_CSUM_TX, TC_ACT_SHOT, TC_ACT_UNSPEC, bpf_tunnel_key,
    bpf_tunnel_key__bindgen_ty_1, bpf_tunnel_key__bindgen_ty_2, bpf_tunnel_key__bindgen_ty_3,
};
use aya_ebpf::helpers::generated::{bpf_skb_change_type, bpf_skb_set_tunnel_key};
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use mesh_ebpf_abi::{Addr, Counter, DropReason};
use mesh_ebpf_logic::{FourTuple, parse_destination};

use crate::deliver::deliver;
use crate::events::emit;
use crate::maps::{count, tunnel_to};
use crate::nat;
use crate::tc::{Skb, from_outside, ifindex};

/// Whose packets they are, as long as no identity is known: Cilium's `world`.
const WORLD: u32 = 2;
/// Hops that the outer packet has left.
const TTL: u8 = 64;
/// A key without the node's own address, which the kernel chooses by the route: as long as keys were before 6.0.
const KEY_SIZE: u32 = offset_of!(bpf_tunnel_key, __bindgen_anon_3) as u32;
/// `PACKET_HOST` of `if_packet.h`.
const FOR_THIS_HOST: u32 = 0;

/// Egress of the tunnel device.
#[classifier]
pub fn mr_tc_tunnel(ctx: TcContext) -> i32 {
    match nat::leave_by_tunnel(ctx.skb.skb) {
        TC_ACT_UNSPEC => tunnel(ctx.skb.skb),
        verdict => verdict,
    }
}

/// Ingress of the tunnel device: what other nodes sent.
#[classifier]
pub fn mr_tc_untunnel(ctx: TcContext) -> i32 {
    // The sender knows no hardware address of ours.
    // SAFETY: the context is valid as long as the program runs. The helper fails for no value that is one.
    unsafe { bpf_skb_change_type(ctx.skb.skb, FOR_THIS_HOST) };
    count(Counter::Untunnelled);
    deliver(ctx.skb.skb, from_outside(&ctx, true))
}

/// Says which node the packet goes to.
#[inline(never)]
fn tunnel(skb: *mut __sk_buff) -> i32 {
    let ctx = &TcContext::new(skb);
    let Some(destination) = parse_destination(&Skb(ctx)) else { return drop(ctx, Addr::default()) };
    let Some(node) = tunnel_to(&destination) else { return drop(ctx, destination) };
    let (remote, flags) = match node.as_v4() {
        Some(v4) => (bpf_tunnel_key__bindgen_ty_1 { remote_ipv4: u32::from_be(v4) }, BPF_F_ZERO_CSUM_TX),
        None => (bpf_tunnel_key__bindgen_ty_1 { remote_ipv6: node.words() }, BPF_F_TUNINFO_IPV6),
    };
    let mut key = bpf_tunnel_key {
        tunnel_id: WORLD,
        __bindgen_anon_1: remote,
        tunnel_tos: 0,
        tunnel_ttl: TTL,
        __bindgen_anon_2: bpf_tunnel_key__bindgen_ty_2 { tunnel_ext: 0 },
        tunnel_label: 0,
        __bindgen_anon_3: bpf_tunnel_key__bindgen_ty_3 { local_ipv6: [0; 4] },
    };
    // SAFETY: the key is as long as said, and longer.
    let failed = unsafe { bpf_skb_set_tunnel_key(skb, &raw mut key, KEY_SIZE, u64::from(flags)) != 0 };
    if failed {
        return drop(ctx, destination);
    }
    count(Counter::Tunnelled);
    TC_ACT_UNSPEC
}

#[inline(always)]
fn drop(ctx: &TcContext, destination: Addr) -> i32 {
    count(Counter::DroppedTunnel);
    let tuple = FourTuple { destination, ..FourTuple::UNKNOWN };
    emit(&tuple, 0, ifindex(ctx), Counter::DroppedTunnel, Some(DropReason::NoTunnel));
    TC_ACT_SHOT
}
