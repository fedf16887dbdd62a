//! From bytes to a TCP packet's addresses and ports.
//!
//! IPv4 (RFC 791) with options, IPv6 (RFC 8200) with up to [`MAX_EXTENSION_HEADERS`] extension headers, TCP
//! (RFC 9293). Whatever is not plainly a TCP packet is left to the stack: nothing here drops.

use mesh_ebpf_abi::{Addr, Be16, Family};

use crate::flow::FourTuple;

/// Bytes of a packet, read by copying, so that packets in several pieces read like any other.
pub trait PacketBytes {
    /// `N` bytes from an offset; `None` if the packet is shorter.
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]>;
}

impl PacketBytes for [u8] {
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        let start = usize::try_from(offset).ok()?;
        self.get(start..start.checked_add(N)?)?.try_into().ok()
    }
}

/// What a device's packets start with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkLayer {
    /// An Ethernet header.
    Ethernet,
    /// The IP header: tunnels, TUN.
    None,
}

/// Why a packet is none of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTcp {
    /// Not IP, or not TCP.
    OtherProtocol,
    /// A fragment, the first one included: later ones carry no ports, so none is redirected.
    Fragment,
    /// Too short, or headers that contradict themselves.
    Malformed,
}

/// What is needed of a TCP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpPacket {
    /// Both ends.
    pub tuple: FourTuple,
    /// Which IP carried it. Not to be taken from the addresses: IPv6 may carry v4-mapped ones.
    pub family: Family,
    /// Control bits, as in the header's octet 13.
    pub flags: TcpFlags,
}

/// The control bits of a TCP header (RFC 9293, 3.1) that matter here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Opens a connection.
    pub const SYN: u8 = 0x02;
    /// Ends it at once.
    pub const RST: u8 = 0x04;
    /// Acknowledges something.
    pub const ACK: u8 = 0x10;

    /// Whether all of these bits are set.
    #[inline(always)]
    pub const fn contain(self, bits: u8) -> bool {
        self.0 & bits == bits
    }

    /// Whether it asks for a new connection.
    #[inline(always)]
    pub const fn open(self) -> bool {
        self.0 & (Self::SYN | Self::ACK | Self::RST) == Self::SYN
    }
}

/// Most extension headers of an IPv6 packet that are looked through; with more it is left to the stack.
pub const MAX_EXTENSION_HEADERS: u32 = 6;

const ETHERNET_HEADER: u32 = 14;
pub(crate) const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
pub(crate) const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
const PROTOCOL_TCP: u8 = 6;

/// Parses a packet.
///
/// # Errors
/// Why it is none of ours.
#[inline(always)]
pub fn parse_tcp<P: PacketBytes + ?Sized>(packet: &P, link: LinkLayer) -> Result<TcpPacket, NotTcp> {
    match link {
        LinkLayer::Ethernet => match packet.load::<2>(12).ok_or(NotTcp::Malformed)? {
            ETHERTYPE_IPV4 => parse_ipv4(packet, ETHERNET_HEADER),
            ETHERTYPE_IPV6 => parse_ipv6(packet, ETHERNET_HEADER),
            _ => Err(NotTcp::OtherProtocol),
        },
        LinkLayer::None => {
            let [first] = packet.load::<1>(0).ok_or(NotTcp::Malformed)?;
            match first >> 4 {
                4 => parse_ipv4(packet, 0),
                6 => parse_ipv6(packet, 0),
                _ => Err(NotTcp::OtherProtocol),
            }
        }
    }
}

/// Whom a packet with an Ethernet header is for; none if it is not IP, or too short.
#[inline(always)]
pub fn parse_destination<P: PacketBytes + ?Sized>(packet: &P) -> Option<Addr> {
    match packet.load::<2>(12)? {
        ETHERTYPE_IPV4 => Some(Addr::v4(u32::from_ne_bytes(packet.load::<4>(ETHERNET_HEADER + 16)?))),
        ETHERTYPE_IPV6 => Some(address_v6(packet.load::<16>(ETHERNET_HEADER + 24)?)),
        _ => None,
    }
}

