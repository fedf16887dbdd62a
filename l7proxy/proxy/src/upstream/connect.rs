//! New connections to endpoints.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use mesh_l7proxy_config::cluster::ClusterSettings;
use tokio::net::{TcpSocket, TcpStream};

use super::{CoreCluster, PoolKey};
use crate::core::Core;
use crate::failure::Failure;

/// An open connection; counted until dropped.
pub(crate) struct Open(Rc<CoreCluster>);

impl Open {
    fn new(cluster: &Rc<CoreCluster>) -> Self {
        cluster.stats.connections.fetch_add(1, Ordering::Relaxed);
        cluster.counters().connections_opened.add(1);
        Self(cluster.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.stats.connections.fetch_sub(1, Ordering::Relaxed);
        self.0.counters().connections_closed.add(1);
    }
}

/// Opens a connection within the cluster's time and limit.
pub(super) async fn connect(
    cluster: &Rc<CoreCluster>,
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
    let socket = match key.source {
        // Needs a privilege that this process does not have; whoever started it does.
        Some(source) => {
            let socket = core.sockets.transparent(source).await?;
            let socket = std::net::TcpStream::from(socket);
            socket.set_nonblocking(true)?;
            TcpSocket::from_std_stream(socket)
        }
        None => match key.endpoint {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        },
    };
    let stream = socket.connect(key.endpoint).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
