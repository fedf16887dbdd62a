//! Masquerading: packets of pods leave a device with the node's address, and their answers come back.
//!
//! Two entries a connection: [`NatKey::LEAVING`], from the pod's end to the node's, and [`NatKey::COMING`], the other
//! way, which says who has the node's port towards that destination. Ports come from a range that the node's own
//! processes do not choose from, and a socket of the node that has one all the same keeps it. A port is free again
//! when its connection was ended, or was not heard of, for as long as its state allows (RFC 5382, RFC 4787). The first
//! port that is tried follows from the connection's ends: a connection that was forgotten gets the same one again.
//!
//! What outside opens towards a pod by its own address is noted ([`coming`]), so that the pod's answers keep it. Notes
//! have a map of their own, as anybody outside can make any number of them; and what a pod opens itself is masqueraded
//! whatever was noted.
//!
//! The connections of frontends ([`crate::frontend`]) have two entries of the same kinds: the client's packets come to
//! the frontend and go on to the backend, and what the backend answers leaves with the frontend's address.

use mesh_ebpf_abi::{
    Addr, Be16, DropReason, Family, FragmentKey, FragmentValue, MasqueradeValue, NatKey, NatValue,
    device_flags, net_flags,
};

use crate::flow::{FourTuple, flow_hash, number_hash, pick};
use crate::frontend::{self, Clients};
use crate::maps::DatapathMaps;
use crate::parse::TcpFlags;
use crate::transport::{Payload, Transport, protocol};

/// The masquerading maps, and the clock their values go by. One map operation a call.
pub trait NatMaps {
    /// What the longest range that holds an address is; 0 for none.
    fn net_flags(&self, address: &Addr) -> u32;
    /// An entry.
    fn entry(&self, key: &NatKey) -> Option<NatValue>;
    /// Writes an entry, in the place of one that is there.
    fn set_entry(&self, key: &NatKey, value: NatValue);
    /// Writes an entry where there is none; false if there is one.
    fn add_entry(&self, key: &NatKey, value: NatValue) -> bool;
    /// Removes an entry.
    fn remove_entry(&self, key: &NatKey);
    /// When a connection was last heard of that outside opened, by the key of its answers.
    fn note(&self, key: &NatKey) -> Option<u32>;
    /// Notes one.
    fn set_note(&self, key: &NatKey, seen: u32);
    /// Ports of a datagram in fragments.
    fn fragment(&self, key: &FragmentKey) -> Option<FragmentValue>;
    /// Notes them.
    fn set_fragment(&self, key: &FragmentKey, value: FragmentValue);
    /// The same number. What the verifier knew of it, it has forgotten: paths that differ in nothing else are one from
    /// there on, and are looked at once.
    fn forget(&self, number: u32) -> u32 {
        number
    }
    /// Units of 2^30 ns, about a second, of a clock that never goes back.
    fn now(&self) -> u32;
}

/// First and last port that connections leave by, in host order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatPorts {
    /// First.
    pub low: u32,
    /// Last.
    pub high: u32,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nat {
    /// It stays as it is.
    Pass,
    /// Our end becomes this.
    Translate(Translation),
    /// It must not go on as it is, and cannot otherwise.
    Drop(DropReason),
}

/// What our end of a packet becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// Address.
    pub address: Addr,
    /// Port, or the identifier of an echo.
    pub port: Be16,
    /// A frontend's packet: to its backend, or from it.
    pub by_frontend: bool,
}

/// A packet and the keys of its entries. In a place of its own, because a BPF program's stack has 512 bytes.
#[derive(Clone, Copy, Debug)]
pub struct NatWork {
    /// The packet.
    pub packet: Transport,
    /// The packet that it quotes, if it is an ICMP error; else of no meaning.
    pub quoted: Transport,
    /// Whether it quotes one.
    pub is_quoting: bool,
    pub(crate) leaving: NatKey,
    pub(crate) coming: NatKey,
}

impl NatWork {
    /// Nothing yet.
    pub const EMPTY: Self = Self {
        packet: Transport::EMPTY,
        quoted: Transport::EMPTY,
        is_quoting: false,
        leaving: NO_KEY,
        coming: NO_KEY,
    };
}

const NO_KEY: NatKey = NatKey {
    remote: Addr::v6([0; 4]),
    local: Addr::v6([0; 4]),
    remote_port: Be16::new(0),
    local_port: Be16::new(0),
    protocol: 0,
    direction: 0,
    padding: [0; 2],
};

