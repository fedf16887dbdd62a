//! The loop: when to derive anew, and in which order the outcome is handed on.
//!
//! Make before break, both ways. A frontend is given to the kernel when the proxy has accepted the listener
//! behind it, and it is taken from the kernel before the proxy is told that the listener goes. So no
//! connection is redirected to a proxy that does not know it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use mesh_control_loadbalancer::{Frontend, FrontendKind, Reach, ThisNode, desired_frontends};
use mesh_control_node::{
    DesiredRoute, DesiredRule, NodeState, REDIRECT, RedirectRouting, desired_routes, desired_rules,
};
use mesh_k8s_api::ObjectSet;
use mesh_k8s_reflect::WatchState;
use mesh_tables::{Database, ReconcilerHandle, Table};
use mesh_xds::server::{Connection, Progress, Published, Rejection, ResourceCache, ServerHandle};
use serde_json::json;
use tokio::sync::watch;

use crate::addresses::KeptAddresses;
use crate::changes;
use crate::derive::{DeriveConfig, Derived, Input, derive, proxied_addresses};
use crate::events::{Happened, Kind};
use crate::health::{PartHealth, Problem};
use crate::pod_network::PodsHere;
use crate::programmed::{self, ProxyListeners};
use crate::source::{Ended, Read, Source};
use crate::state::State;
use crate::status::Calendar;
use crate::view::View;

/// How long the kernel's tables may take to follow before the loop goes on without them.
const KERNEL_WITHIN: Duration = Duration::from_millis(100);

/// Tables that the loop writes, and who carries them to the kernel.
pub(crate) struct Kernel {
    /// Numbers in the routing tables.
    pub(crate) routing: RedirectRouting,
    /// Frontends.
    pub(crate) frontends: Table<Frontend>,
    /// Routes.
    pub(crate) routes: Table<DesiredRoute>,
    /// Rules.
    pub(crate) rules: Table<DesiredRule>,
    /// Whether anything is offered to the outside.
    pub(crate) has_frontends: watch::Sender<bool>,
    /// Carries the frontends.
    pub(crate) frontend_reconciler: ReconcilerHandle,
    /// Carry the routes and the rules.
    pub(crate) route_reconcilers: [ReconcilerHandle; 2],
}

/// Who has to fill a table before left-overs of an earlier agent are taken out.
pub(crate) const FILLED_BY_CONTROL: &str = "control";

/// The loop's state.
pub(crate) struct Control {
    /// Choices.
    pub(crate) config: DeriveConfig,
    /// Objects.
    pub(crate) source: Source,
    /// Devices and addresses.
    pub(crate) node: watch::Receiver<NodeState>,
    /// The pods of this node, where the agent is their network.
    pub(crate) pods: watch::Receiver<PodsHere>,
    /// Addresses that were given.
    pub(crate) addresses: KeptAddresses,
    /// What the proxy is sent.
    pub(crate) cache: ResourceCache,
    /// What the proxy says.
    pub(crate) server: ServerHandle,
    /// Tables.
    pub(crate) database: Arc<Database>,
    /// Only where traffic is redirected.
    pub(crate) kernel: Option<Kernel>,
    /// What can be looked at.
    pub(crate) view: Arc<View>,
}

/// What was last told, to tell what is new.
#[derive(Default)]
struct Told {
    objects: ObjectSet,
    watches: Arc<Vec<WatchState>>,
    problems: Vec<Problem>,
    parts: Vec<PartHealth>,
    connections: Vec<Connection>,
    rejections: Vec<Rejection>,
    /// The revision that proxy and kernel do not have yet, and when its objects were read.
    unsynced: Option<(u64, std::time::Instant)>,
}

