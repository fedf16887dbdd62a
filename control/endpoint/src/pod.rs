//! What the pod sees: its addresses, and one way out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_route::AddressFamily;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteProtocol, RouteScope,
    RouteType,
};

use crate::endpoint::{Endpoint, Mac};
use crate::error::EndpointError;
use crate::link;
use crate::netlink::{Existing, Requests};

/// A pod's IPv4 gateway. Nobody has it, so no address of the node's range is spent; link-local, so that no pod needs
/// it for anything else (RFC 3927).
pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// A pod's IPv6 gateway.
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// Gives the pod's end its addresses and its routes.
pub(crate) fn configure(inside: &mut Requests, endpoint: &Endpoint) -> Result<(), EndpointError> {
    link::raise_loopback(inside)?;
    let index = link::find(inside, &endpoint.interface)?.index;
    link::raise(inside, index)?;
    for address in &endpoint.addresses {
        add_address(inside, index, *address, &endpoint.interface)?;
        let gateway = gateway_of(*address);
        set_neighbour(inside, index, gateway, endpoint.device.mac)?;
        let on_link = Way { to: Some(gateway), via: None, index, mtu: None };
        set_route(inside, &on_link, RouteProtocol::Static)?;
        let mtu = (endpoint.route_mtu < endpoint.mtu).then_some(endpoint.route_mtu);
        let out = Way { to: None, via: Some(gateway), index, mtu };
        set_route(inside, &out, RouteProtocol::Static)?;
    }
    Ok(())
}

/// What of a pod's end is not as [`configure`] left it; nothing when all is.
pub(crate) fn differences(inside: &mut Requests, endpoint: &Endpoint) -> Result<Vec<String>, EndpointError> {
    let interface = &endpoint.interface;
    let device = match link::find(inside, interface) {
        Ok(device) => device,
        Err(error) if error.is_absent() => return Ok(vec![format!("the pod has no interface {interface}")]),
        Err(error) => return Err(error),
    };
    let mut differences = Vec::new();
    if device.mac != endpoint.mac {
        differences.push(format!("{interface} has hardware address {}, not {}", device.mac, endpoint.mac));
    }
    for address in &endpoint.addresses {
        // Not the gateway: to that one the pod speaks with its link-local address, once it has one.
        let outside = outside_of(*address);
        match route_to(inside, outside) {
            Ok(route) if leaves_by(&route) == Some(device.index) => {
                if source_of(&route) != Some(*address) {
                    differences.push(format!("{interface} does not have its address {address} any more"));
                }
            }
            Ok(_) => differences.push(format!("the route to {outside} does not leave by {interface}")),
            Err(error) if error.is_absent() || is_unreachable(&error) => {
                differences.push(format!("the pod has no route to {outside}"));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(differences)
}

/// Somebody outside, of an address's family (RFC 5737, RFC 3849). Asked about, never spoken to.
fn outside_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => Ipv4Addr::new(192, 0, 2, 1).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    }
}

/// The gateway of an address.
pub(crate) fn gateway_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => GATEWAY_V4.into(),
        IpAddr::V6(_) => GATEWAY_V6.into(),
    }
}

fn add_address(
    inside: &mut Requests,
    index: u32,
    address: IpAddr,
    interface: &str,
) -> Result<(), EndpointError> {
    let mut message = AddressMessage::default();
    message.header.family = family(address);
    message.header.prefix_len = bits(address);
    message.header.index = index;
    // No duplicate can be on a segment of two; looking for one would take a second.
    let flags = AddressFlags::Permanent | AddressFlags::Nodad;
    message.attributes = vec![
        AddressAttribute::Local(address),
        AddressAttribute::Address(address),
        AddressAttribute::Flags(flags),
    ];
    let what = format!("ip address add {address} dev {interface} in the pod");
    inside.make(&what, RouteNetlinkMessage::NewAddress(message), Existing::Replace)
}

