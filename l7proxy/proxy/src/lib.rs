//! The data path of the proxy.
//!
//! **In**: listening sockets, [`Snapshot`](mesh_l7proxy_config::Snapshot)s, sockets that keep a client's
//! address. **Out**: proxied HTTP, access log lines, metrics.
//! **Start reading** at [`DataPlane`], then `accept` for connections and `request` for requests.
//! **Tasks**: one thread a core with a runtime of its own; on it a task for each listening socket, for each
//! connection in either direction, and for each HTTP/2 stream and WebSocket, but none for an HTTP/1 request.

mod accept;
mod access_log;
mod body;
mod clock;
mod codec;
mod connection;
mod core;
mod descriptors;
mod failure;
mod forwarded;
mod head;
mod headers;
mod io;
mod metrics;
mod normalize;
mod plane;
mod proxy_protocol;
mod record;
mod reply;
mod request;
mod single;
mod upstream;

pub use access_log::AccessLogSink;
pub use plane::{DataPlane, DataPlaneConfig, UpstreamSockets};
pub use single::{EndpointAnswer, EndpointConnection, SingleThread};