impl Control {
    /// Runs until objects are no longer followed. Dropping it between two steps leaves proxy and kernel
    /// with the last whole state.
    pub(crate) async fn run(mut self) {
        let mut progress = self.server.progress();
        let mut calendar = Calendar::default();
        let mut proxy = ProxyListeners::default();
        // Addresses that an earlier agent gave stay where they are.
        let mut derived =
            Arc::new(Derived { addresses: self.addresses.held().clone(), ..Derived::default() });
        let mut told = Told::default();
        let mut own_addresses = Vec::new();
        let mut here = PodsHere::default();
        let mut refresh = tokio::time::interval(Duration::from_secs(5));
        // What is derived already.
        let mut revision = 0;
        let mut last_addresses = Arc::default();
        loop {
            tokio::select! {
                // Objects first: what the proxy says of the last state can wait for the next one.
                biased;
                changed = self.source.changed() => if let Err(Ended) = changed {
                    return;
                },
                Ok(()) = self.node.changed() => {}
                Ok(()) = self.pods.changed() => {}
                Ok(()) = progress.changed() => {}
                _ = refresh.tick() => {}
            }
            let read = self.source.read();
            self.tell_all(changes::watches(&told.watches, &read.watches));
            told.watches = read.watches.clone();
            let now_own = self.node.borrow_and_update().outer_addresses();
            // Nodes and pods come and go all the time, and nothing here follows from them.
            let is_same = revision > 0
                && read.addresses == last_addresses
                && told.objects.is_same_but_nodes_and_pods(&read.objects);
            if read.revision > 0 && is_same && now_own == own_addresses {
                revision = read.revision;
                self.tell_objects(&read, &mut told);
            } else if read.revision > 0 && (read.revision != revision || now_own != own_addresses) {
                last_addresses = read.addresses.clone();
                own_addresses = now_own;
                revision = read.revision;
                self.tell_objects(&read, &mut told);
                let input = Input {
                    objects: &read.objects,
                    own_addresses: &own_addresses,
                    written_addresses: &read.addresses,
                };
                derived = Arc::new(derive(&input, &derived, &self.config));
                self.addresses.keep(&derived.addresses);
                // What is not asked for any more may come back before the proxy has let go of it.
                let listeners = &derived.effective.listeners;
                proxy.accepted.retain(|name| listeners.iter().any(|listener| listener.name == *name));
                if let Some(revision) = self.hand_on(&derived, &proxy, &own_addresses).await {
                    told.unsynced = Some((revision, read.read_at));
                }
            }
            let progress = progress.borrow_and_update().clone();
            let now_here = self.pods.borrow_and_update().clone();
            let pods_changed = std::mem::replace(&mut here, now_here.clone()) != now_here;
            // Before anything was read nothing is known to be wanted: the kernel keeps what it has, whatever the
            // proxy says.
            if revision > 0 && (self.take_proxy(&mut proxy) || pods_changed) {
                self.write_kernel(&derived, &proxy, &own_addresses);
                self.wait_for_kernel().await;
            }
            self.tell_proxy(&progress, &mut told);
            self.show(&read, &derived, &proxy, &progress, &mut calendar, &mut told);
        }
    }

    /// The revision, if there is a new one.
    async fn hand_on(&self, derived: &Derived, proxy: &ProxyListeners, own: &[IpAddr]) -> Option<u64> {
        self.write_kernel(derived, proxy, own);
        self.wait_for_kernel().await;
        let published = self.cache.publish(derived.resources.clone());
        let Published { revision, changed, removed } = published;
        if changed + removed == 0 {
            return None;
        }
        tracing::info!(revision, changed, removed, "configuration published");
        let message = format!("revision {revision}: {changed} resources new or changed, {removed} removed");
        self.tell(
            Happened::normal(Kind::ConfigPublished, "", message)
                .with(json!({"revision": revision, "changed": changed, "removed": removed})),
        );
        Some(revision)
    }

    fn tell(&self, happened: Happened) {
        self.view.events.record(happened);
    }

    fn tell_all(&self, happened: Vec<Happened>) {
        happened.into_iter().for_each(|happened| self.tell(happened));
    }

    fn tell_objects(&self, read: &Read, told: &mut Told) {
        self.tell_all(changes::objects(&told.objects, &read.objects));
        told.objects = (*read.objects).clone();
    }

