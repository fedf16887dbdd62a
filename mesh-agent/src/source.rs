//! Where objects come from: a folder, or an API server. What follows from them is the same.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail};
use mesh_k8s_api::ObjectSet;
use mesh_k8s_files::{FolderState, Watcher};
use mesh_k8s_reflect::{ApiServer, ApiState, Config, Phase, PodsOf, Reflection, WatchState};
use mesh_model::address::AddressAssignments;
use tokio::sync::watch;

use crate::args::{ClusterOptions, SourceOptions};
use crate::health::{PartHealth, Problem};

/// What is followed. A clone follows the same by itself.
#[derive(Clone)]
pub(crate) enum Source {
    /// Files.
    Folder {
        /// Newest state.
        state: watch::Receiver<Arc<FolderState>>,
        /// Follows as long as it is there.
        _watcher: Arc<Watcher>,
    },
    /// A cluster.
    Cluster {
        /// Newest state.
        state: watch::Receiver<Arc<ApiState>>,
        /// Follows as long as it is there.
        _reflection: Arc<Reflection>,
    },
}

/// What was read, at one moment.
pub(crate) struct Read {
    /// The objects.
    pub(crate) objects: Arc<ObjectSet>,
    /// What is wrong with any of them.
    pub(crate) problems: Vec<Problem>,
    /// How the reading goes.
    pub(crate) health: PartHealth,
    /// The same of each watch; none where a folder is read.
    pub(crate) watches: Arc<Vec<WatchState>>,
    /// Addresses that objects were given by the operator.
    pub(crate) addresses: Arc<AddressAssignments>,
    /// Rises with each change of objects, problems or addresses; 0 until everything was read.
    pub(crate) revision: u64,
    /// When the first sign of the change came.
    pub(crate) read_at: Instant,
}

/// There will be no further state.
#[derive(Debug)]
pub(crate) struct Ended;

impl Source {
    /// Begins to follow what the options name.
    ///
    /// `pods`: the node whose Pods are needed, where the agent makes their network.
    pub(crate) async fn start(options: &SourceOptions, pods: Option<String>) -> anyhow::Result<Self> {
        match &options.manifests {
            Some(manifests) => Self::folder(manifests.clone()),
            None => Self::cluster(&options.cluster, pods).await,
        }
    }

    fn folder(manifests: PathBuf) -> anyhow::Result<Self> {
        let watcher = Watcher::start(manifests).context("cannot watch the manifests")?;
        Ok(Self::Folder { state: watcher.state(), _watcher: Arc::new(watcher) })
    }

    async fn cluster(options: &ClusterOptions, pods: Option<String>) -> anyhow::Result<Self> {
        let config = Config { pods: pods.map(PodsOf::Node), ..reflect_config(options) };
        if config.server == ApiServer::default() && std::env::var_os("KUBERNETES_SERVICE_HOST").is_none() {
            bail!(
                "there is no source of objects: set --manifests to a folder, or --k8s-kubeconfig-path or \
                 --k8s-api-server-urls to an API server, or run in a pod of a cluster"
            );
        }
        let reflection = Reflection::start(config).await.context("cannot read from an API server")?;
        Ok(Self::Cluster { state: reflection.state(), _reflection: Arc::new(reflection) })
    }

    /// Waits for another state than the last one that was read. May be dropped at any time.
    pub(crate) async fn changed(&mut self) -> Result<(), Ended> {
        match self {
            Self::Folder { state, .. } => state.changed().await,
            Self::Cluster { state, .. } => state.changed().await,
        }
        .map_err(|_| Ended)
    }

    /// What was read last.
    pub(crate) fn read(&mut self) -> Read {
        match self {
            Self::Folder { state, .. } => of_folder(&state.borrow_and_update()),
            Self::Cluster { state, .. } => of_cluster(&state.borrow_and_update()),
        }
    }
}

/// What is read of which API server.
pub(crate) fn reflect_config(options: &ClusterOptions) -> Config {
    let server = ApiServer {
        kubeconfig: options.k8s_kubeconfig_path.clone(),
        urls: options.k8s_api_server_urls.clone(),
    };
    Config { secret_namespaces: options.secrets_namespaces.clone(), ..Config::new(server) }
}

fn of_folder(folder: &FolderState) -> Read {
    let count = folder.objects.len();
    let health = match folder.problems.len() {
        0 => PartHealth::ok("manifests", format!("{count} objects")),
        wrong => PartHealth::degraded(
            "manifests",
            format!("{count} objects, {wrong} problems"),
            "mend the files; each problem below says how",
        ),
    };
    Read {
        objects: folder.objects.clone(),
        problems: folder.problems.iter().map(Problem::from).collect(),
        health,
        watches: Arc::default(),
        addresses: Arc::default(),
        revision: folder.revision,
        read_at: folder.read_at,
    }
}

fn of_cluster(state: &ApiState) -> Read {
    Read {
        objects: state.objects.clone(),
        problems: state.problems.iter().map(Problem::from).collect(),
        health: cluster_health(state),
        watches: state.watches.clone(),
        addresses: state.addresses.clone(),
        revision: state.revision,
        read_at: state.read_at,
    }
}

/// The name of the part that reads from an API server.
const KUBERNETES: &str = "kubernetes";

fn cluster_health(state: &ApiState) -> PartHealth {
    let (server, count) = (&state.server, state.objects.len());
    let failing = state.watches.iter().filter_map(|watch| match &watch.phase {
        Phase::Failing { since, failure, .. } => Some((&watch.scope, since, failure)),
        _ => None,
    });
    // The oldest failure is the cause of the others more often than not.
    let first = failing.clone().min_by_key(|(_, since, _)| **since);
    if let Some((scope, since, failure)) = first {
        let serves = match state.revision {
            0 => "nothing was read yet: proxy and kernel keep what they have".to_owned(),
            revision => format!("the last good state serves on (revision {revision}, {count} objects)"),
        };
        let others = match failing.count() - 1 {
            0 => String::new(),
            others => format!(" ({others} watches more)"),
        };
        let why = &failure.message;
        let detail = format!("{scope} of {server} cannot be read since {since:.0}{others}: {why}; {serves}");
        return PartHealth::degraded(KUBERNETES, detail, failure.fix.clone());
    }
    let reading = state.watches.iter().filter(|watch| !watch.phase.is_read());
    if let Some(scope) = reading.map(|watch| &watch.scope).next() {
        let detail = format!("reading from {server}; {scope} is not complete yet");
        return PartHealth::degraded(KUBERNETES, detail, "wait a moment");
    }
    match state.problems.len() {
        0 => PartHealth::ok(KUBERNETES, format!("{count} objects of {server}")),
        wrong => PartHealth::degraded(
            KUBERNETES,
            format!("{count} objects of {server}, {wrong} problems"),
            "mend the objects; each problem below says how",
        ),
    }
}

#[cfg(test)]
mod tests;
