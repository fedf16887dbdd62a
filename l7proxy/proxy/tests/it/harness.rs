//! A running data plane, endpoints to talk to, and clients.

mod backend;
mod client;
mod resources;

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mesh_l7proxy_config::{Bind, ConfigStore, NamedResource, Rejected};
use mesh_l7proxy_proxy::{AccessLogSink, DataPlane, DataPlaneConfig, UpstreamSockets};

pub(crate) use self::backend::{Backend, Body, Seen, empty, full, trailing};
pub(crate) use self::client::{Client, Reply, exchange_raw, http2_client, read_to_end, send_raw};
pub(crate) use self::resources::{cluster, endpoints, http_listener, listener, routes};

/// Long enough for a busy machine, short enough to fail a test that hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A data plane with one thread and what it was given.
pub(crate) struct Proxy {
    pub(crate) plane: DataPlane,
    pub(crate) store: ConfigStore,
    log: Arc<Mutex<Vec<u8>>>,
    version: u64,
}

struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Gives plain sockets bound to the wanted address, which needs no privilege on loopback.
struct PlainSockets;

impl UpstreamSockets for PlainSockets {
    fn transparent(&self, local: IpAddr) -> Pin<Box<dyn Future<Output = io::Result<OwnedFd>> + Send>> {
        Box::pin(async move {
            let socket = socket2::Socket::new(
                socket2::Domain::for_address(SocketAddr::new(local, 0)),
                socket2::Type::STREAM,
                None,
            )?;
            socket.bind(&SocketAddr::new(local, 0).into())?;
            Ok(OwnedFd::from(socket))
        })
    }
}

impl Proxy {
    /// Starts with nothing.
    pub(crate) fn start() -> Self {
        Self::start_with(1)
    }

    /// Starts so many threads with nothing.
    pub(crate) fn start_with(threads: usize) -> Self {
        let log = Arc::new(Mutex::new(Vec::new()));
        let plane = DataPlane::start(DataPlaneConfig {
            threads,
            upstream_sockets: Arc::new(PlainSockets),
            access_log: AccessLogSink::new(Log(log.clone())),
        })
        .unwrap();
        Self { plane, store: ConfigStore::new(), log, version: 0 }
    }

    /// Applies resources in YAML, each with `@type`, and publishes. Returns what was refused.
    pub(crate) fn try_apply(&mut self, resources: &[String]) -> Vec<Rejected> {
        let rejected = self.take(resources);
        self.plane.publish(self.store.snapshot());
        rejected
    }

    /// Applies resources of which nothing may be refused, forgets what they do not refer to, and publishes.
    pub(crate) fn replace(&mut self, resources: &[String]) {
        let rejected = self.take(resources);
        assert!(rejected.is_empty(), "refused: {rejected:?}");
        self.store.forget_unwanted();
        self.plane.publish(self.store.snapshot());
    }

    fn take(&mut self, resources: &[String]) -> Vec<Rejected> {
        let mut rejected = Vec::new();
        for resource in resources {
            self.version += 1;
            let body = mesh_xds_proto::json::decode_any_yaml(resource).unwrap();
            let value: serde_json::Value = mesh_xds_proto::json::encode_any(&body).unwrap();
            let name =
                value["name"].as_str().or(value["clusterName"].as_str()).or(value["cluster_name"].as_str());
            let type_url = body.type_url.clone();
            let named =
                NamedResource { name: name.unwrap().to_owned(), version: self.version.to_string(), body };
            rejected.extend(self.store.apply(&type_url, vec![named], &[]));
        }
        rejected
    }

    /// Like [`Proxy::try_apply`], where nothing may be refused.
    pub(crate) fn apply(&mut self, resources: &[String]) {
        let rejected = self.try_apply(resources);
        assert!(rejected.is_empty(), "refused: {rejected:?}");
    }

    pub(crate) fn remove(&mut self, type_url: &str, name: &str) {
        self.store.apply(type_url, Vec::new(), &[name.to_owned()]);
        self.plane.publish(self.store.snapshot());
    }

    /// Opens a socket for a listener on `address`.
    pub(crate) fn listen_at(&self, listener: &str, address: &str) -> (Bind, SocketAddr) {
        let socket = TcpListener::bind(address).unwrap();
        let local = socket.local_addr().unwrap();
        let bind =
            Bind { listener: listener.to_owned(), address: local, transparent: false, thread: Some(0) };
        self.plane.add_listener(0, bind.clone(), socket);
        (bind, local)
    }

    /// Opens a socket for a listener on loopback.
    pub(crate) fn listen(&self, listener: &str) -> SocketAddr {
        self.listen_at(listener, "127.0.0.1:0").1
    }

    /// A plain HTTP listener `web` whose routes `web` send everything to `endpoints` as cluster `backend`.
    pub(crate) fn forwarding(endpoint: SocketAddr) -> (Self, SocketAddr) {
        Self::forwarding_with(endpoint, "", "")
    }

    /// The same with more of the connection manager and more of the cluster.
    pub(crate) fn forwarding_with(
        endpoint: SocketAddr,
        manager: &str,
        cluster_options: &str,
    ) -> (Self, SocketAddr) {
        let mut proxy = Self::start();
        proxy.apply(&[
            cluster("backend", cluster_options),
            endpoints("backend", &[endpoint]),
            http_listener("web", manager),
            routes("web", r#"[{ match: { prefix: "/" }, route: { cluster: backend } }]"#),
        ]);
        let address = proxy.listen("web");
        (proxy, address)
    }

    /// The log once it has `lines` lines.
    pub(crate) async fn log(&self, lines: usize) -> Vec<serde_json::Value> {
        let text = eventually("access log lines", || {
            let text = String::from_utf8(self.log.lock().unwrap().clone()).unwrap();
            (text.lines().count() >= lines).then_some(text)
        })
        .await;
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| line.into())).collect()
    }

    /// The value of a metric once it is at least `least`.
    pub(crate) async fn metric(&self, line: &str, least: f64) -> f64 {
        eventually(line, || {
            let mut text = String::new();
            self.plane.metrics(&mut text);
            let value = text.lines().find_map(|held| held.strip_prefix(line)?.trim().parse::<f64>().ok());
            value.filter(|value| *value >= least)
        })
        .await
    }
}

/// Polls until there is a value. Panics after [`PATIENCE`].
pub(crate) async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(value) = look() {
            return value;
        }
        assert!(tokio::time::Instant::now() < end, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