    fn tell_proxy(&self, progress: &Progress, told: &mut Told) {
        let connections = self.server.connections();
        if connections != told.connections {
            self.tell_all(changes::clients(&told.connections, &connections));
            told.connections = connections;
        }
        let rejections = self.server.rejections();
        if rejections != told.rejections {
            self.tell_all(changes::refusals(&told.rejections, &rejections));
            told.rejections = rejections;
        }
        if let Some((revision, read_at)) =
            told.unsynced.take_if(|(revision, _)| progress.is_settled(*revision))
        {
            let milliseconds = read_at.elapsed().as_secs_f64() * 1e3;
            let message = format!(
                "proxy and kernel have revision {revision}, {milliseconds:.1} ms after the change was seen"
            );
            self.tell(
                Happened::normal(Kind::ConfigSynced, "", message)
                    .with(json!({"revision": revision, "milliseconds": milliseconds})),
            );
        }
    }

    /// Waits until the kernel has what was just written, or for a while: what is told next, to the proxy or
    /// in a status, should be true of the kernel too.
    async fn wait_for_kernel(&self) {
        let Some(kernel) = &self.kernel else { return };
        let snapshot = self.database.snapshot();
        let [routes, rules] = &kernel.route_reconcilers;
        let waits = [
            (&kernel.frontend_reconciler, snapshot.last_change(kernel.frontends)),
            (routes, snapshot.last_change(kernel.routes)),
            (rules, snapshot.last_change(kernel.rules)),
        ];
        for (reconciler, revision) in waits {
            if !reconciler.reached(revision, KERNEL_WITHIN).await {
                tracing::warn!("the kernel's tables are slow to follow");
            }
        }
    }

    /// Writes the kernel's tables: all frontends but those whose listener the proxy does not serve yet. Such an
    /// address is balanced by the kernel meanwhile where a Service has it.
    fn write_kernel(&self, derived: &Derived, proxy: &ProxyListeners, own: &[IpAddr]) {
        let Some(kernel) = &self.kernel else { return };
        let mut served = derived.effective.frontends.clone();
        served.retain(|frontend| proxy.accepted.contains(&frontend.listener));
        let node = self.this_node();
        let mut frontends =
            desired_frontends(&derived.ingested.services, &derived.ingested.backends, &served, &node);
        let is_offered = |frontend: &Arc<Frontend>| matches!(frontend.kind, FrontendKind::Balanced { reach, .. } if reach != Reach::Cluster);
        let has_frontends = frontends.iter().any(is_offered);
        kernel.has_frontends.send_if_modified(|last| std::mem::replace(last, has_frontends) != has_frontends);
        if !proxy.heard {
            // The proxy may serve them for an earlier agent: what the kernel has of them stays as it is, or
            // connections would pass the proxy by at every restart.
            let claimed = &derived.effective.frontends;
            let claimed: BTreeSet<_> = claimed.iter().map(|owned| (owned.address, owned.port)).collect();
            frontends.retain(|frontend| !claimed.contains(&(frontend.key.address, frontend.key.port)));
        }
        let proxied = proxied_addresses(&derived.effective);
        self.database.write(|txn| {
            txn.replace(kernel.frontends, frontends);
            let routes = desired_routes(&proxied, own, &kernel.routing);
            txn.replace_part(kernel.routes, |row| row.owner == REDIRECT, routes);
            txn.replace(kernel.rules, desired_rules(&kernel.routing));
            txn.complete(kernel.routes, FILLED_BY_CONTROL);
            txn.complete(kernel.rules, FILLED_BY_CONTROL);
            // Without the proxy's word on its listeners the frontends that need it are not known, and
            // pruning would cut what an earlier agent had set up.
            if proxy.heard || derived.effective.frontends.is_empty() {
                txn.complete(kernel.frontends, FILLED_BY_CONTROL);
            }
        });
    }

