//! A real Kubernetes on one machine: etcd, the API server and its companions on the host, nodes with containerd
//! and kubelet in network and mount namespaces.
//!
//! In: programs that `cargo xtask cluster build` has put into the cache, a [`spec::Spec`]. Out: processes,
//! namespaces, devices, cgroups and a folder, all with the cluster's name in theirs, and [`cluster::down`], which
//! removes them from nothing but those names. Start reading in [`cluster`]. Threads: one for each node while
//! something is done on all of them; no tasks.

pub mod cgroup;
pub mod chart;
pub mod cluster;
pub mod dns;
pub mod e2e;
pub mod folder;
pub mod image;
pub mod node;
pub mod process;
pub mod programs;
pub mod spec;
pub mod status;

mod cni;
mod control_plane;
mod keys;
mod network;
mod rootfs;
mod settings;
