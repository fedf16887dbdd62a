//! What a cluster is to be, and the addresses that follow from it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::ensure;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Most nodes that a cluster can have.
pub const MAX_NODES: u8 = 8;
/// Port of the API server.
pub const API_PORT: u16 = 6443;
/// Name of a cluster when none is given.
pub const DEFAULT_NAME: &str = "dev";

/// Address families of nodes, pods and Services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum IpFamily {
    /// IPv4 only.
    Ipv4,
    /// IPv6 only.
    Ipv6,
    /// Both, IPv4 first.
    Dual,
}

impl fmt::Display for IpFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
            Self::Dual => "dual",
        })
    }
}

impl IpFamily {
    /// Whether there are IPv4 addresses.
    pub fn has_v4(self) -> bool {
        self != Self::Ipv6
    }

    /// Whether there are IPv6 addresses.
    pub fn has_v6(self) -> bool {
        self != Self::Ipv4
    }

    /// Of one thing's two addresses those that this family has, as a list with commas: the form in which
    /// the programs of Kubernetes take them.
    pub fn pick(self, v4: impl fmt::Display, v6: impl fmt::Display) -> String {
        match self {
            Self::Ipv4 => v4.to_string(),
            Self::Ipv6 => v6.to_string(),
            Self::Dual => format!("{v4},{v6}"),
        }
    }
}

/// Who connects pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Cni {
    /// The reference plugins: a bridge on each node, routes between nodes. Neither policies nor Services.
    Bridge,
    /// Nobody yet: nodes stay NotReady until a CNI is installed.
    None,
}

impl fmt::Display for Cni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bridge => "bridge",
            Self::None => "none",
        })
    }
}

/// What a cluster is to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Name: part of the name of all that is made.
    pub name: String,
    /// How many nodes.
    pub nodes: u8,
    /// Address families.
    pub ip_family: IpFamily,
    /// Who connects pods.
    pub cni: Cni,
}

impl Spec {
    /// One that can be made.
    ///
    /// # Errors
    /// The name is no name for a device, or there are too few or too many nodes.
    pub fn check(&self) -> anyhow::Result<()> {
        let is_name =
            |name: &str| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        ensure!(
            (1..=8).contains(&self.name.len()) && is_name(&self.name),
            "a cluster's name has 1 to 8 lower-case letters and digits, not {:?}: give another --name",
            self.name
        );
        ensure!(
            (1..=MAX_NODES).contains(&self.nodes),
            "a cluster has 1 to {MAX_NODES} nodes, not {}: give another --nodes",
            self.nodes
        );
        Ok(())
    }

    /// What the names of namespaces, devices and cgroups of this cluster begin with.
    pub fn prefix(&self) -> String {
        prefix(&self.name)
    }

    /// Names of the nodes.
    pub fn node_names(&self) -> Vec<String> {
        (1..=self.nodes).map(node_name).collect()
    }

    /// The addresses.
    pub fn plan(&self) -> Plan {
        // Clusters of different names are to live side by side, each in networks of its own. Neither 96,
        // which Services have, nor that of the usual one is among the others'.
        let sum = self.name.bytes().fold(7_u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte));
        let number = if self.name == DEFAULT_NAME { 244 } else { 100 + sum % 140 };
        Plan { family: self.ip_family, number }
    }
}

/// What the names of namespaces, devices and cgroups of a cluster begin with.
pub fn prefix(name: &str) -> String {
    format!("mrc-{name}")
}

/// Name of a node, the first being number 1.
pub fn node_name(number: u8) -> String {
    format!("node{number}")
}

/// Addresses of a cluster.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    family: IpFamily,
    /// Which of the networks for clusters.
    number: u8,
}

impl Plan {
    /// Whether another cluster has the same networks.
    pub(crate) fn clashes(self, other: Self) -> bool {
        self.number == other.number
    }

    /// IPv4 address on the nodes' network; 0 is the host.
    pub fn v4(self, node: u8) -> Ipv4Addr {
        Ipv4Addr::new(172, 30, self.number, 1 + node)
    }

    /// IPv6 address on the nodes' network; 0 is the host.
    pub fn v6(self, node: u8) -> Ipv6Addr {
        Ipv6Addr::new(0xfd00, 0x172, 0x30, u16::from(self.number), 0, 0, 0, 1 + u16::from(node))
    }

    /// Addresses of a node, or of the host (0), the main one first.
    pub fn addresses(self, node: u8) -> Vec<IpAddr> {
        let v4 = self.family.has_v4().then(|| self.v4(node).into());
        let v6 = self.family.has_v6().then(|| self.v6(node).into());
        v4.into_iter().chain(v6).collect()
    }

    /// The main address of a node, or of the host (0).
    pub fn address(self, node: u8) -> IpAddr {
        if self.family.has_v4() { self.v4(node).into() } else { self.v6(node).into() }
    }

    /// Where the API server listens.
    pub fn api_server(self) -> String {
        format!("https://{}", std::net::SocketAddr::new(self.address(0), API_PORT))
    }

    /// Ranges of the pods.
    pub fn pod_ranges(self) -> String {
        let number = self.number;
        self.family.pick(format!("10.{number}.0.0/16"), format!("fd00:10:{number}::/56"))
    }

    /// Ranges of Services.
    pub fn service_ranges(self) -> String {
        self.family.pick("10.96.0.0/16", "fd00:10:96::/112")
    }

    /// The API server as pods see it: the first address of the Services.
    pub fn api_service(self) -> IpAddr {
        self.service(1)
    }

    /// The cluster's DNS, by convention the tenth address of the Services.
    pub fn dns(self) -> IpAddr {
        self.service(10)
    }

    fn service(self, number: u8) -> IpAddr {
        if self.family.has_v4() {
            Ipv4Addr::new(10, 96, 0, number).into()
        } else {
            // kube-apiserver counts them; convention writes the tenth as ::a.
            Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, u16::from(number)).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, ip_family: IpFamily) -> Spec {
        Spec { name: name.to_owned(), nodes: 2, ip_family, cni: Cni::Bridge }
    }

    #[test]
    fn a_name_that_no_device_can_have_is_refused() {
        for name in ["", "Dev", "a-b", "ninechars", "ä"] {
            let error = spec(name, IpFamily::Ipv4).check().expect_err(name).to_string();
            assert!(error.contains("--name"), "{error}");
        }
        spec("dev", IpFamily::Ipv4).check().expect("a good name");
        let mut none = spec("dev", IpFamily::Ipv4);
        none.nodes = 0;
        assert!(none.check().is_err());
    }

    #[test]
    fn a_dual_cluster_has_both_families_and_ipv4_first() {
        let plan = spec("dev", IpFamily::Dual).plan();
        assert_eq!(plan.service_ranges(), "10.96.0.0/16,fd00:10:96::/112");
        assert_eq!(plan.addresses(1), [IpAddr::from(plan.v4(1)), plan.v6(1).into()]);
        let v6 = spec("dev", IpFamily::Ipv6).plan();
        assert_eq!(v6.addresses(0), [IpAddr::from(v6.v6(0))]);
        assert!(v6.api_server().starts_with("https://[fd00:172:30:"), "{}", v6.api_server());
    }

    #[test]
    fn clusters_of_different_names_have_networks_of_their_own() {
        let one = spec("dev", IpFamily::Ipv4).plan().address(0);
        let other = spec("crash", IpFamily::Ipv4).plan();
        assert_ne!(one, other.address(0));
        assert_ne!(other.pod_ranges(), "10.244.0.0/16");
    }
}
