//! Keys and values of the masquerading maps: whose packets leave by a device with the node's address.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::net::{Addr, Be16};

/// One direction of a translated connection.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[repr(C)]
pub struct NatKey {
    /// The end outside.
    pub remote: Addr,
    /// Our end: the pod's for packets that leave, the node's for those that come.
    pub local: Addr,
    /// Port outside; 0 for ICMP.
    pub remote_port: Be16,
    /// Our port; the identifier for ICMP.
    pub local_port: Be16,
    /// IP protocol.
    pub protocol: u8,
    /// [`NatKey::LEAVING`] or [`NatKey::COMING`].
    pub direction: u8,
    /// Zero.
    pub padding: [u8; 2],
}

impl NatKey {
    /// From the pod to the outside.
    pub const LEAVING: u8 = 0;
    /// From the outside to the node.
    pub const COMING: u8 = 1;
}

/// What our end becomes in that direction.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[repr(C)]
pub struct NatValue {
    /// The node's address for packets that leave, the pod's for those that come.
    pub address: Addr,
    /// The port, or the identifier for ICMP.
    pub port: Be16,
    /// [`NatValue::OPENING`], [`NatValue::OPEN`] or [`NatValue::CLOSING`].
    pub state: u8,
    /// Zero.
    pub padding: u8,
    /// When a packet of this direction was last seen, in units of 2^30 ns since the node started.
    pub seen: u32,
}

impl NatValue {
    /// No answer has come yet.
    pub const OPENING: u8 = 0;
    /// It was answered.
    pub const OPEN: u8 = 1;
    /// One side has ended it.
    pub const CLOSING: u8 = 2;
}

/// The node's addresses on a device, by which pods' packets leave there. Unset (`::`): that family is not translated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[repr(C)]
pub struct MasqueradeValue {
    /// IPv4.
    pub v4: Addr,
    /// IPv6.
    pub v6: Addr,
}

impl MasqueradeValue {
    /// What stands for no address.
    pub const UNSET: Addr = Addr::v6([0; 4]);
}

/// A range of addresses, for longest match. IPv4 as v4-mapped: 96 bits longer than written.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[repr(C)]
pub struct NetKey {
    /// Bits of the address that count, at most 128, in host order.
    pub bits: u32,
    /// The address.
    pub address: Addr,
}

/// What a range of addresses is, as bits.
pub mod net_flags {
    /// Pods of this node: what they send outside is masqueraded.
    pub const POD: u32 = 1;
    /// Reached by pods' own addresses: nothing towards it is masqueraded.
    pub const NATIVE: u32 = 2;
}

/// A datagram in fragments.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[repr(C)]
pub struct FragmentKey {
    /// Who sent it.
    pub source: Addr,
    /// Whom it is for.
    pub destination: Addr,
    /// Its identification, as the packet has it.
    pub identification: u32,
    /// IP protocol.
    pub protocol: u8,
    /// Zero.
    pub padding: [u8; 3],
}

/// The ports, which only its first fragment has.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[repr(C)]
pub struct FragmentValue {
    /// The sender's.
    pub source_port: Be16,
    /// The receiver's.
    pub destination_port: Be16,
}

/// Room for a program to work in, where its stack has too little. What is in it means nothing to anybody else.
pub type Scratch = [u64; 48];

const _: () = {
    assert!(size_of::<NatKey>() == 40 && align_of::<NatKey>() == 4);
    assert!(core::mem::offset_of!(NatKey, protocol) == 36);
    assert!(size_of::<NatValue>() == 24);
    assert!(core::mem::offset_of!(NatValue, seen) == 20);
    assert!(size_of::<MasqueradeValue>() == 32);
    assert!(size_of::<NetKey>() == 20);
    assert!(size_of::<FragmentKey>() == 40);
    assert!(size_of::<FragmentValue>() == 4);
};
