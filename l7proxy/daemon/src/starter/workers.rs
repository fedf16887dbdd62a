//! The worker processes: one that serves, and around an upgrade two.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mesh_l7proxy_wire::{Channel, Estate, Event, FromStarter, WorkerState, WorkerStatus};
use rustix::io::FdFlags;
use rustix::process::{Pid, PidfdFlags};
use tracing::{info, warn};

use crate::args::StarterOptions;

/// What the starter itself runs, even when the file was replaced since.
const OWN_BINARY: &str = "/proc/self/exe";

/// A worker that lived this long died of something new: it is started again at once.
const LONG_LIFE: Duration = Duration::from_secs(10);

/// The longest wait before a worker that keeps dying is started again: with what starting takes, and a client's
/// retransmission, whatever kills workers costs clients less than two seconds each time.
const LONGEST_BACKOFF: Duration = Duration::from_secs(1);

/// What a worker may take on top of its deadline before it is killed.
const GRACE: Duration = Duration::from_secs(2);

/// One worker process.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) generation: u64,
    pub(super) state: WorkerState,
    pub(super) version: Option<String>,
    pub(super) binary: PathBuf,
    /// `None` once the worker closed its end.
    pub(super) channel: Option<Channel>,
    /// What did not fit the socket. Nothing is read from a worker as long as there is some, so it is one answer
    /// and a few events.
    unsent: VecDeque<(FromStarter, Vec<OwnedFd>)>,
    /// Readable when the process is gone.
    pub(super) exited: OwnedFd,
    child: Child,
    started: Instant,
    kill_at: Option<Instant>,
}

impl Worker {
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Tells it something; one that cannot be told is killed, and its successor does better.
    pub(super) fn tell(&mut self, event: Event) {
        if let Err(error) = self.send(FromStarter::Event(event), Vec::new()) {
            warn!(pid = self.pid(), %error, "worker does not listen and is killed");
            self.kill();
        }
    }

    /// Sends a message, now or as soon as the worker has read what is before it.
    ///
    /// # Errors
    /// When it never will.
    pub(super) fn send(&mut self, message: FromStarter, descriptors: Vec<OwnedFd>) -> io::Result<()> {
        self.unsent.push_back((message, descriptors));
        self.send_unsent()
    }

    /// Sends what there is room for.
    ///
    /// # Errors
    /// See [`Self::send`].
    pub(super) fn send_unsent(&mut self) -> io::Result<()> {
        let Some(channel) = &self.channel else {
            self.unsent.clear();
            return Ok(());
        };
        while let Some((message, descriptors)) = self.unsent.front() {
            let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
            match channel.send(message, &borrowed) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                sent => sent?,
            }
            self.unsent.pop_front();
        }
        Ok(())
    }

    /// Whether it has to read before it is heard.
    pub(super) fn is_behind(&self) -> bool {
        !self.unsent.is_empty()
    }

    pub(super) fn drain(&mut self, deadline: Duration) {
        if self.state == WorkerState::Draining {
            return;
        }
        info!(pid = self.pid(), generation = self.generation, "worker drains");
        self.state = WorkerState::Draining;
        self.kill_at = Some(Instant::now() + deadline + GRACE);
        let deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        self.tell(Event::Drain { deadline_ms });
    }

    pub(super) fn kill(&mut self) {
        if let Err(error) = self.child.kill() {
            warn!(pid = self.pid(), %error, "worker cannot be killed");
        }
    }

    fn status(&self) -> WorkerStatus {
        WorkerStatus {
            pid: self.pid(),
            generation: self.generation,
            state: self.state,
            version: self.version.clone(),
            binary: self.binary.clone(),
            uptime_s: self.started.elapsed().as_secs(),
        }
    }
}

/// All workers, and when the next one is due.
#[derive(Debug)]
pub(super) struct Workers {
    pub(super) living: Vec<Worker>,
    pub(super) restarts: u64,
    pub(super) last_exit: Option<String>,
    pub(super) threads: u16,
    options: StarterOptions,
    binary: PathBuf,
    generation: u64,
    /// The last generation of another starter's workers.
    inherited: u64,
    quick_deaths: u32,
    respawn_at: Option<Instant>,
}

