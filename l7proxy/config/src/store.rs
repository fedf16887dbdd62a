//! The last good resources of each type, as received and compiled.

mod dump;
mod references;
mod saved;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use mesh_xds_proto::{Any, Patch, cluster, endpoint, listener, route, tls, type_urls};

use self::references::BY_NAME;
pub use self::saved::{ImportError, Saved};
use crate::check::{At, Checked};
use crate::cluster::{Cluster, ClusterSettings, Endpoints};
use crate::listener::{Listener, ListenerParts};
use crate::tls::Certificate;
use crate::{Bind, NamedResource, Rejected, Snapshot};

/// Holds the last good version of every resource. Not on the data path; one owner.
#[derive(Debug, Default)]
pub struct ConfigStore {
    raw: RawByType,
    /// The newest refusal of each resource, until it is replaced or removed.
    refused: BTreeMap<(&'static str, String), Rejected>,
    listeners: BTreeMap<Arc<str>, Arc<ListenerParts>>,
    /// By name, what a listener was before it changed, as long as parts of the change are on their way.
    outgoing: BTreeMap<Arc<str>, Arc<ListenerParts>>,
    /// What the server was asked for and does not have, by type and name.
    missing: BTreeSet<(&'static str, String)>,
    clusters: BTreeMap<Arc<str>, ClusterParts>,
    assignments: HashMap<Arc<str>, Arc<Endpoints>>,
    /// The clusters that use an assignment.
    assignment_users: HashMap<Arc<str>, BTreeSet<Arc<str>>>,
    secrets: HashMap<Arc<str>, Arc<Certificate>>,
    snapshot: Arc<Snapshot>,
}

/// By type URL and name. A copy is cheap: it shares what is the same.
type RawByType = BTreeMap<&'static str, imbl::OrdMap<String, Arc<Raw>>>;

/// As received.
#[derive(Debug)]
struct Raw {
    version: String,
    body: Any,
}

#[derive(Debug, Clone)]
struct ClusterParts {
    settings: Arc<ClusterSettings>,
    inline: Option<Arc<Endpoints>>,
}

/// A change under way.
struct Change {
    next: Snapshot,
    /// The listeners that have to be put together anew, once for all that changes about them.
    listeners: BTreeSet<Arc<str>>,
}

impl Change {
    fn of(snapshot: &Snapshot) -> Self {
        let next = Snapshot { revision: snapshot.revision + 1, ..Snapshot::clone(snapshot) };
        Self { next, listeners: BTreeSet::new() }
    }
}

impl ConfigStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes one delta response. A resource that does not compile keeps its last good version and is
    /// reported; all others are taken. An unknown type refuses all of `upserts`.
    pub fn apply(
        &mut self,
        type_url: &str,
        upserts: Vec<NamedResource>,
        removed: &[String],
    ) -> Vec<Rejected> {
        let Some(known) = type_urls::IN_ORDER.into_iter().find(|known| *known == type_url) else {
            let reason = format!("resources of type {type_url} are not supported by this proxy");
            return upserts
                .into_iter()
                .map(|resource| Rejected {
                    name: resource.name,
                    field: String::new(),
                    reason: reason.clone(),
                })
                .collect();
        };
        let mut change = Change::of(&self.snapshot);
        let mut changed = false;
        for name in removed {
            self.refused.remove(&(known, name.clone()));
            if self.is_for_outgoing(known, name) {
                // It goes with the listener that still uses it, when nothing refers to it any more.
                continue;
            }
            if BY_NAME.contains(&known) {
                self.missing.insert((known, name.clone()));
            }
            if self.raw.get_mut(known).and_then(|held| held.remove(name)).is_some() {
                changed = true;
                self.remove(known, name, &mut change);
            }
        }
        let mut rejected = Vec::new();
        for NamedResource { name, version, body } in upserts {
            let held = self.raw.get(known).and_then(|held| held.get(&name));
            if held.is_some_and(|raw| raw.body == body && raw.version == version) {
                self.refused.remove(&(known, name));
                continue;
            }
            let taken = whole(body, held.map(|raw| &**raw), At::ROOT)
                .and_then(|body| self.upsert(known, &name, &body, &mut change).map(|()| body));
            self.missing.remove(&(known, name.clone()));
            match taken {
                Ok(body) => {
                    changed = true;
                    self.refused.remove(&(known, name.clone()));
                    self.raw.entry(known).or_default().insert(name, Arc::new(Raw { version, body }));
                }
                Err(refusal) => {
                    let refusal =
                        Rejected { name: name.clone(), field: refusal.field, reason: refusal.reason };
                    self.refused.insert((known, name), refusal.clone());
                    rejected.push(refusal);
                }
            }
        }
        self.finish(change, changed);
        rejected
    }

    /// Puts the listeners together that a change is about, those among them for which it was the last part.
    fn finish(&mut self, mut change: Change, changed: bool) {
        change.listeners.extend(self.take_complete());
        for name in &change.listeners {
            if let Some(parts) = self.outgoing.get(name).or_else(|| self.listeners.get(name)) {
                self.place_listener(parts, &mut change.next);
            }
        }
        if changed || !change.listeners.is_empty() {
            self.snapshot = Arc::new(change.next);
        }
    }

    /// The configuration as compiled now. One reference count.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.clone()
    }

