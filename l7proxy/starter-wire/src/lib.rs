//! The words which the proxy's starter exchanges with its workers, the node agent and `l7proxy status`.
//!
//! In and out: datagrams on a Unix `SOCK_SEQPACKET` socket, each one JSON message of at most
//! [`MAX_MESSAGE`] bytes, with up to [`MAX_DESCRIPTORS`] file descriptors beside it (`SCM_RIGHTS`).
//! JSON, because both ends are on one node, messages are rare (one for each listener, one for each
//! upstream connection that keeps its client's address), and `strace` then shows what was said.
//!
//! Start reading at [`Request`], which says who may ask for what; [`StarterClient`] is what the
//! agent and the command line call. Nothing here spawns a task or needs an async runtime; the
//! worker wraps the same [`Channel`] in its own event loop.

mod channel;
mod client;
mod message;
mod run_dir;
mod sealed;

pub use channel::{Channel, MAX_DESCRIPTORS, MAX_MESSAGE, Received};
pub use client::{Inheritance, OpenListener, StarterClient, WireError};
pub use message::{
    Estate, Event, FromStarter, ListenSpec, ListenerInfo, Refusal, RefusalKind, Request, Response, Role,
    StarterStatus, ToStarter, Welcome, WorkerState, WorkerStatus,
};
pub use run_dir::default_run_dir;
pub use sealed::{MAX_STORED, SealedError, read_sealed, sealed_memfd, verify_sealed};
