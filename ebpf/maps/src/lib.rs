//! Typed handles on the datapath's pinned maps.
//!
//! In: the folder where the loader pinned the maps. Out: [`PinnedMaps`], which implements
//! [`LoadBalancerMaps`], the trait that control code is written against; [`MemoryMaps`] implements the same
//! trait with no kernel. [`MapsDump`] is a picture of all of them for people. Start with `table.rs`; the one
//! unsafe line is in `bridge.rs`. Every call is a system call on the calling thread; no task is spawned.

mod bridge;
mod dump;
mod error;
mod fake;
mod layout;
mod pinned;
mod table;

pub use dump::MapsDump;
pub use error::MapError;
pub use fake::MemoryMaps;
pub use layout::{MapKind, MapLayout, layouts, names};
pub use pinned::{ListenerPair, PinnedMaps};
pub use table::{LoadBalancerMaps, MapTable};