/// Writes down who has an address.
pub(crate) fn set_neighbour(
    requests: &mut Requests,
    index: u32,
    address: IpAddr,
    mac: Mac,
) -> Result<(), EndpointError> {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address);
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    let destination = match address {
        IpAddr::V4(address) => NeighbourAddress::Inet(address),
        IpAddr::V6(address) => NeighbourAddress::Inet6(address),
    };
    message.attributes = vec![
        NeighbourAttribute::Destination(destination),
        NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()),
    ];
    let what = format!("ip neighbour replace {address} lladdr {mac} nud permanent");
    requests.make(&what, RouteNetlinkMessage::NewNeighbour(message), Existing::Replace)
}

/// A route of the main table by a device.
pub(crate) struct Way {
    /// One address; none: everywhere.
    pub(crate) to: Option<IpAddr>,
    /// Next hop; none: on the link. One of the two is there, and says which family it is.
    pub(crate) via: Option<IpAddr>,
    /// Index of the device.
    pub(crate) index: u32,
    /// Largest packet, where it is not the device's.
    pub(crate) mtu: Option<u32>,
}

/// Makes a route, or puts it in the place of the one that is there.
pub(crate) fn set_route(
    requests: &mut Requests,
    way: &Way,
    protocol: RouteProtocol,
) -> Result<(), EndpointError> {
    let Some(of_family) = way.to.or(way.via) else { return Ok(()) };
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: family(of_family),
        destination_prefix_length: way.to.map_or(0, bits),
        table: RouteHeader::RT_TABLE_MAIN,
        protocol,
        scope: if way.via.is_some() { RouteScope::Universe } else { RouteScope::Link },
        kind: RouteType::Unicast,
        ..RouteHeader::default()
    };
    message.attributes.push(RouteAttribute::Oif(way.index));
    message.attributes.extend(way.to.map(|to| RouteAttribute::Destination(route_address(to))));
    message.attributes.extend(way.via.map(|via| RouteAttribute::Gateway(route_address(via))));
    message.attributes.extend(way.mtu.map(|mtu| RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)])));
    let shown = |address: Option<IpAddr>, none: &str| address.map_or(none.to_owned(), |ip| ip.to_string());
    let what = format!("ip route replace {} via {}", shown(way.to, "default"), shown(way.via, "the device"));
    requests.make(&what, RouteNetlinkMessage::NewRoute(message), Existing::Replace)
}

/// The route that a packet to this address would take.
fn route_to(requests: &mut Requests, address: IpAddr) -> Result<RouteMessage, EndpointError> {
    let what = format!("ip route get {address}");
    let mut message = RouteMessage::default();
    message.header.address_family = family(address);
    message.header.destination_prefix_length = bits(address);
    message.attributes.push(RouteAttribute::Destination(route_address(address)));
    match requests.get(&what, RouteNetlinkMessage::GetRoute(message))? {
        RouteNetlinkMessage::NewRoute(route) => Ok(route),
        _ => Err(EndpointError::Refused { what, reason: std::io::ErrorKind::InvalidData.into() }),
    }
}

fn leaves_by(route: &RouteMessage) -> Option<u32> {
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })
}

fn source_of(route: &RouteMessage) -> Option<IpAddr> {
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::PrefSource(RouteAddress::Inet(address)) => Some((*address).into()),
        RouteAttribute::PrefSource(RouteAddress::Inet6(address)) => Some((*address).into()),
        _ => None,
    })
}

fn is_unreachable(error: &EndpointError) -> bool {
    let code = rustix::io::Errno::NETUNREACH.raw_os_error();
    matches!(error, EndpointError::Refused { reason, .. } if reason.raw_os_error() == Some(code))
}

pub(crate) fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

pub(crate) fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

pub(crate) fn route_address(address: IpAddr) -> RouteAddress {
    match address {
        IpAddr::V4(address) => RouteAddress::Inet(address),
        IpAddr::V6(address) => RouteAddress::Inet6(address),
    }
}
