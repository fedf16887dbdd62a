//! The data path of the proxy.
//!
//! **In**: listening sockets, [`mesh_l7proxy_config::Snapshot`]s. **Out**: proxied HTTP, access log lines, metrics.
//! **Start reading** at [`DataPlane`]. **Tasks**: one thread a core, each with its own runtime.

mod plane;

pub use plane::{AccessLogSink, DataPlane, DataPlaneConfig, UpstreamSockets};