    fn this_node(&self) -> ThisNode {
        let pods = self.pods.borrow().clone();
        let own = self.node.borrow().addresses.iter().map(|(_, address)| *address).collect();
        ThisNode { pods: pods.ranges, own, host_ports: pods.host_ports }
    }

    /// Takes over what the connected proxies serve and refuse; true when it changed.
    fn take_proxy(&self, proxy: &mut ProxyListeners) -> bool {
        let revision = self.cache.snapshot().revision();
        let now = ProxyListeners::said_by(&self.server.clients(), revision);
        match now.filter(|now| now != proxy) {
            Some(now) => {
                *proxy = now;
                true
            }
            None => false,
        }
    }

    fn show(
        &self,
        read: &Read,
        derived: &Arc<Derived>,
        proxy: &ProxyListeners,
        progress: &Progress,
        calendar: &mut Calendar,
        told: &mut Told,
    ) {
        let last = self.view.state.load_full();
        let problems = read.problems.iter().cloned();
        let problems: Vec<Problem> = problems.chain(derived.notes.iter().map(Problem::from)).collect();
        self.tell_all(changes::problems(&told.problems, &problems));
        // Conditions follow from these two, and there may be many of them.
        let same_conditions = Arc::ptr_eq(&last.derived, derived) && last.proxy == *proxy;
        let conditions = if same_conditions {
            last.conditions.clone()
        } else {
            let mut conditions = derived.conditions.clone();
            conditions.extend(programmed::conditions(derived, proxy));
            let (dated, transitions) = calendar.date(conditions, Timestamp::now());
            self.tell_all(changes::conditions(&transitions));
            Arc::new(dated)
        };
        let parts = vec![read.health.clone(), self.proxy_health(progress), self.kernel_health()];
        self.view.state.store(Arc::new(State {
            objects: read.objects.clone(),
            derived: derived.clone(),
            conditions,
            proxy: proxy.clone(),
            parts,
            problems: problems.clone(),
            node: Arc::new(self.this_node()),
        }));
        told.problems = problems;
        let parts = self.view.parts();
        self.tell_all(changes::parts(&told.parts, &parts));
        told.parts = parts;
    }

    fn proxy_health(&self, progress: &Progress) -> PartHealth {
        if progress.clients() == 0 {
            let fix = "see proxy.log in the run directory";
            return PartHealth::degraded("proxy", "no proxy takes configuration", fix);
        }
        if self.server.connections().iter().all(|connection| connection.settled == 0) {
            let detail = "it is connected and has not taken its first configuration yet";
            return PartHealth::degraded("proxy", detail, "wait a moment");
        }
        let rejections = self.server.rejections();
        let Some(first) = rejections.first() else {
            let revision = self.cache.snapshot().revision();
            let state = if progress.is_settled(revision) { "has" } else { "is taking" };
            return PartHealth::ok("proxy", format!("{state} revision {revision}"));
        };
        let (count, name, why) = (rejections.len(), &first.name, &first.nack.message);
        PartHealth::degraded(
            "proxy",
            format!("{count} resources refused; the first is {name}: {why}"),
            "`millrace xds clients` names all; the last good version of each serves on",
        )
    }

    fn kernel_health(&self) -> PartHealth {
        let Some(kernel) = &self.kernel else {
            let detail = "not redirecting: plain listeners serve north-south, east-west is unavailable";
            return PartHealth::off("kernel tables", detail);
        };
        let [routes, rules] = &kernel.route_reconcilers;
        let handles = [&kernel.frontend_reconciler, routes, rules];
        let refused: Vec<String> = handles
            .iter()
            .flat_map(|handle| handle.status().borrow().refused.clone())
            .map(|(row, why)| format!("{row}: {why}"))
            .collect();
        match refused.first() {
            None => PartHealth::ok("kernel tables", "as desired"),
            Some(first) => PartHealth::degraded(
                "kernel tables",
                format!("{} rows refused; the first is {first}", refused.len()),
                "they are tried again; `millrace bpf list` shows how full the maps are",
            ),
        }
    }
}
