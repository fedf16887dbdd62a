//! Starting the watches.

use std::sync::Arc;
use std::time::Duration;

use mesh_k8s_api::Kind;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;

use crate::access::{AccessError, ApiServer};
use crate::connection::Connection;
use crate::keeper::Keeper;
use crate::reflector::{Reflector, Shared};
use crate::scope::Scope;
use crate::state::ApiState;

/// Messages that may wait. A watch that finds no room waits, and with it the server.
const QUEUE: usize = 1024;

/// What to read.
#[derive(Clone, Debug)]
pub struct Config {
    /// From where.
    pub server: ApiServer,
    /// Namespaces whose Secrets are read; none: all.
    pub secret_namespaces: Vec<String>,
    /// Whether the kinds of the pods' network are read, and of which node the Pods: those of the others nobody needs.
    pub pods: Option<PodsOf>,
    /// Whether statuses are kept, see [`ApiState::statuses`].
    pub keep_status: bool,
    /// How long things take.
    pub timing: Timing,
}

impl Config {
    /// Everything from `server`.
    pub fn new(server: ApiServer) -> Self {
        Self {
            server,
            secret_namespaces: Vec::new(),
            pods: None,
            keep_status: false,
            timing: Timing::default(),
        }
    }

    /// What is watched.
    fn scopes(&self) -> Vec<Scope> {
        let scopes_of = |kind| {
            let namespaces = match kind {
                Kind::Secret if !self.secret_namespaces.is_empty() => {
                    let mut namespaces = self.secret_namespaces.clone();
                    namespaces.sort();
                    namespaces.dedup();
                    namespaces.into_iter().map(Some).collect()
                }
                _ => vec![None],
            };
            let node = match (&self.pods, kind) {
                (Some(PodsOf::Node(node)), Kind::Pod) => Some(node.clone()),
                _ => None,
            };
            namespaces.into_iter().map(move |namespace| Scope { kind, namespace, node: node.clone() })
        };
        let is_read = |kind: &Kind| match (&self.pods, kind) {
            (None, kind) => !kind.is_of_pods(),
            (Some(PodsOf::Nobody), kind) => *kind != Kind::Pod,
            (Some(PodsOf::Node(_)), _) => true,
        };
        Kind::ALL.into_iter().filter(is_read).flat_map(scopes_of).collect()
    }
}

/// Whose Pods are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodsOf {
    /// Nobody's: the objects that agents write about pods are enough.
    Nobody,
    /// Those of this node.
    Node(String),
}

/// How long things take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// The first wait after a failure; each next one is twice as long.
    pub first_retry: Duration,
    /// The longest wait after a failure.
    pub longest_retry: Duration,
    /// A new list, after the history was lost, is asked for within so long.
    pub relist_within: Duration,
    /// The first wait before a kind is looked for that the cluster does not have.
    pub absent_first: Duration,
    /// The longest such wait.
    pub absent_longest: Duration,
    /// How long an answer may take to begin, and a streamed list to go on.
    pub answer_within: Duration,
    /// How long a watch lasts, in seconds, before it is asked for anew.
    pub watch_seconds: u32,
    /// How long changes are gathered.
    pub gather: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            first_retry: Duration::from_millis(250),
            longest_retry: Duration::from_secs(30),
            relist_within: Duration::from_secs(2),
            absent_first: Duration::from_secs(10),
            absent_longest: Duration::from_secs(60),
            answer_within: Duration::from_secs(15),
            watch_seconds: 290,
            gather: Duration::from_millis(2),
        }
    }
}

/// Objects of a cluster, followed. Dropping it stops all tasks.
#[derive(Debug)]
pub struct Reflection {
    state: watch::Receiver<Arc<ApiState>>,
    _tasks: JoinSet<()>,
}

impl Reflection {
    /// Begins to watch, on tasks of the current runtime. The first state has revision 0 and no object; an API
    /// server that cannot be reached is told in the state, and is tried again for ever.
    ///
    /// # Errors
    /// The access cannot be used: no server is named, or files of it cannot be read.
    pub async fn start(config: Config) -> Result<Self, AccessError> {
        let scopes = config.scopes();
        let shared = Arc::new(Shared {
            connection: Connection::new(config.server).await?,
            recovered: Notify::new(),
            installed: Notify::new(),
            timing: config.timing,
            keep_status: config.keep_status,
        });
        let (messages, inbox) = mpsc::channel(QUEUE);
        let mut tasks = JoinSet::new();
        for (index, scope) in scopes.iter().enumerate() {
            tasks.spawn(Reflector::new(scope.clone(), index, shared.clone(), messages.clone()).run());
        }
        let (keeper, state) = Keeper::new(scopes, shared);
        tasks.spawn(keeper.run(inbox));
        Ok(Self { state, _tasks: tasks })
    }

    /// The newest state, and notice of the next one.
    pub fn state(&self) -> watch::Receiver<Arc<ApiState>> {
        self.state.clone()
    }
}
