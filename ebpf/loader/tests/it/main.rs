//! The programs in a real kernel: packets by BPF_PROG_TEST_RUN, connections through network namespaces.
//!
//! Needs root and the object file (`cargo xtask bpf`, or `MILLRACE_BPF_OBJECT`). Every test is a node of its
//! own: a network namespace and a mount namespace with a BPF file system, both gone with its thread, and a
//! cgroup for that thread alone.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod deliver;
mod events;
mod frontends;
mod harness;
mod ledger;
mod lifecycle;
mod masquerade;
mod origin;
mod packet;
mod packets;
mod port_clash;
mod redirect;
mod sockets;
mod tunnel;
