//! The node's way to a pod.

use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{
    RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};

use crate::endpoint::Endpoint;
use crate::error::EndpointError;
use crate::netlink::Existing;
use crate::netlink::Requests;
use crate::pod::{Way, bits, family, route_address, set_neighbour, set_route};

/// Written into the routes to pods. They go with their devices; nobody prunes them by this number.
pub(crate) const PROTOCOL: u8 = 110;

/// Routes the pod's addresses to its device, and writes down who has them there.
pub(crate) fn configure(node: &mut Requests, endpoint: &Endpoint) -> Result<(), EndpointError> {
    let index = endpoint.device.index;
    for address in &endpoint.addresses {
        allow(node, *address)?;
        set_neighbour(node, index, *address, endpoint.mac)?;
        let way = Way { to: Some(*address), via: None, index, mtu: None };
        set_route(node, &way, RouteProtocol::from(PROTOCOL))?;
    }
    Ok(())
}

/// Answers packets to the addresses of an endpoint that is gone with ICMP errors.
pub(crate) fn refuse(node: &mut Requests, endpoint: &Endpoint) -> Result<(), EndpointError> {
    for address in &endpoint.addresses {
        let what = format!("ip route replace unreachable {address}");
        let message = RouteNetlinkMessage::NewRoute(unreachable(*address));
        node.make(&what, message, Existing::Replace)?;
    }
    Ok(())
}

/// The address has a pod again. No error where it was not refused.
fn allow(node: &mut Requests, address: IpAddr) -> Result<(), EndpointError> {
    let what = format!("ip route del unreachable {address}");
    match node.change(&what, RouteNetlinkMessage::DelRoute(unreachable(address))) {
        Err(error) if error.is_absent() => Ok(()),
        other => other,
    }
}

fn unreachable(address: IpAddr) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: family(address),
        destination_prefix_length: bits(address),
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: RouteProtocol::from(PROTOCOL),
        scope: RouteScope::Universe,
        kind: RouteType::Unreachable,
        ..RouteHeader::default()
    };
    message.attributes.push(RouteAttribute::Destination(route_address(address)));
    message
}
