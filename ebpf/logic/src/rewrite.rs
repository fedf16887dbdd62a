//! Another address and port in a packet, with every checksum that covers them.
//!
//! Checksums are adjusted by what changed (RFC 1624), never made anew: a packet that was damaged stays damaged.

use mesh_ebpf_abi::{Addr, Be16, Family};

use crate::nat::{NatWork, Translation};
use crate::parse::PacketBytes;
use crate::transport::{Payload, Transport, protocol};

/// A packet that can be changed in place.
pub trait PacketEdit: PacketBytes {
    /// Writes bytes at an offset; false if they cannot be.
    fn store<const N: usize>(&self, offset: u32, bytes: [u8; N]) -> bool;
    /// Adjusts an IPv4 header's checksum for a word of it.
    fn adjust_header(&self, offset: u32, from: u32, to: u32) -> bool;
    /// The same for half a word.
    fn adjust_header_word(&self, offset: u32, from: u32, to: u32) -> bool;
    /// Adjusts the checksum of what follows the IP header by a difference ([`difference`]).
    fn adjust(&self, offset: u32, difference: u32, covered: Covered) -> bool;
}

/// How a changed field is covered by a checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Covered {
    /// By the pseudo header: it is part of the IP header as well.
    pub by_pseudo_header: bool,
    /// Of an IPv6 packet.
    pub is_v6: bool,
    /// Of UDP, where 0 means that there is none.
    pub is_udp: bool,
}

/// Which end of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Who sent it.
    Source,
    /// Whom it is for.
    Destination,
}

impl End {
    const fn other(self) -> Self {
        match self {
            Self::Source => Self::Destination,
            Self::Destination => Self::Source,
        }
    }
}

/// Gives one end of a packet another address and port. In an ICMP error also the other end of the packet that it
/// quotes. None: the packet could not be written, or only in part, and must not go on.
#[inline(always)]
pub fn rewrite<P: PacketEdit>(packet: &P, work: &NatWork, end: End, to: &Translation) -> Option<()> {
    let at = &work.packet;
    let old = address_at(at, end);
    let sum = sum_offset(at);
    let covered = covered(at);
    store_address(packet, at, end, &to.address)?;
    if at.family == Family::V4 {
        done(packet.adjust_header(at.network + 10, old.words()[3], to.address.words()[3]))?;
    }
    // ICMP over IPv4 has no pseudo header.
    if let Some(sum) = sum
        && at.protocol != protocol::ICMP
    {
        let changed = difference_of(&old, &to.address, at.family);
        done(packet.adjust(sum, changed, Covered { by_pseudo_header: true, ..covered }))?;
    }
    if let Some((offset, old)) = port_at(at, end) {
        done(packet.store(offset, to.port.to_network().to_ne_bytes()))?;
        return done(packet.adjust(sum?, port_difference(old, to.port), covered));
    }
    match at.payload {
        Payload::Error(_) if work.is_quoting => {
            let changed = rewrite_quoted(packet, &work.quoted, end.other(), to)?;
            done(packet.adjust(sum?, changed, covered))
        }
        _ => Some(()),
    }
}

/// Takes a hop from a packet with an Ethernet header (RFC 791, RFC 8200). None: it has none left, or is not IP.
#[inline(always)]
pub fn one_hop<P: PacketEdit>(packet: &P) -> Option<()> {
    const NETWORK: u32 = 14;
    match packet.load::<1>(NETWORK)?[0] >> 4 {
        4 => {
            // With the protocol, as the checksum is of words.
            let [hops, protocol] = packet.load::<2>(NETWORK + 8)?;
            let fewer = if hops > 1 { hops - 1 } else { return None };
            let word = |hops| u32::from(u16::from_ne_bytes([hops, protocol]));
            done(packet.store(NETWORK + 8, [fewer]))?;
            done(packet.adjust_header_word(NETWORK + 10, word(hops), word(fewer)))
        }
        6 => {
            let [hops] = packet.load::<1>(NETWORK + 7)?;
            let fewer = if hops > 1 { hops - 1 } else { return None };
            done(packet.store(NETWORK + 7, [fewer]))
        }
        _ => None,
    }
}

