//! Key and value of the direct flows map: connections of pods on source ports that the proxy borrows.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::net::{Addr, Be16};

/// The two ends of a pod's own TCP connection, as the pod's packets name them.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[repr(C)]
pub struct DirectFlowKey {
    /// The pod.
    pub source: Addr,
    /// Whom it talks to.
    pub destination: Addr,
    /// The pod's port.
    pub source_port: Be16,
    /// The other's port.
    pub destination_port: Be16,
}

/// State of a flow.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[repr(transparent)]
pub struct DirectFlowValue {
    /// When the pod was last heard of after it began to close: nanoseconds since the node started, without
    /// the time it slept. 0 while the flow is open.
    pub closing_at: u64,
}

impl DirectFlowValue {
    /// A flow that nobody has begun to close.
    pub const OPEN: Self = Self { closing_at: 0 };
}

const _: () = {
    assert!(size_of::<DirectFlowKey>() == 36);
    assert!(core::mem::offset_of!(DirectFlowKey, source_port) == 32);
    assert!(size_of::<DirectFlowValue>() == 8);
};
