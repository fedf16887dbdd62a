//! Applies configuration: resources into the store, sockets from the starter, both to the data plane.
//!
//! The order within one change matters, and is what keeps every connection answered:
//! 1. compile (nothing changes for traffic),
//! 2. have new listeners bound (clients may connect, and wait in the backlog),
//! 3. stop accepting on listeners that go, but for those whose new socket could not be had,
//! 4. publish the snapshot,
//! 5. accept on the new listeners, which only now have a configuration,
//! 6. let the starter close the sockets of those that went,
//!
//! and only then is the change acknowledged.
//!
//! On a new socket nobody accepts before all has come that its listener refers to, or is known not to come:
//! whoever connects meanwhile waits in the backlog, which is better than a 404 for want of a route table that is
//! on its way. Of a listener that changes, the store keeps what it was as long.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use mesh_l7proxy_config::{Bind, ConfigStore, NamedResource, Rejected};
use mesh_l7proxy_proxy::DataPlane;
use mesh_l7proxy_wire::ListenSpec;
use mesh_xds_proto::type_urls;
use serde::Serialize;
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use super::link::{LinkError, LinkHandle};
use super::patience::Patience;

/// Connections that wait in each socket while no worker accepts; `net.core.somaxconn` caps it.
const BACKLOG: u32 = 4096;

/// How long a listener waits for what it refers to. A server that says nothing of it, or is not there, is no
/// reason to serve nothing at all.
const COMPLETE_WITHIN: Duration = Duration::from_secs(5);

/// Types that are subscribed to whole.
pub(super) const WHOLE: [&str; 2] = [type_urls::CLUSTER, type_urls::LISTENER];

/// Types that are subscribed to by name, as far as others refer to them.
const BY_NAME: [&str; 3] = [type_urls::ENDPOINT, type_urls::SECRET, type_urls::ROUTE];

/// What the store holds, as the xDS client needs to know it.
pub(super) struct Held {
    /// By type of [`WHOLE`], the names of the resources.
    pub(super) whole: BTreeMap<&'static str, BTreeSet<String>>,
    /// By type of [`BY_NAME`], the names that resources refer to.
    pub(super) wanted: BTreeMap<&'static str, BTreeSet<String>>,
}

/// Owns the configuration on the control runtime.
pub(super) struct Controller {
    store: ConfigStore,
    plane: DataPlane,
    threads: usize,
    link: LinkHandle,
    held: BTreeMap<Bind, SocketAddr>,
    /// Wanted, but the starter could not bind them; tried again with each change and now and then.
    failed: BTreeMap<Bind, String>,
    /// Names of listeners that serve after they were refused, one for each time.
    served_late: mpsc::UnboundedSender<String>,
    /// Listeners that were refused, by name. One that moved to a new name at the same address comes
    /// before the old name goes, is refused for the address, and would never be sent again.
    refused_listeners: BTreeMap<String, NamedResource>,
    configured: bool,
    /// Sockets that nobody accepts on yet.
    waiting: Vec<Waiting>,
    /// Whether there are none such.
    accepting: watch::Sender<bool>,
    /// With listeners that serve as they were before they changed.
    patience: Patience,
}

/// The sockets of a listener that refers to what is on its way.
struct Waiting {
    bind: Bind,
    sockets: Vec<OwnedFd>,
    since: Instant,
}

/// A listener's socket that could not be had, as the admin socket shows it.
#[derive(Debug, Serialize)]
pub(super) struct FailedBind {
    listener: String,
    address: SocketAddr,
    error: String,
}

impl Controller {
    /// Also says which listeners serve after they were refused, for whoever told the server so.
    pub(super) fn new(
        plane: DataPlane,
        threads: usize,
        link: LinkHandle,
    ) -> (Self, mpsc::UnboundedReceiver<String>) {
        let (served_late, heard) = mpsc::unbounded_channel();
        let controller = Self {
            store: ConfigStore::new(),
            plane,
            threads,
            link,
            held: BTreeMap::new(),
            failed: BTreeMap::new(),
            served_late,
            refused_listeners: BTreeMap::new(),
            configured: false,
            waiting: Vec::new(),
            accepting: watch::channel(true).0,
            patience: Patience::default(),
        };
        (controller, heard)
    }

    /// Serves the configuration that the last worker left, as far as it can be read, on the sockets that are
    /// open at the starter.
    pub(super) async fn restore(&mut self, saved: &[u8], open: Vec<ListenSpec>) {
        match self.store.import(saved) {
            Ok(rejected) => {
                for rejected in rejected {
                    warn!(
                        name = rejected.name,
                        field = rejected.field,
                        reason = rejected.reason,
                        "stored resource refused"
                    );
                }
                self.configured = !saved.is_empty();
            }
            Err(error) => warn!(%error, "stored configuration is damaged; what was read before is used"),
        }
        self.store.forget_unwanted();
        self.bring_up().await;
        for spec in open {
            self.stay_at(spec).await;
        }
        self.accept_where_ready();
        info!(bytes = saved.len(), listeners = self.held.len(), "stored configuration serves");
    }

