//! Frontends at devices: packets to a Service's address, or to one of its ports on the node, get a backend.
//!
//! For clients whose connections pass no socket hook: those outside, and pods where the hooks leave them alone. A
//! connection has two entries of the [`NatKey`] map: [`NatKey::COMING`], from the client to the frontend, and
//! [`NatKey::LEAVING`], from the backend to the client. Whichever backend it has, it keeps, whatever becomes of the
//! Service; datagrams go to another when theirs is gone or after a silence.
//!
//! Backends elsewhere are reached with the node's own address ([`crate::nat::leaving`]), so that answers come back here.

use mesh_ebpf_abi::{
    BackendValue, DropReason, NatKey, NatValue, Protocol, ServiceFlags, ServiceKey, ServiceValue,
};

use crate::balance::select;
use crate::flow::flow_hash;
use crate::maps::DatapathMaps;
use crate::nat::{
    Nat, NatMaps, NatWork, REFRESH, age, fill_ports, lifetime, set_coming, set_leaving, translation,
};
use crate::parse::TcpFlags;
use crate::transport::{Payload, protocol};

/// Whose packets they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients {
    /// Who is outside may use what is open to the outside.
    Outside,
    /// Pods of this node may use every Service.
    Pods,
}

/// A packet of a pod whose sockets are not balanced.
#[inline(always)]
pub fn from_pod<M: NatMaps + DatapathMaps>(work: &mut NatWork, maps: &M) -> Nat {
    match work.packet.payload {
        Payload::Ports | Payload::Fragment => {
            if !fill_ports(&mut work.packet, maps) {
                return Nat::Pass;
            }
            set_coming(&mut work.coming, &work.packet.tuple, work.packet.protocol);
        }
        Payload::Error(_) if work.is_quoting => {
            set_coming(&mut work.coming, &work.quoted.tuple.reversed(), work.quoted.protocol);
        }
        _ => return Nat::Pass,
    }
    let is_own = maps.is_node_address(&work.coming.local);
    arriving(work, Clients::Pods, is_own, maps).unwrap_or(Nat::Pass)
}

/// A packet to such a pod: what a backend answers has the address that the pod dialled.
#[inline(always)]
pub fn to_pod<M: NatMaps + DatapathMaps>(work: &mut NatWork, maps: &M) -> Nat {
    match work.packet.payload {
        Payload::Ports | Payload::Fragment => {
            if !fill_ports(&mut work.packet, maps) {
                return Nat::Pass;
            }
            set_leaving(&mut work.leaving, &work.packet.tuple, work.packet.protocol);
        }
        Payload::Error(_) if work.is_quoting => {
            set_leaving(&mut work.leaving, &work.quoted.tuple.reversed(), work.quoted.protocol);
        }
        _ => return Nat::Pass,
    }
    match maps.entry(&work.leaving) {
        Some(value) if value.backend != NatValue::NO_BACKEND => answer(work, &value, maps.now(), maps),
        _ => Nat::Pass,
    }
}

/// A packet whose key of those that come is set. None: it is for no frontend that these clients may use.
#[inline(always)]
pub(crate) fn arriving<M: NatMaps + DatapathMaps>(
    work: &mut NatWork,
    clients: Clients,
    is_own: bool,
    maps: &M,
) -> Option<Nat> {
    let service = find(&work.coming, clients, is_own, maps)?;
    let now = maps.now();
    if let Some(value) = maps.entry(&work.coming)
        && value.backend != NatValue::NO_BACKEND
        && !is_over(work, &value, now, maps)
    {
        refresh(work, &value, now, maps);
        return Some(Nat::Translate(translation(&value)));
    }
    match work.packet.payload {
        Payload::Ports | Payload::Fragment => assign(work, &service, clients, is_own, now, maps),
        _ => None,
    }
}

/// The service of a frontend. What goes to the proxy is none of ours.
#[inline(always)]
fn find<M: DatapathMaps>(to: &NatKey, clients: Clients, is_own: bool, maps: &M) -> Option<ServiceValue> {
    let protocol = Protocol::from_number(u32::from(to.protocol))?;
    let mut key = ServiceKey::new(to.local, to.local_port, protocol);
    let service = match maps.service(&key) {
        Some(service) => service,
        None if is_own => {
            key.address = to.local.family().any();
            maps.service(&key)?
        }
        None => return None,
    };
    if service.flags.contains(ServiceFlags::L7_REDIRECT) {
        return None;
    }
    match clients {
        Clients::Pods => Some(service),
        Clients::Outside if !service.flags.contains(ServiceFlags::EXTERNAL) => None,
        Clients::Outside if service.flags.contains(ServiceFlags::EXTERNAL_LOCAL) => {
            key.scope = ServiceKey::OUTSIDE;
            // Not there for a moment while it is written: as one without backends.
            Some(maps.service(&key).unwrap_or(ServiceValue { backends: 0, ..service }))
        }
        Clients::Outside => Some(service),
    }
}