impl Workers {
    pub(super) fn new(options: StarterOptions) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = match options.worker_threads {
            0 => u16::try_from(cores).unwrap_or(u16::MAX),
            threads => threads,
        };
        Self {
            living: Vec::new(),
            restarts: 0,
            last_exit: None,
            // One listener has a socket for each thread and all of them have to fit one message.
            threads: threads.min(u16::try_from(mesh_l7proxy_wire::MAX_DESCRIPTORS).unwrap_or(u16::MAX)),
            options,
            binary: PathBuf::from(OWN_BINARY),
            generation: 0,
            inherited: 0,
            quick_deaths: 0,
            respawn_at: Some(Instant::now()),
        }
    }

    /// Counts on where another starter's workers are.
    pub(super) fn inherit(&mut self, estate: &Estate) {
        (self.generation, self.inherited) = (estate.generation, estate.generation);
        (self.restarts, self.threads) = (estate.restarts, estate.worker_threads);
    }

    /// The newest worker's generation.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// The worker of this generation.
    pub(super) fn get(&mut self, generation: u64) -> Option<&mut Worker> {
        self.living.iter_mut().find(|worker| worker.generation == generation)
    }

    /// The one that serves, if one does.
    pub(super) fn serving(&mut self) -> Option<&mut Worker> {
        self.living.iter_mut().find(|worker| worker.state == WorkerState::Serving)
    }

    /// Starts a worker; its generation.
    pub(super) fn start(&mut self, binary: &Path) -> io::Result<u64> {
        let (ours, theirs) = Channel::pair()?;
        let channel = Channel::new(ours);
        channel.set_nonblocking(true)?;
        rustix::io::fcntl_setfd(&theirs, FdFlags::empty())?;
        let shared = &self.options.shared;
        let mut command = Command::new(binary);
        command
            .arg0("l7proxy")
            .arg("worker")
            .args(["--control-fd", &theirs.as_raw_fd().to_string()])
            .args(["--threads", &self.threads.to_string()])
            .arg("--xds-socket")
            .arg(self.options.xds_socket())
            .args(["--node-id", &shared.node_id, "--log", &shared.log])
            .args(["--log-format", shared.log_format.name(), "--sandbox", shared.sandbox.name()])
            .stdin(Stdio::null())
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| passed_on(name.as_encoded_bytes())));
        let child = command.spawn()?;
        let exited = Pid::from_raw(i32::try_from(child.id()).unwrap_or_default())
            .ok_or_else(|| io::Error::other("a child without a process id"))
            .and_then(|pid| Ok(rustix::process::pidfd_open(pid, PidfdFlags::empty())?))?;
        self.generation += 1;
        info!(pid = child.id(), generation = self.generation, binary = %binary.display(), "worker started");
        self.living.push(Worker {
            generation: self.generation,
            state: WorkerState::Starting,
            version: None,
            binary: binary.to_owned(),
            channel: Some(channel),
            unsent: VecDeque::new(),
            exited,
            child,
            started: Instant::now(),
            kill_at: None,
        });
        Ok(self.generation)
    }

    /// From now on dead workers are replaced by this binary.
    pub(super) fn use_binary(&mut self, binary: PathBuf) {
        self.binary = binary;
    }

    /// Takes a dead worker off the list, and says how it ended.
    pub(super) fn reap(&mut self, generation: u64) -> Option<Worker> {
        let index = self.living.iter().position(|worker| worker.generation == generation)?;
        let mut worker = self.living.remove(index);
        let (pid, state) = (worker.pid(), worker.state);
        let ended = match worker.child.wait() {
            Ok(status) => status.to_string(),
            Err(error) => format!("unknown end: {error}"),
        };
        if state == WorkerState::Draining {
            info!(pid, generation, %ended, "drained worker is gone");
        } else {
            warn!(pid, generation, %ended, "worker died");
            self.last_exit = Some(ended);
        }
        Some(worker)
    }

    /// Plans a successor for a worker that died: at once, or later when they keep dying.
    pub(super) fn plan_respawn(&mut self, lived: Duration) {
        self.quick_deaths = if lived >= LONG_LIFE { 0 } else { self.quick_deaths.saturating_add(1) };
        self.respawn_at = Some(Instant::now() + backoff(self.quick_deaths));
    }

    pub(super) fn cancel_respawn(&mut self) {
        self.respawn_at = None;
    }

    /// Does what is due: starts the planned worker, kills those that did not finish in time.
    pub(super) fn tick(&mut self, now: Instant) {
        if self.respawn_at.is_some_and(|at| at <= now) {
            self.respawn_at = None;
            self.restarts += u64::from(self.generation > self.inherited);
            let binary = self.binary.clone();
            if let Err(error) = self.start(&binary) {
                warn!(%error, binary = %binary.display(), "worker cannot be started");
                self.plan_respawn(Duration::ZERO);
            }
        }
        for worker in &mut self.living {
            if worker.kill_at.is_some_and(|at| at <= now) {
                warn!(pid = worker.pid(), "worker did not finish in time and is killed");
                worker.kill_at = None;
                worker.kill();
            }
        }
    }

    /// When [`Self::tick`] has something to do next.
    pub(super) fn due(&self) -> Option<Instant> {
        self.living.iter().filter_map(|worker| worker.kill_at).chain(self.respawn_at).min()
    }

    pub(super) fn status(&self) -> Vec<WorkerStatus> {
        self.living.iter().map(Worker::status).collect()
    }
}

impl Worker {
    pub(super) fn lived(&self) -> Duration {
        self.started.elapsed()
    }
}

#[cfg(test)]
impl Workers {
    /// Has no worker but one that is a process of no importance, at the other end of this channel.
    pub(super) fn be_served_by(&mut self, channel: Channel) {
        self.cancel_respawn();
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        channel.set_nonblocking(true).unwrap();
        self.living = vec![Worker {
            generation: 1,
            state: WorkerState::Serving,
            version: None,
            binary: PathBuf::new(),
            channel: Some(channel),
            unsent: VecDeque::new(),
            exited: rustix::process::pidfd_open(pid, PidfdFlags::empty()).unwrap(),
            child,
            started: Instant::now(),
            kill_at: None,
        }];
    }
}

/// Settings of the runtime and the allocator; anything else in the environment is none of a worker's business.
fn passed_on(name: &[u8]) -> bool {
    name.starts_with(b"RUST_") || name.starts_with(b"MIMALLOC_")
}

/// 0 after the first quick death, then doubling from 100 ms.
fn backoff(quick_deaths: u32) -> Duration {
    if quick_deaths <= 1 {
        return Duration::ZERO;
    }
    let doubled = Duration::from_millis(100) * 2_u32.saturating_pow((quick_deaths - 2).min(16));
    doubled.min(LONGEST_BACKOFF)
}

#[cfg(test)]
mod tests {
    use super::backoff;

    #[test]
    fn worker_that_keeps_dying_is_started_again_ever_later_but_within_a_second() {
        let waits: Vec<u128> = (0..9).map(|deaths| backoff(deaths).as_millis()).collect();
        assert_eq!(waits, [0, 0, 100, 200, 400, 800, 1000, 1000, 1000]);
        assert_eq!(backoff(u32::MAX).as_millis(), 1000);
    }
}
