//! The whole product on real parts: an agent and a proxy on a node with pods and a client outside.
//!
//! In: programs, kernel object, manifests. Out: a running [`Stack`] (as root, redirecting) or [`PlainStack`]
//! (without), that tests and the demo send traffic through and ask questions of, taken down when dropped.
//! Start with `stack.rs`; what breaks while traffic goes on is in [`faults`]. Threads: those of the echo backends.

mod cgroup;
pub mod faults;
mod manifest;
mod plain;
mod stack;

pub use plain::{PlainOptions, PlainStack};
pub use stack::{BACKEND_PORT, Backend, Stack, StackOptions};
