//! Addresses and numbers in network byte order.

use core::cmp::Ordering;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A 16-bit number kept in network byte order, such as a port.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Be16(u16);

impl Be16 {
    /// From host order.
    #[inline(always)]
    pub const fn new(host: u16) -> Self {
        Self(host.to_be())
    }

    /// From a number that already is in network order, as the kernel's context fields are.
    #[inline(always)]
    pub const fn from_network(network: u16) -> Self {
        Self(network)
    }

    /// In host order.
    #[inline(always)]
    pub const fn get(self) -> u16 {
        u16::from_be(self.0)
    }

    /// In network order, for the kernel's context fields.
    #[inline(always)]
    pub const fn to_network(self) -> u16 {
        self.0
    }
}

// By value, so that dumps are sorted as people count.
impl Ord for Be16 {
    fn cmp(&self, other: &Self) -> Ordering {
        self.get().cmp(&other.get())
    }
}

impl PartialOrd for Be16 {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for Be16 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.get())
    }
}

/// A 32-bit number kept in network byte order.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Be32(u32);

impl Be32 {
    /// From host order.
    #[inline(always)]
    pub const fn new(host: u32) -> Self {
        Self(host.to_be())
    }

    /// From a number that already is in network order, as the kernel's context fields are.
    #[inline(always)]
    pub const fn from_network(network: u32) -> Self {
        Self(network)
    }

    /// In host order.
    #[inline(always)]
    pub const fn get(self) -> u32 {
        u32::from_be(self.0)
    }

    /// In network order, for the kernel's context fields.
    #[inline(always)]
    pub const fn to_network(self) -> u32 {
        self.0
    }
}

// By value, so that dumps are sorted as people count.
impl Ord for Be32 {
    fn cmp(&self, other: &Self) -> Ordering {
        self.get().cmp(&other.get())
    }
}

impl PartialOrd for Be32 {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for Be32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.get())
    }
}

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4, or an IPv6 packet's v4-mapped address.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The unspecified address: in the services map, each address of the node.
    #[inline(always)]
    pub const fn any(self) -> Addr {
        match self {
            Self::V4 => Addr::v4(0),
            Self::V6 => Addr::v6([0; 4]),
        }
    }
}

/// An IP address in 16 bytes; IPv4 as the v4-mapped `::ffff:a.b.c.d`.
///
/// Four words in network order, because the kernel's socket contexts give addresses that way and because
/// the verifier likes aligned words better than bytes.
#[derive(
    Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct Addr([Be32; 4]);

const MAPPED_PREFIX: Be32 = Be32::new(0xffff);

impl Addr {
    /// From an IPv4 address in network order.
    #[inline(always)]
    pub const fn v4(network: u32) -> Self {
        Self([Be32::new(0), Be32::new(0), MAPPED_PREFIX, Be32::from_network(network)])
    }

    /// From the four words of an IPv6 address in network order.
    #[inline(always)]
    pub const fn v6(network: [u32; 4]) -> Self {
        Self([
            Be32::from_network(network[0]),
            Be32::from_network(network[1]),
            Be32::from_network(network[2]),
            Be32::from_network(network[3]),
        ])
    }

    /// The four words in network order.
    #[inline(always)]
    pub const fn words(self) -> [u32; 4] {
        let [a, b, c, d] = self.0;
        [a.to_network(), b.to_network(), c.to_network(), d.to_network()]
    }

    /// The IPv4 address in network order, if it is one.
    #[inline(always)]
    pub const fn as_v4(self) -> Option<u32> {
        let [a, b, c, d] = self.words();
        if a == 0 && b == 0 && c == MAPPED_PREFIX.to_network() { Some(d) } else { None }
    }

    /// Whether it never leaves a host: 127.0.0.0/8, `::1`.
    #[inline(always)]
    pub const fn is_loopback(self) -> bool {
        match self.as_v4() {
            Some(v4) => u32::from_be(v4) >> 24 == 127,
            None => {
                let [a, b, c, d] = self.words();
                a == 0 && b == 0 && c == 0 && u32::from_be(d) == 1
            }
        }
    }

    /// The family; a v4-mapped address is IPv4.
    #[inline(always)]
    pub const fn family(self) -> Family {
        if self.as_v4().is_some() { Family::V4 } else { Family::V6 }
    }

    /// As the standard library's type; a v4-mapped address becomes IPv4.
    pub const fn to_ip(self) -> IpAddr {
        match self.as_v4() {
            Some(v4) => IpAddr::V4(Ipv4Addr::from_bits(u32::from_be(v4))),
            None => {
                let [a, b, c, d] = self.0;
                let bits = ((a.get() as u128) << 96)
                    | ((b.get() as u128) << 64)
                    | ((c.get() as u128) << 32)
                    | d.get() as u128;
                IpAddr::V6(Ipv6Addr::from_bits(bits))
            }
        }
    }
}

impl From<IpAddr> for Addr {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(v4) => Self::v4(v4.to_bits().to_be()),
            IpAddr::V6(v6) => {
                let bits = v6.to_bits();
                Self([
                    Be32::new((bits >> 96) as u32),
                    Be32::new((bits >> 64) as u32),
                    Be32::new((bits >> 32) as u32),
                    Be32::new(bits as u32),
                ])
            }
        }
    }
}

impl From<Ipv4Addr> for Addr {
    fn from(ip: Ipv4Addr) -> Self {
        Self::from(IpAddr::V4(ip))
    }
}

impl From<Ipv6Addr> for Addr {
    fn from(ip: Ipv6Addr) -> Self {
        Self::from(IpAddr::V6(ip))
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.to_ip(), f)
    }
}

impl fmt::Debug for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A pod of this node, as packets for it need it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[repr(C)]
pub struct EndpointValue {
    /// Index of the node's end of its veth pair.
    pub device: u32,
    /// Hardware address of the pod's end.
    pub mac: [u8; 6],
    /// Hardware address of the node's end.
    pub node_mac: [u8; 6],
}

/// The addresses of the pod behind a device: what it may send with. Unset (`::`): it has none of that family.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[repr(C)]
pub struct PodAddresses {
    /// IPv4.
    pub v4: Addr,
    /// IPv6.
    pub v6: Addr,
}

impl PodAddresses {
    /// What stands for no address.
    pub const UNSET: Addr = Addr::v6([0; 4]);
}

const _: () = assert!(size_of::<EndpointValue>() == 16 && size_of::<PodAddresses>() == 32);

#[cfg(feature = "serde")]
mod text {
    use super::{Addr, Be16, Be32};
    use serde::{Serialize, Serializer};

    impl Serialize for Addr {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_str(self)
        }
    }

    impl Serialize for Be16 {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_u16(self.get())
        }
    }

    impl Serialize for Be32 {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_u32(self.get())
        }
    }
}

#[cfg(test)]
mod tests;
