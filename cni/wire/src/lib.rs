//! What the CNI plugin and the agent say to each other, and the types of the CNI specification that both need.
//!
//! One request and one answer on a Unix stream socket, each one JSON document that ends with its half of the
//! stream; the descriptors of a request come beside its first byte (`SCM_RIGHTS`). All decisions are the
//! agent's: the plugin passes on what the runtime gave it, with a netlink socket inside of the pod's network
//! namespace, so that the agent needs no right to enter one.
//!
//! Follows the CNI specification 1.1.0. Start reading at [`Request`].

mod outcome;
mod request;
mod socket;

pub use outcome::{Code, Failure, Interface, Ip, Route, Success};
pub use request::{Attachment, Command, Request};
pub use socket::{CallError, DESCRIPTORS, MAX_DOCUMENT, Received, answer, call, receive};

/// Versions of the specification whose configurations are taken and whose results are given, oldest first.
pub const VERSIONS: &[&str] = &["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// The agent's socket for the plugin, below its run directory.
pub const SOCKET: &str = "cni.sock";
