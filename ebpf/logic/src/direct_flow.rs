//! Pods' own connections on source ports that the proxy borrows.
//!
//! Design 13.5. An upstream connection that keeps a pod's address takes its source port from
//! [`BorrowedPorts`], outside of what pods choose by themselves; but a pod may bind to any port. Two
//! connections with the same two ends cannot both live: the backend knows only one, and the node would give
//! the pod's answers to the proxy. So whoever comes first keeps the ends:
//!
//! - [`depart`] notes a pod's connection when its first packet leaves, and finds the clash when it is the
//!   proxy that was first;
//! - [`is_own_answer`] tells a backend's packets for the pod from those for the proxy;
//! - [`is_taken`] is asked by the proxy's connect(), which then fails as for a port in use.

use mesh_ebpf_abi::{Be16, DirectFlowKey, DirectFlowValue};

use crate::flow::FourTuple;
use crate::maps::DirectFlows;
use crate::parse::{TcpFlags, TcpPacket};

/// First and last port that the proxy takes its sources from, in host order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BorrowedPorts {
    /// First.
    pub low: u32,
    /// Last.
    pub high: u32,
}

impl BorrowedPorts {
    /// Whether a port is one of them.
    #[inline(always)]
    pub const fn contain(self, port: Be16) -> bool {
        let port = port.get() as u32;
        self.low <= port && port <= self.high
    }
}

/// What a pod's packet means for the ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// The pod's connection is noted, or was already.
    Noted,
    /// The proxy has a connection with these ends. The pod's has to wait.
    Clash,
    /// A packet of the pod with the proxy's ends that opens nothing; the backend will reject it.
    Stray,
}

/// How long the ends of a connection stay taken after the pod was last heard of closing it: Linux keeps
/// TIME_WAIT for 60 seconds, on whichever side closed first.
pub const CLOSING_NS: u64 = 64_000_000_000;

/// A closing flow is noted anew at most once in so long.
const REFRESH_NS: u64 = 1_000_000_000;

/// Judges and notes a packet that leaves a pod from a borrowed port. `proxy_has_it` looks for a socket of the
/// proxy with the same ends, and is asked only for flows that are not known.
///
/// One map lookup for a packet of an open flow; a socket lookup and an insertion for the first.
#[inline(always)]
pub fn depart<F: DirectFlows>(
    packet: &TcpPacket,
    flows: &F,
    proxy_has_it: impl FnOnce() -> bool,
) -> Departure {
    let key = key_of(&packet.tuple);
    let flags = packet.flags;
    let now = flows.now();
    let known = flows.get(&key);
    let Some(value) = known.filter(|value| is_in_use(*value, now)) else {
        if proxy_has_it() {
            return if flags.open() { Departure::Clash } else { Departure::Stray };
        }
        // A reset opens nothing that would have to be known.
        if !flags.contain(TcpFlags::RST) {
            flows.set(&key, state_after(flags, now));
        }
        return Departure::Noted;
    };
    let is_closing = value.closing_at != 0;
    if flags.contain(TcpFlags::RST) {
        flows.remove(&key);
    } else if flags.open() {
        // The pod uses the port again.
        if is_closing {
            flows.set(&key, DirectFlowValue::OPEN);
        }
    } else if flags.contain(TcpFlags::FIN) || is_closing && now.saturating_sub(value.closing_at) > REFRESH_NS
    {
        flows.set(&key, DirectFlowValue { closing_at: now });
    }
    Departure::Noted
}

/// Whether a packet towards a borrowed port answers a pod's own connection, and so belongs to the pod and not
/// to a socket of the proxy.
#[inline(always)]
pub fn is_own_answer<F: DirectFlows>(packet: &TcpPacket, flows: &F) -> bool {
    let key = key_of(&packet.tuple.reversed());
    let is_own = is_taken(&key, flows);
    if is_own && packet.flags.contain(TcpFlags::RST) {
        // The other side has ended it: the pod, which has to say nothing more, would not.
        flows.remove(&key);
    }
    is_own
}

/// Whether a pod's own connection has these ends.
#[inline(always)]
pub fn is_taken<F: DirectFlows>(flow: &DirectFlowKey, flows: &F) -> bool {
    flows.get(flow).is_some_and(|value| is_in_use(value, flows.now()))
}

#[inline(always)]
const fn is_in_use(value: DirectFlowValue, now: u64) -> bool {
    value.closing_at == 0 || now.saturating_sub(value.closing_at) < CLOSING_NS
}

#[inline(always)]
const fn state_after(flags: TcpFlags, now: u64) -> DirectFlowValue {
    if flags.contain(TcpFlags::FIN) { DirectFlowValue { closing_at: now } } else { DirectFlowValue::OPEN }
}

#[inline(always)]
const fn key_of(tuple: &FourTuple) -> DirectFlowKey {
    DirectFlowKey {
        source: tuple.source,
        destination: tuple.destination,
        source_port: tuple.source_port,
        destination_port: tuple.destination_port,
    }
}

#[cfg(test)]
mod tests;