    /// Takes one change of one type. What is returned was refused; everything else serves now.
    pub(super) async fn apply(
        &mut self,
        type_url: &str,
        upserts: Vec<NamedResource>,
        removed: &[String],
    ) -> Vec<Rejected> {
        if type_url != type_urls::LISTENER {
            let rejected = self.store.apply(type_url, upserts, removed);
            self.store.forget_unwanted();
            self.bring_up().await;
            return rejected;
        }
        let offered = upserts.clone();
        let mut rejected = self.store.apply(type_url, upserts, removed);
        for resource in &offered {
            self.refused_listeners.remove(&resource.name);
        }
        for name in removed {
            self.refused_listeners.remove(name);
        }
        if !removed.is_empty() {
            let again: Vec<NamedResource> =
                std::mem::take(&mut self.refused_listeners).into_values().collect();
            // Told once already; what is refused again stays refused.
            let still = self.store.apply(type_url, again.clone(), &[]);
            for resource in &again {
                if !still.iter().any(|refused| refused.name == resource.name) {
                    self.tell_served_late(&resource.name);
                }
            }
            self.remember_refused(again, &still);
        }
        self.store.forget_unwanted();
        self.configured = true;
        let without_socket = self.bring_up().await;
        self.remember_refused(offered.clone(), &rejected);
        let is_offered = |refused: &Rejected| offered.iter().any(|resource| resource.name == refused.name);
        rejected.extend(without_socket.into_iter().filter(is_offered));
        rejected
    }

    fn remember_refused(&mut self, offered: Vec<NamedResource>, rejected: &[Rejected]) {
        for resource in offered {
            if rejected.iter().any(|refused| refused.name == resource.name) {
                self.refused_listeners.insert(resource.name.clone(), resource);
            }
        }
    }

    /// Makes sockets and data plane follow the store. Returns the listeners without their socket.
    async fn bring_up(&mut self) -> Vec<Rejected> {
        let wanted: BTreeSet<Bind> = self.store.binds().into_iter().collect();
        let mut opened = Vec::new();
        let mut refused = Vec::new();
        let known = std::mem::take(&mut self.failed);
        for bind in wanted.iter().filter(|bind| !self.held.contains_key(bind)) {
            // An address that moves from one listener to another keeps its socket at the starter, but
            // must leave the old listener's hands before the new one's snapshot is out.
            match self.open(bind).await {
                Ok((local, sockets)) => opened.push((bind.clone(), local, sockets)),
                Err(error) => {
                    if !known.contains_key(bind) {
                        warn!(listener = bind.listener, address = %bind.address, %error, "listener has no socket");
                    }
                    self.failed.insert(bind.clone(), error.to_string());
                    refused.push(Rejected {
                        name: bind.listener.clone(),
                        field: "address".to_owned(),
                        reason: error.to_string(),
                    });
                }
            }
        }
        for listener in known.keys().map(|bind| &bind.listener).collect::<BTreeSet<_>>() {
            let is_wanted = wanted.iter().any(|bind| bind.listener == *listener);
            if is_wanted && !self.lacks_socket(listener) {
                self.tell_served_late(listener);
            }
        }
        let gone: Vec<Bind> = self.held.keys().filter(|bind| self.is_over(bind, &wanted)).cloned().collect();
        for bind in &gone {
            self.plane.remove_listener(bind);
            self.waiting.retain(|waiting| waiting.bind != *bind);
        }
        self.plane.publish(self.store.snapshot());
        for (bind, local, sockets) in opened {
            self.held.insert(bind.clone(), local);
            self.waiting.push(Waiting { bind, sockets, since: Instant::now() });
        }
        self.accept_where_ready();
        for bind in gone {
            self.held.remove(&bind);
            let address_lives_on = self.held.keys().any(|other| other.address == bind.address);
            if !address_lives_on && let Err(error) = self.link.close(&bind.listener, bind.address).await {
                warn!(listener = bind.listener, %error, "listener's socket stays open at the starter");
            }
        }
        refused
    }

    /// Keeps a socket that its listener was to move from and could not, as the last worker did.
    async fn stay_at(&mut self, spec: ListenSpec) {
        let wanted = self.store.binds().into_iter().any(|bind| bind.address == spec.address);
        let of_all_threads = usize::from(spec.sockets) == self.threads;
        if wanted || !of_all_threads || !self.lacks_socket(&spec.name) {
            return;
        }
        let ListenSpec { name: listener, address, transparent, .. } = spec;
        let bind = Bind { listener, address, transparent, thread: None };
        // One that is gone meanwhile is none to keep.
        if let Ok((local, sockets)) = self.open(&bind).await {
            self.held.insert(bind.clone(), local);
            self.waiting.push(Waiting { bind, sockets, since: Instant::now() });
        }
    }

