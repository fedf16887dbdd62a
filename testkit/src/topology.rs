//! A node with pods, and a client outside.
//!
//! ```text
//!  pod 1   pod 2   pod 3          client 198.51.100.2, 2001:db8:51::2
//!  eth0    eth0    eth0             eth0   (default route: the node)
//!    |       |       |                |
//!  mrp1    mrp2    mrp3  [ node ]  mrup0   198.51.100.1, 2001:db8:51::1
//! ```
//!
//! Pods have one address of each family, 10.244.1.1N and fd00:10:244:1::1N, and nothing else: no rule, no
//! route but the default one to their host end.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::namespace::Namespace;

/// Address of the node on the uplink.
pub const NODE_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// Address of the node on the uplink.
pub const NODE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 1);
/// Address of the client.
pub const CLIENT_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// Address of the client.
pub const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 2);
/// Pattern of the pods' devices on the node.
pub const POD_DEVICES: &str = "mrp*";
/// Pattern of the node's devices to the outside.
pub const UPLINK_DEVICES: &str = "mrup*";

/// A pod: a namespace with one device.
#[derive(Debug)]
pub struct Pod {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its address.
    pub v4: Ipv4Addr,
    /// Its address.
    pub v6: Ipv6Addr,
}

impl Pod {
    /// Both addresses.
    pub fn addresses(&self) -> [IpAddr; 2] {
        [self.v4.into(), self.v6.into()]
    }
}

/// A node, its pods and a client.
#[derive(Debug)]
pub struct Topology {
    /// Pods, the first being number 1.
    pub pods: Vec<Pod>,
    /// The client outside.
    pub client: Namespace,
    /// The node. Dropped last: deleting it takes the devices' other ends along.
    pub node: Namespace,
}

impl Topology {
    /// Makes everything; names of the namespaces start with `prefix`.
    pub fn create(prefix: &str, pods: u8) -> anyhow::Result<Self> {
        let node = Namespace::create(format!("{prefix}-node"))?;
        node.sysctl("net/ipv4/ip_forward", "1")?;
        node.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        let client = Namespace::create(format!("{prefix}-client"))?;
        join(&node, "mrup0", &client, 0)?;
        address(&node, "mrup0", &format!("{NODE_V4}/24"), &format!("{NODE_V6}/64"))?;
        address(&client, "eth0", &format!("{CLIENT_V4}/24"), &format!("{CLIENT_V6}/64"))?;
        client.ip(&["route", "add", "default", "via", &NODE_V4.to_string()])?;
        client.ip(&["-6", "route", "add", "default", "via", &NODE_V6.to_string()])?;
        let pods = (1..=pods).map(|number| pod(prefix, &node, number)).collect::<anyhow::Result<_>>()?;
        Ok(Self { pods, client, node })
    }

    /// Leaves everything in place when dropped.
    pub fn keep(&mut self) {
        self.node.keep();
        self.client.keep();
        self.pods.iter_mut().for_each(|pod| pod.namespace.keep());
    }
}

fn pod(prefix: &str, node: &Namespace, number: u8) -> anyhow::Result<Pod> {
    let namespace = Namespace::create(format!("{prefix}-pod{number}"))?;
    let v4 = Ipv4Addr::new(10, 244, 1, 10 + number);
    let v6 = Ipv6Addr::new(0xfd00, 0x10, 0x244, 1, 0, 0, 0, u16::from(0x10 + number));
    let host_end = format!("mrp{number}");
    join(node, &host_end, &namespace, number)?;
    let (v4_text, v6_text) = (v4.to_string(), v6.to_string());
    address(&namespace, "eth0", &format!("{v4_text}/32"), &format!("{v6_text}/128"))?;
    // The gateway exists as a neighbour only: the host end needs no address.
    for (family, gateway) in [("-4", "169.254.1.1"), ("-6", "fe80::1")] {
        namespace.ip(&["neigh", "add", gateway, "lladdr", &host_mac(number), "dev", "eth0"])?;
        if family == "-4" {
            namespace.ip(&["route", "add", gateway, "dev", "eth0", "scope", "link"])?;
        }
        namespace.ip(&[family, "route", "add", "default", "via", gateway, "dev", "eth0"])?;
    }
    node.ip(&["route", "add", &v4_text, "dev", &host_end])?;
    node.ip(&["-6", "route", "add", &v6_text, "dev", &host_end])?;
    Ok(Pod { namespace, v4, v6 })
}

/// A pair of devices: `name` on the node, `eth0` in the other namespace. Without duplicate address
/// detection, which would take a second.
fn join(node: &Namespace, name: &str, other: &Namespace, number: u8) -> anyhow::Result<()> {
    let (mac, peer_mac) = (host_mac(number), format!("02:00:00:00:02:{number:02x}"));
    node.ip(&[
        "link",
        "add",
        name,
        "address",
        &mac,
        "type",
        "veth",
        "peer",
        "name",
        "eth0",
        "address",
        &peer_mac,
        "netns",
        other.name(),
    ])?;
    node.sysctl(&format!("net/ipv6/conf/{name}/accept_dad"), "0")?;
    other.sysctl("net/ipv6/conf/eth0/accept_dad", "0")?;
    node.ip(&["link", "set", name, "up"])?;
    other.ip(&["link", "set", "eth0", "up"])?;
    Ok(())
}

fn host_mac(number: u8) -> String {
    format!("02:00:00:00:01:{number:02x}")
}

fn address(namespace: &Namespace, device: &str, v4: &str, v6: &str) -> anyhow::Result<()> {
    namespace.ip(&["addr", "add", v4, "dev", device])?;
    namespace.ip(&["-6", "addr", "add", v6, "dev", device, "nodad"])?;
    Ok(())
}
