//! Connections that the stack delivers locally: to the node's own addresses, and from the node's own
//! processes to addresses with a local route.

use aya_ebpf::bindings::{sk_action::SK_DROP, sk_action::SK_PASS};
use aya_ebpf::helpers::generated::{bpf_sk_assign, bpf_sk_release};
use aya_ebpf::macros::sk_lookup;
use aya_ebpf::programs::SkLookupContext;
use mesh_ebpf_abi::{Addr, Be16, Counter, DropReason, Family, Protocol};
use mesh_ebpf_logic::transport::protocol;
use mesh_ebpf_logic::{FourTuple, Redirect, new_connection};

use crate::events::emit;
use crate::maps::{KernelMaps, LISTENERS, count, is_looking};

const AF_INET: u32 = 2;

/// Asked when the stack looks for a listener. Runs for no packet of an established connection.
#[sk_lookup]
pub fn mr_sk_lookup(ctx: SkLookupContext) -> u32 {
    let lookup = ctx.lookup;
    // All fields are read in one place and as they stand: left to itself the compiler merges the branches'
    // reads into one of a computed address, which the verifier refuses. The other family's are zero.
    // SAFETY: the context is valid as long as the program runs; each field is read at its width.
    let (protocol, family, remote4, local4, remote6, local6, remote_port, local_port) = unsafe {
        (
            (&raw const (*lookup).protocol).read_volatile(),
            (&raw const (*lookup).family).read_volatile(),
            (&raw const (*lookup).remote_ip4).read_volatile(),
            (&raw const (*lookup).local_ip4).read_volatile(),
            words((&raw const (*lookup).remote_ip6).cast()),
            words((&raw const (*lookup).local_ip6).cast()),
            (&raw const (*lookup).remote_port).read_volatile(),
            (&raw const (*lookup).local_port).read_volatile(),
        )
    };
    if protocol != Protocol::Tcp as u32 || is_looking() {
        return SK_PASS;
    }
    let (source, destination, family) = if family == AF_INET {
        (Addr::v4(remote4), Addr::v4(local4), Family::V4)
    } else {
        (Addr::v6(remote6), Addr::v6(local6), Family::V6)
    };
    let tuple = FourTuple {
        source,
        destination,
        source_port: Be16::from_network(remote_port),
        // The kernel gives this one in host order.
        destination_port: Be16::new(local_port as u16),
    };
    match new_connection(&tuple, family, &KernelMaps) {
        Redirect::Pass => SK_PASS,
        Redirect::Drop(_) => refuse(&ctx, &tuple),
        Redirect::Listener(index) => match LISTENERS.take(index) {
            Some(socket) => {
                // SAFETY: the socket was taken just now and is released once.
                let failed = unsafe {
                    let result = bpf_sk_assign(lookup.cast(), socket.as_ptr().cast(), 0);
                    bpf_sk_release(socket.as_ptr().cast());
                    result != 0
                };
                if failed {
                    return refuse(&ctx, &tuple);
                }
                count(Counter::RedirectedSkLookup);
                emit(&tuple, protocol::TCP, ifindex(&ctx), Counter::RedirectedSkLookup, None);
                SK_PASS
            }
            None => refuse(&ctx, &tuple),
        },
    }
}

/// Does nothing; what socket lookup costs by itself is measured with it.
#[sk_lookup]
pub fn mr_empty_sk(_ctx: SkLookupContext) -> u32 {
    SK_PASS
}

/// The stack answers with a reset.
#[inline(always)]
fn refuse(ctx: &SkLookupContext, tuple: &FourTuple) -> u32 {
    let counter = Counter::DroppedSkLookupNoListener;
    count(counter);
    emit(tuple, protocol::TCP, ifindex(ctx), counter, Some(DropReason::NoListener));
    SK_DROP
}

#[inline(always)]
fn ifindex(ctx: &SkLookupContext) -> u32 {
    // SAFETY: the context is valid as long as the program runs.
    unsafe { (*ctx.lookup).ingress_ifindex }
}

/// Four words, one by one: the verifier takes no wider read of them.
///
/// # Safety
/// The pointer is that of an address in a context.
#[inline(always)]
unsafe fn words(address: *const u32) -> [u32; 4] {
    // SAFETY: as promised by the caller.
    unsafe {
        [
            address.read_volatile(),
            address.add(1).read_volatile(),
            address.add(2).read_volatile(),
            address.add(3).read_volatile(),
        ]
    }
}
