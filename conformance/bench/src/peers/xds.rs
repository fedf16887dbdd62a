//! The xDS server of one proxy, on a thread of its own.

use std::path::Path;
use std::sync::mpsc;
use std::thread;

use anyhow::Context;
use mesh_xds::server::{ResourceCache, Server, ServerConfig};
use mesh_xds_proto::route::RouteConfiguration;
use tokio::sync::oneshot;

use crate::resources::Fixed;

/// Serves until dropped.
pub(crate) struct ControlPlane {
    cache: ResourceCache,
    fixed: Fixed,
    _stop: oneshot::Sender<()>,
}

impl ControlPlane {
    /// Serves `fixed` with `table` on a unix socket.
    pub(super) fn start(socket: &Path, fixed: Fixed, table: &RouteConfiguration) -> anyhow::Result<Self> {
        let cache = ResourceCache::default();
        cache.publish(fixed.with(table));
        let (stop, stopped) = oneshot::channel();
        let (bound, wait) = mpsc::channel();
        let (socket, served) = (socket.to_owned(), cache.clone());
        let body = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let server = Server::bind(ServerConfig::new(socket), served)?;
                // Whoever waited has gone only with the whole benchmark.
                let _ = bound.send(());
                server.run(async { drop(stopped.await) }).await?;
                anyhow::Ok(())
            })
        };
        let thread = thread::Builder::new().name("xds".to_owned()).spawn(body)?;
        if wait.recv().is_err() {
            let ended = thread.join().map_err(|_| anyhow::anyhow!("the xDS server's thread panicked"))?;
            ended.context("the xDS server does not start")?;
        }
        Ok(Self { cache, fixed, _stop: stop })
    }

    /// The resources with this table, ready to be published.
    pub(crate) fn prepare(&self, table: &RouteConfiguration) -> Change {
        Change { cache: self.cache.clone(), set: self.fixed.with(table) }
    }
}

/// A set that waits to be published.
pub(crate) struct Change {
    cache: ResourceCache,
    set: mesh_xds::server::ResourceSet,
}

impl Change {
    /// From now on this is served.
    pub(crate) fn publish(self) {
        self.cache.publish(self.set);
    }
}
