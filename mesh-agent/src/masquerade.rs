//! Which packets leave with the node's address, and with which: pods', and those that frontends send on.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{PoisonError, RwLock};

use ipnet::{IpNet, Ipv4Net};
use mesh_control_node::NodeState;
use mesh_ebpf_abi::{Addr, MasqueradeValue, NetKey, device_flags, net_flags};
use mesh_ebpf_maps::{MapError, MapTable, PinnedMaps};

use crate::args::PodOptions;

/// What was asked for, and whose packets there are.
#[derive(Debug, Default)]
pub(crate) struct Masquerade {
    ranges: RwLock<Ranges>,
    native: Vec<IpNet>,
    v4: bool,
    v6: bool,
}

/// Ranges of pods, as far as they are known.
#[derive(Debug, Default)]
struct Ranges {
    /// Those of this node. Until they are known the maps stay as an earlier agent left them.
    own: Option<Vec<IpNet>>,
    /// Those of other nodes: pods know each other by their own addresses. Until they are known nothing is taken out.
    remote: Option<Vec<IpNet>>,
}

/// A device that leads away from the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outside {
    /// Its index.
    pub(crate) index: u32,
    /// It leads to other nodes' pods, by tunnels.
    pub(crate) is_tunnel: bool,
}

/// What should be in the maps.
#[derive(Debug, Default, PartialEq, Eq)]
struct Desired {
    devices: BTreeMap<u32, MasqueradeValue>,
    nets: BTreeMap<NetKey, u32>,
    /// Whether nothing else belongs into `nets`.
    is_whole: bool,
}

impl Masquerade {
    /// As the options say; nothing for an agent without addresses for pods.
    pub(crate) fn of(options: &PodOptions) -> Self {
        let native = options.ipv4_native_routing_cidr.iter().map(|range| IpNet::V4(range.trunc()));
        let native_v6 = options.ipv6_native_routing_cidr.iter().map(|range| IpNet::V6(range.trunc()));
        Self {
            ranges: RwLock::new(Ranges { own: (!options.is_wanted()).then(Vec::new), remote: None }),
            native: native.chain(native_v6).collect(),
            v4: options.enable_ipv4_masquerade,
            v6: options.enable_ipv6_masquerade,
        }
    }

    /// The ranges of this node's pods.
    pub(crate) fn set_own(&self, ranges: Vec<IpNet>) {
        self.ranges.write().unwrap_or_else(PoisonError::into_inner).own = Some(ranges);
    }

    /// The ranges of other nodes' pods.
    pub(crate) fn set_remote(&self, ranges: Vec<IpNet>) {
        self.ranges.write().unwrap_or_else(PoisonError::into_inner).remote = Some(ranges);
    }

    /// Brings the maps up to date with the node's devices to the outside (by index) and their addresses, and with
    /// whether anything is offered there. Costs system calls in the number of entries.
    pub(crate) fn write(
        &self,
        maps: &mut PinnedMaps,
        node: &NodeState,
        outside: &[Outside],
        has_frontends: bool,
    ) -> Result<(), MapError> {
        let last = maps.masquerade().entries()?.into_iter().collect();
        let Some(Desired { devices, nets, is_whole }) = self.desired(node, outside, has_frontends, &last)
        else {
            return Ok(());
        };
        // The ranges first: a device that begins to masquerade knows what not to.
        bring(maps.nets(), &nets, is_whole)?;
        bring(maps.masquerade(), &devices, true)
    }

