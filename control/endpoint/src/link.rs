//! The pair of devices: one end on the node, one in the pod.

use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};

use crate::endpoint::{Device, Endpoint, Mac};
use crate::error::EndpointError;
use crate::netlink::{Existing, Requests};

/// Index of the loopback device in every network namespace.
const LOOPBACK: u32 = 1;

/// Makes the pair with its inner end in the pod's namespace, the node's end up; its index.
pub(crate) fn make_pair(
    node: &mut Requests,
    endpoint: &Endpoint,
    namespace: BorrowedFd<'_>,
) -> Result<u32, EndpointError> {
    let Endpoint { device, interface, mac, mtu, .. } = endpoint;
    let mut inner = end(interface, *mac, *mtu);
    inner.attributes.push(LinkAttribute::NetNsFd(namespace.as_raw_fd()));
    let mut outer = end(&device.name, device.mac, *mtu);
    // The kernel raises the inner end before it has a peer, which a pair does not allow.
    outer.header.flags = LinkFlags::Up;
    outer.header.change_mask = LinkFlags::Up;
    let info = vec![LinkInfo::Kind(InfoKind::Veth), LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(inner)))];
    outer.attributes.push(LinkAttribute::LinkInfo(info));
    let what =
        format!("ip link add {} type veth peer name {interface} netns {}", device.name, endpoint.netns);
    node.make(&what, RouteNetlinkMessage::NewLink(outer), Existing::Refuse)?;
    find(node, &device.name).map(|found| found.index)
}

fn end(name: &str, mac: Mac, mtu: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::Address(mac.0.to_vec()),
        LinkAttribute::Mtu(mtu),
    ];
    message
}

/// Brings a namespace's loopback device up.
pub(crate) fn raise_loopback(requests: &mut Requests) -> Result<(), EndpointError> {
    raise(requests, LOOPBACK)
}

/// Brings a device up.
pub(crate) fn raise(requests: &mut Requests, index: u32) -> Result<(), EndpointError> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    requests.change(&format!("ip link set index {index} up"), RouteNetlinkMessage::SetLink(message))
}

/// The device of this index.
pub(crate) fn at(requests: &mut Requests, index: u32) -> Result<Device, EndpointError> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    ask(requests, &format!("ip link show index {index}"), message)
}

/// The device of this name.
pub(crate) fn find(requests: &mut Requests, name: &str) -> Result<Device, EndpointError> {
    let mut message = LinkMessage::default();
    message.attributes = vec![LinkAttribute::IfName(name.to_owned())];
    ask(requests, &format!("ip link show {name}"), message)
}

fn ask(requests: &mut Requests, what: &str, message: LinkMessage) -> Result<Device, EndpointError> {
    let RouteNetlinkMessage::NewLink(link) = requests.get(what, RouteNetlinkMessage::GetLink(message))?
    else {
        let reason = std::io::Error::from(std::io::ErrorKind::InvalidData);
        return Err(EndpointError::Refused { what: what.to_owned(), reason });
    };
    let name = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    });
    let address = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Address(bytes) => <[u8; 6]>::try_from(bytes.as_slice()).ok(),
        _ => None,
    });
    let mac = Mac(address.unwrap_or_default());
    Ok(Device { name: name.unwrap_or_default(), index: link.header.index, mac })
}

/// Removes the node's end, and with it the pod's and all routes by either. No error when it is not there, or when
/// another device has its name by now.
pub(crate) fn remove(node: &mut Requests, device: &Device) -> Result<(), EndpointError> {
    let found = match find(node, &device.name) {
        Ok(found) if found.mac == device.mac => found,
        Ok(_) => return Ok(()),
        Err(error) if error.is_absent() => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut message = LinkMessage::default();
    message.header.index = found.index;
    let what = format!("ip link del {}", device.name);
    match node.change(&what, RouteNetlinkMessage::DelLink(message)) {
        // The pod's namespace went, and its devices with it.
        Err(error) if error.is_absent() => Ok(()),
        other => other,
    }
}
