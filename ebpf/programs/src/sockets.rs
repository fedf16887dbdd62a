//! Looking for the socket that would get a packet.

use core::ptr::NonNull;

use aya_ebpf::bindings::{
    BPF_F_CURRENT_NETNS, bpf_sock, bpf_sock_tuple, bpf_sock_tuple__bindgen_ty_1,
    bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1, bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2,
};
use aya_ebpf::helpers::generated::{bpf_sk_lookup_udp, bpf_skc_lookup_tcp};
use aya_ebpf::programs::TcContext;
use mesh_ebpf_abi::Family;
use mesh_ebpf_logic::FourTuple;

use crate::maps::set_looking;

const OWN_NETNS: u64 = BPF_F_CURRENT_NETNS as i64 as u64;

/// A packet's ends as the helpers take them.
struct Ends {
    ends: bpf_sock_tuple__bindgen_ty_1,
    family: Family,
}

impl Ends {
    #[inline(always)]
    fn new(tuple: &FourTuple, family: Family) -> Self {
        let (source, destination) = (tuple.source.words(), tuple.destination.words());
        let (sport, dport) = (tuple.source_port.to_network(), tuple.destination_port.to_network());
        let ends = match family {
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
        Self { ends, family }
    }

    #[inline(always)]
    fn as_mut_ptr(&mut self) -> *mut bpf_sock_tuple {
        (&raw mut self.ends).cast()
    }

    /// Tells the helpers the family.
    #[inline(always)]
    fn size(&self) -> u32 {
        match self.family {
            Family::V4 => size_of::<bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1>() as u32,
            Family::V6 => size_of::<bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2>() as u32,
        }
    }
}

/// Any TCP socket for the two ends, in the device's own network namespace: the node's, for the host's side of a pod's
/// veth. The caller has to release it.
#[inline(always)]
pub(crate) fn look_up_tcp(ctx: &TcContext, tuple: &FourTuple, family: Family) -> Option<NonNull<bpf_sock>> {
    let mut ends = Ends::new(tuple, family);
    set_looking(true);
    // SAFETY: the ends are filled for the size given, which tells the helper the family.
    let socket =
        unsafe { bpf_skc_lookup_tcp(ctx.skb.skb.cast(), ends.as_mut_ptr(), ends.size(), OWN_NETNS, 0) };
    set_looking(false);
    NonNull::new(socket)
}

/// The same for UDP.
#[inline(always)]
pub(crate) fn look_up_udp(ctx: &TcContext, tuple: &FourTuple, family: Family) -> Option<NonNull<bpf_sock>> {
    let mut ends = Ends::new(tuple, family);
    set_looking(true);
    // SAFETY: as for TCP.
    let socket =
        unsafe { bpf_sk_lookup_udp(ctx.skb.skb.cast(), ends.as_mut_ptr(), ends.size(), OWN_NETNS, 0) };
    set_looking(false);
    NonNull::new(socket)
}
