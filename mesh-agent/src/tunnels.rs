//! Tunnels to other nodes: the device, who is at the other end, and what of a packet fits.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context, ensure};
use ipnet::IpNet;
use mesh_control_node::{DesiredRoute, Hop, NODES, Netlink, Tunnel};
use mesh_ebpf_abi::{Addr, NetKey};
use mesh_model::Node;

use crate::args::{PodOptions, RoutingMode, TunnelProtocol, Underlay};
use crate::datapath::Datapath;
use crate::masquerade::key_of;

/// What VXLAN puts before a packet (RFC 7348): Ethernet, IPv4, UDP and its own header.
const OVERHEAD_V4: u32 = 50;
/// The same over IPv6.
const OVERHEAD_V6: u32 = 70;

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TunnelOptions {
    port: u16,
    /// Whether IPv6 carries them.
    by_v6: bool,
}

impl TunnelOptions {
    /// As the options say; none where nodes are routed to.
    ///
    /// # Errors
    /// Options that contradict each other.
    pub(crate) fn of(options: &PodOptions) -> anyhow::Result<Option<Self>> {
        if !options.is_wanted() || options.routing_mode() == RoutingMode::Native {
            return Ok(None);
        }
        ensure!(
            !options.auto_direct_node_routes,
            "--auto-direct-node-routes is of --routing-mode native: leave one of the two out"
        );
        let TunnelProtocol::Vxlan = options.tunnel_protocol;
        let by_v6 = options.underlay_protocol == Underlay::Ipv6;
        Ok(Some(Self { port: options.tunnel_port, by_v6 }))
    }

    /// Largest packet that fits into a tunnel over devices of this size.
    pub(crate) const fn inner_mtu(self, mtu: u32) -> u32 {
        mtu.saturating_sub(if self.by_v6 { OVERHEAD_V6 } else { OVERHEAD_V4 })
    }

    /// By range of pods, the address of their node. A node without one of the family that carries tunnels has none.
    fn ends(self, nodes: &[Node], own: &str) -> BTreeMap<NetKey, Addr> {
        let others = nodes.iter().filter(|node| node.name != own);
        let ends = others.filter_map(|node| Some((node, node.internal(!self.by_v6)?)));
        ends.flat_map(|(node, at)| node.pod_ranges.iter().map(move |range| (key_of(range), Addr::from(at))))
            .collect()
    }

    /// A route into the tunnels for each range that has an end. What the node sends there has its own address among
    /// the pods': answers come by a tunnel.
    fn routes(self, nodes: &[Node], own: &str, device: u32, sources: &[IpAddr]) -> Vec<Arc<DesiredRoute>> {
        let others = nodes.iter().filter(|node| node.name != own && node.internal(!self.by_v6).is_some());
        let route = |destination: &IpNet| {
            let is_v4 = matches!(destination, IpNet::V4(_));
            Arc::new(DesiredRoute {
                destination: *destination,
                hop: Hop::Tunnel { device },
                table: MAIN_TABLE,
                source: sources.iter().find(|source| source.is_ipv4() == is_v4).copied(),
                owner: NODES.to_owned(),
            })
        };
        others.flat_map(|node| &node.pod_ranges).map(route).collect()
    }
}

/// `RT_TABLE_MAIN` of the kernel.
const MAIN_TABLE: u32 = 254;

/// Keeps the tunnels.
pub(crate) struct Tunnels {
    options: TunnelOptions,
    netlink: Netlink,
    datapath: Arc<Datapath>,
}

impl Tunnels {
    /// Changes nothing yet.
    pub(crate) const fn new(options: TunnelOptions, netlink: Netlink, datapath: Arc<Datapath>) -> Self {
        Self { options, netlink, datapath }
    }

    /// Brings the device and the tunnels' ends up to date; the routes that lead into them. Blocks for some system
    /// calls.
    ///
    /// # Errors
    /// What the kernel refuses, with the option that may mend it.
    pub(crate) fn bring(
        &self,
        nodes: &[Node],
        own: &str,
        mtu: u32,
        sources: &[IpAddr],
    ) -> anyhow::Result<Vec<Arc<DesiredRoute>>> {
        let TunnelOptions { port, .. } = self.options;
        let tunnel = Tunnel { port, mtu: self.options.inner_mtu(mtu), addresses: sources.to_vec() };
        let device = self
            .netlink
            .set_tunnel(&tunnel)
            .with_context(|| format!("cannot make the tunnel device (--tunnel-port {port} may be taken)"))?;
        self.datapath
            .set_tunnels(&self.options.ends(nodes, own))
            .context("cannot write the tunnels' ends")?;
        Ok(self.options.routes(nodes, own, device, sources))
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use mesh_control_node::Hop;
    use mesh_model::{NamespacedName, Node, ObjectKey, Origin};

    use super::TunnelOptions;

    fn node(name: &str, v4: Option<&str>, v6: Option<&str>, ranges: &[&str]) -> Node {
        let origin = Origin {
            object: ObjectKey::new("", "Node", NamespacedName::new("", name)),
            uid: String::new(),
            generation: 1,
            created_ms: 0,
            source: String::new(),
            field: String::new(),
        };
        Node {
            origin,
            name: name.to_owned(),
            internal_v4: v4.map(|text| text.parse().expect("an address")),
            internal_v6: v6.map(|text| text.parse().expect("an address")),
            pod_ranges: ranges.iter().map(|text| text.parse().expect("a range")).collect(),
        }
    }

    #[test]
    fn each_range_of_another_node_has_its_address_of_the_family_that_carries_tunnels() {
        let nodes = [
            node("a", Some("192.0.2.1"), Some("2001:db8::1"), &["10.0.1.0/24"]),
            node("b", Some("192.0.2.2"), Some("2001:db8::2"), &["10.0.2.0/24", "fd00:2::/64"]),
            node("c", Some("192.0.2.3"), None, &["10.0.3.0/24"]),
        ];
        let own: [IpAddr; 2] = ["10.0.1.1", "fd00:1::1"].map(|text| text.parse().expect("an address"));
        for (by_v6, expected) in [
            (false, vec!["10.0.2.0 120 192.0.2.2", "10.0.3.0 120 192.0.2.3", "fd00:2:: 64 192.0.2.2"]),
            (true, vec!["10.0.2.0 120 2001:db8::2", "fd00:2:: 64 2001:db8::2"]),
        ] {
            let options = TunnelOptions { port: 8472, by_v6 };
            let ends = options.ends(&nodes, "a");
            let mut shown: Vec<String> =
                ends.iter().map(|(key, at)| format!("{} {} {at}", key.address, key.bits)).collect();
            shown.sort();
            assert_eq!(shown, expected);
            let routes = options.routes(&nodes, "a", 7, &own);
            assert_eq!(routes.len(), expected.len());
            for route in routes {
                let source = route.source.expect("the node's own");
                assert_eq!(
                    (&route.hop, source.is_ipv4()),
                    (&Hop::Tunnel { device: 7 }, route.destination.addr().is_ipv4())
                );
            }
        }
    }

    #[test]
    fn what_tunnels_add_is_taken_off_the_packets() {
        let of = |by_v6| TunnelOptions { port: 8472, by_v6 }.inner_mtu(1500);
        assert_eq!((of(false), of(true)), (1450, 1430));
    }
}
