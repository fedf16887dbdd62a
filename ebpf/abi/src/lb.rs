//! Keys and values of the load-balancing maps.
//!
//! Layouts are asserted at the end of the file, because pinned maps outlive the process that made them. A
//! changed layout needs a new version suffix in [`crate::maps`].

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::net::{Addr, Be16};

/// Transport protocols by their IANA numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Protocol {
    /// TCP.
    Tcp = 6,
    /// UDP.
    Udp = 17,
}

impl Protocol {
    /// From the number in a packet or a socket; `None` for anything else.
    #[inline(always)]
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            _ => None,
        }
    }
}

/// What is special about a service address.
#[derive(
    Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct ServiceFlags(u16);

impl ServiceFlags {
    /// No flag: balanced over backends by the socket hooks.
    pub const NONE: Self = Self(0);
    /// Connections go to the proxy. Packet hooks and socket lookup assign them; the socket hooks leave the
    /// address alone, so that the packet hooks see it.
    pub const L7_REDIRECT: Self = Self(1);
    /// Unconnected datagrams of one socket stay on one backend even while the backends change in number.
    /// Reserved: set by nobody, read by nobody yet.
    pub const AFFINITY: Self = Self(1 << 1);
    /// Open to the outside: a node port, a host port, an address given to the Service from outside.
    pub const EXTERNAL: Self = Self(1 << 2);
    /// With it: clients outside get the backends of the entry in scope [`ServiceKey::OUTSIDE`], those on this node.
    pub const EXTERNAL_LOCAL: Self = Self(1 << 3);

    /// Both sets of flags.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of the other's flags are set.
    #[inline(always)]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl fmt::Debug for ServiceFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (flag, name) in [
            (Self::L7_REDIRECT, "l7-redirect"),
            (Self::AFFINITY, "affinity"),
            (Self::EXTERNAL, "external"),
            (Self::EXTERNAL_LOCAL, "external-local"),
        ] {
            if self.contains(flag) {
                write!(f, "{separator}{name}")?;
                separator = ",";
            }
        }
        if self.0 == 0 { f.write_str("none") } else { Ok(()) }
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for ServiceFlags {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{self:?}"))
    }
}

/// Key of the services map: one address and port that clients dial. The unspecified address of a family stands for each
/// address of the node.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[repr(C)]
pub struct ServiceKey {
    /// The address dialled.
    pub address: Addr,
    /// The port dialled.
    pub port: Be16,
    /// IANA protocol number, see [`Protocol`].
    pub protocol: u8,
    /// Which clients see the entry: 0 all of them, [`ServiceKey::OUTSIDE`].
    pub scope: u8,
}

impl ServiceKey {
    /// The scope of clients outside, where they get other backends ([`ServiceFlags::EXTERNAL_LOCAL`]).
    pub const OUTSIDE: u8 = 1;

    /// The entry that all clients see.
    #[inline(always)]
    pub const fn new(address: Addr, port: Be16, protocol: Protocol) -> Self {
        Self { address, port, protocol: protocol as u8, scope: 0 }
    }
}

/// Value of the services map.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[repr(C)]
pub struct ServiceValue {
    /// Identifier of the service, the first half of its slots' keys; chosen by the agent, never reused while
    /// a slot with it exists.
    pub service: u32,
    /// Number of backends: slots 0 to `backends` - 1 are filled. 0 without
    /// [`L7_REDIRECT`](ServiceFlags::L7_REDIRECT): connections are refused.
    pub backends: u16,
    /// Flags.
    pub flags: ServiceFlags,
}

/// Key of the slots map: the n-th backend of a service.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[repr(C)]
pub struct SlotKey {
    /// The service.
    pub service: u32,
    /// The slot, from 0.
    pub slot: u32,
}

/// Whether a backend takes new connections, as stored in [`BackendValue::state`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum BackendState {
    /// Takes new connections.
    Active = 0,
    /// Finishes what it has; slots no longer point to it.
    Terminating = 1,
    /// Failed its health checks; slots no longer point to it.
    Quarantined = 2,
}

/// Value of the backends map, keyed by backend identifier (`u32`, never 0).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[repr(C)]
pub struct BackendValue {
    /// Address.
    pub address: Addr,
    /// Port.
    pub port: Be16,
    /// IANA protocol number.
    pub protocol: u8,
    /// A [`BackendState`] as a number. Dumps and metrics read it; balancing goes by the slots alone.
    pub state: u8,
}

impl BackendValue {
    /// An active backend.
    pub const fn active(address: Addr, port: Be16, protocol: Protocol) -> Self {
        Self { address, port, protocol: protocol as u8, state: BackendState::Active as u8 }
    }
}

/// Key of the reverse map: what a socket really talks to.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[repr(C)]
pub struct ReverseKey {
    /// The kernel's cookie of the socket.
    pub cookie: u64,
    /// The backend's address.
    pub address: Addr,
    /// The backend's port.
    pub port: Be16,
    reserved: [u8; 6],
}

impl ReverseKey {
    /// A key.
    #[inline(always)]
    pub const fn new(cookie: u64, address: Addr, port: Be16) -> Self {
        Self { cookie, address, port, reserved: [0; 6] }
    }
}

/// Value of the reverse map: what the socket's owner dialled.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[repr(C)]
pub struct ReverseValue {
    /// The service's address.
    pub address: Addr,
    /// The service's port.
    pub port: Be16,
    reserved: [u8; 2],
    /// The service.
    pub service: u32,
}

impl ReverseValue {
    /// A value.
    #[inline(always)]
    pub const fn new(address: Addr, port: Be16, service: u32) -> Self {
        Self { address, port, reserved: [0; 2], service }
    }
}

/// The one value of the config map: what changes while programs stay loaded.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[repr(C)]
pub struct ProxyConfig {
    /// Proxy threads with a listener pair in the listeners map; 0: the proxy is absent, and new connections
    /// to services of the proxy are dropped and counted.
    pub threads: u32,
    /// No flag is defined yet.
    pub flags: u32,
}

/// Index of a thread's listener in the listeners map.
#[inline(always)]
pub const fn listener_index(thread: u32, family: crate::net::Family) -> u32 {
    let family = match family {
        crate::net::Family::V4 => 0,
        crate::net::Family::V6 => 1,
    };
    thread.wrapping_mul(2).wrapping_add(family)
}

const _: () = {
    use core::mem::{align_of, offset_of, size_of};
    assert!(size_of::<Addr>() == 16 && align_of::<Addr>() == 4);
    assert!(size_of::<ServiceKey>() == 20);
    assert!(offset_of!(ServiceKey, port) == 16 && offset_of!(ServiceKey, protocol) == 18);
    assert!(size_of::<ServiceValue>() == 8 && offset_of!(ServiceValue, flags) == 6);
    assert!(size_of::<SlotKey>() == 8);
    assert!(size_of::<BackendValue>() == 20 && offset_of!(BackendValue, state) == 19);
    assert!(size_of::<ReverseKey>() == 32 && offset_of!(ReverseKey, port) == 24);
    assert!(size_of::<ReverseValue>() == 24 && offset_of!(ReverseValue, service) == 20);
    assert!(size_of::<ProxyConfig>() == 8);
};
