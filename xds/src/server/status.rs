//! Who is connected, what they acknowledged, what they refused.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::watch, time::Instant};

use super::{
    session::{Protocol, Session},
    subscription::Nack,
};

/// One client, as of now.
#[derive(Debug, Clone)]
pub struct ClientStatus {
    /// `Node.id` of its first request; empty before that.
    pub node_id: String,
    /// `Node.cluster` of its first request.
    pub node_cluster: String,
    /// The process at the other end of the socket, where the kernel tells.
    pub pid: Option<i32>,
    /// The variant of xDS that its stream speaks.
    pub protocol: Protocol,
    /// When its stream was opened.
    pub since: Instant,
    /// The last revision of which it answered everything; zero before the first.
    pub settled: u64,
    /// By type URL; the types it asked for.
    pub types: BTreeMap<String, TypeStatus>,
}

/// One client without what it holds: cheap to ask for, whatever it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Its number among all that ever were connected.
    pub id: u64,
    /// `Node.id` of its first request; empty before that.
    pub node_id: String,
    /// The process at the other end of the socket, where the kernel tells.
    pub pid: Option<i32>,
    /// The last revision of which it answered everything; zero before the first.
    pub settled: u64,
}

/// One client and one type.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TypeStatus {
    /// The version in use, by resource.
    pub acked: BTreeMap<String, String>,
    /// The refusals that still stand, by resource: cleared when a later version is accepted or the
    /// resource goes away.
    pub rejected: BTreeMap<String, Nack>,
}

/// How far each client is. Wake-ups carry the latest state, not every change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    clients: BTreeMap<u64, ClientProgress>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct ClientProgress {
    settled: u64,
    /// Grows with each NACK, so that a refusal wakes the watchers too.
    nacks: u64,
}

impl Progress {
    /// Clients with an open stream.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.clients.len()
    }

    /// Whether at least one client is connected and every connected client has answered everything
    /// in this revision (or a later one) that concerns it. Refused resources count as answered; see
    /// [`ServerHandle::rejections`].
    #[must_use]
    pub fn is_settled(&self, revision: u64) -> bool {
        !self.clients.is_empty() && self.clients.values().all(|client| client.settled >= revision)
    }
}

/// A resource that a client refused, with the last good version still in use there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The client's `Node.id`.
    pub node_id: String,
    /// The resource's type.
    pub type_url: String,
    /// The resource's name.
    pub name: String,
    /// What was refused and why.
    pub nack: Nack,
}

/// What the rest of the agent asks the server. Clones share it.
#[derive(Debug, Clone)]
pub struct ServerHandle {
    clients: Arc<Mutex<Clients>>,
    progress: Arc<watch::Sender<Progress>>,
}

/// The open streams by number. Numbers are given once: what is said of a stream that ended is never said of its
/// successor.
#[derive(Debug, Default)]
struct Clients {
    open: BTreeMap<u64, Arc<ClientRecord>>,
    next: u64,
}

impl Default for ServerHandle {
    fn default() -> Self {
        Self { clients: Arc::default(), progress: Arc::new(watch::Sender::new(Progress::default())) }
    }
}

impl ServerHandle {
    /// All connected clients in the order they came. Cost: a copy of all names and versions.
    #[must_use]
    pub fn clients(&self) -> Vec<ClientStatus> {
        lock(&self.clients).open.values().map(|client| client.status()).collect()
    }

    /// All connected clients by the order they came, without what they hold.
    #[must_use]
    pub fn connections(&self) -> Vec<Connection> {
        lock(&self.clients).open.iter().map(|(id, client)| client.connection(*id)).collect()
    }

    /// All standing refusals, by client, type and name.
    #[must_use]
    pub fn rejections(&self) -> Vec<Rejection> {
        lock(&self.clients).open.values().flat_map(|client| client.rejections()).collect()
    }

    /// Tells when clients come, go, catch up or refuse.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Waits until [`Progress::is_settled`]. May be dropped at any time.
    pub async fn settled(&self, revision: u64) {
        let mut progress = self.progress.subscribe();
        progress
            .wait_for(|progress| progress.is_settled(revision))
            .await
            .expect("the handle holds the sender");
    }

    /// Notes a new stream until the registration is dropped.
    pub(super) fn register(&self, pid: Option<i32>, session: Session) -> Registration {
        let mut clients = lock(&self.clients);
        let id = clients.next;
        clients.next += 1;
        let record = Arc::new(ClientRecord {
            pid,
            since: Instant::now(),
            state: Mutex::new(ClientState {
                node_id: String::new(),
                node_cluster: String::new(),
                settled: 0,
                session,
            }),
        });
        clients.open.insert(id, record.clone());
        self.progress.send_modify(|progress| {
            progress.clients.insert(id, ClientProgress::default());
        });
        Registration { id, record, handle: self.clone() }
    }
}

#[derive(Debug)]
struct ClientRecord {
    pid: Option<i32>,
    since: Instant,
    /// Held for the time of one request or one response, never over an await.
    state: Mutex<ClientState>,
}

#[derive(Debug)]
pub(super) struct ClientState {
    pub(super) node_id: String,
    pub(super) node_cluster: String,
    settled: u64,
    pub(super) session: Session,
}

impl ClientRecord {
    fn status(&self) -> ClientStatus {
        let state = lock(&self.state);
        ClientStatus {
            node_id: state.node_id.clone(),
            node_cluster: state.node_cluster.clone(),
            pid: self.pid,
            protocol: state.session.protocol(),
            since: self.since,
            settled: state.settled,
            types: state
                .session
                .subscriptions()
                .filter(|(_, subscription)| subscription.is_requested())
                .map(|(type_url, subscription)| {
                    let acked = subscription.acked.clone();
                    let rejected = subscription.rejected.clone();
                    (type_url.to_owned(), TypeStatus { acked, rejected })
                })
                .collect(),
        }
    }

    fn connection(&self, id: u64) -> Connection {
        let state = lock(&self.state);
        Connection { id, node_id: state.node_id.clone(), pid: self.pid, settled: state.settled }
    }

    fn rejections(&self) -> Vec<Rejection> {
        let state = lock(&self.state);
        let node_id = &state.node_id;
        state
            .session
            .subscriptions()
            .flat_map(|(type_url, subscription)| {
                subscription.rejected.iter().map(move |(name, nack)| Rejection {
                    node_id: node_id.clone(),
                    type_url: type_url.to_owned(),
                    name: name.clone(),
                    nack: nack.clone(),
                })
            })
            .collect()
    }
}

/// A stream's entry in the list of clients; dropping it takes the entry out.
#[derive(Debug)]
pub(super) struct Registration {
    id: u64,
    record: Arc<ClientRecord>,
    handle: ServerHandle,
}

impl Registration {
    pub(super) fn state(&self) -> MutexGuard<'_, ClientState> {
        lock(&self.record.state)
    }

    pub(super) fn settled(&self, revision: u64) {
        let behind = std::mem::replace(&mut self.state().settled, revision) != revision;
        if behind {
            self.update(|client| client.settled = revision);
        }
    }

    pub(super) fn nacked(&self) {
        self.update(|client| client.nacks += 1);
    }

    fn update(&self, change: impl FnOnce(&mut ClientProgress)) {
        self.handle.progress.send_modify(|progress| {
            change(progress.clients.entry(self.id).or_default());
        });
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut clients = lock(&self.handle.clients);
        clients.open.remove(&self.id);
        self.handle.progress.send_modify(|progress| {
            progress.clients.remove(&self.id);
        });
    }
}

/// Nothing in these critical sections can panic halfway, so poison means nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
