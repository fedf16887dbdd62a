//! Kubernetes objects from a watched folder: what `mesh-agent --manifests DIR` reads.
//!
//! In come the YAML and JSON files of a folder; out goes a [`FolderState`] behind a
//! `tokio::sync::watch`: the typed objects and every problem with file, line, object, field and fix. One
//! bad document never takes another along, and what was good before stays served until its owner has mended
//! or removed it.
//!
//! Start reading at [`Watcher::start`], then `state.rs` (which files changed) and `read.rs` (a file's bytes
//! to objects; the rules of the last good state). The crate spawns one thread, `manifests`, and the thread
//! of the `notify` crate that waits for the kernel's events; both end with the [`Watcher`].

mod decode;
mod document;
mod identify;
mod listing;
mod pending;
mod problem;
mod read;
mod report;
mod state;
mod store;
mod watch;
mod yaml;

pub use pending::Timing;
pub use problem::Problem;
pub use state::FolderState;
pub use store::Store;
pub use watch::{Config, StartError, Watcher, read_once};
