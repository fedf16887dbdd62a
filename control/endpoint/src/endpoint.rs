//! One endpoint as it is known and written down.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A hardware address.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Mac(pub [u8; 6]);

/// One pod's interface and what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// Number on this node, from 1; given again when its endpoint is gone.
    pub id: u16,
    /// Its container (sandbox), as the runtime names it.
    pub container_id: String,
    /// The interface's name inside of the pod.
    pub interface: String,
    /// Path of the network namespace in the runtime's mount namespace.
    pub netns: String,
    /// The pod, where Kubernetes asked.
    pub pod: Option<PodName>,
    /// Its addresses, IPv4 first.
    pub addresses: Vec<IpAddr>,
    /// The node's end of the pair.
    pub device: Device,
    /// Hardware address of the pod's end.
    pub mac: Mac,
    /// Largest packet of the device, and of the routes where it is smaller.
    pub mtu: u32,
    /// Largest packet to anywhere but this node's own pods.
    pub route_mtu: u32,
    /// Ports of the node that lead to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_ports: Vec<PortMapping>,
    /// How far it has come.
    pub state: EndpointState,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID, empty where the runtime does not tell it.
    pub uid: String,
}

/// A port of the node that leads to a pod (`hostPort`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortMapping {
    /// The node's address; each of them without.
    pub host_ip: Option<IpAddr>,
    /// The node's port.
    pub host_port: u16,
    /// The pod's port.
    pub container_port: u16,
    /// Transport protocol.
    pub protocol: PortProtocol,
}

/// What a port mapping carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl PortMapping {
    /// Whether both would take a connection.
    pub fn clashes_with(&self, other: &Self) -> bool {
        let same_address = match (self.host_ip, other.host_ip) {
            (Some(one), Some(another)) => one == another,
            _ => true,
        };
        same_address && self.host_port == other.host_port && self.protocol == other.protocol
    }
}

/// A device of the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Its index; 0 before it was made.
    pub index: u32,
    /// Its hardware address.
    pub mac: Mac,
}

/// How far an endpoint has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndpointState {
    /// Its parts are being made. After a restart of the agent it is taken away: whoever asked for it got no answer.
    Creating,
    /// The runtime has been told of it.
    Ready,
}

/// What the runtime wants.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The container.
    pub container_id: String,
    /// The interface's name inside of the pod.
    pub interface: String,
    /// Path of the network namespace, for people.
    pub netns: String,
    /// The pod.
    pub pod: Option<PodName>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Largest packet of the device.
    pub mtu: u32,
    /// Largest packet to anywhere but this node's own pods.
    pub route_mtu: u32,
    /// Ports of the node that lead to it.
    pub host_ports: Vec<PortMapping>,
}

/// Names of the node's ends begin so.
const PREFIX: &str = "mrp";

impl Endpoint {
    /// The endpoint with names and hardware addresses that follow from container and interface: whoever takes it
    /// away after a crash finds them again.
    pub(crate) fn new(id: u16, wanted: Wanted) -> Self {
        let Wanted { container_id, interface, netns, pod, addresses, mtu, route_mtu, host_ports } = wanted;
        let digest = digest(&container_id, &interface);
        let device = Device::of(&container_id, &interface);
        let mac = Mac::local(&digest[12..18]);
        let state = EndpointState::Creating;
        Self {
            id,
            container_id,
            interface,
            netns,
            pod,
            addresses,
            device,
            mac,
            mtu,
            route_mtu,
            host_ports,
            state,
        }
    }

    /// Who it is, for messages.
    pub fn shown(&self) -> String {
        match &self.pod {
            Some(PodName { namespace, name, .. }) => format!("pod {namespace}/{name}"),
            None => format!("container {}", self.container_id),
        }
    }
}

impl Device {
    /// That of a container's interface, before it was made.
    pub(crate) fn of(container_id: &str, interface: &str) -> Self {
        let digest = digest(container_id, interface);
        let name: String = digest[..6].iter().map(|byte| format!("{byte:02x}")).collect();
        Self { name: format!("{PREFIX}{name}"), index: 0, mac: Mac::local(&digest[6..12]) }
    }
}

fn digest(container_id: &str, interface: &str) -> [u8; 32] {
    Sha256::new().chain_update(container_id).chain_update([0]).chain_update(interface).finalize().into()
}

impl Mac {
    /// A locally administered address of one device (IEEE 802, two lowest bits of the first byte).
    fn local(bytes: &[u8]) -> Self {
        let mut address = [0; 6];
        address.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        address[0] = address[0] & 0xfc | 0x02;
        Self(address)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

impl TryFrom<String> for Mac {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no hardware address");
        let mut address = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut address {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(wrong)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        if parts.next().is_some() {
            return Err(wrong());
        }
        Ok(Self(address))
    }
}

#[cfg(test)]
mod tests {
    use super::{Endpoint, Mac, Wanted};

    fn wanted(container: &str, interface: &str) -> Wanted {
        Wanted {
            container_id: container.to_owned(),
            interface: interface.to_owned(),
            netns: String::new(),
            pod: None,
            addresses: Vec::new(),
            mtu: 1500,
            route_mtu: 1450,
            host_ports: Vec::new(),
        }
    }

    #[test]
    fn names_follow_from_container_and_interface() {
        let first = Endpoint::new(1, wanted("c", "eth0"));
        let again = Endpoint::new(2, wanted("c", "eth0"));
        assert_eq!((&first.device, first.mac), (&again.device, again.mac));
        // The kernel has room for fifteen characters.
        assert_eq!(first.device.name.len(), 15);
        for other in [wanted("c", "eth1"), wanted("d", "eth0"), wanted("ce", "th0")] {
            assert_ne!(Endpoint::new(1, other).device.name, first.device.name);
        }
        for mac in [first.mac, first.device.mac] {
            assert_eq!(mac.0[0] & 3, 2, "one device's, locally administered: {mac}");
        }
    }

    #[test]
    fn hardware_addresses_come_back_as_they_went() {
        let mac = Mac([2, 0, 0x5e, 0, 0xff, 9]);
        assert_eq!(mac.to_string(), "02:00:5e:00:ff:09");
        assert_eq!(Mac::try_from(mac.to_string()), Ok(mac));
        for wrong in ["", "02:00:5e:00:ff", "02:00:5e:00:ff:09:01", "+2:00:5e:00:ff:09:", "2:0:5e:0:ff:9"] {
            assert!(Mac::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }
}