/// Ports that are tried until one is free of other connections.
const TRIES: u32 = 8;

/// How often such a port is looked for before a new connection is given up, should a socket of the node have it; its
/// next packet tries others. Each costs the verifier as much as the rest of the program.
const ROUNDS: u32 = 2;

/// An entry is written anew at most once in so many units, when nothing but time has changed.
pub(crate) const REFRESH: u32 = 8;

/// Units that an entry keeps its port after it was last heard of.
#[inline(always)]
pub(crate) const fn lifetime(state: u8, protocol: u8) -> u32 {
    match (state, protocol) {
        (NatValue::CLOSING, _) => 64,
        (NatValue::OPEN, protocol::TCP) => 21600,
        (NatValue::OPEN, _) => 120,
        _ => 60,
    }
}

/// Units since then. Another processor may have looked at the clock later: that is no time at all.
#[inline(always)]
pub(crate) const fn age(seen: u32, now: u32) -> u32 {
    now.saturating_sub(seen)
}

/// Whether an entry's port is for others to take.
#[inline(always)]
const fn is_past(value: &NatValue, protocol: u8, now: u32) -> bool {
    age(value.seen, now) >= lifetime(value.state, protocol)
}

/// A packet that leaves by a device. `is_sent_on` says that a frontend sent it on; `is_of_node` tells whether a socket of
/// the node would get the packets of an entry, and is asked for new connections alone.
///
/// One lookup for the packets of a known connection, two or three for others that stay as they are, four for answers
/// to what outside opened; two writes every [`REFRESH`] units.
#[inline(always)]
pub fn leaving<M: NatMaps + DatapathMaps>(
    work: &mut NatWork,
    device: &MasqueradeValue,
    is_sent_on: bool,
    ports: NatPorts,
    maps: &M,
    is_of_node: impl Fn(&NatKey) -> bool,
) -> Nat {
    let Some(address) = own_address(device, work.packet.family) else { return Nat::Pass };
    match work.packet.payload {
        Payload::Ports | Payload::Echo | Payload::Fragment => {}
        // About a packet that came for the pod: its ends are those of an answer.
        Payload::Error(_) if work.is_quoting => {
            if is_anothers_error(work, maps) {
                return Nat::Drop(DropReason::NatUnsupported);
            }
            set_leaving(&mut work.leaving, &work.quoted.tuple.reversed(), work.quoted.protocol);
            return match maps.entry(&work.leaving) {
                Some(value) => Nat::Translate(translation(&value)),
                None if is_to_leave(work, device, is_sent_on, maps) && !is_noted(work, maps.now(), maps) => {
                    Nat::Drop(DropReason::NatUnsupported)
                }
                None => Nat::Pass,
            };
        }
        // Whoever asked a pod by its own address is answered by it.
        Payload::EchoReply => {
            if work.packet.fragment.is_some() {
                // Its other fragments find it so.
                fill_ports(&mut work.packet, maps);
                set_leaving(&mut work.leaving, &work.packet.tuple, work.packet.protocol);
                maps.set_note(&work.leaving, maps.now());
            }
            return Nat::Pass;
        }
        Payload::Error(_) | Payload::Other if is_to_leave(work, device, is_sent_on, maps) => {
            return Nat::Drop(DropReason::NatUnsupported);
        }
        Payload::Error(_) | Payload::Other => return Nat::Pass,
    }
    if !fill_ports(&mut work.packet, maps) {
        return match is_to_leave(work, device, is_sent_on, maps) {
            true => Nat::Drop(DropReason::NoFirstFragment),
            false => Nat::Pass,
        };
    }
    set_leaving(&mut work.leaving, &work.packet.tuple, work.packet.protocol);
    let now = maps.now();
    if let Some(value) = maps.entry(&work.leaving) {
        if value.backend != NatValue::NO_BACKEND {
            return frontend::answer(work, &value, now, maps);
        }
        // Who left with an address that the node has no more is answered by nobody.
        let is_held = value.address == address || maps.is_node_address(&value.address);
        if is_held && (!is_news(&value, work.packet.flags, now) || keep(work, value, now, maps)) {
            return Nat::Translate(translation(&value));
        }
    }
    if !is_to_leave(work, device, is_sent_on, maps) || !is_sent_on && is_noted(work, now, maps) {
        return Nat::Pass;
    }
    choose(work, address, ports, now, maps, is_of_node)
}

