//! Parts of the data path without threads and listening sockets, for who brings the streams: tests and fuzz
//! targets.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body::Body;
use mesh_l7proxy_config::Snapshot;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::accept;
use crate::access_log::AccessLog;
use crate::body::{Progress, RequestBody};
use crate::codec::{Keep, RequestHead, Sender, handshake_http1};
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

/// One HTTP/1 connection to an endpoint.
pub struct EndpointConnection(Sender);

/// What an endpoint answered.
#[derive(Debug)]
pub struct EndpointAnswer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers, those included that concern the connection alone.
    pub headers: HeaderMap,
    /// As much of the body as came.
    pub body: Vec<u8>,
    /// What came behind the body.
    pub trailers: Option<HeaderMap>,
    /// Whether the body came to its end.
    pub is_whole: bool,
}

impl EndpointConnection {
    /// Speaks HTTP/1 on any connected stream socket.
    pub fn new(stream: TcpStream) -> Self {
        Self(handshake_http1(stream, ()))
    }

    /// Sends a request without a body and reads the answer to its end. None: there is none, or it is refused.
    /// Must run on a `LocalSet` of a runtime with I/O.
    pub async fn ask(&mut self, method: &Method) -> Option<EndpointAnswer> {
        let progress = Progress::new(Rc::new(Cell::new(0)), Instant::now(), true);
        let head = RequestHead {
            method,
            scheme: &Scheme::HTTP,
            authority: HeaderValue::from_static("endpoint.test"),
            path_and_query: &PathAndQuery::from_static("/"),
            headers: &mut HeaderMap::new(),
            keep: Keep::Never,
        };
        let response = self.0.exchange(head, RequestBody::empty(progress)).await.ok()?;
        let (head, mut incoming) = response.into_parts();
        let mut answer = EndpointAnswer {
            status: head.status,
            headers: head.headers,
            body: Vec::new(),
            trailers: None,
            is_whole: true,
        };
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut incoming).poll_frame(cx)).await {
            let Ok(frame) = frame else {
                answer.is_whole = false;
                break;
            };
            match frame.into_data() {
                Ok(data) => answer.body.extend_from_slice(&data),
                Err(frame) => answer.trailers = frame.into_trailers().ok(),
            }
        }
        Some(answer)
    }

    /// Whether another request can begin now.
    pub fn is_ready(&self) -> bool {
        self.0.is_ready()
    }
}
