//! Which packets of pods leave with the node's address, and with which.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use mesh_control_node::NodeState;
use mesh_ebpf_abi::{Addr, MasqueradeValue, NetKey, net_flags};
use mesh_ebpf_maps::{MapError, MapTable, PinnedMaps};

use crate::args::PodOptions;

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Masquerade {
    pods: Vec<IpNet>,
    native: Vec<IpNet>,
    v4: bool,
    v6: bool,
}

/// What should be in the maps.
#[derive(Debug, Default, PartialEq, Eq)]
struct Desired {
    devices: BTreeMap<u32, MasqueradeValue>,
    nets: BTreeMap<NetKey, u32>,
}

impl Masquerade {
    /// As the options say; nothing for an agent without addresses for pods.
    pub(crate) fn of(options: &PodOptions) -> Self {
        let native = options.ipv4_native_routing_cidr.iter().map(|range| IpNet::V4(range.trunc()));
        let native_v6 = options.ipv6_native_routing_cidr.iter().map(|range| IpNet::V6(range.trunc()));
        Self {
            pods: options.ranges(),
            native: native.chain(native_v6).collect(),
            v4: options.enable_ipv4_masquerade,
            v6: options.enable_ipv6_masquerade,
        }
    }

    /// Brings the maps up to date with the node's devices to the outside (by index) and their addresses. Costs system
    /// calls in the number of entries.
    pub(crate) fn write(
        &self,
        maps: &mut PinnedMaps,
        node: &NodeState,
        outside: &[u32],
    ) -> Result<(), MapError> {
        let Desired { devices, nets } = self.desired(node, outside);
        // The ranges first: a device that begins to masquerade knows what not to.
        bring(maps.nets(), &nets)?;
        bring(maps.masquerade(), &devices)
    }

    fn desired(&self, node: &NodeState, outside: &[u32]) -> Desired {
        let mut desired = Desired::default();
        if self.pods.is_empty() {
            return desired;
        }
        for (ranges, flag) in [(&self.pods, net_flags::POD), (&self.native, net_flags::NATIVE)] {
            for range in ranges {
                *desired.nets.entry(key_of(range)).or_default() |= flag;
            }
        }
        for index in outside {
            let first = |is_wanted: fn(&IpAddr) -> bool| {
                node.addresses
                    .iter()
                    .find(|(at, address)| at == index && is_wanted(address))
                    .map(|(_, ip)| *ip)
            };
            let of_family = |is_on: bool, address: Option<IpAddr>| match address {
                Some(address) if is_on => Addr::from(address),
                _ => MasqueradeValue::UNSET,
            };
            let v4 = of_family(self.v4, first(IpAddr::is_ipv4));
            let v6 = of_family(self.v6, first(IpAddr::is_ipv6));
            if v4 != MasqueradeValue::UNSET || v6 != MasqueradeValue::UNSET {
                desired.devices.insert(*index, MasqueradeValue { v4, v6 });
            }
        }
        desired
    }
}

/// IPv4 is v4-mapped in the maps, and so 96 bits longer.
fn key_of(range: &IpNet) -> NetKey {
    let bits = match range {
        IpNet::V4(range) => 96 + u32::from(range.prefix_len()),
        IpNet::V6(range) => u32::from(range.prefix_len()),
    };
    NetKey { bits, address: range.network().into() }
}

fn bring<K: Ord, V: PartialEq>(
    map: &mut dyn MapTable<K, V>,
    wanted: &BTreeMap<K, V>,
) -> Result<(), MapError> {
    let present = map.entries()?;
    for (key, value) in wanted {
        if !present.iter().any(|(known, has)| known == key && has == value) {
            map.insert(key, value)?;
        }
    }
    for (key, _) in present.iter().filter(|(key, _)| !wanted.contains_key(key)) {
        map.remove(key)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use mesh_control_node::NodeState;
    use mesh_ebpf_abi::{MasqueradeValue, NetKey, net_flags};

    use super::Masquerade;

    fn ips(texts: &[(u32, &str)]) -> NodeState {
        let addresses = texts.iter().map(|(index, text)| (*index, text.parse().expect("an address")));
        NodeState { addresses: addresses.collect(), ..NodeState::default() }
    }

    fn nets(texts: &[&str]) -> Vec<ipnet::IpNet> {
        texts.iter().map(|text| text.parse().expect("a range")).collect()
    }

    #[test]
    fn each_device_has_its_own_first_address_of_each_family() {
        let all = Masquerade {
            pods: nets(&["10.0.1.0/24", "fd00::/64"]),
            native: nets(&["10.0.0.0/8"]),
            v4: true,
            v6: true,
        };
        let node = ips(&[(2, "192.0.2.1"), (2, "192.0.2.2"), (2, "2001:db8::1"), (3, "198.51.100.1")]);
        let desired = all.desired(&node, &[2, 3, 4]);
        assert_eq!(desired.devices.len(), 2, "a device without an address masquerades nothing");
        assert_eq!(desired.devices[&2].v4.to_string(), "192.0.2.1");
        assert_eq!(desired.devices[&2].v6.to_string(), "2001:db8::1");
        assert_eq!(desired.devices[&3].v6, MasqueradeValue::UNSET);
        let pods = NetKey { bits: 120, address: "10.0.1.0".parse::<std::net::IpAddr>().expect("ip").into() };
        assert_eq!((desired.nets.len(), desired.nets[&pods]), (3, net_flags::POD));
    }

    #[test]
    fn what_is_switched_off_or_has_no_pods_masquerades_nothing() {
        let node = ips(&[(2, "192.0.2.1"), (2, "2001:db8::1")]);
        let no_v6 = Masquerade { pods: nets(&["10.0.1.0/24"]), v4: true, ..Masquerade::default() };
        assert_eq!(no_v6.desired(&node, &[2]).devices[&2].v6, MasqueradeValue::UNSET);
        let no_pods = Masquerade { v4: true, v6: true, ..Masquerade::default() };
        assert_eq!(no_pods.desired(&node, &[2]), super::Desired::default());
    }
}
