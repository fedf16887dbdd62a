//! New connections to endpoints.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use mesh_l7proxy_config::cluster::ClusterSettings;
use tokio::net::{TcpSocket, TcpStream};

use super::{CoreCluster, PoolKey};
use crate::core::Core;
use crate::failure::Failure;
use crate::metrics::ClusterStats;

/// Source ports that are tried for one connection.
const SOURCE_PORT_TRIES: u32 = 16;

/// An open connection; counted until dropped. Does not hold the cluster, whose pools hold the connection:
/// neither would go when the cluster is removed.
pub(crate) struct Open {
    stats: Arc<ClusterStats>,
    thread: usize,
}

impl Open {
    fn new(cluster: &CoreCluster) -> Self {
        cluster.stats.connections.fetch_add(1, Ordering::Relaxed);
        cluster.counters().connections_opened.add(1);
        Self { stats: cluster.stats.clone(), thread: cluster.thread }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.stats.connections.fetch_sub(1, Ordering::Relaxed);
        self.stats.counters.of(self.thread).connections_closed.add(1);
    }
}

/// Opens a connection within the cluster's time and limit.
pub(super) async fn connect(
    cluster: &CoreCluster,
    core: &Core,
    settings: &ClusterSettings,
    key: PoolKey,
) -> Result<(TcpStream, Open), Failure> {
    let counters = cluster.counters();
    if cluster.stats.connections.load(Ordering::Relaxed) >= settings.limits.connections {
        counters.connection_overflow.add(1);
        return Err(Failure::Overflow);
    }
    let open = Open::new(cluster);
    match tokio::time::timeout(settings.connect_timeout, dial(core, key)).await {
        Ok(Ok(stream)) => Ok((stream, open)),
        Ok(Err(error)) => {
            counters.connect_failures.add(1);
            tracing::debug!(cluster = &*cluster.name, endpoint = %key.endpoint, %error, "cannot connect");
            Err(Failure::ConnectFailed)
        }
        Err(_) => {
            counters.connect_failures.add(1);
            counters.connect_timeouts.add(1);
            Err(Failure::ConnectTimeout)
        }
    }
}

async fn dial(core: &Core, key: PoolKey) -> io::Result<TcpStream> {
    let stream = match key.source {
        Some(source) => dial_from(core, source, key.endpoint).await?,
        None => {
            let socket = match key.endpoint {
                SocketAddr::V4(_) => TcpSocket::new_v4()?,
                SocketAddr::V6(_) => TcpSocket::new_v6()?,
            };
            socket.connect(key.endpoint).await?
        }
    };
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Connects with an address that the node need not own, which takes a privilege that this process does not
/// have; whoever started it does, and chooses the port. That a port is in use towards this endpoint, by
/// another connection of ours or by the owner of the address, shows only now: then another one is asked for.
async fn dial_from(core: &Core, source: IpAddr, endpoint: SocketAddr) -> io::Result<TcpStream> {
    let mut tries = 1;
    loop {
        let socket = std::net::TcpStream::from(core.sockets.transparent(source).await?);
        socket.set_nonblocking(true)?;
        match TcpSocket::from_std_stream(socket).connect(endpoint).await {
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable && tries < SOURCE_PORT_TRIES => {
                tries += 1;
            }
            outcome => return outcome,
        }
    }
}
