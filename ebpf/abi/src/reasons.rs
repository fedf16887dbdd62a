//! Why a program dropped or refused something.

/// Why a packet was dropped, or a call refused. Numbers are given once and never reused; where Cilium has a
/// reason of the same meaning it is that one's number, so that its command line prints the same text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum DropReason {
    /// A pod's packet with a source that is not the pod's.
    InvalidSource = 132,
    /// The packet could not be rewritten.
    WriteFailed = 141,
    /// The service has no backend, or the backend of a slot is missing.
    NoBackend = 158,
    /// No node is known for the destination of a packet that is to go through a tunnel.
    NoTunnel = 160,
    /// Every port that a pod's connection could leave by is in use towards its destination.
    NoNatPort = 167,
    /// A pod's packet of a protocol that cannot be masqueraded.
    NatUnsupported = 168,
    /// A fragment whose first one was not seen.
    NoFirstFragment = 175,
    /// A service of the proxy, and the proxy has no listener.
    NoListener = 178,
    /// The kernel refused to assign the packet to the socket.
    AssignFailed = 179,
    /// A pod's connection would have the two ends of one that the proxy has for it.
    PortClash = 240,
}

impl DropReason {
    /// All reasons.
    pub const ALL: &[Self] = &[
        Self::InvalidSource,
        Self::WriteFailed,
        Self::NoBackend,
        Self::NoTunnel,
        Self::NoNatPort,
        Self::NatUnsupported,
        Self::NoFirstFragment,
        Self::NoListener,
        Self::AssignFailed,
        Self::PortClash,
    ];

    /// From the number in an event.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            132 => Some(Self::InvalidSource),
            141 => Some(Self::WriteFailed),
            158 => Some(Self::NoBackend),
            160 => Some(Self::NoTunnel),
            167 => Some(Self::NoNatPort),
            168 => Some(Self::NatUnsupported),
            175 => Some(Self::NoFirstFragment),
            178 => Some(Self::NoListener),
            179 => Some(Self::AssignFailed),
            240 => Some(Self::PortClash),
            _ => None,
        }
    }

    /// The text in dumps and metrics.
    pub const fn text(self) -> &'static str {
        match self {
            Self::InvalidSource => "invalid source ip",
            Self::WriteFailed => "error writing to packet",
            Self::NoTunnel => "no tunnel/encapsulation endpoint",
            Self::NoNatPort => "no mapping for NAT masquerade",
            Self::NatUnsupported => "unsupported protocol for NAT masquerade",
            Self::NoFirstFragment => "first logical datagram fragment not found",
            Self::NoBackend => "service backend not found",
            Self::NoListener => "proxy listener not found",
            Self::AssignFailed => "socket assign failed",
            Self::PortClash => "source port in use by the proxy",
        }
    }
}