/// Whether a packet does not belong to what its entry is about any more, and a backend is chosen anew.
#[inline(always)]
fn is_over<M: DatapathMaps>(work: &NatWork, value: &NatValue, now: u32, maps: &M) -> bool {
    if !matches!(work.packet.payload, Payload::Ports) {
        return false;
    }
    match work.packet.protocol {
        // What is open ends where it began.
        protocol::TCP if !work.packet.flags.open() => false,
        protocol::TCP => value.state == NatValue::CLOSING || is_gone(value, maps),
        _ => age(value.seen, now) >= lifetime(value.state, work.packet.protocol) || is_gone(value, maps),
    }
}

/// Whether the backend is in no Service any more. Its number may have been given to another.
#[inline(always)]
fn is_gone<M: DatapathMaps>(value: &NatValue, maps: &M) -> bool {
    match maps.backend(value.backend) {
        Some(BackendValue { address, port, .. }) => address != value.address || port != value.port,
        None => true,
    }
}

/// Notes that a client's packet was seen, and that it ends its connection.
#[inline(always)]
fn refresh<M: NatMaps>(work: &mut NatWork, value: &NatValue, now: u32, maps: &M) {
    let state = state_after(value.state, work.packet.flags);
    if state == value.state && age(value.seen, now) < REFRESH {
        return;
    }
    maps.set_entry(&work.coming, NatValue { state, seen: now, ..*value });
    set_answers(work, value);
    let answers =
        NatValue { state, seen: now, address: work.coming.local, port: work.coming.local_port, ..*value };
    maps.set_entry(&work.leaving, answers);
}

/// What a backend answers, by the entry of packets that leave.
#[inline(always)]
pub(crate) fn answer<M: NatMaps>(work: &mut NatWork, value: &NatValue, now: u32, maps: &M) -> Nat {
    let state = state_after(value.state, work.packet.flags);
    if state != value.state || age(value.seen, now) >= REFRESH {
        maps.set_entry(&work.leaving, NatValue { state, seen: now, ..*value });
        work.coming = NatKey {
            local: value.address,
            local_port: value.port,
            direction: NatKey::COMING,
            ..work.leaving
        };
        let own = NatValue {
            address: work.leaving.local,
            port: work.leaving.local_port,
            state,
            seen: now,
            ..*value
        };
        maps.set_entry(&work.coming, own);
    }
    Nat::Translate(translation(value))
}

#[inline(always)]
const fn state_after(state: u8, flags: TcpFlags) -> u8 {
    if flags.0 & (TcpFlags::FIN | TcpFlags::RST) != 0 { NatValue::CLOSING } else { state }
}

/// The entry of what a connection's backend answers.
#[inline(always)]
fn set_answers(work: &mut NatWork, to: &NatValue) {
    work.leaving =
        NatKey { local: to.address, local_port: to.port, direction: NatKey::LEAVING, ..work.coming };
}

/// Whether the entry of a backend's answers may be written over: it says the same, or the connection that it is about
/// was not heard of for long.
#[inline(always)]
fn may_replace<M: NatMaps>(work: &NatWork, by: &NatValue, now: u32, maps: &M) -> bool {
    let Some(other) = maps.entry(&work.leaving) else { return true };
    other.address == by.address && other.port == by.port
        || age(other.seen, now) >= lifetime(other.state, work.coming.protocol)
}

/// Gives a new connection a backend: which, follows from its ends, so that one that was forgotten gets the same again
/// while the Service has the same backends.
#[inline(always)]
fn assign<M: NatMaps + DatapathMaps>(
    work: &mut NatWork,
    service: &ServiceValue,
    clients: Clients,
    is_own: bool,
    now: u32,
    maps: &M,
) -> Option<Nat> {
    if service.backends == 0 {
        // The stack refuses what is for the node, as nobody listens there.
        let is_refused = is_own && !service.flags.contains(ServiceFlags::EXTERNAL_LOCAL);
        return if is_refused { None } else { Some(Nat::Drop(DropReason::NoBackend)) };
    }
    let Some((id, backend)) = select(service, flow_hash(&work.packet.tuple), maps) else {
        return Some(Nat::Drop(DropReason::NoBackend));
    };
    if backend.address.family() != work.coming.local.family() {
        return Some(Nat::Drop(DropReason::NoBackend));
    }
    if clients == Clients::Pods && backend.address == work.packet.tuple.source {
        // The pod would meet its own address on the wire.
        return Some(Nat::Drop(DropReason::NatUnsupported));
    }
    let own = NatValue {
        address: backend.address,
        port: backend.port,
        state: NatValue::OPEN,
        padding: 0,
        seen: now,
        backend: id,
    };
    set_answers(work, &own);
    let answers = NatValue { address: work.coming.local, port: work.coming.local_port, ..own };
    if !maps.add_entry(&work.leaving, answers) {
        if !may_replace(work, &answers, now, maps) {
            // The client has the same two ends already, by another frontend or the backend's own address.
            return Some(Nat::Drop(DropReason::NoNatPort));
        }
        maps.set_entry(&work.leaving, answers);
    }
    maps.set_entry(&work.coming, own);
    Some(Nat::Translate(translation(&own)))
}

#[cfg(test)]
mod tests;
