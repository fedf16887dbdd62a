//! An agent that publishes and proxies that write down what they hear.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex, mpsc as blocking},
    time::Duration,
};

use mesh_xds::{
    client::{ApplyOutcome, Client, ClientConfig, ConfigSink, ConnectionStatus, DeltaResource, Subscription},
    server::{ResourceCache, ResourceSet, Server, ServerConfig, ServerHandle},
};
use mesh_xds_proto::{Any, Message, core::ControlPlane, type_urls};
use tempfile::TempDir;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

/// Far more than anything here takes; only a failure waits for it.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it happens")
}

pub(crate) fn set(resources: &[(&str, &str, &str)]) -> ResourceSet {
    let mut set = ResourceSet::default();
    for (type_url, name, content) in resources {
        let value = ControlPlane { identifier: (*content).to_owned() }.encode_to_vec();
        set.insert(*name, Any { type_url: (*type_url).to_owned(), value });
    }
    set
}

fn short(type_url: &str) -> &'static str {
    let position = type_urls::IN_ORDER.iter().position(|known| *known == type_url).unwrap();
    ["CDS", "EDS", "LDS", "SDS", "RDS"][position]
}

pub(crate) struct Agent {
    pub(crate) cache: ResourceCache,
    pub(crate) handle: ServerHandle,
    config: ServerConfig,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
    _folder: TempDir,
}

impl Agent {
    pub(crate) fn start() -> Self {
        Self::start_with(|_| {})
    }

    pub(crate) fn start_with(change: impl FnOnce(&mut ServerConfig)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = ServerConfig::new(folder.path().join("run/xds.sock"));
        change(&mut config);
        let cache = ResourceCache::default();
        let (handle, stop, task) = serve(&config, &cache);
        Self { cache, handle, config, stop: Some(stop), task, _folder: folder }
    }

    pub(crate) fn socket(&self) -> &std::path::Path {
        &self.config.socket
    }

    /// Publishes and returns the revision.
    pub(crate) fn publish(&self, resources: &[(&str, &str, &str)]) -> u64 {
        self.cache.publish(set(resources)).revision
    }

    pub(crate) async fn settled(&self, revision: u64) {
        soon(self.handle.settled(revision)).await;
    }

    pub(crate) async fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        soon(&mut self.task).await.unwrap();
        assert!(!self.config.socket.exists());
    }

    /// As a new process would: same socket, nothing published.
    pub(crate) fn restart(&mut self) {
        self.cache = ResourceCache::default();
        let (handle, stop, task) = serve(&self.config, &self.cache);
        (self.handle, self.stop, self.task) = (handle, Some(stop), task);
    }
}

fn serve(
    config: &ServerConfig,
    cache: &ResourceCache,
) -> (ServerHandle, oneshot::Sender<()>, JoinHandle<()>) {
    let server = Server::bind(config.clone(), cache.clone()).unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let handle = server.handle();
    let task = tokio::spawn(async move {
        server.run(async { drop(stopped.await) }).await.unwrap();
    });
    (handle, stop, task)
}

