//! What the kernel says of links and addresses, followed live.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use netlink_packet_route::address::{AddressAttribute, AddressScope};
use netlink_packet_route::link::{LinkAttribute, LinkFlags};
use netlink_packet_route::route::RouteAttribute;
use rtnetlink::{Handle, MulticastGroup, RouteMessageBuilder};
use serde::Serialize;
use tokio::sync::watch;

use crate::netlink::NetlinkError;

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
    let mut default_links = BTreeSet::new();
    let queries = [
        RouteMessageBuilder::<std::net::Ipv4Addr>::new().build(),
        RouteMessageBuilder::<std::net::Ipv6Addr>::new().build(),
    ];
    for query in queries {
        let mut routes = handle.route().get(query).execute();
        while let Some(route) = routes.try_next().await.map_err(refused("ip route show"))? {
            let in_main = route.header.table == netlink_packet_route::route::RouteHeader::RT_TABLE_MAIN;
            if !in_main || route.header.destination_prefix_length != 0 {
                continue;
            }
            default_links.extend(route.attributes.iter().filter_map(|attribute| match attribute {
                RouteAttribute::Oif(index) => Some(*index),
                _ => None,
            }));
        }
    }
    let mut state = NodeState::default();
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
        let link = Link {
            index,
            name: name.unwrap_or_default(),
            up: link.header.flags.contains(LinkFlags::Up),
            ethernet: link.header.link_layer_type == netlink_packet_route::link::LinkLayerType::Ether,
            default_route: default_links.contains(&index),
            mtu: mtu.unwrap_or_default(),
        };
        state.links.insert(index, link);
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
        state.addresses.extend(own.map(|own| (address.header.index, own)));
    }
    state.addresses.sort_by_key(|(index, address)| (!default_links.contains(index), *index, *address));
    Ok(state)
}
