//! The harness on itself: a cluster does what tests will rely on, and leaves nothing behind.
//!
//! `cargo xtask cluster e2e` runs these; by themselves they need `MILLRACE_CLUSTER_PROGRAMS`.

mod chart;
mod crash;
mod faults;
mod fixture;
mod healing;
mod manifests;
mod mesh;
mod millrace;
mod own;
mod private;
mod proxies;
mod ranges;
mod served;
mod shared;
