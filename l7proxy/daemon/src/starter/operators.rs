//! Connections of the agent and the command line.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use mesh_l7proxy_wire::Channel;
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use rustix::net::SocketFlags;
use tracing::warn;

/// How many may be connected at a time.
const MAX_OPERATORS: usize = 32;

/// How long nobody is accepted after that has failed: without descriptors it would fail again at once,
/// and the loop would do nothing else.
const PAUSE: Duration = Duration::from_millis(200);

/// The open connections.
#[derive(Debug, Default)]
pub(super) struct Operators {
    connected: Vec<(u64, Channel)>,
    last_id: u64,
    paused_until: Option<Instant>,
}

impl Operators {
    /// Accepts one connection, if its process belongs to root or to our own user.
    pub(super) fn accept(&mut self, listener: BorrowedFd<'_>) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = match rustix::net::accept_with(listener, flags) {
            Ok(socket) => socket,
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => return,
            Err(error) => {
                self.paused_until = Some(Instant::now() + PAUSE);
                return warn!(%error, "connection on starter.sock cannot be accepted");
            }
        };
        if !trusted(&socket) {
            return;
        }
        if self.connected.len() == MAX_OPERATORS {
            return warn!("{MAX_OPERATORS} connections on starter.sock are open; one more is closed");
        }
        self.last_id += 1;
        self.connected.push((self.last_id, Channel::new(socket)));
    }

    /// When connections are accepted again, if that is not now.
    pub(super) fn paused_until(&mut self, now: Instant) -> Option<Instant> {
        self.paused_until = self.paused_until.filter(|until| *until > now);
        self.paused_until
    }

    pub(super) fn get(&mut self, id: u64) -> Option<&mut Channel> {
        self.connected.iter_mut().find(|(other, _)| *other == id).map(|(_, channel)| channel)
    }

    pub(super) fn remove(&mut self, id: u64) {
        self.connected.retain(|(other, _)| *other != id);
    }

    /// Hangs up on all but this one.
    pub(super) fn keep_only(&mut self, id: u64) {
        self.connected.retain(|(other, _)| *other == id);
    }

    pub(super) fn channels(&self) -> impl Iterator<Item = (u64, &Channel)> {
        self.connected.iter().map(|(id, channel)| (*id, channel))
    }
}

/// The socket's mode says so already; a directory with the wrong owner would not. (rustix knows no peer whose process
/// has no number here, as that of another container has none.)
fn trusted(socket: &OwnedFd) -> bool {
    match getsockopt(socket, PeerCredentials) {
        Ok(peer) if peer.uid() == 0 || peer.uid() == rustix::process::geteuid().as_raw() => true,
        Ok(peer) => {
            warn!(uid = peer.uid(), "connection of another user refused");
            false
        }
        Err(error) => {
            warn!(%error, "connection of an unknown user refused");
            false
        }
    }
}
