//! Answers to requests, one arm each.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use mesh_l7proxy_wire::{
    Refusal, RefusalKind, Request, Response, Role, StarterStatus, Welcome, WorkerState, verify_sealed,
};
use tracing::info;

use super::run_dir::RunDirectory;
use super::upgrade::Upgrade;
use super::{Peer, Starter};
use crate::capability;

/// The last good configuration, as a worker sealed it.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) memory: OwnedFd,
    pub(super) bytes: u64,
}

/// The answer to a request.
#[derive(Debug)]
pub(super) enum Answer {
    /// Goes out now, with these descriptors.
    Now(Result<Response, Refusal>, Vec<OwnedFd>),
    /// Goes out when an upgrade has worked or failed.
    Later,
}

impl From<Result<Response, Refusal>> for Answer {
    fn from(outcome: Result<Response, Refusal>) -> Self {
        Answer::Now(outcome, Vec::new())
    }
}

impl Starter {
    pub(super) fn answer(
        &mut self,
        peer: Peer,
        id: u32,
        request: Request,
        mut descriptors: Vec<OwnedFd>,
    ) -> Answer {
        let role = match peer {
            Peer::Operator(_) => Role::Operator,
            Peer::Worker(_) => Role::Worker,
        };
        if !request.permitted(role) {
            let message = format!("`{}` is not for this connection", request.name());
            return Err(Refusal { kind: RefusalKind::NotPermitted, message }).into();
        }
        match request {
            Request::Listen(_) | Request::Close { .. }
                if self.upgrade.as_ref().is_some_and(Upgrade::is_handing_over) =>
            {
                let message =
                    format!("`{}`: another starter is about to take over; try again", request.name());
                Err(Refusal { kind: RefusalKind::Busy, message }).into()
            }
            Request::Listen(_) | Request::Close { .. } | Request::StoreConfig if self.is_leaving(peer) => {
                Err(Refusal {
                    kind: RefusalKind::Busy,
                    message: format!("`{}`: this side is going away", request.name()),
                })
                .into()
            }
            Request::Listen(spec) => match self.listeners.open(spec) {
                Ok(listener) => {
                    with_duplicates(Response::Opened(listener.info.clone()), listener.descriptors())
                }
                Err(refusal) => Err(refusal).into(),
            },
            Request::Listeners { from } => {
                let (page, next) = self.listeners.page(from);
                let listeners = page.iter().map(|listener| listener.info.clone()).collect();
                with_duplicates(
                    Response::Listeners { listeners, next },
                    page.iter().flat_map(|listener| listener.descriptors()),
                )
            }
            Request::Close { name, address } => {
                Ok(Response::Closed { existed: self.listeners.close(&name, address) }).into()
            }
            Request::Status => Ok(Response::Status(Box::new(self.status()))).into(),
            Request::Upgrade { binary, ready_within_ms } => {
                self.begin_upgrade(peer, id, binary, ready_within_ms)
            }
            Request::HandOver => self.begin_hand_over(peer, id),
            Request::TakenOver => self.be_taken_over(peer),
            Request::Shutdown => {
                info!("told to stop");
                self.leave();
                Ok(Response::ShuttingDown).into()
            }
            Request::Hello { version } => self.welcome(peer, version),
            Request::Ready => {
                self.worker_is_ready(peer);
                Ok(Response::Noted).into()
            }
            Request::StoreConfig => self.store(peer, descriptors.pop()).into(),
            Request::LoadConfig => match &self.stored {
                Some(Stored { memory, bytes }) => {
                    with_duplicates(Response::Config { bytes: Some(*bytes) }, [memory.as_fd()])
                }
                None => Ok(Response::Config { bytes: None }).into(),
            },
            Request::UpstreamSocket { local, mark } => match self.upstream.open(local, mark) {
                Ok(socket) => Answer::Now(Ok(Response::UpstreamSocket), vec![socket]),
                Err(refusal) => Err(refusal).into(),
            },
        }
    }

    /// A worker that drains knows less than its successor and may not open or close listeners, or leave
    /// its configuration in place of the successor's.
    fn is_leaving(&mut self, peer: Peer) -> bool {
        let draining = match peer {
            Peer::Operator(_) => false,
            Peer::Worker(generation) => {
                self.workers.get(generation).is_none_or(|worker| worker.state == WorkerState::Draining)
            }
        };
        draining || self.is_going()
    }

    fn welcome(&mut self, peer: Peer, version: String) -> Answer {
        let takeover = self.workers.serving().is_some() || self.predecessor.is_some();
        let restarts = self.workers.restarts;
        let Peer::Worker(generation) = peer else { return unknown_worker().into() };
        let Some(worker) = self.workers.get(generation) else { return unknown_worker().into() };
        worker.version = Some(version);
        let welcome = Welcome { generation, takeover, restarts };
        match self.run_directory.as_ref().and_then(RunDirectory::admin) {
            Some(admin) => with_duplicates(Response::Welcome(welcome), [admin]),
            None => {
                Err(Refusal { kind: RefusalKind::Busy, message: "the starter is stopping".to_owned() }).into()
            }
        }
    }

    fn worker_is_ready(&mut self, peer: Peer) {
        let Peer::Worker(generation) = peer else { return };
        let Some(worker) = self.workers.get(generation) else { return };
        if worker.state == WorkerState::Starting {
            worker.state = WorkerState::Serving;
            info!(pid = worker.pid(), generation, after_ms = worker.lived().as_millis(), "worker serves");
            self.finish_upgrade(generation);
            self.replace_predecessor();
        }
    }

    fn store(&mut self, peer: Peer, memory: Option<OwnedFd>) -> Result<Response, Refusal> {
        let invalid = |message: String| Refusal { kind: RefusalKind::Invalid, message };
        let memory = memory.ok_or_else(|| invalid("`store_config` came without a descriptor".to_owned()))?;
        let bytes = verify_sealed(memory.as_fd()).map_err(|error| invalid(error.to_string()))?;
        self.stored = Some(Stored { memory, bytes });
        if let Peer::Worker(generation) = peer {
            self.checkpoint_is_done(generation);
        }
        Ok(Response::Noted)
    }

    fn status(&self) -> StarterStatus {
        StarterStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            instance: self.options.identity.instance.clone(),
            uptime_s: self.started.elapsed().as_secs(),
            worker_threads: self.workers.threads,
            upstream_ports: Some(self.upstream.range()),
            workers: self.workers.status(),
            restarts: self.workers.restarts,
            last_exit: self.workers.last_exit.clone(),
            listeners: self.listeners.len(),
            stored_config_bytes: self.stored.as_ref().map(|stored| stored.bytes),
            capabilities: capability::effective_names().unwrap_or_default(),
        }
    }
}

fn unknown_worker() -> Result<Response, Refusal> {
    Err(Refusal { kind: RefusalKind::Invalid, message: "no such worker".to_owned() })
}

pub(super) fn with_duplicates<'a>(
    response: Response,
    descriptors: impl IntoIterator<Item = std::os::fd::BorrowedFd<'a>>,
) -> Answer {
    let duplicates: io::Result<Vec<OwnedFd>> =
        descriptors.into_iter().map(|descriptor| descriptor.try_clone_to_owned()).collect();
    match duplicates {
        Ok(duplicates) => Answer::Now(Ok(response), duplicates),
        Err(error) => Err(Refusal {
            kind: RefusalKind::Failed,
            message: format!("sockets cannot be duplicated (too many open files?): {error}"),
        })
        .into(),
    }
}