/// Whether a pod's error is about a packet that did not come for it: about another pod's connection.
#[inline(always)]
fn is_anothers_error<M: NatMaps>(work: &NatWork, maps: &M) -> bool {
    let source = work.packet.tuple.source;
    work.quoted.tuple.destination != source && maps.net_flags(&source) & net_flags::POD != 0
}

/// Whether a packet may leave with the node's address alone: a pod's towards the outside, and what a frontend sends to
/// a backend elsewhere, whose answers have to come by this node again.
#[inline(always)]
fn is_to_leave<M: NatMaps>(work: &NatWork, device: &MasqueradeValue, is_sent_on: bool, maps: &M) -> bool {
    let of_pods = match work.packet.family {
        Family::V4 => device_flags::PODS_V4,
        Family::V6 => device_flags::PODS_V6,
    };
    is_sent_on
        || device.flags & of_pods != 0
            && maps.net_flags(&work.packet.tuple.source) & net_flags::POD != 0
            && maps.net_flags(&work.packet.tuple.destination) & (net_flags::POD | net_flags::NATIVE) == 0
}

/// A packet that comes by a device.
///
/// On a device with frontends three lookups for what is none of theirs and no answer, else at most one; two for
/// answers, three for packets that a frontend sends on. Three more for what outside opens towards a pod, datagrams
/// included.
#[inline(always)]
pub fn coming<M: NatMaps + DatapathMaps>(
    work: &mut NatWork,
    device: &MasqueradeValue,
    ports: NatPorts,
    maps: &M,
) -> Nat {
    let Some(address) = own_address(device, work.packet.family) else { return Nat::Pass };
    let has_frontends = device.flags & device_flags::FRONTENDS != 0;
    let destination = work.packet.tuple.destination;
    let is_own = destination == address || maps.is_node_address(&destination);
    if !is_own && !has_frontends {
        note(work, maps);
        return Nat::Pass;
    }
    match work.packet.payload {
        Payload::Ports | Payload::EchoReply | Payload::Fragment => {
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
    let port = u32::from(work.coming.local_port.get());
    if is_own
        && ports.low <= port
        && port <= ports.high
        && let Some(value) = maps.entry(&work.coming)
        && value.backend == NatValue::NO_BACKEND
    {
        let now = maps.now();
        // Of nobody any more: the node's own sockets may use that port.
        if !is_past(&value, work.coming.protocol, now) {
            return answered(work, value, now, maps);
        }
    }
    let verdict = match has_frontends {
        true => frontend::arriving(work, Clients::Outside, is_own, maps),
        false => None,
    };
    match verdict {
        Some(verdict) => verdict,
        None => {
            if !is_own {
                note(work, maps);
            }
            Nat::Pass
        }
    }
}

/// An answer to what left with the node's address.
#[inline(always)]
fn answered<M: NatMaps>(work: &NatWork, value: NatValue, now: u32, maps: &M) -> Nat {
    let state = match value.state {
        _ if work.packet.flags.0 & (TcpFlags::FIN | TcpFlags::RST) != 0 => NatValue::CLOSING,
        NatValue::OPENING if !work.is_quoting => NatValue::OPEN,
        state => state,
    };
    if state != value.state || age(value.seen, now) >= REFRESH {
        maps.set_entry(&work.coming, NatValue { state, seen: now, ..value });
    }
    Nat::Translate(translation(&value))
}

/// The node's address of a family on a device; none where packets of that family stay as they are.
#[inline(always)]
fn own_address(device: &MasqueradeValue, family: Family) -> Option<Addr> {
    let address = match family {
        Family::V4 => device.v4,
        Family::V6 => device.v6,
    };
    (address != MasqueradeValue::UNSET).then_some(address)
}

/// Gives a fragment the ports of its first one, and notes those of a first. False: they are not known.
#[inline(always)]
pub(crate) fn fill_ports<M: NatMaps>(packet: &mut Transport, maps: &M) -> bool {
    let Some(identification) = packet.fragment else { return true };
    let key = FragmentKey {
        source: packet.tuple.source,
        destination: packet.tuple.destination,
        identification,
        protocol: packet.protocol,
        padding: [0; 3],
    };
    if !matches!(packet.payload, Payload::Fragment) {
        let FourTuple { source_port, destination_port, .. } = packet.tuple;
        maps.set_fragment(&key, FragmentValue { source_port, destination_port });
        return true;
    }
    let Some(FragmentValue { source_port, destination_port }) = maps.fragment(&key) else { return false };
    packet.tuple.source_port = source_port;
    packet.tuple.destination_port = destination_port;
    true
}

/// Whether a packet that leaves changes what is known of its connection.
#[inline(always)]
const fn is_news(value: &NatValue, flags: TcpFlags, now: u32) -> bool {
    age(value.seen, now) >= REFRESH || flags.0 & (TcpFlags::FIN | TcpFlags::RST | TcpFlags::SYN) != 0
}

/// Keeps a known connection's port for it; false if another has it by now, or may have.
#[inline(always)]
fn keep<M: NatMaps>(work: &mut NatWork, value: NatValue, now: u32, maps: &M) -> bool {
    set_answer(work, value.address);
    work.coming.local_port = value.port;
    let flags = work.packet.flags;
    let owner = maps.entry(&work.coming);
    let state = match &owner {
        Some(owner) if !is_owner(owner, &work.packet) || is_past(owner, work.packet.protocol, now) => {
            return false;
        }
        Some(owner) => owner.state,
        None => NatValue::OPEN,
    };
    let state = match state {
        _ if flags.0 & (TcpFlags::FIN | TcpFlags::RST) != 0 => NatValue::CLOSING,
        // The pod uses its port again.
        NatValue::CLOSING if flags.open() => NatValue::OPENING,
        state => state,
    };
    let own = entry(work.packet.tuple.source, work.packet.tuple.source_port, state, now);
    if owner.is_some() {
        maps.set_entry(&work.coming, own);
    } else if !maps.add_entry(&work.coming, own) {
        return false;
    }
    maps.set_entry(&work.leaving, NatValue { seen: now, ..value });
    true
}

/// Finds a port for a new connection and writes both entries.
#[inline(always)]
fn choose<M: NatMaps>(
    work: &mut NatWork,
    address: Addr,
    ports: NatPorts,
    now: u32,
    maps: &M,
    is_of_node: impl Fn(&NatKey) -> bool,
) -> Nat {
    let mut hash = flow_hash(&work.packet.tuple);
    set_answer(work, address);
    let mut round = 0;
    while round < ROUNDS {
        round += 1;
        let owner = maps.forget(find_free(work, &mut hash, ports, now, maps));
        if owner == TAKEN {
            break;
        }
        if maps.forget(u32::from(is_of_node(&work.coming))) != 0 {
            continue;
        }
        let own = entry(work.packet.tuple.source, work.packet.tuple.source_port, NatValue::OPENING, now);
        if !take(work, owner, own, now, maps) {
            continue;
        }
        let port = work.coming.local_port;
        maps.set_entry(&work.leaving, entry(address, port, NatValue::OPENING, now));
        return Nat::Translate(Translation { address, port, by_frontend: false });
    }
    Nat::Drop(DropReason::NoNatPort)
}

/// Nobody has the port.
const FREE: u32 = 0;
/// This connection itself has it.
const OWN: u32 = 1;
/// One that is over has it.
const PAST: u32 = 2;
/// All ports that were tried are taken.
const TAKEN: u32 = 3;

/// Takes a port of which this was found; false if another processor was faster. Asking for sockets took a while, so who
/// has a port that was over is looked at once more.
#[inline(always)]
fn take<M: NatMaps>(work: &NatWork, found: u32, own: NatValue, now: u32, maps: &M) -> bool {
    if found == OWN {
        maps.set_entry(&work.coming, own);
        return true;
    }
    if found == PAST
        && let Some(owner) = maps.entry(&work.coming)
    {
        if !is_past(&owner, work.packet.protocol, now) {
            return false;
        }
        maps.remove_entry(&work.coming);
    }
    maps.add_entry(&work.coming, own)
}

/// Looks for a port that no other connection has, from a hash on, which moves on; the key of answers gets it.
#[inline(always)]
fn find_free<M: NatMaps>(work: &mut NatWork, hash: &mut u32, ports: NatPorts, now: u32, maps: &M) -> u32 {
    let count = ports.high.wrapping_sub(ports.low).wrapping_add(1);
    let mut tried = 0;
    while tried < TRIES {
        work.coming.local_port = Be16::new((ports.low + pick(*hash, count)) as u16);
        // Another way for each moment, so that what failed now may succeed in a second.
        *hash = number_hash((u64::from(*hash) << 32 | u64::from(now)).wrapping_add(u64::from(tried)));
        tried += 1;
        let Some(owner) = maps.entry(&work.coming) else { return FREE };
        if is_owner(&owner, &work.packet) {
            return OWN;
        }
        if is_past(&owner, work.packet.protocol, now) {
            return PAST;
        }
    }
    TAKEN
}

/// Notes what outside opens towards a pod by its own address: the pod's answers keep theirs.
#[inline(always)]
fn note<M: NatMaps>(work: &mut NatWork, maps: &M) {
    let opens = match (work.packet.payload, work.packet.protocol) {
        (Payload::Ports, protocol::TCP) => work.packet.flags.open(),
        (Payload::Ports, _) => true,
        _ => false,
    };
    if !opens
        || maps.net_flags(&work.packet.tuple.destination) & net_flags::POD == 0
        || maps.net_flags(&work.packet.tuple.source) & (net_flags::POD | net_flags::NATIVE) != 0
    {
        return;
    }
    set_leaving(&mut work.leaving, &work.packet.tuple.reversed(), work.packet.protocol);
    let now = maps.now();
    if maps.note(&work.leaving).is_none_or(|seen| age(seen, now) >= REFRESH) {
        maps.set_note(&work.leaving, now);
    }
}

/// Whether outside opened the connection that a pod's packet leaves by, or that of which its error tells, and was heard
/// of since. A SYN is of no connection that there is. Datagrams of the pod alone keep no note: its own would leave with
/// its own address for ever, if somebody outside so much as sent one in another's name.
#[inline(always)]
fn is_noted<M: NatMaps>(work: &NatWork, now: u32, maps: &M) -> bool {
    if work.packet.flags.open() {
        return false;
    }
    let Some(seen) = maps.note(&work.leaving) else { return false };
    let (silent, protocol) = (age(seen, now), work.leaving.protocol);
    if protocol == protocol::TCP && silent >= REFRESH && silent < lifetime(NatValue::OPEN, protocol) {
        maps.set_note(&work.leaving, now);
    }
    silent < lifetime(NatValue::OPEN, protocol)
}

/// Whether an entry of packets that come is of the connection that this packet leaves by.
#[inline(always)]
fn is_owner(owner: &NatValue, packet: &Transport) -> bool {
    owner.address == packet.tuple.source && owner.port == packet.tuple.source_port
}

#[inline(always)]
pub(crate) const fn translation(value: &NatValue) -> Translation {
    let by_frontend = value.backend != NatValue::NO_BACKEND;
    Translation { address: value.address, port: value.port, by_frontend }
}

#[inline(always)]
const fn entry(address: Addr, port: Be16, state: u8, seen: u32) -> NatValue {
    NatValue { address, port, state, padding: 0, seen, backend: NatValue::NO_BACKEND }
}

/// The entry of packets that leave; a tuple as the pod's packets have it.
#[inline(always)]
pub(crate) fn set_leaving(key: &mut NatKey, tuple: &FourTuple, protocol: u8) {
    key.remote = tuple.destination;
    key.local = tuple.source;
    key.remote_port = tuple.destination_port;
    key.local_port = tuple.source_port;
    key.protocol = protocol;
    key.direction = NatKey::LEAVING;
}

/// The entry of packets that come; a tuple as they have it.
#[inline(always)]
pub(crate) fn set_coming(key: &mut NatKey, tuple: &FourTuple, protocol: u8) {
    key.remote = tuple.source;
    key.local = tuple.destination;
    key.remote_port = tuple.source_port;
    key.local_port = tuple.destination_port;
    key.protocol = protocol;
    key.direction = NatKey::COMING;
}

/// The entry of the answers to a packet that leaves with this address, all but the port.
#[inline(always)]
fn set_answer(work: &mut NatWork, address: Addr) {
    work.coming.remote = work.packet.tuple.destination;
    work.coming.local = address;
    work.coming.remote_port = work.packet.tuple.destination_port;
    work.coming.protocol = work.packet.protocol;
    work.coming.direction = NatKey::COMING;
}

#[cfg(test)]
mod tests;
