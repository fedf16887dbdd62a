//! One data thread: its configuration, pools and counters, and the loop that takes orders.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::TcpListener as StdTcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use mesh_l7proxy_config::{Bind, Snapshot};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::accept;
use crate::access_log::AccessLog;
use crate::connection::HttpStats;
use crate::metrics::{Registry, ThreadCounters};
use crate::plane::UpstreamSockets;
use crate::upstream::CoreCluster;

/// How often idle upstream connections are looked at.
const SWEEP: Duration = Duration::from_secs(1);

/// What the plane tells a thread.
pub(crate) enum Order {
    Listen(Bind, StdTcpListener),
    Unlisten(Bind),
    /// Answered when the last connection has gone or the time is over; the thread ends then.
    Drain(Duration, oneshot::Sender<()>),
}

/// The configuration as one thread holds it: counted without atomics, so that requests on different
/// threads do not fight over one cache line.
pub(crate) type CoreSnapshot = Rc<Arc<Snapshot>>;

/// The state of one thread.
pub(crate) struct Core {
    pub(crate) index: usize,
    snapshot: RefCell<CoreSnapshot>,
    clusters: RefCell<HashMap<Arc<str>, Rc<CoreCluster>, RandomState>>,
    registry: Arc<Registry>,
    pub(crate) log: AccessLog,
    pub(crate) sockets: Arc<dyn UpstreamSockets>,
    connections: Cell<usize>,
    last_gone: Notify,
}

impl Core {
    pub(crate) fn new(
        index: usize,
        registry: Arc<Registry>,
        log: AccessLog,
        sockets: Arc<dyn UpstreamSockets>,
    ) -> Rc<Self> {
        Rc::new(Self {
            index,
            snapshot: RefCell::default(),
            clusters: RefCell::default(),
            registry,
            log,
            sockets,
            connections: Cell::new(0),
            last_gone: Notify::new(),
        })
    }

    /// The configuration for a request that begins now.
    pub(crate) fn snapshot(&self) -> CoreSnapshot {
        self.snapshot.borrow().clone()
    }

    pub(crate) fn counters(&self) -> &ThreadCounters {
        self.registry.threads.of(self.index)
    }

    pub(crate) fn http(&self, prefix: &Arc<str>) -> HttpStats {
        HttpStats::new(self.registry.http(prefix), self.index)
    }

    /// This thread's state of a cluster; made when it is first used.
    pub(crate) fn cluster(&self, name: &Arc<str>) -> Rc<CoreCluster> {
        if let Some(cluster) = self.clusters.borrow().get(name) {
            return cluster.clone();
        }
        let cluster = CoreCluster::new(name, self.index, self.registry.cluster(name));
        self.clusters.borrow_mut().insert(name.clone(), cluster.clone());
        cluster
    }

    pub(crate) fn take(&self, snapshot: Arc<Snapshot>) {
        self.clusters.borrow_mut().retain(|name, cluster| match snapshot.cluster(name) {
            None => false,
            Some(now) => {
                cluster.keep_endpoints(&now.endpoints);
                true
            }
        });
        *self.snapshot.borrow_mut() = Rc::new(snapshot);
    }

    fn sweep(&self) {
        let snapshot = self.snapshot();
        for cluster in self.clusters.borrow().values() {
            let settings = snapshot.cluster(&cluster.name).map(|cluster| &cluster.settings);
            cluster.sweep(settings.and_then(|settings| settings.idle_timeout));
        }
    }
}

/// Counts a connection until dropped.
pub(crate) struct Held(Rc<Core>);

impl Held {
    pub(crate) fn new(core: &Rc<Core>) -> Self {
        core.connections.set(core.connections.get() + 1);
        core.counters().connections_opened.add(1);
        Self(core.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.connections.set(self.0.connections.get() - 1);
        self.0.counters().connections_closed.add(1);
        if self.0.connections.get() == 0 {
            self.0.last_gone.notify_one();
        }
    }
}

/// A listening socket of this thread with its accept loop.
struct Listening {
    accepting: JoinHandle<()>,
    /// True tells its connections to finish.
    drain: watch::Sender<bool>,
}

impl Listening {
    fn stop(self) {
        self.accepting.abort();
        self.drain.send_replace(true);
    }
}

/// Runs a thread until it has drained or the plane is dropped.
pub(crate) async fn run(
    core: Rc<Core>,
    mut orders: mpsc::UnboundedReceiver<Order>,
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
) {
    let mut listening: HashMap<Bind, Vec<Listening>> = HashMap::new();
    let mut sweep = tokio::time::interval(SWEEP);
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            changed = snapshots.changed() => {
                if changed.is_err() {
                    return;
                }
                let newest = snapshots.borrow_and_update().clone();
                core.take(newest);
            }
            order = orders.recv() => match order {
                None => return,
                Some(Order::Listen(bind, socket)) => match listen(&core, &bind, socket) {
                    Ok(started) => listening.entry(bind).or_default().push(started),
                    Err(error) => tracing::error!(listener = bind.listener, %error, "cannot listen"),
                },
                Some(Order::Unlisten(bind)) => {
                    listening.remove(&bind).into_iter().flatten().for_each(Listening::stop);
                }
                Some(Order::Drain(deadline, done)) => {
                    listening.drain().flat_map(|(_, all)| all).for_each(Listening::stop);
                    let last_gone = async {
                        while core.connections.get() > 0 {
                            core.last_gone.notified().await;
                        }
                    };
                    let _ = tokio::time::timeout(deadline, last_gone).await;
                    let _ = done.send(());
                    // What is left is cut when the runtime goes.
                    return;
                }
            },
            _ = sweep.tick() => core.sweep(),
        }
    }
}

fn listen(core: &Rc<Core>, bind: &Bind, socket: StdTcpListener) -> std::io::Result<Listening> {
    socket.set_nonblocking(true)?;
    let socket = tokio::net::TcpListener::from_std(socket)?;
    let (drain, draining) = watch::channel(false);
    let accepting = tokio::task::spawn_local(accept::accept_all(
        core.clone(),
        bind.listener.as_str().into(),
        socket,
        draining,
    ));
    Ok(Listening { accepting, drain })
}
