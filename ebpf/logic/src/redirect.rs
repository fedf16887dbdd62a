//! Whether a packet or a connection goes to the proxy, and to which of its listeners.

use mesh_ebpf_abi::lb::listener_index;
use mesh_ebpf_abi::{DropReason, Family, Protocol, ServiceFlags, ServiceKey};

use crate::flow::{FourTuple, flow_hash, pick};
use crate::maps::DatapathMaps;

/// What to do with a packet that no socket waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redirect {
    /// Not for the proxy.
    Pass,
    /// For the listener at this place of the listeners map.
    Listener(u32),
    /// For the proxy, which is not there. Letting it pass would send it past the proxy's rules, or out of
    /// the node.
    Drop(DropReason),
}

/// Decides for a packet, or a connection in socket lookup, that no connected socket waits for.
///
/// One service lookup; one more of the config for services of the proxy. Packets of one connection get one
/// answer as long as the number of threads stays; connections that exist do not come here.
#[inline(always)]
pub fn new_connection<M: DatapathMaps>(tuple: &FourTuple, family: Family, maps: &M) -> Redirect {
    let key = ServiceKey::new(tuple.destination, tuple.destination_port, Protocol::Tcp);
    let Some(service) = maps.service(&key) else {
        return Redirect::Pass;
    };
    if !service.flags.contains(ServiceFlags::L7_REDIRECT) {
        return Redirect::Pass;
    }
    let threads = maps.proxy_threads();
    if threads == 0 {
        return Redirect::Drop(DropReason::NoListener);
    }
    Redirect::Listener(listener_index(pick(flow_hash(tuple), threads), family))
}

/// Whether a socket found for a packet's two ends shall get the packet, by its state (the kernel's numbers,
/// `enum` in `include/net/tcp_states.h`).
///
/// All but listening and closed ones: half-open ones wait for the packet that completes them, and one in
/// TIME_WAIT has to judge a SYN for the same ports (RFC 9293, 3.6.1); if it gives way, the kernel looks for
/// a listener again and socket lookup finds the proxy's.
#[inline(always)]
pub const fn takes_packets(state: u32) -> bool {
    const CLOSE: u32 = 7;
    const LISTEN: u32 = 10;
    state != LISTEN && state != CLOSE
}

/// Whether a socket holds its two ends against another connection, by its state.
///
/// Not in TIME_WAIT, where nothing is to come but late packets, and not as a listener, which has one end.
#[inline(always)]
pub const fn holds_ends(state: u32) -> bool {
    const TIME_WAIT: u32 = 6;
    takes_packets(state) && state != TIME_WAIT
}

#[cfg(test)]
mod tests;
