//! What is said. Descriptors travel beside a message; each variant says which.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A listener to open: one bound and listening TCP socket, or a group that shares one port.
///
/// A listener is known by its address, or, when the port is 0, by name and address: asking twice
/// for the same one gives the same sockets, which is how a new worker takes over from a dead one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenSpec {
    /// The xDS listener that wants it. At most 256 bytes.
    pub name: String,
    /// Where to bind. Port 0 lets the kernel choose once; the choice is kept over worker restarts.
    pub address: SocketAddr,
    /// Set `IP_TRANSPARENT` (`IPV6_TRANSPARENT`), so that the socket takes connections to any address.
    pub transparent: bool,
    /// How many sockets: 1 is a plain socket, more are a `SO_REUSEPORT` group. At most [`crate::MAX_DESCRIPTORS`].
    pub sockets: u16,
    /// Connections that wait while no worker accepts. The kernel caps it at `net.core.somaxconn`.
    pub backlog: u32,
}

/// An open listener as the starter lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerInfo {
    /// What was asked for.
    pub spec: ListenSpec,
    /// Where it is bound, with the port that the kernel chose.
    pub local: SocketAddr,
}

/// Who is at the other end of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The agent or the command line, on `starter.sock`; checked by `SO_PEERCRED`.
    Operator,
    /// A worker, on the socket pair that it inherited.
    Worker,
}

/// A question to the starter. Each gets exactly one [`FromStarter::Reply`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Open a listener, or get the sockets of an open one again. Reply: [`Response::Opened`] and its sockets.
    Listen(ListenSpec),
    /// List listeners from index `from` on. Reply: [`Response::Listeners`] and their sockets in order.
    Listeners {
        /// 0, or `next` of the reply before.
        from: usize,
    },
    /// Close the starter's sockets of the listener at this address. Reply: [`Response::Closed`].
    Close {
        /// The listener's name, which tells listeners on port 0 apart.
        name: String,
        /// The address as asked for or as bound.
        address: SocketAddr,
    },
    /// How the starter and its workers do. Operators only.
    Status,
    /// Start a worker from this binary on the same sockets, then drain the old one. Operators only.
    /// The reply comes when the new worker serves, or when it failed and the old one serves on.
    Upgrade {
        /// An absolute path to an executable `l7proxy`.
        binary: PathBuf,
        /// How long the new worker may take to serve.
        ready_within_ms: u64,
    },
    /// Drain the worker and exit, as SIGTERM does. Operators only.
    Shutdown,
    /// Another starter is about to take this one's place; from now on listeners neither open nor close. Reply:
    /// [`Response::Estate`], when the worker has stored its newest configuration. The asker gives up by hanging up.
    /// Operators only.
    HandOver,
    /// The starter that asked to be handed over to serves: drain the worker, let go of everything. Operators only.
    TakenOver,
    /// First words of a worker. Reply: [`Response::Welcome`] and the admin listener.
    Hello {
        /// The worker's version.
        version: String,
    },
    /// The worker accepts connections. Workers only.
    Ready,
    /// Keep the configuration in the sealed memfd that comes along. Workers only.
    StoreConfig,
    /// Reply: [`Response::Config`], with the memfd when there is one. Workers only.
    LoadConfig,
    /// A fresh TCP socket, bound to this address with `IP_TRANSPARENT`, ready to connect. Workers only.
    UpstreamSocket {
        /// The source address to use.
        local: IpAddr,
        /// `SO_MARK`, where the starter may set it; 0 for none.
        mark: u32,
    },
}

impl Request {
    /// Whether this role may ask. A worker parses what strangers send, so it may not name binaries to run.
    pub fn permitted(&self, role: Role) -> bool {
        match self {
            Request::Listen(_) | Request::Listeners { .. } | Request::Close { .. } => true,
            Request::Status
            | Request::Upgrade { .. }
            | Request::Shutdown
            | Request::HandOver
            | Request::TakenOver => role == Role::Operator,
            Request::Hello { .. }
            | Request::Ready
            | Request::StoreConfig
            | Request::LoadConfig
            | Request::UpstreamSocket { .. } => role == Role::Worker,
        }
    }

    /// The request's name for logs and refusals.
    pub fn name(&self) -> &'static str {
        match self {
            Request::Listen(_) => "listen",
            Request::Listeners { .. } => "listeners",
            Request::Close { .. } => "close",
            Request::Status => "status",
            Request::Upgrade { .. } => "upgrade",
            Request::Shutdown => "shutdown",
            Request::HandOver => "hand_over",
            Request::TakenOver => "taken_over",
            Request::Hello { .. } => "hello",
            Request::Ready => "ready",
            Request::StoreConfig => "store_config",
            Request::LoadConfig => "load_config",
            Request::UpstreamSocket { .. } => "upstream_socket",
        }
    }
}

