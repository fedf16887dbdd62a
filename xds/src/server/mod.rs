//! ADS over a unix socket, delta and state of the world: what the agent publishes, every proxy of the
//! node gets.
//!
//! **In**: [`ResourceCache::publish`], requests. **Out**: responses with what differs,
//! [`ServerHandle`] with acknowledgements and refusals. **Start reading** at `session.rs`: the order
//! of responses; `subscription.rs`: one type. **Tasks**: those of tonic, one for each connection and
//! stream, all ended when [`Server::run`] returns.
//!
//! The server remembers nothing of a client whose stream has ended: a client that reconnects tells
//! what it has, and versions are hashes of content, so even a restarted server sends it only what
//! differs.

mod cache;
mod dialogue;
mod encoding;
mod listen;
pub(crate) mod rejection;
mod service;
mod session;
mod status;
mod subscription;

use std::{path::PathBuf, sync::Arc, time::Duration};

use mesh_xds_proto::discovery::aggregated_discovery_service_server::AggregatedDiscoveryServiceServer;
use tokio::{
    net::UnixListener,
    sync::{Semaphore, watch},
};
use tonic::transport;

pub use cache::{Published, Resource, ResourceCache, ResourceSet, Resources, Snapshot};
pub use dialogue::Dialogue;
pub use listen::{ListenError, SocketFile, bind};
pub use session::{Protocol, SessionLimits, TooManyNames};
pub use status::{ClientStatus, Connection, Progress, Rejection, ServerHandle, TypeStatus};
pub use subscription::Nack;

use self::service::Service;

#[cfg(test)]
mod tests;

/// How long open streams have to end when the server stops.
const DRAIN: Duration = Duration::from_secs(1);

/// Where and for whom to serve.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// The socket's path. Its folder is made with mode 0700 if it is missing.
    pub socket: PathBuf,
    /// The user the socket file is given to, if not this process's. Needs CAP_CHOWN.
    pub owner: Option<u32>,
    /// Users that may connect besides root and this process's own.
    pub allowed_uids: Vec<u32>,
    /// Connections at a time; more are closed when they come. A proxy has one, with one stream.
    pub max_connections: usize,
    /// Streams at a time, over all connections.
    pub max_streams: usize,
    /// The largest request, in bytes.
    pub max_request_bytes: usize,
    /// Responses are cut here, in bytes; a single resource may be larger.
    pub max_response_bytes: usize,
    /// Names that a client may ask for one by one, of each type.
    pub max_names_per_type: usize,
}

impl ServerConfig {
    /// The defaults: own user and root, 64 connections and streams, requests of 4 MiB, responses of 1 MiB.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
            owner: None,
            allowed_uids: Vec::new(),
            max_connections: 64,
            max_streams: 64,
            max_request_bytes: 4 << 20,
            max_response_bytes: 1 << 20,
            max_names_per_type: 100_000,
        }
    }
}

/// A server whose socket is bound; clients may connect, and are answered once it runs.
#[derive(Debug)]
pub struct Server {
    config: ServerConfig,
    listener: UnixListener,
    file: SocketFile,
    cache: ResourceCache,
    handle: ServerHandle,
}

impl Server {
    /// Binds the socket, in place of a stale one. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub fn bind(config: ServerConfig, cache: ResourceCache) -> Result<Self, ListenError> {
        let (listener, file) = bind(&config.socket, config.owner)?;
        Ok(Self { config, listener, file, cache, handle: ServerHandle::default() })
    }

    /// What the rest of the agent asks the running server.
    #[must_use]
    pub fn handle(&self) -> ServerHandle {
        self.handle.clone()
    }

    /// Serves until `shutdown` is ready, then ends the streams and removes the socket file. May be
    /// dropped at any time, which cuts the streams.
    ///
    /// # Errors
    /// The socket failed for good.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), transport::Error> {
        let Self { config, listener, file: _file, cache, handle } = self;
        let (stop, stopping) = watch::channel(());
        let service = AggregatedDiscoveryServiceServer::new(Service {
            cache,
            handle,
            limits: SessionLimits {
                response_bytes: config.max_response_bytes,
                names_per_type: config.max_names_per_type,
            },
            streams: Arc::new(Semaphore::new(config.max_streams)),
            stopping,
        })
        .max_decoding_message_size(config.max_request_bytes)
        .max_encoding_message_size(usize::MAX);
        let mut allowed = config.allowed_uids;
        allowed.extend([0, own_uid()]);
        let (drained, mut draining) = watch::channel(false);
        let serving = transport::Server::builder()
            .max_concurrent_streams(4)
            .add_service(service)
            .serve_with_incoming_shutdown(
                listen::admitted(listener, allowed, config.max_connections),
                async move {
                    shutdown.await;
                    drop(stop);
                    drained.send_replace(true);
                },
            );
        tokio::select! {
            served = serving => served,
            () = async {
                let _ = draining.wait_for(|draining| *draining).await;
                tokio::time::sleep(DRAIN).await;
            } => Ok(()),
        }
    }
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}
