//! Pods' devices that no record tells of. Their pods keep what they have: nobody else gets their addresses, and they are
//! masqueraded and held to their addresses as any other.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use mesh_control_endpoint::Stranger;
use mesh_control_ipam::NodeIpam;
use mesh_control_node::NodeState;

/// Those that are left.
#[derive(Debug, Default)]
pub(crate) struct Strangers(Mutex<Vec<Stranger>>);

impl Strangers {
    /// These.
    pub(crate) fn new(strangers: Vec<Stranger>) -> Self {
        Self(Mutex::new(strangers))
    }

    /// All of them.
    pub(crate) fn list(&self) -> Vec<Stranger> {
        self.lock().clone()
    }

    /// Their addresses.
    pub(crate) fn addresses(&self) -> Vec<IpAddr> {
        self.lock().iter().flat_map(|stranger| stranger.addresses.clone()).collect()
    }

    /// Takes their addresses in the name of their devices.
    pub(crate) fn claim(&self, ipam: &mut NodeIpam) {
        for Stranger { device, addresses } in self.lock().iter() {
            ipam.claim(addresses, &device.name);
        }
    }

    /// Gives back what those had whose device went, as it does with the pod's namespace; what that was.
    pub(crate) fn forget_gone(&self, node: &NodeState, ipam: &mut NodeIpam) -> Vec<IpAddr> {
        self.forget(ipam, |stranger| !node.links.contains_key(&stranger.device.index))
    }

    /// Gives back what the one with this device had; what that was.
    pub(crate) fn forget_device(&self, name: &str, ipam: &mut NodeIpam) -> Vec<IpAddr> {
        self.forget(ipam, |stranger| stranger.device.name == name)
    }

    fn forget(&self, ipam: &mut NodeIpam, is_gone: impl Fn(&Stranger) -> bool) -> Vec<IpAddr> {
        let mut given_back = Vec::new();
        self.lock().retain(|stranger| {
            let is_gone = is_gone(stranger);
            if is_gone {
                ipam.release(&stranger.addresses, &stranger.device.name);
                given_back.extend(&stranger.addresses);
            }
            !is_gone
        });
        given_back
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Stranger>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use mesh_control_endpoint::{Device, Mac, Stranger};
    use mesh_control_ipam::NodeIpam;
    use mesh_control_node::{Link, NodeState};

    use super::Strangers;

    #[test]
    fn nobody_gets_an_address_of_a_pod_without_a_record_until_its_device_is_gone() {
        let device = |index| Device { name: format!("mrp{index}"), index, mac: Mac([2; 6]) };
        let stranger = |index: u32| Stranger {
            device: device(index),
            addresses: vec![format!("10.0.0.{index}").parse().expect("an address")],
        };
        let strangers = Strangers::new(vec![stranger(1), stranger(2)]);
        let mut ipam = NodeIpam::default();
        ipam.set_ranges(&["10.0.0.0/30".parse().expect("a range")]);
        strangers.claim(&mut ipam);
        ipam.allocate("a").expect_err("both are taken");
        let link = Link {
            index: 1,
            name: "mrp1".to_owned(),
            up: true,
            ethernet: true,
            default_route: false,
            external: false,
            mtu: 1500,
        };
        let node = NodeState { links: [(1, link)].into(), ..NodeState::default() };
        assert_eq!(strangers.forget_gone(&node, &mut ipam), stranger(2).addresses);
        assert_eq!(ipam.allocate("a").expect("one is free")[0].to_string(), "10.0.0.2");
        assert_eq!(strangers.forget_device("mrp1", &mut ipam), stranger(1).addresses);
        assert!(strangers.list().is_empty());
        assert_eq!(ipam.allocate("b").expect("the other one too")[0].to_string(), "10.0.0.1");
    }
}
