//! Kubernetes objects from an API server: what `mesh-agent` reads in a cluster.
//!
//! In come lists and watches of an API server; out goes an [`ApiState`] behind a `tokio::sync::watch`: the typed
//! objects, checked as those of a folder are, what is wrong with any of them, and how each watch does. One bad
//! object never takes another along; while the server is away the last state stays. Until everything was read once
//! the state has revision 0, and nobody may prune by it.
//!
//! The way back: [`StatusWriter`] puts statuses into objects, for the one process that holds the [`Lease`];
//! [`ObjectWriter`] writes objects that are ours as a whole.
//!
//! Start reading at [`Reflection::start`], then `reflector.rs` (one watch and how it goes on after a failure) and
//! `keeper.rs` (all of them merged). The crate spawns one task a watch and one that merges, all of them ended by
//! dropping the [`Reflection`], and one for a [`Lease`].

mod access;
mod backoff;
mod body;
mod connection;
mod failure;
mod item;
mod keeper;
mod lease;
mod objects;
mod reader;
mod reflector;
mod rules;
mod scope;
mod start;
mod state;
mod status;
mod wire;
mod writer;

pub use access::{AccessError, ApiServer};
pub use failure::{Cause, Failure};
pub use lease::{Lease, LeaseConfig};
pub use objects::{ObjectWriter, Part};
pub use reader::Reader;
pub use rules::{Needs, Reach, Role, Rule, rules};
pub use scope::Scope;
pub use start::{Config, PodsOf, Reflection, Timing};
pub use state::{ApiState, Phase, Problem, WatchState, WrittenStatus};
pub use writer::{NotWritten, StatusWriter, Written};
