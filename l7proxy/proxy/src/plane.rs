//! The handle the daemon holds.

use std::collections::HashSet;
use std::future::Future;
use std::io;
use std::net::{IpAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use mesh_l7proxy_config::cluster::Health;
use mesh_l7proxy_config::listener::Network;
use mesh_l7proxy_config::{Bind, Snapshot};
use serde_json::{Value, json};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, oneshot, watch};

use crate::access_log::{AccessLog, AccessLogSink};
use crate::core::{self, Core, Order};
use crate::metrics::Registry;

/// Where the data path gets sockets that may speak with a client's address.
pub trait UpstreamSockets: Send + Sync + 'static {
    /// A fresh TCP socket with `IP_TRANSPARENT`, its mark and `IP_BIND_ADDRESS_NO_PORT` set, bound to
    /// `local` with port zero, not connected.
    fn transparent(&self, local: IpAddr) -> Pin<Box<dyn Future<Output = io::Result<OwnedFd>> + Send>>;
}

/// What a data plane needs.
pub struct DataPlaneConfig {
    /// Data threads. At least one.
    pub threads: usize,
    /// For listeners that keep the client's address.
    pub upstream_sockets: Arc<dyn UpstreamSockets>,
    /// Where access log lines go.
    pub access_log: AccessLogSink,
}

/// The running data threads. Dropping it ends them at once, cutting what is under way.
pub struct DataPlane {
    orders: Vec<mpsc::UnboundedSender<Order>>,
    snapshot: watch::Sender<Arc<Snapshot>>,
    registry: Arc<Registry>,
    binds: Mutex<Vec<(usize, Bind)>>,
    threads: Vec<thread::JoinHandle<()>>,
    log_writer: Option<thread::JoinHandle<()>>,
}

impl DataPlane {
    /// Starts the threads, with an empty configuration and no listeners.
    ///
    /// # Errors
    /// A thread or its runtime cannot be made.
    pub fn start(config: DataPlaneConfig) -> io::Result<Self> {
        let count = config.threads.max(1);
        let registry = Arc::new(Registry::new(count));
        let (log, log_writer) = AccessLog::start(config.access_log)?;
        let (snapshot, snapshots) = watch::channel(Arc::default());
        let mut plane = Self {
            orders: Vec::with_capacity(count),
            snapshot,
            registry: registry.clone(),
            binds: Mutex::default(),
            threads: Vec::with_capacity(count),
            log_writer: Some(log_writer),
        };
        let (ready, started) = std::sync::mpsc::channel();
        for index in 0..count {
            // Orders come from configuration changes, a handful each, and every thread takes them; a bound
            // would only give the sender, who cannot wait, something to lose.
            let (orders, taken) = mpsc::unbounded_channel();
            plane.orders.push(orders);
            let (registry, log, snapshots) = (registry.clone(), log.clone(), snapshots.clone());
            let sockets = config.upstream_sockets.clone();
            let ready = ready.clone();
            let body = move || {
                // Of a kind that stays on its thread, so that nothing here needs a lock. It is made there.
                let runtime = Builder::new_current_thread()
                    .enable_io()
                    .enable_time()
                    .build_local(LocalOptions::default());
                match runtime {
                    Ok(runtime) => {
                        // Whoever waited has gone only with the whole plane.
                        let _ = ready.send(Ok(()));
                        let core = Core::new(index, registry, log, sockets);
                        runtime.block_on(core::run(core, taken, snapshots));
                    }
                    Err(error) => drop(ready.send(Err(error))),
                }
            };
            plane.threads.push(thread::Builder::new().name(format!("data-{index}")).spawn(body)?);
        }
        drop(ready);
        for _ in 0..count {
            started.recv().map_err(|_| io::Error::other("a data thread has ended"))??;
        }
        Ok(plane)
    }

    /// Makes every thread use `snapshot` for requests that start from now on. Requests under way keep theirs.
    pub fn publish(&self, snapshot: Arc<Snapshot>) {
        self.registry.retain_clusters(|name| snapshot.cluster(name).is_some());
        let before = self.snapshot.send_replace(snapshot.clone());
        if !snapshot.has_listeners_of(&before) {
            self.registry.retain_http(&prefixes(&snapshot));
        }
    }

    /// Gives a listening socket to a thread. Non-blocking mode is set here. The listener of that name should
    /// be in the snapshot already: connections to unknown listeners are closed.
    pub fn add_listener(&self, thread: usize, bind: Bind, listener: TcpListener) {
        let Some(orders) = self.orders.get(thread) else {
            tracing::error!(thread, listener = bind.listener, "there is no such data thread");
            return;
        };
        self.binds.lock().unwrap_or_else(PoisonError::into_inner).push((thread, bind.clone()));
        // Fails only after a drain, when there is nothing left to listen with.
        let _ = orders.send(Order::Listen(bind, listener));
    }

