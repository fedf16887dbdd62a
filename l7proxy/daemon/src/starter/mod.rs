//! The starter: what must outlive a worker, and nothing else.
//!
//! In: messages of the agent and the command line on `starter.sock`, of the workers on their socket
//! pairs, signals, deaths of workers. Out: listening sockets, upstream sockets, the stored
//! configuration, worker processes. It reads no byte from the network and has CAP_NET_RAW only.
//!
//! One thread, one `poll` loop ([`Starter::run`]), no async runtime; requests are answered in
//! [`requests`], which is the place to start reading.

mod hand_over;
mod listeners;
mod operators;
mod predecessor;
mod privileges;
mod requests;
mod run_dir;
mod upgrade;
mod upstream;
mod workers;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use mesh_l7proxy_wire::{FromStarter, Received, Refusal, Response, ToStarter, WorkerState};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec};
use tracing::{info, warn};

use self::listeners::ListenerTable;
use self::operators::Operators;
use self::predecessor::{Inherited, Predecessor};
use self::requests::{Answer, Stored};
use self::run_dir::RunDirectory;
use self::upgrade::Upgrade;
use self::upstream::UpstreamSockets;
use self::workers::Workers;
use crate::args::{PortRange, StarterOptions};

/// Messages that one peer gets answered before the others have their turn.
const TURN: usize = 64;

/// Runs until a signal or `l7proxy stop` ends it.
///
/// # Errors
/// When the run directory cannot be used, another starter uses it, or privileges cannot be reduced.
pub(crate) fn run(options: StarterOptions) -> anyhow::Result<ExitCode> {
    if options.detach {
        match rustix::process::setsid() {
            Ok(_) => {}
            // Already the leader of a process group: a shell started us by itself.
            Err(rustix::io::Errno::PERM) => {
                warn!("cannot start a session of its own; start it with `setsid`")
            }
            Err(errno) => return Err(errno).context("cannot start a session"),
        }
    }
    crate::sys::close_inherited_on_exec()
        .context("cannot mark inherited descriptors (Linux 5.11 or later is needed)")?;
    rustix::thread::set_name(c"l7proxy-starter")?;
    let signals = block_signals().context("cannot take over signals")?;
    let Some((run_directory, inherited)) = predecessor::open(&options, &signals)? else {
        info!("told to stop while another starter runs");
        return Ok(ExitCode::SUCCESS);
    };
    privileges::reduce(options.user)?;
    info!(version = env!("CARGO_PKG_VERSION"), run_dir = %options.run.run_dir.display(), "starter runs");
    let mut starter = Starter::new(options, signals, run_directory);
    if let Some(inherited) = inherited {
        starter.inherit(inherited);
    }
    starter.run()
}

/// Everything that the starter holds.
struct Starter {
    options: StarterOptions,
    signals: SignalFd,
    /// Gone once another starter has taken over.
    run_directory: Option<RunDirectory>,
    listeners: ListenerTable,
    upstream: UpstreamSockets,
    stored: Option<Stored>,
    operators: Operators,
    workers: Workers,
    upgrade: Option<Upgrade>,
    /// The starter that serves until our worker does.
    predecessor: Option<Predecessor>,
    started: Instant,
    /// Set once we are to exit: with which code, when the last worker is gone.
    leaving: Option<ExitCode>,
}

/// Who sent a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Peer {
    Operator(u64),
    Worker(u64),
}

/// What poll watches.
#[derive(Debug, Clone, Copy)]
enum Source {
    Signals,
    Control,
    Messages(Peer),
    /// There is room for what a worker has not been sent yet.
    Room(u64),
    WorkerExit(u64),
}

impl Source {
    fn events(self) -> PollFlags {
        match self {
            Source::Room(_) => PollFlags::OUT,
            _ => PollFlags::IN,
        }
    }
}

impl Starter {
    fn new(options: StarterOptions, signals: SignalFd, run_directory: RunDirectory) -> Self {
        Self {
            signals,
            run_directory: Some(run_directory),
            listeners: ListenerTable::default(),
            upstream: UpstreamSockets::new(options.upstream_ports),
            stored: None,
            operators: Operators::default(),
            workers: Workers::new(options.clone()),
            upgrade: None,
            predecessor: None,
            started: Instant::now(),
            leaving: None,
            options,
        }
    }

