//! Sampled events.

use aya_ebpf::helpers::generated::{bpf_get_prandom_u32, bpf_ktime_get_boot_ns};
use mesh_ebpf_abi::events::{EVENT_VERSION, EventHeader, EventKind, PacketEvent};
use mesh_ebpf_abi::{Counter, DropReason};
use mesh_ebpf_logic::FourTuple;

use crate::constants::event_sampling;
use crate::maps::{EVENTS, count};

/// Writes a redirect or a drop to the events map, if sampling is on and picks it. An IP protocol of 0: it is not known.
#[inline(always)]
pub(crate) fn emit(
    tuple: &FourTuple,
    protocol: u8,
    ifindex: u32,
    counter: Counter,
    reason: Option<DropReason>,
) {
    let sampling = event_sampling();
    // SAFETY: the helper has no preconditions.
    if sampling == 0 || unsafe { bpf_get_prandom_u32() } % sampling != 0 {
        return;
    }
    let (kind, reason) = match reason {
        Some(reason) => (EventKind::Drop, reason as u8),
        None => (EventKind::Redirect, 0),
    };
    let event = PacketEvent {
        header: EventHeader {
            kind: kind as u8,
            version: EVENT_VERSION,
            length: size_of::<PacketEvent>() as u16,
        },
        ifindex,
        // SAFETY: the helper has no preconditions.
        timestamp: unsafe { bpf_ktime_get_boot_ns() },
        source: tuple.source,
        destination: tuple.destination,
        source_port: tuple.source_port,
        destination_port: tuple.destination_port,
        protocol,
        reason,
        counter: counter as u16,
    };
    if EVENTS.output::<PacketEvent>(event, 0).is_err() {
        count(Counter::EventsLost);
    }
}
