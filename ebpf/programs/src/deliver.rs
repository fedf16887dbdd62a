//! Packets for this node's pods, handed to them past the stack: no route, no neighbour, no queue of a device.

use aya_ebpf::bindings::{__sk_buff, TC_ACT_UNSPEC};
use aya_ebpf::helpers::generated::bpf_redirect_peer;
use aya_ebpf::programs::TcContext;
use mesh_ebpf_abi::{Counter, EndpointValue};
use mesh_ebpf_logic::{PacketEdit, one_hop, parse_destination};

use crate::constants::host_routing;
use crate::maps::{count, endpoint};
use crate::tc::Skb;

/// The verdict on a packet with an Ethernet header that no other program has one on.
#[inline(always)]
pub(crate) fn deliver(skb: *mut __sk_buff, verdict: i32) -> i32 {
    if host_routing() == 0 || verdict != TC_ACT_UNSPEC {
        return verdict;
    }
    to_pod(skb)
}

/// A function of its own in the kernel too.
#[inline(never)]
fn to_pod(skb: *mut __sk_buff) -> i32 {
    let ctx = &TcContext::new(skb);
    let packet = Skb(ctx);
    let Some(destination) = parse_destination(&packet) else { return TC_ACT_UNSPEC };
    let Some(EndpointValue { device, mac, node_mac }) = endpoint(&destination) else { return TC_ACT_UNSPEC };
    // One that has no hop left is for the stack, which says so to its sender.
    if one_hop(&packet).is_none() || !packet.store(0, *mac) || !packet.store(6, *node_mac) {
        return TC_ACT_UNSPEC;
    }
    // What the mark says is the node's, as when a packet crosses a veth pair.
    // SAFETY: the context is valid as long as the program runs.
    unsafe { (*skb).mark = 0 };
    count(Counter::Delivered);
    // SAFETY: the helper has no preconditions; a device that is gone drops the packet.
    unsafe { bpf_redirect_peer(*device, 0) as i32 }
}