    /// Goes on where another starter is. What others count on stays as it is there, whatever our options say.
    fn inherit(&mut self, Inherited { predecessor, estate, listeners, stored }: Inherited) {
        let (low, high) = estate.upstream_ports;
        let had = (self.workers.threads, self.upstream.range());
        if had != (estate.worker_threads, estate.upstream_ports) {
            warn!(
                threads = estate.worker_threads,
                "--worker-threads and --upstream-ports ({low}-{high}) are the other starter's: stop it first for others"
            );
        }
        self.upstream = UpstreamSockets::new(PortRange { low, high });
        self.workers.inherit(&estate);
        self.listeners.inherit(listeners);
        self.stored = stored;
        self.predecessor = Some(predecessor);
    }

    fn run(mut self) -> anyhow::Result<ExitCode> {
        loop {
            let now = Instant::now();
            self.workers.tick(now);
            self.tick_upgrade(now);
            if let Some(code) = self.leaving
                && self.workers.living.is_empty()
            {
                info!("starter exits");
                return Ok(code);
            }
            for source in self.wait().context("poll failed")? {
                match source {
                    Source::Signals => self.take_signal(),
                    Source::Control => {
                        if let Some(directory) = &self.run_directory {
                            self.operators.accept(directory.control.as_fd());
                        }
                    }
                    Source::Messages(peer) => self.take_messages(peer),
                    Source::Room(generation) => self.send_unsent(generation),
                    Source::WorkerExit(generation) => self.take_exit(generation),
                }
            }
        }
    }

