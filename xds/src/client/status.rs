//! What the rest of the process may know about the connection.

use std::path::PathBuf;

use tokio::time::Instant;

/// Where the server is and who asks.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// The server's unix socket.
    pub socket: PathBuf,
    /// `Node.id`: one proxy process.
    pub node_id: String,
    /// `Node.cluster`: the group of proxies it belongs to.
    pub node_cluster: String,
}

/// Whether there is a server to hear from, and since when.
#[derive(Debug, Clone)]
pub enum ConnectionStatus {
    /// Responses arrive.
    Connected {
        /// When the stream was opened.
        since: Instant,
    },
    /// The last good configuration stays in force.
    Disconnected {
        /// When the last stream ended, or the client was made.
        since: Instant,
        /// Attempts since then.
        attempts: u32,
        /// Why the last stream or attempt ended; empty before the first.
        error: String,
    },
}

impl ConnectionStatus {
    /// Whether a stream is open.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        matches!(self, Self::Connected { .. })
    }
}
