//! The node's way to a pod.

use netlink_packet_route::route::RouteProtocol;

use crate::endpoint::Endpoint;
use crate::error::EndpointError;
use crate::netlink::Requests;
use crate::pod::{Way, set_neighbour, set_route};

/// Written into the routes to pods. They go with their devices; nobody prunes them by this number.
const PROTOCOL: u8 = 110;

/// Routes the pod's addresses to its device, and writes down who has them there.
pub(crate) fn configure(node: &mut Requests, endpoint: &Endpoint) -> Result<(), EndpointError> {
    let index = endpoint.device.index;
    for address in &endpoint.addresses {
        set_neighbour(node, index, *address, endpoint.mac)?;
        let way = Way { to: Some(*address), via: None, index, mtu: None };
        set_route(node, &way, RouteProtocol::from(PROTOCOL))?;
    }
    Ok(())
}
