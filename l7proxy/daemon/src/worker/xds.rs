//! The xDS client, on a thread of its own, and what it applies to.
//!
//! A thread, because the client's sink answers at once: while a change is compiled and its sockets
//! are opened, the client stands still, and must not keep the control runtime from doing that work.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::thread;
use std::time::Duration;

use mesh_l7proxy_config::NamedResource;
use mesh_xds::client::{
    ApplyOutcome, ClientConfig, ConfigSink, ConnectionStatus, DeltaResource, Subscription,
};
use serde_json::{Value, json};
use tokio::sync::{oneshot, watch};
use tracing::{info, warn};

use super::control::ChangeHandle;
use super::controller::BY_NAME;

/// How the connection to the xDS server does. Shared with the admin socket.
#[derive(Clone)]
pub(super) struct XdsState {
    status: watch::Receiver<ConnectionStatus>,
}

impl XdsState {
    pub(super) fn is_connected(&self) -> bool {
        self.status.borrow().is_connected()
    }

    /// For `/server_info`.
    pub(super) fn report(&self) -> Value {
        match &*self.status.borrow() {
            ConnectionStatus::Connected { since } => {
                json!({ "connected": true, "for_s": since.elapsed().as_secs() })
            }
            ConnectionStatus::Disconnected { since, attempts, error } => json!({
                "connected": false,
                "for_s": since.elapsed().as_secs(),
                "attempts": attempts,
                "error": error,
            }),
        }
    }
}

/// Applies what comes through the control task, and remembers what it asks for next.
pub(super) struct Sink {
    changes: ChangeHandle,
    wanted: BTreeMap<&'static str, BTreeSet<String>>,
}

impl Sink {
    pub(super) fn new(changes: ChangeHandle, wanted: BTreeMap<&'static str, BTreeSet<String>>) -> Self {
        Self { changes, wanted }
    }
}

impl ConfigSink for Sink {
    fn apply(&mut self, type_url: &str, added: Vec<DeltaResource>, removed: Vec<String>) -> ApplyOutcome {
        let upserts = added
            .into_iter()
            .map(|resource| NamedResource {
                name: resource.name,
                version: resource.version,
                body: resource.body,
            })
            .collect();
        let Some(applied) = self.changes.apply(type_url, upserts, removed) else {
            // The worker is about to end and so is this client; nobody waits for the acknowledgement.
            return ApplyOutcome::default();
        };
        self.wanted = applied.wanted;
        let rejected = applied.rejected.into_iter().map(|rejected| {
            warn!(resource = rejected.name, field = rejected.field, reason = rejected.reason, "resource refused");
            let message = format!("{}: {}", rejected.field, rejected.reason);
            (rejected.name, message)
        });
        ApplyOutcome { rejected: rejected.collect() }
    }

    fn subscription(&self, type_url: &str) -> Subscription {
        if BY_NAME.contains(&type_url) {
            Subscription::Names(self.wanted.get(type_url).cloned().unwrap_or_default())
        } else {
            Subscription::Wildcard
        }
    }
}

/// TEMPORARY until the client is there.
pub(super) fn prepare(_options: &crate::args::WorkerOptions, sink: Sink) -> (XdsState, Prepared) {
    let (sender, status) = watch::channel(ConnectionStatus::Disconnected {
        since: tokio::time::Instant::now(),
        attempts: 0,
        error: String::new(),
    });
    (XdsState { status }, Prepared { _sink: sink, _sender: sender })
}

pub(super) struct Prepared {
    _sink: Sink,
    _sender: watch::Sender<ConnectionStatus>,
}

impl Prepared {
    pub(super) fn start(self) -> io::Result<Prepared> {
        Ok(self)
    }
}