/// A request with the number that its reply repeats.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToStarter {
    /// Chosen by the asker, unique among its open requests.
    pub id: u32,
    /// What is asked.
    pub request: Request,
}

/// The answer to a [`Request`] that was granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// The listener is open. With `spec.sockets` descriptors.
    Opened(ListenerInfo),
    /// A page of listeners. With the sum of their `spec.sockets` descriptors, in order.
    Listeners {
        /// The page, in the order of opening.
        listeners: Vec<ListenerInfo>,
        /// Where the next page starts, when there is one.
        next: Option<usize>,
    },
    /// Whether such a listener was open.
    Closed {
        /// False when there was none.
        existed: bool,
    },
    /// See [`StarterStatus`].
    Status(Box<StarterStatus>),
    /// The worker of this process id serves now; the old one drains.
    Upgraded {
        /// The new worker.
        pid: u32,
    },
    /// The starter drains its worker and exits.
    ShuttingDown,
    /// See [`Estate`]. With the locked file, the control socket and the admin listener, and the stored configuration
    /// when there is one.
    Estate(Estate),
    /// See [`Welcome`]. With the admin listener (a Unix stream socket that listens).
    Welcome(Welcome),
    /// Taken note of.
    Noted,
    /// The stored configuration. With one sealed memfd, when `bytes` is there.
    Config {
        /// Its size.
        bytes: Option<u64>,
    },
    /// With one socket.
    UpstreamSocket,
}

/// What a starter leaves to the one that takes its place, besides its listeners.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Estate {
    /// The last worker's: the next one's counts on.
    pub generation: u64,
    /// As in [`StarterStatus::restarts`].
    pub restarts: u64,
    /// As in [`StarterStatus::worker_threads`]: listeners have a socket for each.
    pub worker_threads: u16,
    /// As in [`StarterStatus::upstream_ports`]: kernel programs know these.
    pub upstream_ports: (u16, u16),
    /// As in [`StarterStatus::stored_config_bytes`].
    pub stored_config_bytes: Option<u64>,
}

/// What a worker learns first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// Counts workers since the starter began, from 1.
    pub generation: u64,
    /// Another worker still serves and will be drained once this one is ready.
    pub takeover: bool,
    /// Workers started again after one died.
    pub restarts: u64,
}

/// Unasked words of the starter to a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Store the newest configuration at once: a successor is about to start from it.
    Checkpoint,
    /// Accept nothing more, finish what is open within this time, exit 0.
    Drain {
        /// How long connections may take to finish.
        deadline_ms: u64,
    },
}

/// Everything the starter says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromStarter {
    /// The answer to one request.
    Reply {
        /// The request's number.
        id: u32,
        /// Granted or refused.
        outcome: Result<Response, Refusal>,
    },
    /// To workers only.
    Event(Event),
}

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// For programs.
    pub kind: RefusalKind,
    /// For people: what was asked, what failed, how to put it right.
    pub message: String,
}

/// The kinds of refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalKind {
    /// Another socket holds the address.
    AddressInUse,
    /// The node has no such address.
    AddressNotAvailable,
    /// A capability is missing.
    NotPermitted,
    /// The message or a field of it is out of bounds.
    Invalid,
    /// The new worker of an upgrade did not get to serve.
    UpgradeFailed,
    /// An upgrade is under way, or the starter is going away.
    Busy,
    /// The kernel refused for another reason.
    Failed,
}

/// What a worker is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerState {
    /// Started, not accepting yet.
    Starting,
    /// Accepting connections.
    Serving,
    /// Told to finish.
    Draining,
}

/// One worker process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// Its process id, in the starter's pid namespace.
    pub pid: u32,
    /// As in [`Welcome::generation`].
    pub generation: u64,
    /// What it is doing.
    pub state: WorkerState,
    /// Its version, once it has said hello.
    pub version: Option<String>,
    /// What it runs.
    pub binary: PathBuf,
    /// Seconds since it was started.
    pub uptime_s: u64,
}

/// How the starter does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StarterStatus {
    /// The starter's version.
    pub version: String,
    /// The starter's process id.
    pub pid: u32,
    /// What it was told to be called.
    #[serde(default)]
    pub instance: Option<String>,
    /// Seconds since it began.
    pub uptime_s: u64,
    /// Data threads in each worker.
    pub worker_threads: u16,
    /// First and last source port of connections that keep a client's address; a starter of before says none.
    #[serde(default)]
    pub upstream_ports: Option<(u16, u16)>,
    /// Living workers, oldest first.
    pub workers: Vec<WorkerStatus>,
    /// Workers started again after one died.
    pub restarts: u64,
    /// How the last dead worker ended, in words.
    pub last_exit: Option<String>,
    /// Open listeners.
    pub listeners: usize,
    /// Size of the stored configuration, when there is one.
    pub stored_config_bytes: Option<u64>,
    /// The starter's effective capabilities, by name.
    pub capabilities: Vec<String>,
}
