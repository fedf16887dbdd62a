//! The addresses of this node's pods: who has which, and which is next.
//!
//! In: the ranges that this node was given. Out: one address a family for each pod. Pure: no clock, no random
//! numbers, nothing kept on disk; whoever holds it claims at its start what the pods that live have. Start
//! reading in `node.rs`; `pool.rs` is one family of it. For the operator `cluster_pool.rs` tells which blocks of the
//! cluster's ranges each node has, and `dynamic.rs` what a node says of its blocks.

mod cluster_pool;
mod dynamic;
mod node;
mod pool;

pub use cluster_pool::{ClusterRanges, Given, NodeBlocks, RangesError, give};
pub use dynamic::{Mark, Thresholds, marks};
pub use node::{IpamError, NodeIpam};
pub use pool::{Pool, Usage, without_overlaps};
