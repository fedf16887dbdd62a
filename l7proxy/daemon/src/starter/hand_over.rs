//! Letting another starter of the same run directory take this one's place: a pod's successor, which starts before it.
//!
//! 1. The other one asks; the worker stores its newest configuration ([`super::upgrade`]).
//! 2. It gets duplicates of all that is held here: the lock, the run directory's sockets, the stored configuration,
//!    the listening sockets. Both have them now, and listeners stay as they are.
//! 3. Its worker serves, and it says so.
//! 4. Only then the worker here drains, and what was held is let go of. If 3 never comes, all goes on here.

use std::os::fd::AsFd;
use std::process::ExitCode;

use mesh_l7proxy_wire::{Estate, Refusal, RefusalKind, Response};
use tracing::info;

use super::requests::{Answer, with_duplicates};
use super::upgrade::Successor;
use super::{Peer, Starter};

impl Starter {
    pub(super) fn begin_hand_over(&mut self, requester: Peer, request: u32) -> Answer {
        self.begin(requester, request, Successor::Starter)
    }

    /// The worker's configuration is stored: answers with everything.
    pub(super) fn leave_estate(&mut self, requester: Peer, request: u32) {
        let Some(directory) = self.run_directory.as_ref().and_then(|directory| directory.estate()) else {
            return self.fail_upgrade("the starter is stopping");
        };
        let estate = Estate {
            generation: self.workers.generation(),
            restarts: self.workers.restarts,
            worker_threads: self.workers.threads,
            upstream_ports: self.upstream.range(),
            stored_config_bytes: self.stored.as_ref().map(|stored| stored.bytes),
        };
        let stored = self.stored.as_ref().map(|stored| stored.memory.as_fd());
        let descriptors = directory.into_iter().chain(stored);
        let Answer::Now(outcome, descriptors) = with_duplicates(Response::Estate(estate), descriptors) else {
            return;
        };
        if outcome.is_err() {
            self.upgrade = None;
        }
        self.reply(requester, request, outcome, descriptors);
    }

    /// The other one serves.
    pub(super) fn be_taken_over(&mut self, by: Peer) -> Answer {
        let Some(_) = self.upgrade.take_if(|upgrade| upgrade.is_handing_over_to(by)) else {
            let message =
                "nothing was handed over to this connection, or too long ago; this starter serves on";
            return Err(Refusal { kind: RefusalKind::Busy, message: message.to_owned() }).into();
        };
        info!("another starter has taken over");
        self.workers.cancel_respawn();
        for worker in &mut self.workers.living {
            worker.drain(self.options.drain_timeout);
        }
        self.listeners.close_all();
        self.let_go();
        if let Peer::Operator(id) = by {
            self.operators.keep_only(id);
        }
        if !self.options.take_over && self.leaving.is_none() {
            self.leaving = Some(ExitCode::SUCCESS);
        }
        Ok(Response::Noted).into()
    }

    /// Gives the run directory up, with its files as they are.
    fn let_go(&mut self) {
        if let Some(mut directory) = self.run_directory.take() {
            directory.set_ours(false);
        }
    }
}
