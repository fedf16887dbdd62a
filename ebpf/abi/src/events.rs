//! Events that programs write to the events map.
//!
//! Every event starts with an [`EventHeader`]: kind, version, length. A reader that does not know a kind or
//! a newer version skips `length` bytes.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::net::{Addr, Be16};
use crate::reasons::DropReason;

/// Version of the layouts below.
pub const EVENT_VERSION: u8 = 1;

/// What happened, as stored in [`EventHeader::kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EventKind {
    /// A packet was assigned to the proxy.
    Redirect = 1,
    /// A packet was dropped, or a call refused.
    Drop = 2,
}

/// The first four bytes of every event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EventHeader {
    /// An [`EventKind`] as a number.
    pub kind: u8,
    /// Version of the layout.
    pub version: u8,
    /// Length of the whole event in bytes, in host order (the reader is on the same machine).
    pub length: u16,
}

/// A redirect or a drop of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PacketEvent {
    /// Kind, version, length.
    pub header: EventHeader,
    /// Index of the device the packet came in by.
    pub ifindex: u32,
    /// Nanoseconds of the monotonic clock since boot.
    pub timestamp: u64,
    /// Source address.
    pub source: Addr,
    /// Destination address.
    pub destination: Addr,
    /// Source port.
    pub source_port: Be16,
    /// Destination port.
    pub destination_port: Be16,
    /// IANA protocol number.
    pub protocol: u8,
    /// A [`DropReason`] as a number; 0 in redirects.
    pub reason: u8,
    /// The [`Counter`](crate::Counter) that was raised with it.
    pub counter: u16,
}

const _: () = {
    use core::mem::{offset_of, size_of};
    assert!(size_of::<EventHeader>() == 4);
    assert!(size_of::<PacketEvent>() == 56);
    assert!(offset_of!(PacketEvent, timestamp) == 8 && offset_of!(PacketEvent, source_port) == 48);
};

/// A decoded event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A packet was assigned to the proxy.
    Redirect(PacketEvent),
    /// A packet was dropped.
    Drop(DropReason, PacketEvent),
}

/// Why bytes from the events map are no event that this version knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventError {
    /// Fewer bytes than the header, or than the header says.
    Truncated {
        /// Bytes needed.
        needed: usize,
        /// Bytes there.
        found: usize,
    },
    /// A kind, or a version of it, that came later than this reader.
    Unknown {
        /// The kind's number.
        kind: u8,
        /// Its version.
        version: u8,
    },
    /// A drop whose reason has no name here.
    UnknownReason {
        /// The reason's number.
        reason: u8,
    },
}

impl core::fmt::Display for EventError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Truncated { needed, found } => write!(f, "event of {found} bytes, {needed} needed"),
            Self::Unknown { kind, version } => write!(f, "event kind {kind} version {version} is not known"),
            Self::UnknownReason { reason } => write!(f, "drop reason {reason} is not known"),
        }
    }
}

impl core::error::Error for EventError {}

/// Decodes one event; never panics, whatever the bytes.
pub fn decode(bytes: &[u8]) -> Result<Event, EventError> {
    let (header, _) = EventHeader::read_from_prefix(bytes)
        .map_err(|_| EventError::Truncated { needed: size_of::<EventHeader>(), found: bytes.len() })?;
    let needed = size_of::<PacketEvent>();
    let known = header.kind == EventKind::Redirect as u8 || header.kind == EventKind::Drop as u8;
    if header.version != EVENT_VERSION || !known {
        return Err(EventError::Unknown { kind: header.kind, version: header.version });
    }
    let found = bytes.len().min(header.length.into());
    if found < needed {
        return Err(EventError::Truncated { needed, found });
    }
    let (event, _) =
        PacketEvent::read_from_prefix(bytes).map_err(|_| EventError::Truncated { needed, found })?;
    if header.kind == EventKind::Redirect as u8 {
        return Ok(Event::Redirect(event));
    }
    match DropReason::from_number(event.reason) {
        Some(reason) => Ok(Event::Drop(reason, event)),
        None => Err(EventError::UnknownReason { reason: event.reason }),
    }
}

#[cfg(test)]
mod tests;
