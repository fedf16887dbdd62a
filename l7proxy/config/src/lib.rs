//! Envoy resources to compiled, immutable proxy configuration.
//!
//! **In**: resources as they come over delta ADS ([`NamedResource`]), a type at a time.
//! **Out**: a [`Snapshot`] that the data path reads with one pointer load a request, the sockets to
//! hold ([`Bind`]), and what was refused, by name and field path ([`Rejected`]).
//! **Start reading** at [`ConfigStore::apply`]. **Tasks**: none.

mod resource;
mod snapshot;
mod store;

pub use resource::{Bind, NamedResource, Rejected};
pub use snapshot::Snapshot;
pub use store::{ConfigStore, ImportError};
