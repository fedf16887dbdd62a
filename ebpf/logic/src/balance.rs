//! Which backend a socket call to a service gets.

use mesh_ebpf_abi::{Addr, Be16, Counter, Family, Protocol, ServiceFlags, ServiceKey, SlotKey};

use crate::flow::pick;
use crate::maps::DatapathMaps;

/// What becomes of a socket call's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// Not a service.
    Pass,
    /// A service of the proxy: left as it is, so that the packet programs see it.
    LeaveToProxy,
    /// Replaced by a backend's.
    To {
        /// The service.
        service: u32,
        /// The backend's address.
        address: Addr,
        /// The backend's port.
        port: Be16,
    },
    /// Refused, and counted as this.
    Refuse(Counter),
}

/// Decides for a call to an address.
///
/// `family` is the socket's: an IPv6 socket may get an IPv4 backend (as v4-mapped), not the other way
/// round. `hash` picks the slot: random for connections, the socket's own for datagrams. Three lookups.
#[inline(always)]
pub fn balance<M: DatapathMaps>(
    (address, port, protocol): (Addr, Be16, Protocol),
    family: Family,
    hash: u32,
    maps: &M,
) -> Balance {
    let key = ServiceKey::new(address, port, protocol);
    let Some(service) = maps.service(&key) else {
        return Balance::Pass;
    };
    if service.flags.contains(ServiceFlags::L7_REDIRECT) {
        return Balance::LeaveToProxy;
    }
    if service.backends == 0 {
        return Balance::Refuse(Counter::SocketLbNoBackend);
    }
    let slot = SlotKey { service: service.service, slot: pick(hash, u32::from(service.backends)) };
    let Some(backend) = maps.slot(&slot) else {
        return Balance::Refuse(Counter::SocketLbMissingBackend);
    };
    let Some(backend) = maps.backend(backend) else {
        return Balance::Refuse(Counter::SocketLbMissingBackend);
    };
    if matches!(family, Family::V4) && backend.address.as_v4().is_none() {
        return Balance::Refuse(Counter::SocketLbMissingBackend);
    }
    Balance::To { service: service.service, address: backend.address, port: backend.port }
}

#[cfg(test)]
mod tests;