    /// Waits for something to do.
    fn wait(&mut self) -> io::Result<Vec<Source>> {
        let paused_until = self.operators.paused_until(Instant::now());
        let mut watched: Vec<(Source, BorrowedFd<'_>)> = vec![(Source::Signals, self.signals.as_fd())];
        // As long as another starter serves, it is the one that answers.
        if paused_until.is_none()
            && self.predecessor.is_none()
            && let Some(directory) = &self.run_directory
        {
            watched.push((Source::Control, directory.control.as_fd()));
        }
        for (id, channel) in self.operators.channels() {
            watched.push((Source::Messages(Peer::Operator(id)), channel.as_fd()));
        }
        for worker in &self.workers.living {
            if let Some(channel) = &worker.channel {
                let source = match worker.is_behind() {
                    true => Source::Room(worker.generation),
                    false => Source::Messages(Peer::Worker(worker.generation)),
                };
                watched.push((source, channel.as_fd()));
            }
            // After its messages, so that its last words are heard before its death.
            watched.push((Source::WorkerExit(worker.generation), worker.exited.as_fd()));
        }
        let due = [self.workers.due(), self.upgrade.as_ref().map(Upgrade::due), paused_until];
        let due = due.into_iter().flatten().min();
        let timeout = due.map(|at| timespec(at.saturating_duration_since(Instant::now())));
        let mut polled: Vec<PollFd<'_>> = watched
            .iter()
            .map(|(source, descriptor)| PollFd::from_borrowed_fd(*descriptor, source.events()))
            .collect();
        match rustix::event::poll(&mut polled, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ready = polled.iter().zip(&watched).filter(|(polled, _)| !polled.revents().is_empty());
        Ok(ready.map(|(_, (source, _))| *source).collect())
    }

    fn take_signal(&mut self) {
        match self.signals.read_signal() {
            Ok(Some(signal)) => {
                info!(signal = signal.ssi_signo, "signal");
                self.leave();
            }
            Ok(None) => {}
            Err(error) => warn!(%error, "signals cannot be read"),
        }
    }

    /// Drains the workers and exits once they are gone; the second time it kills them.
    fn leave(&mut self) {
        self.workers.cancel_respawn();
        if self.leaving.is_some() {
            warn!("asked twice to stop: connections are cut");
            self.leaving = Some(ExitCode::FAILURE);
            self.workers.living.iter_mut().for_each(workers::Worker::kill);
            return;
        }
        self.leaving = Some(ExitCode::SUCCESS);
        if !self.upgrade.as_ref().is_some_and(Upgrade::is_handing_over) {
            self.fail_upgrade("the starter was told to stop");
        } else if let Some(directory) = &mut self.run_directory {
            // Connections wait for the other starter, which has the same sockets.
            directory.set_ours(false);
        }
        // Ours go first: as soon as the workers close theirs, new connections are refused and whoever
        // balances over nodes goes elsewhere, instead of waiting in a backlog that nobody serves.
        self.listeners.close_all();
        if let Some(directory) = &mut self.run_directory {
            directory.retire_admin();
        }
        for worker in &mut self.workers.living {
            worker.drain(self.options.drain_timeout);
        }
    }

    /// Whether no more workers are to be started.
    fn is_going(&self) -> bool {
        self.leaving.is_some() || self.run_directory.is_none()
    }

    /// Our first worker serves: the starter of before may go.
    fn replace_predecessor(&mut self) {
        let Some(predecessor) = self.predecessor.take() else { return };
        match predecessor.replace() {
            Ok(()) => {
                if let Some(directory) = &mut self.run_directory {
                    directory.set_ours(true);
                }
            }
            Err(error) => {
                warn!("what was handed over is taken back: {:#}", anyhow::Error::new(error));
                self.workers.cancel_respawn();
                self.run_directory = None;
                self.leaving = Some(ExitCode::FAILURE);
                self.workers.living.iter_mut().for_each(workers::Worker::kill);
            }
        }
    }

    fn take_exit(&mut self, generation: u64) {
        let Some(worker) = self.workers.reap(generation) else { return };
        if self.upgrade.as_ref().is_some_and(|upgrade| upgrade.is_about(generation)) {
            self.fail_upgrade("the new worker died before it served");
            return;
        }
        // Another one serving means that this one was replaced; else somebody has to take its place.
        let replaced = self.workers.living.iter().any(|other| other.state != WorkerState::Draining);
        if !self.is_going() && !replaced {
            self.workers.plan_respawn(worker.lived());
        }
    }

    fn take_messages(&mut self, peer: Peer) {
        for _ in 0..TURN {
            let received = match peer {
                Peer::Operator(id) => self.operators.get(id).map(|channel| channel.receive::<ToStarter>()),
                // Whoever does not read answers is not asked for more questions.
                Peer::Worker(generation) => self
                    .workers
                    .get(generation)
                    .filter(|worker| !worker.is_behind())
                    .and_then(|worker| worker.channel.as_mut())
                    .map(|channel| channel.receive::<ToStarter>()),
            };
            match received {
                Some(Ok(Some(Received { message: ToStarter { id, request }, descriptors }))) => {
                    if let Answer::Now(outcome, descriptors) = self.answer(peer, id, request, descriptors) {
                        self.reply(peer, id, outcome, descriptors);
                    }
                }
                Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => return,
                Some(Ok(None)) => return self.hang_up(peer, None),
                Some(Err(error)) => return self.hang_up(peer, Some(&error)),
                None => return,
            }
        }
    }

    fn reply(&mut self, peer: Peer, id: u32, outcome: Result<Response, Refusal>, descriptors: Vec<OwnedFd>) {
        let message = FromStarter::Reply { id, outcome };
        let sent = match peer {
            // One question at a time: what does not fit was never asked for.
            Peer::Operator(id) => self.operators.get(id).map(|channel| {
                let borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
                channel.send(&message, &borrowed)
            }),
            Peer::Worker(generation) => {
                self.workers.get(generation).map(|worker| worker.send(message, descriptors))
            }
        };
        if let Some(Err(error)) = sent {
            self.hang_up(peer, Some(&error));
        }
    }

    fn send_unsent(&mut self, generation: u64) {
        if let Some(Err(error)) = self.workers.get(generation).map(workers::Worker::send_unsent) {
            self.hang_up(Peer::Worker(generation), Some(&error));
        }
    }

    /// The peer closed its end or broke the protocol. A worker that does so is replaced: one that
    /// cannot be reached any more could not be told to drain either.
    fn hang_up(&mut self, peer: Peer, error: Option<&io::Error>) {
        if let Some(error) = error {
            warn!(?peer, %error, "connection ended");
        }
        match peer {
            Peer::Operator(id) => {
                self.operators.remove(id);
                if self.upgrade.as_ref().is_some_and(|upgrade| upgrade.is_handing_over_to(peer)) {
                    self.fail_upgrade("the other starter went away");
                }
            }
            Peer::Worker(generation) => {
                if let Some(worker) = self.workers.get(generation) {
                    worker.channel = None;
                    if worker.state != WorkerState::Draining {
                        worker.kill();
                    }
                }
            }
        }
    }
}

/// Signals come through the poll loop. Workers inherit the blocked mask on purpose: Ctrl-C reaches the
/// whole process group, and it is us who tell a worker to finish.
fn block_signals() -> nix::Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        set.add(signal);
    }
    set.thread_block()?;
    SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
}

fn timespec(duration: Duration) -> Timespec {
    // A millisecond more, so that what is due at that time is due when we wake.
    let duration = duration + Duration::from_millis(1);
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

#[cfg(test)]
mod tests;
