//! Why a program dropped or refused something.

/// Why a packet was dropped, or a call refused. Numbers are given once and never reused; where Cilium has a
/// reason of the same meaning it is that one's number, so that its command line prints the same text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum DropReason {
    /// The service has no backend, or the backend of a slot is missing.
    NoBackend = 158,
    /// A service of the proxy, and the proxy has no listener.
    NoListener = 178,
    /// The kernel refused to assign the packet to the socket.
    AssignFailed = 179,
    /// A pod's connection would have the two ends of one that the proxy has for it.
    PortClash = 240,
}

impl DropReason {
    /// All reasons.
    pub const ALL: &[Self] = &[Self::NoBackend, Self::NoListener, Self::AssignFailed, Self::PortClash];

    /// From the number in an event.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            158 => Some(Self::NoBackend),
            178 => Some(Self::NoListener),
            179 => Some(Self::AssignFailed),
            240 => Some(Self::PortClash),
            _ => None,
        }
    }

    /// The text in dumps and metrics.
    pub const fn text(self) -> &'static str {
        match self {
            Self::NoBackend => "service backend not found",
            Self::NoListener => "proxy listener not found",
            Self::AssignFailed => "socket assign failed",
            Self::PortClash => "source port in use by the proxy",
        }
    }
}
