//! Whose an address is, and behind which node.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use mesh_model::Node;
use mesh_tables::Row;
use serde::Serialize;

use crate::reserved::Reserved;

/// An address, or a range, and who is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IpcacheRow {
    /// The longest that has an address counts.
    pub prefix: IpNet,
    /// Number of the identity.
    pub identity: u32,
    /// The address of the node that packets go to; none: where the routing table says.
    pub node: Option<IpAddr>,
    /// Who it is, for people.
    pub about: String,
}

impl Row for IpcacheRow {
    type Key = IpNet;
    const TABLE: &'static str = "ipcache";
    fn key(&self) -> Self::Key {
        self.prefix
    }
}

/// An endpoint as its object tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointAddresses {
    /// Namespace and name of the pod.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The number of its identity; not there before its labels are known.
    pub identity: Option<u32>,
    /// Address of its node.
    pub node: Option<IpAddr>,
}

/// A row for each address that is known, and one for the rest of each family. `own` is the name of this node. Of two
/// endpoints that claim an address the one counts whose node has it in its ranges, and then the first: a pod that was
/// just deleted on another node may still be there.
pub fn ipcache(nodes: &[Node], own: &str, endpoints: &[EndpointAddresses]) -> Vec<Arc<IpcacheRow>> {
    let mut rows: BTreeMap<IpNet, IpcacheRow> = BTreeMap::new();
    let everything = [
        IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)),
        IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0)),
    ];
    for prefix in everything {
        let about = Reserved::World.label().to_owned();
        rows.insert(prefix, IpcacheRow { prefix, identity: Reserved::World.id(), node: None, about });
    }
    let has_range = |node: Option<IpAddr>, address: IpAddr| {
        let node = nodes.iter().find(|known| known.internal_addresses().any(|own| Some(own) == node));
        node.is_some_and(|node| node.pod_ranges.iter().any(|range| range.contains(&address)))
    };
    for endpoint in endpoints {
        for address in &endpoint.addresses {
            let prefix = IpNet::from(*address);
            let row = IpcacheRow {
                prefix,
                identity: endpoint.identity.unwrap_or(Reserved::Init.id()),
                node: endpoint.node,
                about: format!("pod {}", endpoint.name),
            };
            let is_better = match rows.get(&prefix) {
                None => true,
                Some(other) => !has_range(other.node, *address) && has_range(row.node, *address),
            };
            if is_better {
                rows.insert(prefix, row);
            }
        }
    }
    // A node's own address is nobody else's.
    for node in nodes {
        let who = if node.name == own { Reserved::Host } else { Reserved::RemoteNode };
        for address in node.internal_addresses() {
            let prefix = IpNet::from(address);
            let row =
                IpcacheRow { prefix, identity: who.id(), node: None, about: format!("node {}", node.name) };
            rows.insert(prefix, row);
        }
    }
    rows.into_values().map(Arc::new).collect()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use mesh_model::{NamespacedName, Node, ObjectKey, Origin};

    use super::{EndpointAddresses, ipcache};

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn node(name: &str, address: [u8; 4], range: &str) -> Node {
        let origin = Origin {
            object: ObjectKey::new("", "Node", NamespacedName::new("", name)),
            uid: String::new(),
            generation: 1,
            created_ms: 0,
            source: "api".to_owned(),
            field: String::new(),
        };
        Node {
            origin,
            name: name.to_owned(),
            internal_v4: Some(address.into()),
            internal_v6: None,
            pod_ranges: vec![range.parse().expect("a range")],
        }
    }

    fn endpoint(name: &str, address: &str, identity: Option<u32>, node: &str) -> EndpointAddresses {
        EndpointAddresses {
            name: name.to_owned(),
            addresses: vec![ip(address)],
            identity,
            node: Some(ip(node)),
        }
    }

    #[test]
    fn each_address_has_one_owner_and_the_rest_is_the_world() {
        let nodes = [node("a", [192, 0, 2, 1], "10.0.1.0/24"), node("b", [192, 0, 2, 2], "10.0.2.0/24")];
        let endpoints = [
            endpoint("shop/web", "10.0.1.7", Some(300), "192.0.2.1"),
            endpoint("shop/new", "10.0.2.8", None, "192.0.2.2"),
            // One that is gone from a node which had the range before.
            endpoint("shop/gone", "10.0.2.9", Some(301), "192.0.2.1"),
            endpoint("shop/here", "10.0.2.9", Some(302), "192.0.2.2"),
            // Nobody takes the address of a node.
            endpoint("shop/liar", "192.0.2.1", Some(303), "192.0.2.2"),
        ];
        let rows = ipcache(&nodes, "a", &endpoints);
        let shown: Vec<String> = rows
            .iter()
            .map(|row| {
                let node = row.node.map(|node| format!(" at {node}")).unwrap_or_default();
                format!("{} {}{node} {}", row.prefix, row.identity, row.about)
            })
            .collect();
        let expected = [
            "0.0.0.0/0 2 reserved:world",
            "10.0.1.7/32 300 at 192.0.2.1 pod shop/web",
            "10.0.2.8/32 5 at 192.0.2.2 pod shop/new",
            "10.0.2.9/32 302 at 192.0.2.2 pod shop/here",
            "192.0.2.1/32 1 node a",
            "192.0.2.2/32 6 node b",
            "::/0 2 reserved:world",
        ];
        assert_eq!(shown, expected);
        let mut other = endpoints.to_vec();
        other.reverse();
        assert_eq!(ipcache(&nodes, "a", &other)[3].identity, 302, "whoever is read first");
    }
}