/// Rewrites a quoted packet; by how much its bytes changed, which the error's own checksum covers.
#[inline(always)]
fn rewrite_quoted<P: PacketEdit>(packet: &P, at: &Transport, end: End, to: &Translation) -> Option<u32> {
    let old = address_at(at, end);
    store_address(packet, at, end, &to.address)?;
    let mut changed = difference_of(&old, &to.address, at.family);
    if at.family == Family::V4 {
        let [high, low] = packet.load::<2>(at.network + 10)?;
        let before = u16::from_ne_bytes([high, low]);
        let after = fold(add(u32::from(!before), changed));
        done(packet.store(at.network + 10, (!after).to_ne_bytes()))?;
        changed = add(changed, difference(before.into(), (!after).into()));
    }
    if let Some((offset, old)) = port_at(at, end) {
        done(packet.store(offset, to.port.to_network().to_ne_bytes()))?;
        changed = add(changed, port_difference(old, to.port));
    }
    Some(changed)
}

#[inline(always)]
fn store_address<P: PacketEdit>(packet: &P, at: &Transport, end: End, to: &Addr) -> Option<()> {
    let words = to.words();
    match (at.family, end) {
        (Family::V4, End::Source) => done(packet.store(at.network + 12, words[3].to_ne_bytes())),
        (Family::V4, End::Destination) => done(packet.store(at.network + 16, words[3].to_ne_bytes())),
        (Family::V6, End::Source) => done(packet.store(at.network + 8, bytes_of(words))),
        (Family::V6, End::Destination) => done(packet.store(at.network + 24, bytes_of(words))),
    }
}

#[inline(always)]
const fn address_at(at: &Transport, end: End) -> Addr {
    match end {
        End::Source => at.tuple.source,
        End::Destination => at.tuple.destination,
    }
}

/// Offset and value of an end's port, or of an echo's identifier, which belongs to whoever asks: the other end has none.
#[inline(always)]
const fn port_at(at: &Transport, end: End) -> Option<(u32, Be16)> {
    match (at.payload, end) {
        (Payload::Ports, End::Source) => Some((at.offset, at.tuple.source_port)),
        (Payload::Ports, End::Destination) => Some((at.offset + 2, at.tuple.destination_port)),
        (Payload::Echo, End::Source) => Some((at.offset + 4, at.tuple.source_port)),
        (Payload::EchoReply, End::Destination) => Some((at.offset + 4, at.tuple.destination_port)),
        _ => None,
    }
}

/// Where the checksum of what follows the IP header lies; none in a later fragment.
#[inline(always)]
const fn sum_offset(at: &Transport) -> Option<u32> {
    match (at.payload, at.protocol) {
        (Payload::Fragment, _) => None,
        (_, protocol::TCP) => Some(at.offset + 16),
        (_, protocol::UDP) => Some(at.offset + 6),
        (_, protocol::ICMP | protocol::ICMPV6) => Some(at.offset + 2),
        _ => None,
    }
}

#[inline(always)]
const fn covered(at: &Transport) -> Covered {
    Covered {
        by_pseudo_header: false,
        is_v6: matches!(at.family, Family::V6),
        is_udp: at.protocol == protocol::UDP,
    }
}

#[inline(always)]
const fn done(stored: bool) -> Option<()> {
    if stored { Some(()) } else { None }
}

#[inline(always)]
fn bytes_of(words: [u32; 4]) -> [u8; 16] {
    let [a, b, c, d] = words.map(u32::to_ne_bytes);
    [a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3], d[0], d[1], d[2], d[3]]
}

/// By how much an address changes a sum.
#[inline(always)]
const fn difference_of(from: &Addr, to: &Addr, family: Family) -> u32 {
    let (from, to) = (from.words(), to.words());
    let last = difference(from[3], to[3]);
    match family {
        Family::V4 => last,
        Family::V6 => {
            let first = add(difference(from[0], to[0]), difference(from[1], to[1]));
            add(first, add(difference(from[2], to[2]), last))
        }
    }
}

#[inline(always)]
const fn port_difference(from: Be16, to: Be16) -> u32 {
    difference(from.to_network() as u32, to.to_network() as u32)
}

/// By how much another word changes a ones' complement sum; words as they lie in memory.
#[inline(always)]
pub const fn difference(from: u32, to: u32) -> u32 {
    add(!from, to)
}

/// A ones' complement sum of two words.
#[inline(always)]
pub const fn add(one: u32, other: u32) -> u32 {
    let sum = one as u64 + other as u64;
    ((sum & 0xffff_ffff) + (sum >> 32)) as u32
}

/// A sum of 32 bits in 16.
#[inline(always)]
pub const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

#[cfg(test)]
mod tests;
