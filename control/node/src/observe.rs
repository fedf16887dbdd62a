//! What the kernel says of links and addresses, followed live.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressScope};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo};
use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType};
use rtnetlink::{Handle, MulticastGroup, RouteMessageBuilder};
use serde::Serialize;
use tokio::sync::watch;

use crate::netlink::{NetlinkError, OUR_PROTOCOL};
use crate::tunnel::TUNNEL_DEVICE;

/// A network device of the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Link {
    /// Index, never reused while the namespace lives.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Whether it is administratively up.
    pub up: bool,
    /// Whether frames carry an Ethernet header.
    pub ethernet: bool,
    /// Whether a default route of the main table leaves by it.
    pub default_route: bool,
    /// Whether it leads outside: it is up, a route of any table by another router leaves by it, and it is neither a
    /// port of a bridge or bond nor one of a pod network's own devices.
    pub external: bool,
    /// Largest packet in bytes.
    pub mtu: u32,
}

/// Links and addresses of the node at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NodeState {
    /// Links by index.
    pub links: BTreeMap<u32, Link>,
    /// Addresses of global scope with the link they are on; those on links with a default route first,
    /// then by link and address.
    pub addresses: Vec<(u32, IpAddr)>,
    /// Those of them that nothing new should leave with while there is another: deprecated, temporary and secondary
    /// ones, and those that are not known to be the node's alone (RFC 6724, rule 3; RFC 4862).
    pub avoided: BTreeSet<IpAddr>,
}

impl NodeState {
    /// The node's addresses but for those that only pods' tunnels lead to.
    pub fn outer_addresses(&self) -> Vec<IpAddr> {
        let is_tunnel = |index: &u32| self.links.get(index).is_some_and(|link| link.name == TUNNEL_DEVICE);
        self.addresses.iter().filter(|(index, _)| !is_tunnel(index)).map(|(_, address)| *address).collect()
    }
}

/// Time that changes are gathered for before the state is read again.
const SETTLE: Duration = Duration::from_millis(5);
/// The state is read again this often, should a message have been lost.
const REFRESH: Duration = Duration::from_secs(10);

/// Reads the state once and then follows it in a task, which ends when the last receiver is gone.
///
/// Must be called on a thread of the network namespace to watch, within a runtime.
pub async fn observe() -> Result<watch::Receiver<NodeState>, NetlinkError> {
    let groups = [
        MulticastGroup::Link,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
        MulticastGroup::Ipv4Route,
        MulticastGroup::Ipv6Route,
    ];
    let (connection, handle, mut events) =
        rtnetlink::new_multicast_connection(&groups).map_err(NetlinkError::Open)?;
    let connection = tokio::spawn(connection);
    let (sender, receiver) = watch::channel(read(&handle).await?);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                event = events.next() => if event.is_none() { break },
                () = sender.closed() => break,
                () = tokio::time::sleep(REFRESH) => {}
            }
            tokio::time::sleep(SETTLE).await;
            while events.try_recv().is_ok() {}
            match read(&handle).await {
                Ok(state) => {
                    sender.send_if_modified(|last| {
                        let changed = *last != state;
                        *last = state;
                        changed
                    });
                }
                Err(error) => tracing::warn!(%error, "cannot read links and addresses, will retry"),
            }
        }
        connection.abort();
    });
    Ok(receiver)
}

