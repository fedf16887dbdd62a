//! A connection's two ends, and a number for them.

use mesh_ebpf_abi::{Addr, Be16};

/// The two ends of a connection, as a packet names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FourTuple {
    /// Who sent it.
    pub source: Addr,
    /// Whom it is for.
    pub destination: Addr,
    /// The sender's port.
    pub source_port: Be16,
    /// The receiver's port.
    pub destination_port: Be16,
}

impl FourTuple {
    /// Of which nothing is known.
    pub const UNKNOWN: Self = Self {
        source: Addr::v6([0; 4]),
        destination: Addr::v6([0; 4]),
        source_port: Be16::new(0),
        destination_port: Be16::new(0),
    };

    /// The same connection, as packets of the other direction name it.
    #[inline(always)]
    #[must_use]
    pub const fn reversed(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
        }
    }
}

/// A hash of the connection, the same for all its packets in this direction, spread over all 32 bits.
///
/// Multiply and rotate word by word, then the finaliser of MurmurHash3. Clients choose their ports and so
/// could aim at one proxy thread; that gains them nothing but that thread, as with the kernel's own
/// SO_REUSEPORT without a secret. Roughly 30 instructions.
#[inline(always)]
pub fn flow_hash(tuple: &FourTuple) -> u32 {
    let ports = (tuple.source_port.to_network() as u32) << 16 | tuple.destination_port.to_network() as u32;
    let [a, b, c, d] = tuple.source.words();
    let [e, f, g, h] = tuple.destination.words();
    let mut hash = ports;
    hash = mix(hash, a);
    hash = mix(hash, b);
    hash = mix(hash, c);
    hash = mix(hash, d);
    hash = mix(hash, e);
    hash = mix(hash, f);
    hash = mix(hash, g);
    hash = mix(hash, h);
    finish(hash)
}

/// A hash of one 64-bit number, such as a socket's cookie.
#[inline(always)]
pub fn number_hash(number: u64) -> u32 {
    finish(mix(number as u32, (number >> 32) as u32))
}

#[inline(always)]
const fn mix(hash: u32, word: u32) -> u32 {
    (hash ^ word.wrapping_mul(0xcc9e_2d51)).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64)
}

#[inline(always)]
const fn finish(mut hash: u32) -> u32 {
    hash ^= hash >> 16;
    hash = hash.wrapping_mul(0x85eb_ca6b);
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

/// A number below `count` from a hash, evenly, without a division; 0 when `count` is 0.
#[inline(always)]
pub const fn pick(hash: u32, count: u32) -> u32 {
    ((hash as u64 * count as u64) >> 32) as u32
}
