//! The life of an endpoint: the devices, addresses and routes of one pod on this node.
//!
//! In: what the runtime asks for a container (through the CNI plugin and the agent), the addresses it gets, the
//! pod's network namespace and a netlink socket inside of it. Out: a veth pair whose inner end is the pod's
//! interface, the way there and back, and a record on disk from which the next agent knows it again. Start
//! reading in `endpoints.rs`. Spawns nothing; every call blocks for some system calls.
//!
//! An endpoint has no bridge, no shared segment and no ARP: its gateway is an address that nobody has, whose
//! hardware address is written down in the pod, and the node's neighbour entry for the pod is written down too.

mod endpoint;
mod endpoints;
mod error;
mod host;
mod link;
mod netlink;
mod pod;
mod records;
mod strangers;

pub use endpoint::{Device, Endpoint, EndpointState, Mac, PodName, PortMapping, PortProtocol, Wanted};
pub use endpoints::{Endpoints, Restored};
pub use error::EndpointError;
pub use pod::{GATEWAY_V4, GATEWAY_V6};
pub use strangers::Stranger;
