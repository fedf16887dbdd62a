//! The role that a cluster has once: statuses of objects, written by whoever holds the Lease.
//!
//! The same stages as in an agent, on the same objects, without a proxy or a kernel below. All operators derive, so
//! that one which takes over writes at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use jiff::Timestamp;
use mesh_control_identity::Timing;
use mesh_gateway_api::{CILIUM_CONTROLLER, CONTROLLER};
use mesh_k8s_api::{Kind, ObjectSet};
use mesh_k8s_reflect::{
    ApiState, Config, Lease, LeaseConfig, ObjectWriter, PodsOf, Reflection, StatusWriter,
};
use mesh_model::address::AddressAssignments;
use mesh_model::{NamespacedName, ObjectKey};
use mesh_xds::resolve::ResolveConfig;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{interval, sleep, sleep_until};

use crate::args::OperatorOptions;
use crate::derive::{DeriveConfig, Derived, Input, derive};
use crate::identity_gc::IdentityCollector;
use crate::node_ranges::NodeRanges;
use crate::objects;
use crate::programmed::{self, ProxyListeners};
use crate::source::reflect_config;
use crate::status::{Calendar, Known, documents};

/// Name of the Lease.
const LEASE: &str = "millrace-operator";
/// Changes are gathered this long: a Gateway whose thousand routes are applied is not written a thousand times.
const GATHER: Duration = Duration::from_millis(100);
/// What was refused is tried again so often.
const RETRY: Duration = Duration::from_secs(60);

/// Until SIGTERM or SIGINT; then the Lease is given back.
pub(crate) fn run(options: &OperatorOptions) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("operator")
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(operate(options))
}

async fn operate(options: &OperatorOptions) -> anyhow::Result<()> {
    let pods = options.cluster_pool.ipam.map(|_| PodsOf::Nobody);
    let config = Config { keep_status: true, pods, ..reflect_config(&options.cluster) };
    let server = config.server.clone();
    let lease = lease_config(options)?;
    let reflection = Reflection::start(config).await.context("cannot read from an API server")?;
    let mut state = reflection.state();
    let controllers = vec![CONTROLLER.to_owned(), CILIUM_CONTROLLER.to_owned()];
    let ranges = NodeRanges::new(&options.cluster_pool, ObjectWriter::new(server.clone(), LEASE).await?)?;
    let writer = StatusWriter::new(server.clone(), controllers).await?;
    let lease = Lease::start(server.clone(), lease).await?;
    let mut leading = lease.leading();
    let mut statuses = Statuses::new(options);
    let identities = IdentityCollector {
        writer: ObjectWriter::new(server, LEASE).await?,
        timing: Timing {
            interval: options.identity_gc_interval.as_secs().cast_signed(),
            timeout: options.identity_heartbeat_timeout.as_secs().cast_signed(),
        },
    };
    let mut operator = Operator { writer, ranges, identities };

    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for signals")?;
    let ended = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let work = async {
        let mut retry = interval(RETRY);
        let mut again: Option<Instant> = None;
        loop {
            tokio::select! {
                changed = state.changed() => changed.context("objects are no longer followed")?,
                changed = leading.changed() => changed.context("the lease is no longer asked for")?,
                _ = retry.tick() => operator.writer.retry(),
                () = sleep_until(again.unwrap_or_else(Instant::now).into()), if again.is_some() => {}
            }
            sleep(GATHER).await;
            let now = state.borrow_and_update().clone();
            if now.revision == 0 {
                continue;
            }
            let desired = statuses.desired(&now);
            again = operator.write(&now, desired, || *leading.borrow()).await;
        }
    };
    // A round may take long. Dropped between two writes or in the middle of one, it leaves whole statuses.
    tokio::select! {
        biased;
        () = ended => {}
        failed = work => return failed,
    }
    tracing::info!("the operator ends");
    lease.release().await;
    Ok(())
}

fn lease_config(options: &OperatorOptions) -> anyhow::Result<LeaseConfig> {
    let (duration, renew_within) =
        (options.leader_election_lease_duration, options.leader_election_renew_deadline);
    let retry = options.leader_election_retry_period;
    if renew_within >= duration || retry >= renew_within {
        bail!(
            "two operators could write at once: --leader-election-retry-period must be shorter than \
             --leader-election-renew-deadline, and that shorter than --leader-election-lease-duration"
        );
    }
    // Two operators on one node may have the same name and, in their pods, the same process number.
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let identity = format!("{}_{:016x}", host.trim(), fastrand::u64(..));
    Ok(LeaseConfig {
        namespace: options.k8s_namespace.clone(),
        name: LEASE.to_owned(),
        identity,
        duration,
        renew_within,
        retry,
    })
}

