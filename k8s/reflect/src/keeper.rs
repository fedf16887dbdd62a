//! What all watches brought, merged into one state.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use imbl::OrdMap;
use jiff::Timestamp;
use mesh_k8s_api::{Kind, ObjectSet};
use mesh_model::address::AddressAssignments;
use mesh_model::{NamespacedName, ObjectKey};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use crate::failure::Failure;
use crate::item::Item;
use crate::reflector::Shared;
use crate::scope::Scope;
use crate::state::{ApiState, Phase, Problem, WatchState, WrittenStatus};

/// What a watch says.
#[derive(Debug)]
pub(crate) enum Message {
    /// These are all the objects there are.
    Everything(Vec<Item>),
    /// An object is new or another one.
    Changed(Box<Item>),
    /// An object is gone.
    Gone(NamespacedName),
    /// The watch goes on.
    Live,
    /// There is no such kind.
    Absent,
    /// It does not go on.
    Failed(Failure),
}

/// The state as it is built.
pub(crate) struct Keeper {
    shared: Arc<Shared>,
    watches: Vec<WatchState>,
    /// The objects of each watch, the refused ones as well.
    names: Vec<BTreeSet<NamespacedName>>,
    problems: BTreeMap<ObjectKey, Vec<Problem>>,
    objects: ObjectSet,
    addresses: Arc<AddressAssignments>,
    statuses: OrdMap<ObjectKey, Arc<WrittenStatus>>,
    /// Rises with each change of objects, problems and addresses.
    version: u64,
    published: u64,
    /// When the first change after the last publication came.
    first: Option<Instant>,
    state: watch::Sender<Arc<ApiState>>,
}

impl Keeper {
    pub(crate) fn new(scopes: Vec<Scope>, shared: Arc<Shared>) -> (Self, watch::Receiver<Arc<ApiState>>) {
        let names = vec![BTreeSet::new(); scopes.len()];
        let watches: Vec<WatchState> =
            scopes.into_iter().map(|scope| WatchState { scope, phase: Phase::Reading }).collect();
        let (state, receiver) = watch::channel(Arc::new(ApiState {
            objects: Arc::default(),
            problems: Arc::default(),
            addresses: Arc::default(),
            statuses: OrdMap::new(),
            watches: Arc::new(watches.clone()),
            server: shared.connection.current().url.to_string(),
            revision: 0,
            read_at: Instant::now(),
        }));
        let keeper = Self {
            shared,
            watches,
            names,
            problems: BTreeMap::new(),
            objects: ObjectSet::default(),
            addresses: Arc::default(),
            statuses: OrdMap::new(),
            version: 0,
            published: 0,
            first: None,
            state,
        };
        (keeper, receiver)
    }

    /// Until nobody watches any more, or nobody looks.
    pub(crate) async fn run(mut self, mut inbox: mpsc::Receiver<(usize, Message)>) {
        loop {
            let message = tokio::select! {
                message = inbox.recv() => message,
                () = self.state.closed() => return,
            };
            let Some((watch, message)) = message else { return };
            let began = Instant::now();
            self.take(watch, message, began);
            if self.first.is_some() {
                // Objects are often written in one go: what belongs together comes together.
                sleep(self.shared.timing.gather).await;
            }
            while let Ok((watch, message)) = inbox.try_recv() {
                self.take(watch, message, Instant::now());
            }
            self.publish();
        }
    }

    fn take(&mut self, watch: usize, message: Message, at: Instant) {
        let before = self.version;
        match message {
            Message::Everything(items) => {
                let kind = self.watches[watch].scope.kind;
                self.set_problems(Item::nameless(kind).object, Vec::new());
                let now: BTreeSet<NamespacedName> = items.iter().map(|item| item.name.clone()).collect();
                for gone in self.names[watch].difference(&now).cloned().collect::<Vec<_>>() {
                    self.remove(watch, &gone);
                }
                items.into_iter().for_each(|item| self.put(watch, item));
                self.set_phase(watch, Phase::Live);
            }
            Message::Changed(item) => self.put(watch, *item),
            Message::Gone(name) => self.remove(watch, &name),
            // A watch is live only when it was read.
            Message::Live if self.watches[watch].phase.is_read() => self.set_phase(watch, Phase::Live),
            Message::Live => {}
            Message::Absent => {
                for gone in std::mem::take(&mut self.names[watch]) {
                    self.remove(watch, &gone);
                }
                self.set_phase(watch, Phase::Absent);
            }
            Message::Failed(failure) => self.failed(watch, failure),
        }
        if self.version != before {
            self.first.get_or_insert(at);
        }
    }

