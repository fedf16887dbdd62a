//! From bytes to what address translation needs: addresses, ports, and where they lie.
//!
//! TCP (RFC 9293), UDP (RFC 768), ICMP (RFC 792) and ICMPv6 (RFC 4443), their errors with the packet they quote, and
//! fragments (RFC 791, RFC 8200). Nothing here drops.

use mesh_ebpf_abi::{Addr, Be16, Family};

use crate::flow::FourTuple;
use crate::parse::{LinkLayer, MAX_EXTENSION_HEADERS, PacketBytes, TcpFlags, address_v6};

/// IP protocol numbers.
pub mod protocol {
    /// ICMP over IPv4.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMP over IPv6.
    pub const ICMPV6: u8 = 58;
}

/// What is behind the IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// TCP or UDP.
    Ports,
    /// An echo request, whose identifier stands for its sender's port.
    Echo,
    /// An echo reply, whose identifier stands for its receiver's port.
    EchoReply,
    /// An ICMP error; the packet it quotes begins at this offset.
    Error(u32),
    /// A later fragment: the header is in the first one.
    Fragment,
    /// Another protocol, or another kind of ICMP.
    Other,
}

/// A packet's ends, and where they lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transport {
    /// IPv4 or IPv6.
    pub family: Family,
    /// IP protocol.
    pub protocol: u8,
    /// Both ends; ports are 0 where there are none.
    pub tuple: FourTuple,
    /// Control bits of TCP.
    pub flags: TcpFlags,
    /// Offset of the IP header.
    pub network: u32,
    /// Offset of what follows it.
    pub offset: u32,
    /// What that is.
    pub payload: Payload,
    /// Its identification, where it is one of several fragments.
    pub fragment: Option<u32>,
}

impl Transport {
    /// Nothing yet.
    pub const EMPTY: Self = Self {
        family: Family::V4,
        protocol: 0,
        tuple: FourTuple::UNKNOWN,
        flags: TcpFlags(0),
        network: 0,
        offset: 0,
        payload: Payload::Other,
        fragment: None,
    };
}

const ETHERNET_HEADER: u32 = 14;

/// Parses a packet. None: it is not IP, or too short for its addresses, and `into` is half filled. What ends in the
/// middle of what follows them is [`Payload::Other`].
///
/// Written in place, as a BPF program has no room to hand such things around.
#[inline(always)]
pub fn parse_transport<P: PacketBytes + ?Sized>(
    packet: &P,
    link: LinkLayer,
    into: &mut Transport,
) -> Option<()> {
    let (network, family) = match link {
        LinkLayer::Ethernet => match packet.load::<2>(12)? {
            [0x08, 0x00] => (ETHERNET_HEADER, Family::V4),
            [0x86, 0xdd] => (ETHERNET_HEADER, Family::V6),
            _ => return None,
        },
        LinkLayer::None => match packet.load::<1>(0)?[0] >> 4 {
            4 => (0, Family::V4),
            6 => (0, Family::V6),
            _ => return None,
        },
    };
    let is_whole = parse_network(packet, network, family, into)?;
    if !is_whole {
        into.payload = Payload::Other;
    }
    Some(())
}

/// Parses the packet that an ICMP error of this family quotes, as far as the quotation goes: addresses and ports. None:
/// it does not go that far.
#[inline(always)]
pub fn parse_quoted<P: PacketBytes + ?Sized>(
    packet: &P,
    family: Family,
    at: u32,
    into: &mut Transport,
) -> Option<()> {
    parse_network(packet, at, family, into)?.then_some(())
}

/// Whether the packet went on behind its addresses as far as it says.
#[inline(always)]
fn parse_network<P: PacketBytes + ?Sized>(
    packet: &P,
    network: u32,
    family: Family,
    into: &mut Transport,
) -> Option<bool> {
    into.family = family;
    into.network = network;
    into.tuple.source_port = Be16::new(0);
    into.tuple.destination_port = Be16::new(0);
    into.flags = TcpFlags(0);
    into.fragment = None;
    match family {
        Family::V4 => parse_ipv4(packet, into)?,
        Family::V6 => {
            parse_ipv6(packet, into)?;
            if parse_extensions(packet, into).is_none() {
                return Some(false);
            }
        }
    }
    Some(parse_payload(packet, into).is_some())
}

