//! Keys and values of the maps of address translation: whose packets leave by a device with the node's address, and
//! which connections have another end than their client sees.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::net::{Addr, Be16};

/// One direction of a translated connection: a pod's to the outside, or a client's to a frontend's backend.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[repr(C)]
pub struct NatKey {
    /// The end that stays as it is: the one outside, or a frontend's client.
    pub remote: Addr,
    /// Our end: the pod's for packets that leave, the node's (or the frontend's) for those that come.
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
    /// The node's address (or the frontend's) for packets that leave, the pod's for those that come.
    pub address: Addr,
    /// The port, or the identifier for ICMP.
    pub port: Be16,
    /// [`NatValue::OPENING`], [`NatValue::OPEN`] or [`NatValue::CLOSING`].
    pub state: u8,
    /// Zero.
    pub padding: u8,
    /// When a packet of this direction was last seen, in units of 2^30 ns since the node started.
    pub seen: u32,
    /// The backend of a frontend's connection, [`NatValue::NO_BACKEND`] for what is masqueraded.
    pub backend: u32,
}

impl NatValue {
    /// No frontend's: identifiers of backends begin with 1.
    pub const NO_BACKEND: u32 = 0;
    /// No answer has come yet.
    pub const OPENING: u8 = 0;
    /// It was answered.
    pub const OPEN: u8 = 1;
    /// One side has ended it.
    pub const CLOSING: u8 = 2;
}

/// The node's addresses on a device, by which packets leave there that are not the node's own. Unset (`::`): that
/// family is not translated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[repr(C)]
pub struct MasqueradeValue {
    /// IPv4.
    pub v4: Addr,
    /// IPv6.
    pub v6: Addr,
    /// See [`device_flags`].
    pub flags: u32,
}

impl MasqueradeValue {
    /// What stands for no address.
    pub const UNSET: Addr = Addr::v6([0; 4]);
}

/// What is translated on a device, as bits.
pub mod device_flags {
    /// What pods send outside by IPv4.
    pub const PODS_V4: u32 = 1;
    /// What pods send outside by IPv6.
    pub const PODS_V6: u32 = 2;
    /// What comes for frontends.
    pub const FRONTENDS: u32 = 4;
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
    assert!(size_of::<NatValue>() == 28);
    assert!(core::mem::offset_of!(NatValue, seen) == 20 && core::mem::offset_of!(NatValue, backend) == 24);
    assert!(size_of::<MasqueradeValue>() == 36);
    assert!(size_of::<NetKey>() == 20);
    assert!(size_of::<FragmentKey>() == 40);
    assert!(size_of::<FragmentValue>() == 4);
};