/// The statuses that objects should have.
struct Statuses {
    config: DeriveConfig,
    derived: Derived,
    calendar: Calendar,
    revision: u64,
    /// What that was worked out from.
    objects: Arc<ObjectSet>,
    addresses: Arc<AddressAssignments>,
    desired: BTreeMap<ObjectKey, Value>,
}

impl Statuses {
    fn new(options: &OperatorOptions) -> Self {
        // Which ports hand connections to the proxy is each node's matter and in no status.
        let resolve = ResolveConfig::Redirect { thread_ports: Vec::new() };
        let fixed = options.translation.address.clone();
        Self {
            config: DeriveConfig::new(&options.translation, resolve, fixed),
            derived: Derived::default(),
            calendar: Calendar::default(),
            revision: 0,
            objects: Arc::default(),
            addresses: Arc::default(),
            desired: BTreeMap::new(),
        }
    }

    /// By object. Worked out when there is a new revision.
    fn desired(&mut self, state: &ApiState) -> &BTreeMap<ObjectKey, Value> {
        // No status follows from nodes and pods, which come and go all the time.
        let is_same = self.revision > 0
            && self.addresses == state.addresses
            && self.objects.is_same_but_nodes_and_pods(&state.objects);
        if state.revision != self.revision && !is_same {
            self.revision = state.revision;
            (self.objects, self.addresses) = (state.objects.clone(), state.addresses.clone());
            let input =
                Input { objects: &state.objects, own_addresses: &[], written_addresses: &state.addresses };
            self.derived = derive(&input, &self.derived, &self.config);
            self.desired = self.statuses(state);
        }
        &self.desired
    }

    fn statuses(&mut self, state: &ApiState) -> BTreeMap<ObjectKey, Value> {
        let derived = &self.derived;
        // What a proxy refuses its agent tells; until agents report it, all is taken to be accepted.
        let accepted = derived.effective.listeners.iter().map(|listener| listener.name.clone()).collect();
        let proxy = ProxyListeners { heard: true, accepted, refused: BTreeMap::new() };
        let mut conditions = derived.conditions.clone();
        conditions.extend(programmed::conditions(derived, &proxy));
        let (conditions, _) = self.calendar.date(conditions, Timestamp::now());
        let known = Known {
            objects: &state.objects,
            conditions: &conditions,
            addresses: &derived.addresses,
            attached: &derived.attached,
        };
        let kinds = Kind::ALL.into_iter().filter(|kind| objects::has_status(*kind));
        let all =
            kinds.flat_map(|kind| documents(&known, kind).into_iter().map(move |object| (kind, object)));
        all.map(|(kind, mut object)| {
            let text = |field| object["metadata"][field].as_str().unwrap_or_default();
            let name = NamespacedName::new(text("namespace"), text("name"));
            (ObjectKey::new(kind.group(), kind.as_str(), name), object["status"].take())
        })
        .collect()
    }
}

struct Operator {
    writer: StatusWriter,
    /// Where it gives nodes their ranges.
    ranges: Option<NodeRanges>,
    identities: IdentityCollector,
}

impl Operator {
    /// When to write again although nothing has changed, if at all.
    async fn write(
        &mut self,
        state: &ApiState,
        desired: &BTreeMap<ObjectKey, Value>,
        is_leading: impl Fn() -> bool,
    ) -> Option<Instant> {
        if !is_leading() {
            return None;
        }
        // Before what may be many statuses: pods wait for it.
        if let Some(ranges) = &mut self.ranges {
            ranges.write(state, &is_leading).await;
        }
        self.identities.write(state, Timestamp::now(), &is_leading).await;
        let written = self.writer.write(state, desired, is_leading).await;
        if written.count > 0 {
            tracing::info!(count = written.count, revision = state.revision, "statuses written");
        }
        for not_written in &written.failed {
            let (origin, failure) = (&not_written.object, &not_written.failure);
            tracing::warn!(%origin, fix = failure.fix, "a status is not written: {}", failure.message);
        }
        written.again
    }
}
