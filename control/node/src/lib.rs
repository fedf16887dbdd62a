//! The node's own network: which devices and addresses it has, the routes and rules redirection needs, and the ways
//! to the pods of other nodes.
//!
//! In: the addresses that belong to the proxy, and what the kernel tells over netlink. Out: [`NodeState`]
//! (links and addresses, followed live) and routes and rules in tables of our own ([`DesiredRoute`],
//! [`DesiredRule`], carried by [`NetlinkTarget`] under a reconciler). Start with `derive.rs` and `remote.rs`.
//! Tasks: [`observe`] spawns one that follows the kernel; [`Netlink::start`] one thread for requests.

mod derive;
mod forwarding;
mod local_ports;
mod neighbours;
mod netlink;
mod observe;
mod reconcile;
mod remote;
mod tables;
mod tunnel;

pub use derive::{REDIRECT, RedirectRouting, desired_routes, desired_rules};
pub use forwarding::{Forwarding, enable_forwarding};
pub use local_ports::shared_local_ports;
pub use netlink::{Netlink, NetlinkError};
pub use observe::{Link, NodeState, observe};
pub use reconcile::{NetlinkTarget, remove_all};
pub use remote::{NODES, direct_routes, routing_device};
pub use tables::{DesiredRoute, DesiredRule, Hop, KnownNode};
pub use tunnel::{TUNNEL_DEVICE, Tunnel};