#[inline(always)]
fn parse_ipv4<P: PacketBytes + ?Sized>(packet: &P, start: u32) -> Result<TcpPacket, NotTcp> {
    #[rustfmt::skip]
    let [version_length, _, total_high, total_low, _, _, fragment_high, fragment_low, _, protocol, _, _,
        s0, s1, s2, s3, d0, d1, d2, d3] = packet.load::<20>(start).ok_or(NotTcp::Malformed)?;
    let header = u32::from(version_length & 0x0f) * 4;
    if version_length >> 4 != 4 || header < 20 {
        return Err(NotTcp::Malformed);
    }
    // More fragments, or an offset. The "do not fragment" bit is no matter.
    if u16::from_be_bytes([fragment_high, fragment_low]) & 0x3fff != 0 {
        return Err(NotTcp::Fragment);
    }
    if protocol != PROTOCOL_TCP {
        return Err(NotTcp::OtherProtocol);
    }
    // Zero stands for a length that does not fit (BIG TCP).
    let total = u32::from(u16::from_be_bytes([total_high, total_low]));
    if total != 0 && total < header + TCP_HEADER {
        return Err(NotTcp::Malformed);
    }
    let (source_port, destination_port, flags) = parse_header(packet, start + header)?;
    let tuple = FourTuple {
        source: Addr::v4(u32::from_ne_bytes([s0, s1, s2, s3])),
        destination: Addr::v4(u32::from_ne_bytes([d0, d1, d2, d3])),
        source_port,
        destination_port,
    };
    Ok(TcpPacket { tuple, family: Family::V4, flags })
}

#[inline(always)]
fn parse_ipv6<P: PacketBytes + ?Sized>(packet: &P, start: u32) -> Result<TcpPacket, NotTcp> {
    let [version_class, _, _, _, _, _, next_header, _] = packet.load::<8>(start).ok_or(NotTcp::Malformed)?;
    if version_class >> 4 != 6 {
        return Err(NotTcp::Malformed);
    }
    let source = packet.load::<16>(start + 8).ok_or(NotTcp::Malformed)?;
    let destination = packet.load::<16>(start + 24).ok_or(NotTcp::Malformed)?;

    let mut header = next_header;
    let mut offset = start + 40;
    let mut seen = 0;
    while header != PROTOCOL_TCP {
        if seen == MAX_EXTENSION_HEADERS {
            return Err(NotTcp::OtherProtocol);
        }
        seen += 1;
        match header {
            // Hop-by-hop options, routing, destination options: length in units of 8 bytes, less the first.
            0 | 43 | 60 => {
                let [next, length] = packet.load::<2>(offset).ok_or(NotTcp::Malformed)?;
                header = next;
                offset += (u32::from(length) + 1) * 8;
            }
            44 => return Err(NotTcp::Fragment),
            // Authentication header (RFC 4302): length in units of 4 bytes, less two.
            51 => {
                let [next, length] = packet.load::<2>(offset).ok_or(NotTcp::Malformed)?;
                header = next;
                offset += (u32::from(length) + 2) * 4;
            }
            _ => return Err(NotTcp::OtherProtocol),
        }
    }
    let (source_port, destination_port, flags) = parse_header(packet, offset)?;
    let tuple = FourTuple {
        source: address_v6(source),
        destination: address_v6(destination),
        source_port,
        destination_port,
    };
    Ok(TcpPacket { tuple, family: Family::V6, flags })
}

/// An IPv6 address as it lies in a packet.
#[inline(always)]
pub(crate) fn address_v6(bytes: [u8; 16]) -> Addr {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = bytes;
    Addr::v6([
        u32::from_ne_bytes([a, b, c, d]),
        u32::from_ne_bytes([e, f, g, h]),
        u32::from_ne_bytes([i, j, k, l]),
        u32::from_ne_bytes([m, n, o, p]),
    ])
}

const TCP_HEADER: u32 = 20;

/// Source port, destination port, control bits.
#[inline(always)]
fn parse_header<P: PacketBytes + ?Sized>(packet: &P, start: u32) -> Result<(Be16, Be16, TcpFlags), NotTcp> {
    #[rustfmt::skip]
    let [s0, s1, d0, d1, _, _, _, _, _, _, _, _, data_offset, flags, _, _, _, _, _, _] =
        packet.load::<20>(start).ok_or(NotTcp::Malformed)?;
    if data_offset >> 4 < 5 {
        return Err(NotTcp::Malformed);
    }
    let source = Be16::from_network(u16::from_ne_bytes([s0, s1]));
    let destination = Be16::from_network(u16::from_ne_bytes([d0, d1]));
    Ok((source, destination, TcpFlags(flags)))
}

#[cfg(test)]
mod tests;
