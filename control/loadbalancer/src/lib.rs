//! Services and addresses: who owns which address, and what the kernel does with a connection to it.
//!
//! In: Services, their backends, address claims and pools (`mesh-model`), and the addresses the proxy owns.
//! Out: address assignments with conditions ([`assign`]), and the kernel's load-balancing maps, by way of
//! [`Frontend`] rows. Start with `derive.rs`, then `plan.rs` (rows to map entries) and `reconcile.rs`.
//! Spawns nothing itself; the agent runs [`FrontendTarget`] under a reconciler.

mod assign;
mod derive;
mod plan;
mod reconcile;
mod tables;

pub use assign::{AssignConfig, Assigned, assign};
pub use derive::desired_frontends;
pub use plan::{LbMapEntries, PlanError, plan_frontend};
pub use reconcile::FrontendTarget;
pub use tables::{Frontend, FrontendKey, FrontendKind, HostPort, Reach, Scope, ThisNode};