type Held = Arc<Mutex<BTreeMap<(&'static str, String), String>>>;

pub(crate) struct Proxy {
    held: Held,
    heard: mpsc::UnboundedReceiver<String>,
    status: watch::Receiver<ConnectionStatus>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// A proxy that wants everything.
    pub(crate) fn start(agent: &Agent, node_id: &str) -> Self {
        Self::start_sink(agent, node_id, false, None)
    }

    /// A proxy that finds `held` left by an earlier one, as type, name, content and version.
    pub(crate) fn start_holding(agent: &Agent, node_id: &str, held: &[(&str, &str, &str, String)]) -> Self {
        Self::start_restored(agent, node_id, false, None, held)
    }

    /// A proxy that wants the routes that its listeners name by `wants:`.
    pub(crate) fn start_following(agent: &Agent, node_id: &str) -> Self {
        Self::start_sink(agent, node_id, true, None)
    }

    /// A proxy whose first `apply` ends when the gate is dropped.
    pub(crate) fn start_gated(agent: &Agent, node_id: &str) -> (blocking::Sender<()>, Self) {
        let (gate, closed) = blocking::channel();
        (gate, Self::start_sink(agent, node_id, false, Some(closed)))
    }

    fn start_sink(agent: &Agent, node_id: &str, follows: bool, gate: Option<blocking::Receiver<()>>) -> Self {
        Self::start_restored(agent, node_id, follows, gate, &[])
    }

    fn start_restored(
        agent: &Agent,
        node_id: &str,
        follows: bool,
        gate: Option<blocking::Receiver<()>>,
        restored: &[(&str, &str, &str, String)],
    ) -> Self {
        let held = Held::default();
        held.lock().unwrap().extend(restored.iter().map(|(type_url, name, content, _)| {
            ((short(type_url), (*name).to_owned()), (*content).to_owned())
        }));
        let (hears, heard) = mpsc::unbounded_channel();
        let config = ClientConfig {
            socket: PathBuf::from(&agent.config.socket),
            node_id: node_id.to_owned(),
            node_cluster: "millrace".to_owned(),
        };
        let (client, status) = Client::new(config, Sink { held: held.clone(), hears, follows, gate });
        let client = client.holding(restored.iter().map(|(type_url, name, _, version)| {
            ((*type_url).to_owned(), (*name).to_owned(), version.clone())
        }));
        let task = tokio::spawn(async move {
            client.run().await;
        });
        Self { held, heard, status, task }
    }

    /// The next calls of `apply`, as `CDS +name=content -name`.
    pub(crate) async fn hears(&mut self, expected: &[&str]) {
        for expected in expected {
            assert_eq!(soon(self.heard.recv()).await.unwrap(), *expected);
        }
    }

    /// To be asked when the agent knows that the proxy is settled.
    pub(crate) fn hears_nothing_more(&mut self) {
        assert_eq!(self.heard.try_recv().ok(), None);
    }

    pub(crate) fn held(&self) -> Vec<String> {
        let held = self.held.lock().unwrap();
        held.iter().map(|((short, name), content)| format!("{short} {name}={content}")).collect()
    }

    pub(crate) async fn connected(&mut self) {
        soon(self.status.wait_for(ConnectionStatus::is_connected)).await.unwrap();
    }

    pub(crate) async fn disconnected(&mut self) {
        soon(self.status.wait_for(|status| !status.is_connected())).await.unwrap();
    }

    /// The error of the first failed attempt.
    pub(crate) async fn refused(&mut self) -> String {
        let failed = |status: &ConnectionStatus| matches!(status, ConnectionStatus::Disconnected { attempts, .. } if *attempts > 0);
        match &*soon(self.status.wait_for(failed)).await.unwrap() {
            ConnectionStatus::Disconnected { error, .. } => error.clone(),
            ConnectionStatus::Connected { .. } => unreachable!("waited for the opposite"),
        }
    }

    pub(crate) async fn stop(self) {
        self.task.abort();
        assert!(soon(self.task).await.unwrap_err().is_cancelled());
    }
}

struct Sink {
    held: Held,
    hears: mpsc::UnboundedSender<String>,
    follows: bool,
    gate: Option<blocking::Receiver<()>>,
}

impl ConfigSink for Sink {
    fn apply(&mut self, type_url: &str, added: Vec<DeltaResource>, removed: Vec<String>) -> ApplyOutcome {
        let mut text = short(type_url).to_owned();
        let mut held = self.held.lock().unwrap();
        let mut rejected = Vec::new();
        for resource in added {
            let content = ControlPlane::decode(resource.body.value.as_slice()).unwrap().identifier;
            text.push_str(&format!(" +{}={content}", resource.name));
            if content == "poison" {
                rejected.push((resource.name, "identifier: poison is refused".to_owned()));
            } else {
                held.insert((short(type_url), resource.name), content);
            }
        }
        for name in removed {
            text.push_str(&format!(" -{name}"));
            held.remove(&(short(type_url), name));
        }
        drop(held);
        let _ = self.hears.send(text);
        if let Some(gate) = self.gate.take() {
            let _ = gate.recv();
        }
        ApplyOutcome { rejected }
    }

    fn subscription(&self, type_url: &str) -> Subscription {
        if !self.follows || type_url != type_urls::ROUTE {
            return Subscription::Wildcard;
        }
        let mut held = self.held.lock().unwrap();
        let wanted: BTreeSet<String> =
            held.values().filter_map(|content| content.strip_prefix("wants:")).map(str::to_owned).collect();
        held.retain(|(short, name), _| *short != "RDS" || wanted.contains(name));
        Subscription::Names(wanted)
    }
}
