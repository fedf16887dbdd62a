//! The data path without threads and listening sockets, for who brings the streams: tests and fuzz targets.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use mesh_l7proxy_config::Snapshot;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::accept;
use crate::access_log::AccessLog;
use crate::core::{Core, Held};
use crate::metrics::Registry;
use crate::plane::UpstreamSockets;

/// What one data thread is, on the caller's thread. Access log lines are dropped; pools end with it.
pub struct SingleThread {
    core: Rc<Core>,
    registry: Arc<Registry>,
}

impl SingleThread {
    /// A data path with a configuration.
    pub fn new(snapshot: Arc<Snapshot>, sockets: Arc<dyn UpstreamSockets>) -> Self {
        let registry = Arc::new(Registry::new(1));
        let core = Core::new(0, registry.clone(), AccessLog::closed(), sockets);
        core.take(snapshot);
        Self { core, registry }
    }

    /// Serves one connection as if a listener's socket had accepted it. `stream` may be any connected stream
    /// socket, also a Unix one: nothing is asked of it but bytes. Must run on a `LocalSet` of a runtime with
    /// I/O and time.
    ///
    /// # Errors
    /// The connection broke before its protocol was known, or there is no such listener.
    pub async fn serve(
        &self,
        listener: &str,
        stream: TcpStream,
        (peer, local): (SocketAddr, SocketAddr),
    ) -> io::Result<()> {
        let (_draining, draining) = watch::channel(false);
        let held = Held::new(&self.core);
        accept::serve(self.core.clone(), held, listener, stream, (peer, local), draining).await
    }

    /// The counters, as [`DataPlane::stats`](crate::DataPlane::stats) gives them.
    pub fn stats(&self) -> Value {
        self.registry.json()
    }
}