    /// The sockets that the listeners need, sorted. A listener that hands connections over by original
    /// destination names one IPv4 and one IPv6 address for each thread, in the order of the threads.
    pub fn binds(&self) -> Vec<Bind> {
        let mut binds = Vec::new();
        for parts in self.listeners.values().filter(|parts| parts.bind) {
            for (index, address) in parts.addresses.iter().enumerate() {
                binds.push(Bind {
                    listener: parts.name.to_string(),
                    address: *address,
                    transparent: parts.transparent,
                    thread: parts.use_original_dst.then_some(index / 2),
                });
            }
        }
        binds.sort();
        binds
    }

    /// Name and version of each resource held, for `initial_resource_versions`.
    pub fn versions(&self, type_url: &str) -> BTreeMap<String, String> {
        let held = self.raw.get(type_url).into_iter().flatten();
        held.map(|(name, raw)| (name.clone(), raw.version.clone())).collect()
    }

    fn upsert(&mut self, known: &'static str, name: &str, body: &Any, change: &mut Change) -> Checked<()> {
        let at = At::ROOT;
        let next = &mut change.next;
        match known {
            type_urls::LISTENER => {
                let message: listener::Listener = at.decode(body)?;
                same_name(&message.name, name, at.field("name"))?;
                let parts = Arc::new(crate::listener::compile(&message, at)?);
                self.check_addresses(&parts, at)?;
                let before = self.listeners.insert(parts.name.clone(), parts.clone());
                self.replace_listener(before, &parts, change);
            }
            type_urls::ROUTE => {
                // What is the same as before is shared, so that a change costs what has changed.
                let before = self.raw.get(known).and_then(|held| held.get(name)).and_then(|raw| {
                    let table = next.routes.get(name)?;
                    crate::route::Before::new(&raw.body.value, table)
                });
                at.expect_type::<route::RouteConfiguration>(body)?;
                let table = Arc::new(crate::route::compile_encoded(&body.value, before.as_ref(), at)?);
                same_name(&table.name, name, at.field("name"))?;
                next.routes.insert(table.name.clone(), table);
            }
            type_urls::CLUSTER => {
                let message: cluster::Cluster = at.decode(body)?;
                same_name(&message.name, name, at.field("name"))?;
                let (settings, inline) = crate::cluster::compile(&message, at)?;
                self.forget_user(name);
                if let Some(eds) = &settings.eds_name {
                    self.assignment_users.entry(eds.clone()).or_default().insert(settings.name.clone());
                }
                let parts = ClusterParts { settings: Arc::new(settings), inline };
                self.clusters.insert(parts.settings.name.clone(), parts.clone());
                self.place_cluster(&parts, next);
            }
            type_urls::ENDPOINT => {
                let message: endpoint::ClusterLoadAssignment = at.decode(body)?;
                same_name(&message.cluster_name, name, at.field("cluster_name"))?;
                let previous = self.assignments.get(name).cloned();
                let endpoints = crate::cluster::compile_endpoints(&message, previous.as_deref(), at)?;
                self.assignments.insert(name.into(), Arc::new(endpoints));
                self.refresh_users(name, next);
            }
            // The five types of `IN_ORDER`; `known` is one of them.
            _ => {
                let message: tls::Secret = at.decode(body)?;
                same_name(&message.name, name, at.field("name"))?;
                let certificate = crate::tls::compile_secret(&message, at)?;
                self.secrets.insert(name.into(), Arc::new(certificate));
                self.refresh_listeners(name, change);
            }
        }
        Ok(())
    }

    fn remove(&mut self, known: &'static str, name: &str, change: &mut Change) {
        let next = &mut change.next;
        match known {
            type_urls::LISTENER => {
                self.outgoing.remove(name);
                if let Some(parts) = self.listeners.remove(name) {
                    drop_addresses(&parts, next);
                }
                next.listeners.remove(name);
            }
            type_urls::ROUTE => {
                next.routes.remove(name);
            }
            type_urls::CLUSTER => {
                self.forget_user(name);
                self.clusters.remove(name);
                next.clusters.remove(name);
            }
            type_urls::ENDPOINT => {
                self.assignments.remove(name);
                self.refresh_users(name, next);
            }
            _ => {
                self.secrets.remove(name);
                self.refresh_listeners(name, change);
            }
        }
    }

