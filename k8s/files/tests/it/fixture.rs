//! A temporary folder, a watcher on it, and waiting for states.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mesh_k8s_files::{Config, FolderState, Watcher};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// Far more than any step takes; only a failing test waits as long.
const PATIENCE: Duration = Duration::from_secs(20);

/// A folder of manifests being watched.
pub(crate) struct Fixture {
    pub(crate) root: PathBuf,
    state: watch::Receiver<Arc<FolderState>>,
    _watcher: Watcher,
    runtime: Runtime,
    _dir: TempDir,
}

impl Fixture {
    /// Makes a folder, lets `fill` put files in, and watches `manifests` in it.
    pub(crate) fn new(fill: impl FnOnce(&Path)) -> Self {
        Self::with_config(fill, |_| {})
    }

    /// The same with other timing.
    pub(crate) fn with_config(fill: impl FnOnce(&Path), change: impl FnOnce(&mut Config)) -> Self {
        let dir = TempDir::new().unwrap();
        let root = dir.path().join("manifests");
        fs::create_dir(&root).unwrap();
        fill(&root);
        let mut config = Config::new(&root);
        // The rescan must not do the events' work in a test.
        config.timing.rescan = PATIENCE * 10;
        change(&mut config);
        let watcher = Watcher::start(config).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        Self { root, state: watcher.state(), _watcher: watcher, runtime, _dir: dir }
    }

    pub(crate) fn state(&self) -> Arc<FolderState> {
        Arc::clone(&self.state.borrow())
    }

    /// Waits for a state that `holds`.
    #[track_caller]
    pub(crate) fn wait(
        &mut self,
        what: &str,
        mut holds: impl FnMut(&FolderState) -> bool,
    ) -> Arc<FolderState> {
        let state = &mut self.state;
        let found = self.runtime.block_on(async {
            tokio::time::timeout(PATIENCE, state.wait_for(|state| holds(state)))
                .await
                .map(|s| s.unwrap().clone())
        });
        found.unwrap_or_else(|_| panic!("never: {what}\n{:#?}\n{:#?}", self.names(), self.state().problems))
    }

    /// Waits until exactly these objects are there.
    #[track_caller]
    pub(crate) fn wait_names(&mut self, expected: &[&str]) -> Arc<FolderState> {
        self.wait(&format!("{expected:?}"), |state| names(state) == expected)
    }

    /// Drops the watcher and gives what was left to listen to.
    pub(crate) fn stop(self) -> watch::Receiver<Arc<FolderState>> {
        self.state.clone()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        names(&self.state())
    }

    pub(crate) fn write(&self, file: &str, text: &str) {
        fs::write(self.root.join(file), text).unwrap();
    }
}

/// Kind and name of each object.
pub(crate) fn names(state: &FolderState) -> Vec<String> {
    state.objects.iter().map(|object| object.key().to_string()).collect()
}

/// A Service with this port.
pub(crate) fn service(name: &str, port: u16) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  ports:\n  - port: {port}\n")
}

/// The port of that Service.
pub(crate) fn port(state: &FolderState, name: &str) -> i32 {
    let name = mesh_model::NamespacedName::new("default", name);
    let service = &state.objects.services[&name].object;
    service.spec.as_ref().unwrap().ports.as_ref().unwrap()[0].port
}
