//! What happens, as it happens: a bounded memory of the last events, and a live stream of the next ones.
//!
//! Recording costs a lock and a push into a ring. A reader that is too slow is not waited for: it gets the
//! number of events it missed and goes on with the oldest that is still there.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::broadcast::{self, error::RecvError};

/// Events that are remembered.
const REMEMBERED: usize = 1024;
/// Events that a reader may be behind before it loses the oldest.
const BEHIND: usize = 256;

/// What happened. The words are part of the API: they are given once and keep their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// The agent began.
    AgentStarted,
    /// The datapath's plan: what was chosen for a need, and why.
    PlanChosen,
    /// An object was read for the first time.
    ObjectAdded,
    /// An object was read with another content.
    ObjectChanged,
    /// An object is gone.
    ObjectRemoved,
    /// Many objects at once, counted instead of listed.
    ObjectsChanged,
    /// A kind of objects is not there, cannot be read, or is read again.
    WatchChanged,
    /// Something is wrong with a file or an object.
    ObjectRefused,
    /// It is no longer wrong.
    ObjectMended,
    /// A condition of an object is another one.
    ConditionChanged,
    /// A new revision is offered to the proxy.
    ConfigPublished,
    /// Proxy and kernel have it.
    ConfigSynced,
    /// A proxy opened its xDS stream.
    XdsConnected,
    /// Its stream ended.
    XdsDisconnected,
    /// It took everything of a revision.
    XdsAcked,
    /// It refused a resource.
    XdsRefused,
    /// The proxy runs, or runs again.
    ProxyStarted,
    /// The proxy's starter does not answer any more.
    ProxyGone,
    /// A worker serves that did not before.
    WorkerStarted,
    /// A worker died and another took its place.
    WorkerRestarted,
    /// A pod has its network.
    EndpointCreated,
    /// A pod's network is gone.
    EndpointRemoved,
    /// A pod did not get its network.
    EndpointFailed,
    /// The state of a part is another one.
    PartChanged,
    /// A reader was too slow.
    EventsLost,
}

/// Weight of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// Worth knowing.
    Normal,
    /// Something somebody should look at.
    Warning,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Event {
    /// Counts events from 1 while the agent runs. 0 on `events-lost`, which is told to one reader only.
    pub(crate) sequence: u64,
    /// When.
    pub(crate) time: Timestamp,
    /// What happened.
    pub(crate) kind: Kind,
    /// Weight.
    pub(crate) severity: Severity,
    /// What it is about: `Kind namespace/name`, the name of a part, a resource. Empty: the whole.
    pub(crate) subject: String,
    /// For people.
    pub(crate) message: String,
    /// The facts, by kind.
    pub(crate) details: Value,
}

/// What happened, not yet with its number and time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Happened {
    pub(crate) kind: Kind,
    pub(crate) severity: Severity,
    subject: String,
    message: String,
    details: Value,
}

impl Happened {
    /// Something worth knowing.
    pub(crate) fn normal(kind: Kind, subject: impl Into<String>, message: impl Into<String>) -> Self {
        let (subject, message) = (subject.into(), message.into());
        Self { kind, severity: Severity::Normal, subject, message, details: Value::Null }
    }

    /// Something to look at.
    pub(crate) fn warning(kind: Kind, subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::normal(kind, subject, message) }
    }

    /// With facts.
    pub(crate) fn with(self, details: Value) -> Self {
        Self { details, ..self }
    }
}

/// The ring and the stream.
pub(crate) struct EventLog {
    ring: Mutex<Ring>,
    live: broadcast::Sender<Arc<Event>>,
}

struct Ring {
    last: u64,
    events: VecDeque<Arc<Event>>,
}

impl Default for EventLog {
    fn default() -> Self {
        let ring = Ring { last: 0, events: VecDeque::new() };
        Self { ring: Mutex::new(ring), live: broadcast::Sender::new(BEHIND) }
    }
}

impl EventLog {
    /// Remembers it and tells whoever listens.
    pub(crate) fn record(&self, happened: Happened) {
        let Happened { kind, severity, subject, message, details } = happened;
        // Told under the lock, so that nobody hears events in another order than they are numbered.
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.last += 1;
        let (sequence, time) = (ring.last, Timestamp::now());
        let event = Arc::new(Event { sequence, time, kind, severity, subject, message, details });
        if ring.events.len() == REMEMBERED {
            ring.events.pop_front();
        }
        ring.events.push_back(event.clone());
        // An error says that nobody listens.
        let _ = self.live.send(event);
    }

    /// The last events, at most `last` of them, and those to come. Between the two none is missing and none
    /// is there twice.
    pub(crate) fn follow(&self, last: usize) -> (Vec<Arc<Event>>, Follower) {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let skipped = ring.events.len().saturating_sub(last);
        (ring.events.iter().skip(skipped).cloned().collect(), Follower { live: self.live.subscribe() })
    }

    /// The last events, at most `last` of them.
    pub(crate) fn last(&self, last: usize) -> Vec<Arc<Event>> {
        self.follow(last).0
    }
}

/// A reader of events to come.
pub(crate) struct Follower {
    live: broadcast::Receiver<Arc<Event>>,
}

impl Follower {
    /// The next event; `None` when there will be none. May be dropped at any time.
    pub(crate) async fn next(&mut self) -> Option<Arc<Event>> {
        match self.live.recv().await {
            Ok(event) => Some(event),
            Err(RecvError::Lagged(count)) => Some(Arc::new(lost(count))),
            Err(RecvError::Closed) => None,
        }
    }
}

fn lost(count: u64) -> Event {
    Event {
        sequence: 0,
        time: Timestamp::now(),
        kind: Kind::EventsLost,
        severity: Severity::Warning,
        subject: String::new(),
        message: format!("{count} events lost: this reader was too slow"),
        details: serde_json::json!({"count": count}),
    }
}

#[cfg(test)]
mod tests;