    /// Two listeners with one address would make the owner of a destination a matter of chance.
    fn check_addresses(&self, parts: &ListenerParts, at: At<'_>) -> Checked<()> {
        let mut own = BTreeSet::new();
        for address in &parts.addresses {
            if !own.insert(*address) && address.port() != 0 {
                return Err(at.field("additional_addresses").refuse(format!("{address} appears twice")));
            }
            let other = self.listeners.values().find(|other| {
                other.name != parts.name && address.port() != 0 && other.addresses.contains(address)
            });
            if let Some(other) = other {
                return Err(at
                    .field("address")
                    .refuse(format!("{address} belongs to listener {:?}", other.name)));
            }
        }
        Ok(())
    }

    fn place_listener(&self, parts: &ListenerParts, next: &mut Snapshot) {
        let secret = |name: &str| self.secrets.get(name).cloned();
        let before = next.listeners.get(&parts.name).cloned();
        let listener: Arc<Listener> = Arc::new(parts.resolve(&secret, before.as_deref()));
        if !parts.use_original_dst {
            for address in &parts.addresses {
                next.by_address.insert(*address, listener.clone());
            }
        }
        next.listeners.insert(parts.name.clone(), listener);
    }

    /// Make before break: where a listener changes to what has not come yet, it stays as it is until all of it
    /// has, or will not come.
    fn replace_listener(
        &mut self,
        before: Option<Arc<ListenerParts>>,
        parts: &Arc<ListenerParts>,
        change: &mut Change,
    ) {
        if let Some(serving) = self.outgoing.remove(&parts.name).or(before) {
            if serving.has_addresses_of(parts) && !self.has_all_of(parts) {
                self.outgoing.insert(parts.name.clone(), serving);
            } else {
                drop_addresses(&serving, &mut change.next);
            }
        }
        change.listeners.insert(parts.name.clone());
    }

    fn place_cluster(&self, parts: &ClusterParts, next: &mut Snapshot) {
        let assigned =
            || parts.settings.eds_name.as_ref().and_then(|name| self.assignments.get(name)).cloned();
        let endpoints = parts.inline.clone().or_else(assigned).unwrap_or_default();
        let cluster = Cluster { settings: parts.settings.clone(), endpoints };
        next.clusters.insert(parts.settings.name.clone(), Arc::new(cluster));
    }

    fn refresh_users(&self, assignment: &str, next: &mut Snapshot) {
        for user in self.assignment_users.get(assignment).into_iter().flatten() {
            if let Some(parts) = self.clusters.get(user) {
                self.place_cluster(parts, next);
            }
        }
    }

    fn refresh_listeners(&self, secret: &str, change: &mut Change) {
        let users = self.listeners.values().chain(self.outgoing.values());
        let users = users.filter(|parts| parts.secrets().any(|name| **name == *secret));
        change.listeners.extend(users.map(|parts| parts.name.clone()));
    }

    fn forget_user(&mut self, cluster: &str) {
        let Some(eds) = self.clusters.get(cluster).and_then(|parts| parts.settings.eds_name.clone()) else {
            return;
        };
        if let Some(users) = self.assignment_users.get_mut(&eds) {
            users.remove(cluster);
            if users.is_empty() {
                self.assignment_users.remove(&eds);
            }
        }
    }
}

fn drop_addresses(parts: &ListenerParts, next: &mut Snapshot) {
    for address in &parts.addresses {
        let owned = |held: &Arc<Listener>| held.name == parts.name;
        if next.by_address.get::<SocketAddr>(address).is_some_and(owned) {
            next.by_address.remove(address);
        }
    }
}

/// The message itself, where a patch of the one that is held stands for it.
fn whole(body: Any, held: Option<&Raw>, at: At<'_>) -> Checked<Any> {
    if body.type_url != Patch::TYPE_URL {
        return Ok(body);
    }
    let patch: Patch = at.decode(&body)?;
    let base = held.filter(|raw| raw.version == patch.base);
    base.and_then(|raw| patch.apply(&raw.body)).ok_or_else(|| {
        let version = held.map_or("none", |raw| raw.version.as_str());
        at.refuse(format!("a patch of version {:?}, where {version:?} is held; send the whole", patch.base))
    })
}

/// xDS names a resource twice; servers that disagree with themselves are not to be trusted with either.
fn same_name(inner: &str, outer: &str, at: At<'_>) -> Checked<()> {
    if inner == outer {
        Ok(())
    } else {
        Err(at.refuse(format!("is {inner:?}, but the resource is named {outer:?}")))
    }
}