    /// Closes the sockets of `bind` on all threads; its connections finish their requests and close.
    pub fn remove_listener(&self, bind: &Bind) {
        self.binds.lock().unwrap_or_else(PoisonError::into_inner).retain(|(_, held)| held != bind);
        for orders in &self.orders {
            let _ = orders.send(Order::Unlisten(bind.clone()));
        }
    }

    /// Stops accepting, tells connections to end (GOAWAY, `connection: close`), resolves when the last one
    /// has gone or at `deadline`, when the rest is cut. The threads end with it.
    pub fn drain(&self, deadline: Duration) -> impl Future<Output = ()> + Send + 'static {
        self.binds.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let mut waits = Vec::with_capacity(self.orders.len());
        for orders in &self.orders {
            let (done, wait) = oneshot::channel();
            if orders.send(Order::Drain(deadline, done)).is_ok() {
                waits.push(wait);
            }
        }
        async move {
            for wait in waits {
                // An error says that the thread has ended, which is what is waited for.
                let _ = wait.await;
            }
        }
    }

    /// Appends all metrics in the OpenMetrics text format, with Envoy's names.
    pub fn metrics(&self, out: &mut String) {
        self.registry.render(out);
    }

    /// Clusters and endpoints with their counters, in the shape of Envoy's `/clusters?format=json`.
    pub fn clusters(&self) -> Value {
        let snapshot = self.snapshot.borrow().clone();
        let mut statuses: Vec<Value> = snapshot
            .clusters()
            .map(|cluster| {
                let hosts: Vec<Value> = cluster
                    .endpoints
                    .all()
                    .iter()
                    .map(|endpoint| {
                        let health = match endpoint.health {
                            Health::Healthy => "HEALTHY",
                            Health::Degraded => "DEGRADED",
                            Health::Unusable => "UNHEALTHY",
                        };
                        json!({
                            "address": { "socket_address": {
                                "address": endpoint.address.ip().to_string(),
                                "port_value": endpoint.address.port(),
                            } },
                            "hostname": &*endpoint.hostname,
                            "weight": endpoint.weight,
                            "health_status": { "eds_health_status": health },
                            "stats": [{
                                "name": "rq_active",
                                "type": "GAUGE",
                                "value": endpoint.active.load(std::sync::atomic::Ordering::Relaxed).to_string(),
                            }],
                        })
                    })
                    .collect();
                json!({
                    "name": &*cluster.settings.name,
                    "eds_service_name": cluster.settings.eds_name.as_deref(),
                    "host_statuses": hosts,
                })
            })
            .collect();
        statuses.sort_by_key(|status| status["name"].as_str().map(str::to_owned));
        json!({ "cluster_statuses": statuses })
    }

    /// Listeners with their addresses and the threads that hold a socket, in the shape of Envoy's
    /// `/listeners?format=json`.
    pub fn listeners(&self) -> Value {
        let snapshot = self.snapshot.borrow().clone();
        let binds = self.binds.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut statuses: Vec<Value> = snapshot
            .listeners()
            .map(|listener| {
                let address = |address: &std::net::SocketAddr| {
                    json!({ "socket_address": {
                        "address": address.ip().to_string(),
                        "port_value": address.port(),
                    } })
                };
                let sockets: Vec<Value> = binds
                    .iter()
                    .filter(|(_, bind)| *bind.listener == *listener.name)
                    .map(|(thread, bind)| json!({ "thread": thread, "address": bind.address.to_string() }))
                    .collect();
                json!({
                    "name": &*listener.name,
                    "local_address": listener.addresses.first().map(address),
                    "additional_local_addresses":
                        listener.addresses.iter().skip(1).map(address).collect::<Vec<_>>(),
                    "sockets": sockets,
                })
            })
            .collect();
        statuses.sort_by_key(|status| status["name"].as_str().map(str::to_owned));
        json!({ "listener_statuses": statuses })
    }

    /// The same numbers as [`DataPlane::metrics`], as Envoy's `/stats?format=json`.
    pub fn stats(&self) -> Value {
        self.registry.json()
    }
}

/// The prefixes that HTTP is counted under.
fn prefixes(snapshot: &Snapshot) -> HashSet<&str> {
    let chains = snapshot.listeners().flat_map(|listener| listener.all_chains());
    chains
        .filter_map(|chain| match &chain.network {
            Network::Http(manager) => Some(&*manager.stat_prefix),
            Network::Respond(_) => None,
        })
        .collect()
}

impl Drop for DataPlane {
    fn drop(&mut self) {
        // The threads end when nobody can give them orders any more, and the log's writer when they have.
        self.orders.clear();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        if let Some(writer) = self.log_writer.take() {
            let _ = writer.join();
        }
    }
}
