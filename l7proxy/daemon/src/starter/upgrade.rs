//! Replacing the worker while it serves.
//!
//! 1. The old worker is asked for its newest configuration (it may be a moment behind in storing it).
//! 2. A worker of the new binary starts on the same listening sockets and the stored configuration.
//! 3. It says that it serves; both accept for a moment.
//! 4. Only then the old one drains. If 3 never comes, the new one is killed and the old one serves on.
//!
//! Steps 2 and 3 may be those of another starter, which takes this one's place: see [`super::hand_over`].

use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mesh_l7proxy_wire::{Event, Refusal, RefusalKind, Response, WorkerState};
use tracing::{info, warn};

use super::requests::Answer;
use super::{Peer, Starter};

/// How long the old worker may take to store its configuration; then the stored one has to do.
const CHECKPOINT_WITHIN: Duration = Duration::from_secs(1);

/// How long another starter may take to serve.
const TAKEN_WITHIN: Duration = Duration::from_secs(60);

/// An upgrade under way.
#[derive(Debug)]
pub(super) struct Upgrade {
    requester: Peer,
    request: u32,
    successor: Successor,
    step: Step,
}

/// What takes the old worker's place.
#[derive(Debug)]
pub(super) enum Successor {
    /// A worker of this binary.
    Worker { binary: PathBuf, ready_within: Duration },
    /// A worker of the starter that asked.
    Starter,
}

impl Display for Successor {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Successor::Worker { binary, .. } => binary.display().fmt(formatter),
            Successor::Starter => formatter.write_str("another starter"),
        }
    }
}

/// What is awaited.
#[derive(Debug)]
enum Step {
    Checkpoint { of: u64, until: Instant },
    Ready { of: u64, until: Instant },
    Taken { until: Instant },
}

impl Upgrade {
    pub(super) fn due(&self) -> Instant {
        match self.step {
            Step::Checkpoint { until, .. } | Step::Ready { until, .. } | Step::Taken { until } => until,
        }
    }

    /// Whether another starter has all that it needs, by now.
    pub(super) fn is_handing_over(&self) -> bool {
        matches!(self.step, Step::Taken { .. })
    }

    /// The same, to this one.
    pub(super) fn is_handing_over_to(&self, peer: Peer) -> bool {
        self.is_handing_over() && self.requester == peer
    }

    /// Whether the worker of this generation is the new one.
    pub(super) fn is_about(&self, generation: u64) -> bool {
        matches!(self.step, Step::Ready { of, .. } if of == generation)
    }
}

impl Starter {
    pub(super) fn begin_upgrade(
        &mut self,
        requester: Peer,
        request: u32,
        binary: PathBuf,
        ready_within_ms: u64,
    ) -> Answer {
        if let Err(message) = check_binary(&binary) {
            return Err(Refusal { kind: RefusalKind::Invalid, message }).into();
        }
        // An hour is enough for anybody, and keeps the sum with the clock in range.
        let ready_within = Duration::from_millis(ready_within_ms).min(Duration::from_secs(3600));
        self.begin(requester, request, Successor::Worker { binary, ready_within })
    }

    /// Asks the worker for its newest configuration, before its successor starts.
    pub(super) fn begin(&mut self, requester: Peer, request: u32, successor: Successor) -> Answer {
        if self.upgrade.is_some() || self.is_going() {
            let message = "an upgrade is under way already, or the starter is stopping; try again later";
            return Err(Refusal { kind: RefusalKind::Busy, message: message.to_owned() }).into();
        }
        info!(%successor, "upgrade begins");
        let now = Instant::now();
        let step = match self.workers.serving() {
            Some(worker) => {
                let generation = worker.generation;
                worker.tell(Event::Checkpoint);
                Step::Checkpoint { of: generation, until: now + CHECKPOINT_WITHIN }
            }
            None => Step::Checkpoint { of: 0, until: now },
        };
        self.upgrade = Some(Upgrade { requester, request, successor, step });
        Answer::Later
    }

    pub(super) fn checkpoint_is_done(&mut self, generation: u64) {
        if let Some(Upgrade { step: Step::Checkpoint { of, .. }, .. }) = &self.upgrade
            && *of == generation
        {
            self.start_successor();
        }
    }

    pub(super) fn tick_upgrade(&mut self, now: Instant) {
        let Some(upgrade) = &self.upgrade else { return };
        if upgrade.due() > now {
            return;
        }
        match upgrade.step {
            Step::Checkpoint { .. } => self.start_successor(),
            Step::Ready { of, .. } => {
                if let Some(worker) = self.workers.get(of) {
                    // Marked first, so that its death is that of a worker nobody needs.
                    worker.state = WorkerState::Draining;
                    worker.kill();
                }
                self.fail_upgrade("the new worker did not serve in time");
            }
            Step::Taken { .. } => self.fail_upgrade("the other starter did not serve in time"),
        }
    }

    fn start_successor(&mut self) {
        let Some(upgrade) = &mut self.upgrade else { return };
        let Successor::Worker { binary, ready_within } = &upgrade.successor else {
            upgrade.step = Step::Taken { until: Instant::now() + TAKEN_WITHIN };
            let (requester, request) = (upgrade.requester, upgrade.request);
            return self.leave_estate(requester, request);
        };
        match self.workers.start(binary) {
            Ok(generation) => {
                // It takes the place of one that was due to be started again.
                self.workers.cancel_respawn();
                upgrade.step = Step::Ready { of: generation, until: Instant::now() + *ready_within };
            }
            Err(error) => {
                let message = format!("{} cannot be started: {error}", binary.display());
                self.fail_upgrade(&message);
            }
        }
    }

    /// The worker of this generation serves: if it is the new one, the others drain.
    pub(super) fn finish_upgrade(&mut self, generation: u64) {
        let Some(upgrade) = self.upgrade.take_if(|upgrade| upgrade.is_about(generation)) else { return };
        let Successor::Worker { binary, .. } = upgrade.successor else { return };
        let drain_timeout = self.options.drain_timeout;
        let mut pid = 0;
        for worker in &mut self.workers.living {
            if worker.generation == generation {
                pid = worker.pid();
            } else {
                worker.drain(drain_timeout);
            }
        }
        info!(pid, binary = %binary.display(), "upgrade done");
        self.workers.use_binary(binary);
        self.reply(upgrade.requester, upgrade.request, Ok(Response::Upgraded { pid }), Vec::new());
    }

    pub(super) fn fail_upgrade(&mut self, why: &str) {
        let Some(upgrade) = self.upgrade.take() else { return };
        warn!(successor = %upgrade.successor, why, "upgrade failed");
        if upgrade.is_handing_over() {
            // It has its answer, and hears of this when it says that it serves.
            return;
        }
        let message = format!("{why}; the old worker serves on. Its log tells more");
        let refusal = Refusal { kind: RefusalKind::UpgradeFailed, message };
        self.reply(upgrade.requester, upgrade.request, Err(refusal), Vec::new());
        // With no old worker either, go on trying with the binary that we know.
        let alive = self.workers.living.iter().any(|worker| worker.state != WorkerState::Draining);
        if !alive && !self.is_going() {
            self.workers.plan_respawn(Duration::ZERO);
        }
    }
}

fn check_binary(binary: &Path) -> Result<(), String> {
    if !binary.is_absolute() {
        return Err(format!("{} is no absolute path", binary.display()));
    }
    rustix::fs::access(binary, rustix::fs::Access::EXEC_OK)
        .map_err(|errno| format!("{} cannot be run: {errno}", binary.display()))
}
