//! Pure: the ways to the pods of other nodes, where the network between is one link.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use mesh_model::Node;
use netlink_packet_route::route::RouteHeader;

use crate::observe::{Link, NodeState};
use crate::tables::{DesiredRoute, Hop};

/// Who wants the routes to other nodes.
pub const NODES: &str = "nodes";

/// The device by which nodes are reached, by family: the one asked for, or the one that has this node's own address.
/// `None` while there is none, or it is down: the kernel has dropped the routes by it then, and they have to be made
/// again when it is back.
pub fn routing_device<'a>(
    state: &'a NodeState,
    asked: Option<&str>,
    own: &Node,
    is_v4: bool,
) -> Option<&'a Link> {
    let link = match asked {
        Some(name) => state.links.values().find(|link| link.name == name),
        None => {
            let has = |address: IpAddr| state.addresses.iter().find(|(_, known)| *known == address);
            state.links.get(&own.internal(is_v4).and_then(has)?.0)
        }
    };
    link.filter(|link| link.up)
}

/// A route for each pod range of each node but `own`, by that node's address of the same family and the family's
/// device. A range of a family that either of the two has no address of gets none: no packet of it could be sent.
pub fn direct_routes<'a>(
    nodes: impl IntoIterator<Item = &'a Node>,
    own: &str,
    device: impl Fn(bool) -> Option<u32>,
) -> Vec<Arc<DesiredRoute>> {
    let mut routes = Vec::new();
    for node in nodes.into_iter().filter(|node| node.name != own) {
        for destination in &node.pod_ranges {
            let is_v4 = matches!(destination, IpNet::V4(_));
            let (Some(gateway), Some(device)) = (node.internal(is_v4), device(is_v4)) else { continue };
            let hop = Hop::Node { name: node.name.clone(), gateway, device: Some(device) };
            routes.push(Arc::new(DesiredRoute {
                destination: *destination,
                hop,
                table: RouteHeader::RT_TABLE_MAIN.into(),
                source: None,
                owner: NODES.to_owned(),
            }));
        }
    }
    routes
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use mesh_model::{Node, ObjectKey, Origin};

    use super::{direct_routes, routing_device};
    use crate::observe::{Link, NodeState};
    use crate::tables::Hop;

    fn node(name: &str, addresses: &[&str], ranges: &[&str]) -> Node {
        let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().expect("an address")).collect();
        let key = ObjectKey::new("", "Node", mesh_model::NamespacedName::new("", name));
        Node {
            origin: Origin {
                object: key,
                uid: String::new(),
                generation: 1,
                created_ms: 0,
                source: "api".to_owned(),
                field: String::new(),
            },
            name: name.to_owned(),
            internal_v4: addresses
                .iter()
                .find_map(|ip| if let IpAddr::V4(ip) = ip { Some(*ip) } else { None }),
            internal_v6: addresses
                .iter()
                .find_map(|ip| if let IpAddr::V6(ip) = ip { Some(*ip) } else { None }),
            pod_ranges: ranges.iter().map(|text| text.parse().expect("a range")).collect(),
        }
    }

    #[test]
    fn each_range_of_another_node_goes_by_its_address_of_that_family() {
        let nodes = [
            node("a", &["192.0.2.1", "2001:db8::1"], &["10.0.1.0/24", "fd00:1::/64"]),
            node("b", &["192.0.2.2", "2001:db8::2"], &["10.0.2.0/24", "fd00:2::/64"]),
            node("c", &["192.0.2.3"], &["10.0.3.0/24", "fd00:3::/64", "10.0.4.0/24"]),
        ];
        let routes = direct_routes(&nodes, "a", |is_v4| Some(if is_v4 { 2 } else { 3 }));
        let shown: Vec<String> = routes
            .iter()
            .map(|route| match &route.hop {
                Hop::Node { name, gateway, device } => {
                    format!("{} {name} {gateway} {}", route.destination, device.expect("a device"))
                }
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(
            shown,
            [
                "10.0.2.0/24 b 192.0.2.2 2",
                "fd00:2::/64 b 2001:db8::2 3",
                "10.0.3.0/24 c 192.0.2.3 2",
                "10.0.4.0/24 c 192.0.2.3 2"
            ]
        );
        assert!(direct_routes(&nodes, "a", |_| None).is_empty(), "no device, no route");
    }

    #[test]
    fn the_device_is_the_one_asked_for_or_the_one_of_the_nodes_own_address_and_it_is_up() {
        let link = |index, name: &str, up| Link {
            index,
            name: name.to_owned(),
            up,
            ethernet: true,
            default_route: false,
            external: false,
            mtu: 1500,
        };
        let links = [(2, link(2, "eth0", true)), (3, link(3, "eth1", true)), (4, link(4, "eth2", false))];
        let addresses = [(2, "192.0.2.1"), (3, "2001:db8::1")];
        let state = NodeState {
            links: links.into_iter().collect(),
            addresses: addresses.map(|(index, text)| (index, text.parse().expect("an address"))).into(),
            ..NodeState::default()
        };
        let own = node("a", &["192.0.2.1", "2001:db8::1"], &[]);
        let name = |asked, is_v4| routing_device(&state, asked, &own, is_v4).map(|link| link.name.as_str());
        assert_eq!((name(None, true), name(None, false)), (Some("eth0"), Some("eth1")));
        assert_eq!((name(Some("eth1"), true), name(Some("eth2"), true)), (Some("eth1"), None));
    }
}
