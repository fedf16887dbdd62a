//! Descriptors that accepting leaves to others.
//!
//! A descriptor gets the lowest number that is free, so the number of a new one says how many are in use. Without
//! a reserve, clients could take every descriptor by connecting, and neither the requests of those that are
//! connected nor the admin socket would get one.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use rustix::event::EventfdFlags;
use rustix::process::{Resource, getrlimit};

/// Share of the limit that is left free, and its bounds.
const SHARE: u64 = 8;
const LEAST: u64 = 16;
const MOST: u64 = 1024;

/// Whether a descriptor of this number is one of the reserve. A system call.
pub(crate) fn is_reserve(number: RawFd) -> bool {
    let Some(limit) = getrlimit(Resource::Nofile).current else { return false };
    u64::try_from(number).is_ok_and(|number| number >= unreserved(limit))
}

/// Whether there are descriptors besides the reserve again. Two system calls.
pub(crate) fn have_room() -> bool {
    let probe: io::Result<_> = rustix::event::eventfd(0, EventfdFlags::CLOEXEC).map_err(Into::into);
    probe.is_ok_and(|probe| !is_reserve(probe.as_raw_fd()))
}

/// How many descriptors of a limit accepting may use.
fn unreserved(limit: u64) -> u64 {
    limit.saturating_sub((limit / SHARE).clamp(LEAST, MOST))
}

#[cfg(test)]
mod tests {
    use super::unreserved;

    #[test]
    fn a_share_of_every_limit_stays_free() {
        let taken: Vec<u64> = [8, 64, 1024, 1_048_576].map(unreserved).into();
        assert_eq!(taken, [0, 48, 896, 1_047_552]);
    }
}
