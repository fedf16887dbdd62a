//! Delta ADS over a unix socket: keeps a [`ConfigSink`] equal to what the server has for this node.
//!
//! **In**: `DeltaDiscoveryResponse`. **Out**: calls of [`ConfigSink::apply`], ACKs and NACKs,
//! a watch of [`ConnectionStatus`]. **Start reading** at [`Client::run`]. **Tasks**: none; `run` is a
//! future that its owner spawns, never ends by itself and may be dropped at any await.
//!
//! When the server goes away the sink is left alone: the last good configuration stays for ever.
//! On reconnecting the client tells the versions it has, so that only the difference is sent.

mod backoff;
mod requests;
mod run;
mod sink;
mod status;
mod versions;

pub use run::Client;
pub use sink::{ApplyOutcome, ConfigSink, DeltaResource, Subscription};
pub use status::{ClientConfig, ConnectionStatus};
