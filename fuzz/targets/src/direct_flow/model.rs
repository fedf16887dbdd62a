//! Until when a pod's connection has its ends, as far as the packets tell.

use mesh_ebpf_logic::TcpFlags;
use mesh_ebpf_logic::direct_flow::CLOSING_NS;

/// So much earlier than after [`CLOSING_NS`] the ends may be free, because not every packet is noted.
const SLACK_NS: u64 = 1_000_000_001;

/// Times in nanoseconds of the maps' clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    /// Before this they are taken.
    surely_until: u64,
    /// From this on they are free.
    maybe_until: u64,
}

impl Ends {
    /// Nobody's.
    pub(super) const FREE: Self = Self { surely_until: 0, maybe_until: 0 };

    /// Of an open connection.
    pub(super) const OPEN: Self = Self { surely_until: u64::MAX, maybe_until: u64::MAX };

    /// Of a connection that was last seen to close then.
    pub(super) const fn closing(at: u64) -> Self {
        let until = at.saturating_add(CLOSING_NS);
        Self { surely_until: until, maybe_until: until }
    }

    pub(super) const fn surely_taken(self, now: u64) -> bool {
        now < self.surely_until
    }

    pub(super) const fn maybe_taken(self, now: u64) -> bool {
        now < self.maybe_until
    }

    /// After a packet of the pod, whose connection they were already, or are now.
    pub(super) fn after(self, flags: TcpFlags, were_its_own: bool, now: u64) -> Self {
        let heard = Self::closing(now);
        let has_end = flags.contain(TcpFlags::FIN);
        if flags.contain(TcpFlags::RST) {
            Self::FREE
        } else if flags.open() && has_end {
            // No stack sends both. Either may be believed; there is somebody.
            let before = if were_its_own { self.surely_until } else { 0 };
            Self { surely_until: before.max(heard.surely_until), ..Self::OPEN }
        } else if flags.open() {
            Self::OPEN
        } else if has_end {
            heard
        } else if !were_its_own {
            // A connection older than the programs.
            Self::OPEN
        } else {
            Self {
                surely_until: self.surely_until.max(heard.surely_until - SLACK_NS),
                maybe_until: self.maybe_until.max(heard.maybe_until),
            }
        }
    }
}