    fn put(&mut self, watch: usize, item: Item) {
        let kind = self.watches[watch].scope.kind;
        let key = ObjectKey::new(kind.group(), kind.as_str(), item.name.clone());
        if item.name.name.is_empty() {
            self.set_problems(key, vec![Item::nameless(kind)]);
            return;
        }
        if let Some(object) = item.object {
            // A status that somebody wrote, or a resync, makes no other object of it.
            let is_same = self.objects.get(kind, &item.name).is_some_and(|old| old.same_content(&object));
            if !is_same {
                self.objects.insert(object);
                self.version += 1;
            }
        }
        self.set_problems(key.clone(), item.problems);
        self.set_addresses(&key, item.addresses);
        if let Some(status) = item.status {
            self.statuses.insert(key, status);
        }
        self.names[watch].insert(item.name);
    }

    fn remove(&mut self, watch: usize, name: &NamespacedName) {
        let kind: Kind = self.watches[watch].scope.kind;
        let key = ObjectKey::new(kind.group(), kind.as_str(), name.clone());
        self.names[watch].remove(name);
        self.set_problems(key.clone(), Vec::new());
        self.set_addresses(&key, Vec::new());
        self.statuses.remove(&key);
        if self.objects.get(kind, name).is_some() {
            self.objects.remove(kind, name);
            self.version += 1;
        }
    }

    fn set_problems(&mut self, key: ObjectKey, problems: Vec<Problem>) {
        let is_same = match self.problems.get(&key) {
            Some(old) => *old == problems,
            None => problems.is_empty(),
        };
        if is_same {
            return;
        }
        for problem in &problems {
            let Problem { object, field, message, fix, .. } = problem;
            tracing::warn!(origin = %object, field, fix, "an object has a problem: {message}");
        }
        match problems.is_empty() {
            true => drop(self.problems.remove(&key)),
            false => drop(self.problems.insert(key, problems)),
        }
        self.version += 1;
    }

    fn set_addresses(&mut self, key: &ObjectKey, addresses: Vec<IpAddr>) {
        if self.addresses.get(key).map_or(&[][..], Vec::as_slice) == addresses {
            return;
        }
        let all = Arc::make_mut(&mut self.addresses);
        match addresses.is_empty() {
            true => drop(all.remove(key)),
            false => drop(all.insert(key.clone(), addresses)),
        }
        self.version += 1;
    }

    fn failed(&mut self, watch: usize, failure: Failure) {
        let phase = &self.watches[watch].phase;
        let (since, was_read) = match phase {
            Phase::Failing { since, was_read, .. } => (*since, *was_read),
            _ => (Timestamp::now(), phase.is_read()),
        };
        self.set_phase(watch, Phase::Failing { since, was_read, failure });
    }

    fn set_phase(&mut self, watch: usize, phase: Phase) {
        let is_of_server = |phase: &Phase| match phase {
            Phase::Failing { failure, .. } => failure.is_of_server(),
            _ => false,
        };
        // What is wrong with the server is said once, not by each of its watches.
        let is_told = self.watches.iter().any(|watch| is_of_server(&watch.phase));
        let WatchState { scope, phase: old } = &mut self.watches[watch];
        if *old == phase {
            return;
        }
        match (&*old, &phase) {
            (Phase::Failing { .. }, Phase::Failing { .. }) => {}
            (_, Phase::Failing { failure, .. }) if failure.is_of_server() && is_told => {
                tracing::debug!(%scope, "cannot be watched: {}", failure.message);
            }
            (_, Phase::Failing { failure, .. }) => {
                tracing::warn!(%scope, fix = failure.fix, "cannot be watched: {}", failure.message);
            }
            (_, Phase::Absent) => tracing::info!(%scope, "the cluster has no such kind"),
            (Phase::Absent, Phase::Live) => {
                tracing::info!(%scope, "the cluster has the kind now");
                self.shared.installed.notify_waiters();
            }
            (_, Phase::Live) => tracing::info!(%scope, "watched"),
            (_, Phase::Reading) => {}
        }
        *old = phase;
    }

    fn publish(&mut self) {
        let is_read = self.watches.iter().all(|watch| watch.phase.is_read());
        let server = self.shared.connection.current().url.to_string();
        let last = self.state.borrow().clone();
        let is_new = is_read && (last.revision == 0 || self.version != self.published);
        if !is_new
            && *last.watches == self.watches
            && last.server == server
            && last.statuses.ptr_eq(&self.statuses)
        {
            return;
        }
        let mut next = ApiState {
            watches: Arc::new(self.watches.clone()),
            server,
            statuses: self.statuses.clone(),
            ..(*last).clone()
        };
        if is_new {
            self.published = self.version;
            next.objects = Arc::new(self.objects.clone());
            next.addresses = self.addresses.clone();
            next.problems = Arc::new(self.problems.values().flatten().cloned().collect());
            next.revision += 1;
            // The first revision is as new as the last kind that was waited for.
            let first = self.first.take().filter(|_| last.revision > 0);
            next.read_at = first.unwrap_or_else(Instant::now);
            tracing::debug!(
                revision = next.revision,
                objects = next.objects.len(),
                problems = next.problems.len(),
                "objects read"
            );
        }
        self.state.send_replace(Arc::new(next));
    }
}