#[inline(always)]
fn parse_ipv4<P: PacketBytes + ?Sized>(packet: &P, into: &mut Transport) -> Option<()> {
    #[rustfmt::skip]
    let [version_length, _, _, _, id_high, id_low, fragment_high, fragment_low, _, protocol, _, _,
        s0, s1, s2, s3, d0, d1, d2, d3] = packet.load::<20>(into.network)?;
    let header = u32::from(version_length & 0x0f) * 4;
    if version_length >> 4 != 4 || header < 20 {
        return None;
    }
    into.protocol = protocol;
    into.tuple.source = Addr::v4(u32::from_ne_bytes([s0, s1, s2, s3]));
    into.tuple.destination = Addr::v4(u32::from_ne_bytes([d0, d1, d2, d3]));
    into.offset = into.network + header;
    let fragment = u16::from_be_bytes([fragment_high, fragment_low]);
    if fragment & 0x3fff != 0 {
        into.fragment = Some(u32::from(u16::from_be_bytes([id_high, id_low])));
    }
    into.payload = if fragment & 0x1fff != 0 { Payload::Fragment } else { Payload::Other };
    Some(())
}

#[inline(always)]
fn parse_ipv6<P: PacketBytes + ?Sized>(packet: &P, into: &mut Transport) -> Option<()> {
    let [version_class, _, _, _, _, _, next_header, _] = packet.load::<8>(into.network)?;
    if version_class >> 4 != 6 {
        return None;
    }
    into.tuple.source = address_v6(packet.load::<16>(into.network + 8)?);
    into.tuple.destination = address_v6(packet.load::<16>(into.network + 24)?);
    into.payload = Payload::Other;
    into.protocol = next_header;
    into.offset = into.network + 40;
    Some(())
}

#[inline(always)]
fn parse_extensions<P: PacketBytes + ?Sized>(packet: &P, into: &mut Transport) -> Option<()> {
    let (mut protocol, mut offset) = (into.protocol, into.offset);
    let mut seen = 0;
    while seen < MAX_EXTENSION_HEADERS {
        seen += 1;
        match protocol {
            0 | 43 | 60 => {
                let [next, length] = packet.load::<2>(offset)?;
                protocol = next;
                offset += (u32::from(length) + 1) * 8;
            }
            44 => {
                let [next, _, high, low, a, b, c, d] = packet.load::<8>(offset)?;
                protocol = next;
                offset += 8;
                into.fragment = Some(u32::from_be_bytes([a, b, c, d]));
                if u16::from_be_bytes([high, low]) & 0xfff8 != 0 {
                    into.payload = Payload::Fragment;
                    break;
                }
            }
            _ => break,
        }
    }
    into.protocol = protocol;
    into.offset = offset;
    Some(())
}

#[inline(always)]
fn parse_payload<P: PacketBytes + ?Sized>(packet: &P, into: &mut Transport) -> Option<()> {
    if matches!(into.payload, Payload::Fragment) {
        return Some(());
    }
    match (into.protocol, into.family) {
        (protocol::TCP | protocol::UDP, _) => {
            let [s0, s1, d0, d1] = packet.load::<4>(into.offset)?;
            into.tuple.source_port = Be16::from_network(u16::from_ne_bytes([s0, s1]));
            into.tuple.destination_port = Be16::from_network(u16::from_ne_bytes([d0, d1]));
            // A quoted packet may end before its control bits.
            if into.protocol == protocol::TCP
                && let Some([flags]) = packet.load::<1>(into.offset + 13)
            {
                into.flags = TcpFlags(flags);
            }
            into.payload = Payload::Ports;
        }
        (protocol::ICMP, Family::V4) | (protocol::ICMPV6, Family::V6) => {
            let [kind, _, _, _, id_high, id_low] = packet.load::<6>(into.offset)?;
            let identifier = Be16::from_network(u16::from_ne_bytes([id_high, id_low]));
            into.payload = match (into.family, kind) {
                (Family::V4, 8) | (Family::V6, 128) => {
                    into.tuple.source_port = identifier;
                    Payload::Echo
                }
                (Family::V4, 0) | (Family::V6, 129) => {
                    into.tuple.destination_port = identifier;
                    Payload::EchoReply
                }
                // Destination unreachable, time exceeded, parameter problem; packet too big.
                (Family::V4, 3 | 11 | 12) | (Family::V6, 1..=4) => Payload::Error(into.offset + 8),
                _ => Payload::Other,
            };
        }
        _ => {}
    }
    Some(())
}
