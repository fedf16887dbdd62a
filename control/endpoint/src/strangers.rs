//! Pods' devices of which no record tells: the record could not be read, or is gone. Their pods live on, and nobody may
//! get their addresses.

use std::collections::BTreeMap;
use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteType};

use crate::endpoint::{Device, Endpoint};
use crate::error::EndpointError;
use crate::host::PROTOCOL;
use crate::link;
use crate::netlink::Requests;

/// A pod's device without a record, and the addresses that are routed to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stranger {
    /// The node's end of its pair.
    pub device: Device,
    /// Its pod's addresses, IPv4 first.
    pub addresses: Vec<IpAddr>,
}

/// Finds them by the routes to pods, which are ours by their protocol and go with their devices.
pub(crate) fn find(node: &mut Requests, known: &[Endpoint]) -> Result<Vec<Stranger>, EndpointError> {
    let mut by_device: BTreeMap<u32, Vec<IpAddr>> = BTreeMap::new();
    let message = RouteNetlinkMessage::GetRoute(RouteMessage::default());
    for answer in node.list("ip route show proto 110", message)? {
        let RouteNetlinkMessage::NewRoute(route) = answer else { continue };
        if let Some((device, address)) = to_pod(&route) {
            by_device.entry(device).or_default().push(address);
        }
    }
    let mut strangers = Vec::new();
    for (index, mut addresses) in by_device {
        addresses.sort_unstable();
        addresses.dedup();
        if known.iter().any(|endpoint| endpoint.device.index == index) {
            continue;
        }
        match link::at(node, index) {
            Ok(device) => strangers.push(Stranger { device, addresses }),
            // It went meanwhile, and its routes with it.
            Err(error) if error.is_absent() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(strangers)
}

/// Device and address of a route to a pod.
fn to_pod(route: &RouteMessage) -> Option<(u32, IpAddr)> {
    let is_ours = route.header.protocol == RouteProtocol::from(PROTOCOL);
    if !is_ours || route.header.kind != RouteType::Unicast {
        return None;
    }
    let (mut device, mut address) = (None, None);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => device = Some(*index),
            RouteAttribute::Destination(RouteAddress::Inet(to)) => address = Some(IpAddr::V4(*to)),
            RouteAttribute::Destination(RouteAddress::Inet6(to)) => address = Some(IpAddr::V6(*to)),
            _ => {}
        }
    }
    Some((device?, address?))
}