    /// `None` while that cannot be told. The last choice stands while it can.
    fn desired(
        &self,
        node: &NodeState,
        outside: &[Outside],
        has_frontends: bool,
        last: &BTreeMap<u32, MasqueradeValue>,
    ) -> Option<Desired> {
        let pods = self.ranges.read().unwrap_or_else(PoisonError::into_inner);
        let own = pods.own.as_ref()?;
        let has_pods = !own.is_empty();
        let mut desired = Desired { is_whole: !has_pods || pods.remote.is_some(), ..Desired::default() };
        let mut flags = 0;
        for (is_on, flag) in [
            (has_pods && self.v4, device_flags::PODS_V4),
            (has_pods && self.v6, device_flags::PODS_V6),
            (has_frontends, device_flags::FRONTENDS),
        ] {
            flags |= if is_on { flag } else { 0 };
        }
        if flags == 0 {
            return Some(desired);
        }
        let none = Vec::new();
        let remote = pods.remote.as_ref().unwrap_or(&none);
        let of_flags =
            [(own, net_flags::POD), (remote, net_flags::NATIVE), (&self.native, net_flags::NATIVE)];
        let of_flags = of_flags.iter().flat_map(|(ranges, flag)| ranges.iter().map(|range| (*range, *flag)));
        desired.nets = nets_of(of_flags);
        for Outside { index, is_tunnel } in outside {
            // What pods say to each other is theirs.
            let flags = if *is_tunnel { flags & device_flags::FRONTENDS } else { flags };
            if flags == 0 {
                continue;
            }
            let last = last.get(index).copied().unwrap_or_default();
            let of_family = |is_on: bool, is_wanted: fn(&IpAddr) -> bool, last: Addr| {
                let there = node.addresses.iter().filter(|(at, address)| at == index && is_wanted(address));
                let there: Vec<IpAddr> = there.map(|(_, address)| *address).collect();
                is_on.then(|| choose(&there, &node.avoided, last)).flatten().unwrap_or(MasqueradeValue::UNSET)
            };
            let v4 = of_family(has_frontends || self.v4, IpAddr::is_ipv4, last.v4);
            let v6 = of_family(has_frontends || self.v6, IpAddr::is_ipv6, last.v6);
            if v4 != MasqueradeValue::UNSET || v6 != MasqueradeValue::UNSET {
                desired.devices.insert(*index, MasqueradeValue { v4, v6, flags });
            }
        }
        Some(desired)
    }
}

/// What the map of ranges has to say. The longest range that holds an address is the one that counts, so each is also
/// what those are that hold it.
fn nets_of(ranges: impl Iterator<Item = (IpNet, u32)>) -> BTreeMap<NetKey, u32> {
    let mut told: BTreeMap<IpNet, u32> = BTreeMap::new();
    for (range, flags) in ranges {
        *told.entry(range.trunc()).or_default() |= flags;
    }
    let lengths: BTreeSet<u8> = told.keys().map(IpNet::prefix_len).collect();
    let flags_of = |range: &IpNet| {
        let holders = lengths.iter().take_while(|length| **length <= range.prefix_len());
        let holders = holders.filter_map(|length| IpNet::new(range.addr(), *length).ok());
        holders.filter_map(|holder| told.get(&holder.trunc())).fold(0, |flags, of_holder| flags | of_holder)
    };
    let mut nets: BTreeMap<NetKey, u32> = told.keys().map(|range| (key_of(range), flags_of(range))).collect();
    // IPv4 lies inside of IPv6 in the map, where a range of IPv6 says nothing about it.
    let all_v4 = IpNet::V4(Ipv4Net::default());
    if !told.is_empty() {
        nets.entry(key_of(&all_v4)).or_insert(0);
    }
    nets
}

/// The address that packets leave a device with: the one that they left with until now, while it is there. An address
/// that comes is no reason to change: it may be one that moves from node to node.
fn choose(there: &[IpAddr], avoided: &BTreeSet<IpAddr>, last: Addr) -> Option<Addr> {
    let is_last = |address: &&IpAddr| Addr::from(**address) == last;
    let good = || there.iter().filter(|address| !avoided.contains(address));
    let any = || there.iter();
    let chosen = good().find(is_last).or_else(|| good().next()).or_else(|| any().find(is_last));
    chosen.or_else(|| any().next()).map(|address| Addr::from(*address))
}

/// IPv4 is v4-mapped in the maps, and so 96 bits longer.
pub(crate) fn key_of(range: &IpNet) -> NetKey {
    let bits = match range {
        IpNet::V4(range) => 96 + u32::from(range.prefix_len()),
        IpNet::V6(range) => u32::from(range.prefix_len()),
    };
    NetKey { bits, address: range.network().into() }
}

