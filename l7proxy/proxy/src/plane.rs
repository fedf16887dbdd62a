//! The handle the daemon holds.

use std::future::Future;
use std::io;
use std::net::{IpAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use mesh_l7proxy_config::{Bind, Snapshot};

/// Where the data path gets sockets that may speak with a client's address.
pub trait UpstreamSockets: Send + Sync + 'static {
    /// A fresh TCP socket with `IP_TRANSPARENT`, its mark and `IP_BIND_ADDRESS_NO_PORT` set, bound to
    /// `local` with port zero, not connected.
    fn transparent(&self, local: IpAddr) -> Pin<Box<dyn Future<Output = io::Result<OwnedFd>> + Send>>;
}

/// Where access log lines go.
pub struct AccessLogSink(Box<dyn io::Write + Send>);

impl AccessLogSink {
    /// Lines are written by a thread of their own, in batches, each line whole.
    pub fn new(writer: impl io::Write + Send + 'static) -> Self {
        Self(Box::new(writer))
    }
}

/// What a data plane needs.
pub struct DataPlaneConfig {
    /// Data threads. At least one.
    pub threads: usize,
    /// For listeners that keep the client's address.
    pub upstream_sockets: Arc<dyn UpstreamSockets>,
    /// Where access log lines go.
    pub access_log: AccessLogSink,
}

/// The running data threads.
pub struct DataPlane {}

impl DataPlane {
    /// Starts the threads, with an empty configuration and no listeners.
    pub fn start(_config: DataPlaneConfig) -> io::Result<Self> {
        Ok(Self {})
    }

    /// Makes every thread use `snapshot` for requests that start from now on.
    pub fn publish(&self, _snapshot: Arc<Snapshot>) {}

    /// Gives a listening socket to a thread. Non-blocking mode is set here.
    pub fn add_listener(&self, _thread: usize, _bind: Bind, _listener: TcpListener) {}

    /// Closes the sockets of `bind` on all threads; its connections finish their requests and close.
    pub fn remove_listener(&self, _bind: &Bind) {}

    /// Stops accepting, tells connections to end (GOAWAY, `connection: close`), resolves when the last one
    /// has gone or at `deadline`, when the rest is cut.
    pub fn drain(&self, _deadline: Duration) -> impl Future<Output = ()> + Send + 'static {
        async {}
    }

    /// Appends all metrics in the OpenMetrics text format, with Envoy's names.
    pub fn metrics(&self, _out: &mut String) {}

    /// Clusters and endpoints with their counters.
    pub fn clusters(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    /// Listeners and their sockets.
    pub fn listeners(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    /// The same numbers as [`DataPlane::metrics`], as Envoy's `/stats?format=json`.
    pub fn stats(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
}