    fn tell_served_late(&self, listener: &str) {
        // Once the client has ended nobody needs to know.
        let _ = self.served_late.send(listener.to_owned());
    }

    fn lacks_socket(&self, listener: &str) -> bool {
        self.failed.keys().any(|bind| bind.listener == listener)
    }

    /// Whether a socket is to be closed. Not before the one that its listener wants instead is open, unless
    /// another listener has its address now: a listener that moves to a port that is taken stays where it was.
    fn is_over(&self, held: &Bind, wanted: &BTreeSet<Bind>) -> bool {
        !wanted.contains(held)
            && (!self.lacks_socket(&held.listener)
                || wanted.iter().any(|other| other.address == held.address))
    }

    fn accept_where_ready(&mut self) {
        // A listener has several sockets, and asking costs a look at its routes.
        let mut ready = BTreeMap::new();
        for waiting in std::mem::take(&mut self.waiting) {
            let listener = waiting.bind.listener.clone();
            let ready = *ready.entry(listener).or_insert_with_key(|listener| self.store.is_ready(listener));
            if ready || waiting.since.elapsed() >= COMPLETE_WITHIN {
                self.accept(waiting.bind, waiting.sockets);
            } else {
                self.waiting.push(waiting);
            }
        }
        self.accepting.send_replace(self.waiting.is_empty());
    }

    fn accept(&self, bind: Bind, sockets: Vec<OwnedFd>) {
        for (number, socket) in sockets.into_iter().enumerate() {
            let thread = bind.thread.unwrap_or(number) % self.threads;
            self.plane.add_listener(thread, bind.clone(), TcpListener::from(socket));
        }
    }

    async fn open(&self, bind: &Bind) -> Result<(SocketAddr, Vec<OwnedFd>), LinkError> {
        let sockets = match bind.thread {
            Some(_) => 1,
            None => u16::try_from(self.threads).unwrap_or(u16::MAX),
        };
        let spec = ListenSpec {
            name: bind.listener.clone(),
            address: bind.address,
            transparent: bind.transparent,
            sockets,
            backlog: BACKLOG,
        };
        let (info, sockets) = self.link.listen(spec).await?;
        Ok((info.local, sockets))
    }

    /// Tries again what could not be bound: whoever held the port may have left. Ends the wait for what has not
    /// come in time from a server that is `connected`. Whether less is held than before.
    pub(super) async fn retry(&mut self, connected: bool) -> bool {
        let stopped = self.stop_waiting(connected);
        if stopped || !self.waiting.is_empty() || !self.failed.is_empty() {
            let before = self.failed.len();
            self.bring_up().await;
            let bound = before.saturating_sub(self.failed.len());
            if bound > 0 {
                info!(bound, without = self.failed.len(), "listeners have a socket now");
            }
        }
        stopped
    }

    /// Lets the listeners change that have waited for parts of that for too long. Whether there were any.
    fn stop_waiting(&mut self, connected: bool) -> bool {
        let late = self.patience.late(self.store.outgoing(), COMPLETE_WITHIN, connected, Instant::now());
        for name in &late {
            warn!(listener = &**name, "what it changed to has not come whole; it changes all the same");
            self.store.stop_waiting(name);
        }
        if !late.is_empty() {
            self.store.forget_unwanted();
        }
        !late.is_empty()
    }

    /// Whether connections are accepted on every socket.
    pub(super) fn accepting(&self) -> watch::Receiver<bool> {
        self.accepting.subscribe()
    }

    /// By type, the names that the resources in use refer to.
    pub(super) fn wanted(&self) -> BTreeMap<&'static str, BTreeSet<String>> {
        BY_NAME.into_iter().map(|type_url| (type_url, self.store.wanted(type_url))).collect()
    }

    pub(super) fn held(&self) -> Held {
        let names = |type_url| self.store.versions(type_url).into_keys().collect();
        Held {
            whole: WHOLE.into_iter().map(|type_url| (type_url, names(type_url))).collect(),
            wanted: self.wanted(),
        }
    }

    /// Whether any configuration, stored or fresh, has been applied.
    pub(super) fn is_configured(&self) -> bool {
        self.configured
    }

    pub(super) fn store(&self) -> &ConfigStore {
        &self.store
    }

    pub(super) fn plane(&self) -> &DataPlane {
        &self.plane
    }

    pub(super) fn failed_binds(&self) -> Vec<FailedBind> {
        let failed = self.failed.iter().map(|(bind, error)| FailedBind {
            listener: bind.listener.clone(),
            address: bind.address,
            error: error.clone(),
        });
        failed.collect()
    }
}