/// Makes a map have these entries; others are taken out where these are all.
pub(crate) fn bring<K: Ord, V: PartialEq>(
    map: &mut dyn MapTable<K, V>,
    wanted: &BTreeMap<K, V>,
    is_whole: bool,
) -> Result<(), MapError> {
    let present = map.entries()?;
    for (key, value) in wanted {
        if !present.iter().any(|(known, has)| known == key && has == value) {
            map.insert(key, value)?;
        }
    }
    for (key, _) in present.iter().filter(|(key, _)| is_whole && !wanted.contains_key(key)) {
        map.remove(key)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::IpAddr;

    use mesh_control_node::NodeState;
    use mesh_ebpf_abi::{MasqueradeValue, NetKey, device_flags, net_flags};

    use super::{Masquerade, Outside};

    fn ips(texts: &[(u32, &str)]) -> NodeState {
        let addresses = texts.iter().map(|(index, text)| (*index, text.parse().expect("an address")));
        NodeState { addresses: addresses.collect(), ..NodeState::default() }
    }

    fn nets(texts: &[&str]) -> Vec<ipnet::IpNet> {
        texts.iter().map(|text| text.parse().expect("a range")).collect()
    }

    #[test]
    fn each_device_has_its_own_first_address_of_each_family() {
        let all = Masquerade { native: nets(&["10.0.0.0/8"]), v4: true, v6: true, ..Masquerade::default() };
        let node = ips(&[(2, "192.0.2.1"), (2, "192.0.2.2"), (2, "2001:db8::1"), (3, "198.51.100.1")]);
        assert_eq!(
            all.desired(&node, &wires(&[2]), false, &BTreeMap::new()),
            None,
            "whose packets there are is not known yet"
        );
        all.set_own(nets(&["10.0.1.0/24", "fd00::/64"]));
        let desired =
            all.desired(&node, &wires(&[2, 3, 4]), false, &BTreeMap::new()).expect("its ranges are known");
        assert_eq!(desired.devices.len(), 2, "a device without an address masquerades nothing");
        assert_eq!(desired.devices[&2].v4.to_string(), "192.0.2.1");
        assert_eq!(desired.devices[&2].v6.to_string(), "2001:db8::1");
        assert_eq!(desired.devices[&3].v6, MasqueradeValue::UNSET);
        assert_eq!(desired.nets[&key("10.0.1.0")], net_flags::POD | net_flags::NATIVE);
        assert_eq!(desired.nets.len(), 4, "IPv4 as a whole is nothing");
        assert!(!desired.is_whole, "other nodes are not known yet, and nothing of theirs is taken out");
    }

    #[test]
    fn an_address_that_comes_changes_nothing() {
        let all = Masquerade { v4: true, v6: true, ..Masquerade::default() };
        all.set_own(nets(&["10.0.1.0/24"]));
        let choice = |node: &NodeState, last: &BTreeMap<u32, MasqueradeValue>| {
            let devices = all.desired(node, &wires(&[2]), false, last).expect("known").devices;
            ((devices[&2].v4.to_string(), devices[&2].v6.to_string()), devices)
        };
        let (first, last) = choice(&ips(&[(2, "192.0.2.50"), (2, "2001:db8::50")]), &BTreeMap::new());
        assert_eq!(first, ("192.0.2.50".into(), "2001:db8::50".into()));
        let mut node = ips(&[
            (2, "192.0.2.10"),
            (2, "192.0.2.50"),
            (2, "192.0.2.60"),
            (2, "2001:db8::10"),
            (2, "2001:db8::50"),
        ]);
        assert_eq!(choice(&node, &last).0, first);
        // But where the last one is on its way out, or has gone.
        node.avoided.extend(["2001:db8::50", "192.0.2.10"].map(|text| text.parse::<IpAddr>().expect("one")));
        node.addresses.retain(|(_, address)| address.to_string() != "192.0.2.50");
        assert_eq!(choice(&node, &last).0, ("192.0.2.60".into(), "2001:db8::10".into()));
        node.avoided.extend(node.addresses.iter().map(|(_, address)| *address).collect::<Vec<_>>());
        assert_eq!(choice(&node, &last).0, ("192.0.2.10".into(), "2001:db8::50".into()), "better than none");
    }

    #[test]
    fn pods_of_other_nodes_are_reached_without_masquerading() {
        let all = Masquerade { v4: true, ..Masquerade::default() };
        all.set_own(nets(&["10.0.1.0/24"]));
        all.set_remote(nets(&["10.0.2.0/24"]));
        let desired = all
            .desired(&ips(&[(2, "192.0.2.1")]), &wires(&[2]), false, &BTreeMap::new())
            .expect("its ranges are known");
        assert!(desired.is_whole);
        assert_eq!(desired.nets[&key("10.0.2.0")], net_flags::NATIVE);
    }

    #[test]
    fn a_range_is_also_what_those_are_that_hold_it() {
        let all = Masquerade {
            native: nets(&["::/0", "10.2.0.0/16"]),
            v4: true,
            v6: true,
            ..Masquerade::default()
        };
        all.set_own(nets(&["10.0.0.0/8", "fd00:1::/64", "192.0.2.7/32"]));
        all.set_remote(nets(&["10.2.3.0/24", "192.0.2.0/24"]));
        let node = ips(&[(2, "198.51.100.1")]);
        let nets = all.desired(&node, &wires(&[2]), false, &BTreeMap::new()).expect("known").nets;
        let of = |text: &str| {
            let range: ipnet::IpNet = text.parse().expect("a range");
            nets[&super::key_of(&range)]
        };
        let both = net_flags::POD | net_flags::NATIVE;
        assert_eq!([of("10.0.0.0/8"), of("10.2.0.0/16"), of("10.2.3.0/24")], [net_flags::POD, both, both]);
        assert_eq!([of("192.0.2.7/32"), of("fd00:1::/64"), of("::/0")], [both, both, net_flags::NATIVE]);
        assert_eq!(of("0.0.0.0/0"), 0, "IPv6 as a whole says nothing about IPv4");
    }

    #[test]
    fn what_is_switched_off_or_has_no_pods_masquerades_nothing() {
        let node = ips(&[(2, "192.0.2.1"), (2, "2001:db8::1")]);
        let no_v6 = Masquerade { v4: true, ..Masquerade::default() };
        no_v6.set_own(nets(&["10.0.1.0/24"]));
        let of = |masquerade: &Masquerade, has_frontends| {
            masquerade.desired(&node, &wires(&[2]), has_frontends, &BTreeMap::new()).expect("known")
        };
        assert_eq!(of(&no_v6, false).devices[&2].v6, MasqueradeValue::UNSET);
        let no_pods = Masquerade { v4: true, v6: true, ..Masquerade::default() };
        no_pods.set_own(Vec::new());
        assert_eq!(of(&no_pods, false), super::Desired { is_whole: true, ..super::Desired::default() });
        // Frontends need the node's address, whatever becomes of pods.
        let offered = of(&no_v6, true).devices[&2];
        assert_eq!(offered.flags, device_flags::PODS_V4 | device_flags::FRONTENDS);
        assert_ne!(offered.v6, MasqueradeValue::UNSET);
        assert_eq!(of(&no_pods, true).devices[&2].flags, device_flags::FRONTENDS);
    }

    #[test]
    fn pods_keep_their_addresses_in_a_tunnel() {
        let all = Masquerade { v4: true, v6: true, ..Masquerade::default() };
        all.set_own(nets(&["10.0.1.0/24"]));
        let node = ips(&[(2, "192.0.2.1"), (9, "10.0.1.1")]);
        let outside = [Outside { index: 2, is_tunnel: false }, Outside { index: 9, is_tunnel: true }];
        let devices = all.desired(&node, &outside, true, &BTreeMap::new()).expect("known").devices;
        assert_eq!(devices[&9].flags, device_flags::FRONTENDS);
        assert_eq!(devices[&9].v4.to_string(), "10.0.1.1", "answers come by the tunnel");
        assert!(
            !all.desired(&node, &outside, false, &BTreeMap::new()).expect("known").devices.contains_key(&9)
        );
    }

    fn wires(indices: &[u32]) -> Vec<Outside> {
        indices.iter().map(|index| Outside { index: *index, is_tunnel: false }).collect()
    }

    /// Of a range of 24 bits.
    fn key(text: &str) -> NetKey {
        NetKey { bits: 120, address: text.parse::<IpAddr>().expect("an address").into() }
    }
}