async fn read(handle: &Handle) -> Result<NodeState, NetlinkError> {
    let refused = |what: &str| {
        let what = what.to_owned();
        move |error: rtnetlink::Error| NetlinkError::Refused { what, reason: error.to_string() }
    };
    let (mut default_links, mut routed_links) = (BTreeSet::new(), BTreeSet::new());
    let queries = [
        RouteMessageBuilder::<std::net::Ipv4Addr>::new().build(),
        RouteMessageBuilder::<std::net::Ipv6Addr>::new().build(),
    ];
    for query in queries {
        let mut routes = handle.route().get(query).execute();
        while let Some(route) = routes.try_next().await.map_err(refused("ip route show"))? {
            routed_links.extend(leads_outside_by(&route));
            let in_main = route.header.table == netlink_packet_route::route::RouteHeader::RT_TABLE_MAIN;
            if !in_main || route.header.destination_prefix_length != 0 {
                continue;
            }
            default_links.extend(devices_of(&route));
        }
    }
    let mut state = NodeState::default();
    // Ports, each with the device it is one of.
    let (mut ports, mut gathering) = (Vec::new(), BTreeSet::new());
    let mut links = handle.link().get().execute();
    while let Some(link) = links.try_next().await.map_err(refused("ip link show"))? {
        let index = link.header.index;
        let name = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name.clone()),
            _ => None,
        });
        let mtu = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Mtu(mtu) => Some(*mtu),
            _ => None,
        });
        let kind = link.attributes.iter().find_map(kind_of);
        if matches!(kind, Some(InfoKind::Bridge | InfoKind::Bond)) {
            gathering.insert(index);
        }
        ports.extend(link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Controller(of) => Some((index, *of)),
            _ => None,
        }));
        let name = name.unwrap_or_default();
        let is_up = link.header.flags.contains(LinkFlags::Up);
        let link = Link {
            index,
            external: is_up && routed_links.contains(&index) && !is_of_a_pod_network(&name),
            name,
            up: is_up,
            ethernet: link.header.link_layer_type == netlink_packet_route::link::LinkLayerType::Ether,
            default_route: default_links.contains(&index),
            mtu: mtu.unwrap_or_default(),
        };
        state.links.insert(index, link);
    }
    for (port, _) in ports.iter().filter(|(_, of)| gathering.contains(of)) {
        if let Some(link) = state.links.get_mut(port) {
            link.external = false;
        }
    }
    let mut addresses = handle.address().get().execute();
    while let Some(address) = addresses.try_next().await.map_err(refused("ip address show"))? {
        if address.header.scope != AddressScope::Universe {
            continue;
        }
        // IPv4 names its own end `local`, IPv6 only `address`.
        let local = address.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Local(address) => Some(*address),
            _ => None,
        });
        let own = local.or_else(|| {
            address.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Address(address) => Some(*address),
                _ => None,
            })
        });
        let flags = address.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Flags(flags) => Some(*flags),
            _ => None,
        });
        // Of IPv4 the same bit says that it is not the first of its network, of IPv6 that it is temporary.
        let avoided = AddressFlags::Secondary
            | AddressFlags::Deprecated
            | AddressFlags::Tentative
            | AddressFlags::Dadfailed;
        state.avoided.extend(own.filter(|_| flags.is_some_and(|flags| flags.intersects(avoided))));
        state.addresses.extend(own.map(|own| (address.header.index, own)));
    }
    state.addresses.sort_by_key(|(index, address)| (!default_links.contains(index), *index, *address));
    Ok(state)
}

/// Devices by which packets on a route leave.
fn devices_of(route: &RouteMessage) -> Vec<u32> {
    let of = |attribute: &RouteAttribute| match attribute {
        RouteAttribute::Oif(index) => vec![*index],
        RouteAttribute::MultiPath(hops) => hops.iter().map(|hop| hop.interface_index).collect(),
        _ => Vec::new(),
    };
    route.attributes.iter().flat_map(of).collect()
}

/// Devices by which a route leads to another router. IPv6 has no scopes of routes, so there it is the router that
/// counts; routes of our own are left out.
fn leads_outside_by(route: &RouteMessage) -> Vec<u32> {
    let header = &route.header;
    let is_ours = header.protocol == RouteProtocol::from(OUR_PROTOCOL);
    if header.kind != RouteType::Unicast || header.scope != RouteScope::Universe || is_ours {
        return Vec::new();
    }
    let has_router = |attributes: &[RouteAttribute]| {
        let is_router = |attribute: &RouteAttribute| {
            matches!(attribute, RouteAttribute::Gateway(_) | RouteAttribute::Via(_))
        };
        attributes.iter().any(is_router)
    };
    let is_v4 = header.address_family == AddressFamily::Inet;
    let is_outside = is_v4 || header.destination_prefix_length == 0 || has_router(&route.attributes);
    let mut devices = Vec::new();
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) if is_outside => devices.push(*index),
            RouteAttribute::MultiPath(hops) => {
                let hops = hops.iter().filter(|hop| is_v4 || has_router(&hop.attributes));
                devices.extend(hops.map(|hop| hop.interface_index));
            }
            _ => {}
        }
    }
    devices
}

fn kind_of(attribute: &LinkAttribute) -> Option<InfoKind> {
    let LinkAttribute::LinkInfo(infos) = attribute else { return None };
    infos.iter().find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(kind.clone()),
        _ => None,
    })
}

/// Loopback, devices of ours, and those that other pod networks and container engines make.
fn is_of_a_pod_network(name: &str) -> bool {
    const PREFIXES: [&str; 6] = ["mrp", "millrace_", "lxc", "cilium_", "cni", "docker"];
    name == "lo" || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}
