//! Envoy resources to compiled, immutable proxy configuration.
//!
//! **In**: resources as they come over delta ADS ([`NamedResource`]), a type at a time.
//! **Out**: a [`Snapshot`] that the data path reads with one pointer load a request, the sockets to
//! hold ([`Bind`]), and what was refused, by name and field path ([`Rejected`]).
//! **Start reading** at [`ConfigStore::apply`], then [`listener`], [`http_manager`], [`route`] and
//! [`cluster`] for what comes out. **Tasks**: none.

// Envoy marks fields as deprecated; the compilers name all of them, to take or to refuse them.
#![allow(deprecated)]

mod check;

mod address;
mod headers;
mod pattern;
pub mod random;

pub mod access_log;
pub mod cluster;
pub mod http_manager;
pub mod listener;
pub mod route;
mod tls;

mod resource;
mod snapshot;
mod store;

pub use headers::HeaderMutations;
pub use pattern::Substitution;
pub use resource::{Bind, NamedResource, Rejected};
pub use snapshot::Snapshot;
pub use store::{ConfigStore, ImportError, Saved};
pub use tls::{TlsServer, TlsUnavailable};
