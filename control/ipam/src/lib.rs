//! The addresses of this node's pods: who has which, and which is next.
//!
//! In: the ranges that this node was given. Out: one address a family for each pod. Pure: no clock, no random
//! numbers, nothing kept on disk; whoever holds it claims at its start what the pods that live have. Start
//! reading in `node.rs`; `pool.rs` is one family of it.

mod node;
mod pool;

pub use node::{IpamError, NodeIpam};
pub use pool::{Pool, Usage};
