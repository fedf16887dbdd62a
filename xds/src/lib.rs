//! The mesh as Envoy resources, served over delta ADS.
//!
//! **In**: Envoy resources by type and name (from `lower`, or anything else that makes them).
//! **Out**: the same resources at the proxy, each version sent once, refusals brought back.
//! **Start reading** at [`server`] for the agent's side and at [`client`] for the proxy's.
//! **Tasks**: the server spawns one for each stream; the client none.

pub mod client;
pub mod lower;
pub mod resolve;
pub mod server;
