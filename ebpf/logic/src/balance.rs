//! Which backend a socket call to a service gets.

use mesh_ebpf_abi::{
    Addr, BackendValue, Be16, Counter, Family, Protocol, ServiceFlags, ServiceKey, ServiceValue, SlotKey,
};

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
/// round. `hash` picks the slot: random for connections, the socket's own for datagrams. `is_of_host` tells whether the
/// socket is in the node's network namespace, where loopback addresses are the node's. Three lookups; two for an
/// address of the node where nothing is offered.
#[inline(always)]
pub fn balance<M: DatapathMaps>(
    (address, port, protocol): (Addr, Be16, Protocol),
    family: Family,
    hash: u32,
    maps: &M,
    is_of_host: impl FnOnce() -> bool,
) -> Balance {
    let is_loopback = address.is_loopback();
    if is_loopback && !is_of_host() {
        return Balance::Pass;
    }
    let mut key = ServiceKey::new(address, port, protocol);
    let service = match maps.service(&key) {
        Some(service) => service,
        None if is_loopback || maps.is_node_address(&address) => {
            key.address = address.family().any();
            let Some(service) = maps.service(&key) else { return Balance::Pass };
            service
        }
        None => return Balance::Pass,
    };
    if service.flags.contains(ServiceFlags::L7_REDIRECT) {
        return Balance::LeaveToProxy;
    }
    if service.backends == 0 {
        return Balance::Refuse(Counter::SocketLbNoBackend);
    }
    let Some((_, backend)) = select(&service, hash, maps) else {
        return Balance::Refuse(Counter::SocketLbMissingBackend);
    };
    if matches!(family, Family::V4) && backend.address.as_v4().is_none() {
        return Balance::Refuse(Counter::SocketLbMissingBackend);
    }
    Balance::To { service: service.service, address: backend.address, port: backend.port }
}

/// The backend that a hash picks, with its identifier; none where there is none, or a slot is empty.
#[inline(always)]
pub(crate) fn select<M: DatapathMaps>(
    service: &ServiceValue,
    hash: u32,
    maps: &M,
) -> Option<(u32, BackendValue)> {
    let slot = SlotKey { service: service.service, slot: pick(hash, u32::from(service.backends)) };
    let id = maps.slot(&slot)?;
    Some((id, maps.backend(id)?))
}

#[cfg(test)]
mod tests;
