//! The kernel's maps, decoded for people and scripts.
//!
//! Read through handles of its own, so that looking never waits for who writes, nor the other way round.
//! Every answer costs system calls in the number of entries.

use std::path::Path;

use mesh_control_endpoint::Mac;
use mesh_ebpf_abi::events::{Event, PacketEvent};
use mesh_ebpf_abi::{
    Addr, BackendState, EndpointValue, FragmentKey, FragmentValue, MasqueradeValue, NatKey, NatValue, NetKey,
    PodAddresses, Protocol, ServiceFlags, device_flags, net_flags,
};
use mesh_ebpf_maps::{LoadBalancerMaps, MapError, MapLayout, PinnedMaps, layouts, names};
use serde_json::{Value, json};

use crate::services::ServiceIds;

/// Events that one call takes out of the ring.
const MOST_EVENTS: usize = 4096;

/// A map and the name it has on the command line.
const MAPS: &[(&str, &str)] = &[
    ("services", names::SERVICES),
    ("slots", names::SLOTS),
    ("backends", names::BACKENDS),
    ("reverse", names::SOCK_REVERSE),
    ("node-addresses", names::NODE_ADDRS),
    ("listeners", names::LISTENERS),
    ("config", names::CONFIG),
    ("counters", names::COUNTERS),
    ("looking", names::LOOKING),
    ("flows", names::DIRECT_FLOWS),
    ("masquerade", names::MASQUERADE),
    ("nets", names::NETS),
    ("tunnels", names::TUNNELS),
    ("endpoints", names::ENDPOINTS),
    ("sources", names::POD_SOURCES),
    ("nat", names::NAT),
    ("notes", names::NOTES),
    ("fragments", names::FRAGMENTS),
    ("events", names::EVENTS),
];

/// What one map holds, as a list of rows; `None` for a name that no map has.
///
/// # Errors
/// The map cannot be opened or read.
pub(crate) fn rows(pin_root: &Path, name: &str) -> Result<Option<Vec<Value>>, MapError> {
    let mut maps = PinnedMaps::open(pin_root)?;
    let rows = match name {
        "services" => services(&mut maps)?,
        "slots" => slots(&mut maps)?,
        "backends" => backends(&mut maps)?,
        "reverse" => reverse(&mut maps)?,
        "node-addresses" => node_addresses(&mut maps)?,
        "listeners" => listeners(&maps)?,
        "config" => vec![json!({"proxyThreads": maps.proxy_config()?.threads})],
        "counters" => counters(&maps)?,
        "looking" => looking(&maps)?,
        "flows" => flows(&mut maps)?,
        "masquerade" => masquerade(&mut maps)?,
        "nets" => nets(&mut maps)?,
        "tunnels" => tunnels(&mut maps)?,
        "endpoints" => endpoints(&mut maps)?,
        "sources" => sources(&mut maps)?,
        "nat" => nat(&mut maps)?,
        "notes" => notes(&mut maps)?,
        "fragments" => fragments(&mut maps)?,
        "events" => events(pin_root)?,
        _ => return Ok(None),
    };
    Ok(Some(rows))
}

/// All maps: names, sizes, and how full they are.
///
/// # Errors
/// A map cannot be opened or read.
pub(crate) fn overview(pin_root: &Path) -> Result<Vec<Value>, MapError> {
    let mut maps = PinnedMaps::open(pin_root)?;
    MAPS.iter().map(|(name, kernel_name)| fill(&mut maps, pin_root, name, kernel_name)).collect()
}

fn fill(maps: &mut PinnedMaps, pin_root: &Path, name: &str, kernel_name: &str) -> Result<Value, MapError> {
    let layout = layout(kernel_name);
    // Arrays are always full, and a ring says nothing: what is in it is gone when it is read.
    let entries = match name {
        "services" => Some(maps.services().entries()?.len()),
        "slots" => Some(maps.slots().entries()?.len()),
        "backends" => Some(maps.backends().entries()?.len()),
        "reverse" => Some(maps.sock_reverse().entries()?.len()),
        "flows" => Some(maps.direct_flows().entries()?.len()),
        "masquerade" => Some(maps.masquerade().entries()?.len()),
        "nets" => Some(maps.nets().entries()?.len()),
        "tunnels" => Some(maps.tunnels().entries()?.len()),
        "endpoints" => Some(maps.endpoints().entries()?.len()),
        "sources" => Some(maps.pod_sources().entries()?.len()),
        "nat" => Some(maps.nat().entries()?.len()),
        "notes" => Some(maps.notes().entries()?.len()),
        "fragments" => Some(maps.fragments().entries()?.len()),
        "node-addresses" => Some(maps.node_addresses().entries()?.len()),
        "listeners" => Some(maps.listeners()?.len()),
        _ => None,
    };
    Ok(json!({
        "name": name,
        "kernelName": kernel_name,
        "kind": format!("{:?}", layout.kind),
        "entries": entries,
        "maxEntries": layout.max_entries,
        "keyBytes": layout.key_size,
        "valueBytes": layout.value_size,
        "pin": pin_root.join(kernel_name),
    }))
}

fn layout(kernel_name: &str) -> &'static MapLayout {
    layouts().iter().find(|layout| layout.name == kernel_name).expect("every map is in the list of maps")
}

/// Identifiers of the services, for `service list`.
///
/// # Errors
/// The map cannot be opened or read.
pub(crate) fn service_ids(pin_root: &Path) -> Result<ServiceIds, MapError> {
    let mut maps = PinnedMaps::open(pin_root)?;
    let entries = maps.services().entries()?;
    Ok(entries.into_iter().map(|(key, value)| (key, value.service)).collect())
}

fn services(maps: &mut PinnedMaps) -> Result<Vec<Value>, MapError> {
    let mut entries = maps.services().entries()?;
    entries.sort_unstable_by_key(|(key, value)| (value.service, *key));
    let row = |(key, value): (mesh_ebpf_abi::ServiceKey, mesh_ebpf_abi::ServiceValue)| {
        json!({
            "id": value.service,
            "address": key.address.to_ip(),
            "port": key.port.get(),
            "protocol": protocol(key.protocol),
            "scope": key.scope,
            "backends": value.backends,
            "flags": flags(value.flags),
        })
    };
    Ok(entries.into_iter().map(row).collect())
}

fn slots(maps: &mut PinnedMaps) -> Result<Vec<Value>, MapError> {
    let mut entries = maps.slots().entries()?;
    entries.sort_unstable();
    let row = |(key, backend): (mesh_ebpf_abi::SlotKey, u32)| json!({"service": key.service, "slot": key.slot, "backend": backend});
    Ok(entries.into_iter().map(row).collect())
}

fn backends(maps: &mut PinnedMaps) -> Result<Vec<Value>, MapError> {
    let mut entries = maps.backends().entries()?;
    entries.sort_unstable();
    let row = |(id, value): (u32, mesh_ebpf_abi::BackendValue)| {
        json!({
            "id": id,
            "address": value.address.to_ip(),
            "port": value.port.get(),
            "protocol": protocol(value.protocol),
            "state": state(value.state),
        })
    };
    Ok(entries.into_iter().map(row).collect())
}

fn reverse(maps: &mut PinnedMaps) -> Result<Vec<Value>, MapError> {
    let mut entries = maps.sock_reverse().entries()?;
    entries.sort_unstable();
    let row = |(key, value): (mesh_ebpf_abi::ReverseKey, mesh_ebpf_abi::ReverseValue)| {
        json!({
            "cookie": key.cookie,
            "backendAddress": key.address.to_ip(),
            "backendPort": key.port.get(),
            "serviceAddress": value.address.to_ip(),
            "servicePort": value.port.get(),
            "service": value.service,
        })
    };
    Ok(entries.into_iter().map(row).collect())
}

fn node_addresses(maps: &mut PinnedMaps) -> Result<Vec<Value>, MapError> {
    let mut addresses: Vec<Addr> =
        maps.node_addresses().entries()?.into_iter().map(|(address, _)| address).collect();
    addresses.sort_unstable();
    Ok(addresses.into_iter().map(|address| json!({"address": address.to_ip()})).collect())
}

fn listeners(maps: &PinnedMaps) -> Result<Vec<Value>, MapError> {
    let row = |(index, cookie): (u32, u64)| {
        let family = if index % 2 == 0 { "IPv4" } else { "IPv6" };
        json!({"index": index, "thread": index / 2, "family": family, "cookie": cookie})
    };
    Ok(maps.listeners()?.into_iter().map(row).collect())
}

fn counters(maps: &PinnedMaps) -> Result<Vec<Value>, MapError> {
    let rows = maps.counters()?.into_iter();
    Ok(rows.map(|(counter, value)| json!({"name": counter.name(), "value": value})).collect())
}

fn looking(maps: &PinnedMaps) -> Result<Vec<Value>, MapError> {
    let rows = (0..).zip(maps.looking()?);
    Ok(rows.map(|(cpu, looking): (u32, bool)| json!({"cpu": cpu, "looking": looking})).collect())
}

fn flows(maps: &mut PinnedMaps) -> Result<Vec<Value>, MapError> {
    let mut entries = maps.direct_flows().entries()?;
    entries.sort_unstable();
    let row = |(key, value): (mesh_ebpf_abi::DirectFlowKey, mesh_ebpf_abi::DirectFlowValue)| {
        json!({
            "sourceAddress": key.source.to_ip(),
            "sourcePort": key.source_port.get(),
            "destinationAddress": key.destination.to_ip(),
            "destinationPort": key.destination_port.get(),
            "state": if value == mesh_ebpf_abi::DirectFlowValue::OPEN { "open" } else { "closing" },
        })
    };
    Ok(entries.into_iter().map(row).collect())
}

fn masquerade(maps: &mut PinnedMaps) -> Result<Vec<Value>, MapError> {
    let mut entries = maps.masquerade().entries()?;
    entries.sort_unstable_by_key(|(device, _)| *device);
    let shown = |address: Addr| (address != MasqueradeValue::UNSET).then(|| address.to_ip());
    let row = |(device, value): (u32, MasqueradeValue)| {
        let flags = [
            (device_flags::PODS_V4, "pods-ipv4"),
            (device_flags::PODS_V6, "pods-ipv6"),
            (device_flags::FRONTENDS, "frontends"),
        ];
        let flags = flags.iter().filter_map(|(flag, name)| (value.flags & flag != 0).then_some(*name));
        let flags: Vec<&str> = flags.collect();
        json!({"interface": device, "ipv4": shown(value.v4), "ipv6": shown(value.v6), "flags": flags})
    };
    Ok(entries.into_iter().map(row).collect())
}

fn nets(maps: &mut PinnedMaps) -> Result<Vec<Value>, MapError> {
    let mut entries = maps.nets().entries()?;
    entries.sort_unstable();
    let row = |(key, flags): (NetKey, u32)| {
        let flags: Vec<&str> = [(net_flags::POD, "pod"), (net_flags::NATIVE, "native")]
            .into_iter()
            .filter_map(|(flag, name)| (flags & flag != 0).then_some(name))
            .collect();
        json!({"range": range(&key), "flags": flags})
    };
    Ok(entries.into_iter().map(row).collect())
}

fn tunnels(maps: &mut PinnedMaps) -> Result<Vec<Value>, MapError> {
    let mut entries = maps.tunnels().entries()?;
    entries.sort_unstable();
    let row = |(key, node): (NetKey, Addr)| json!({"range": range(&key), "node": node.to_ip()});
    Ok(entries.into_iter().map(row).collect())
}

fn endpoints(maps: &mut PinnedMaps) -> Result<Vec<Value>, MapError> {
    let mut entries = maps.endpoints().entries()?;
    entries.sort_unstable();
    let row = |(address, pod): (Addr, EndpointValue)| {
        json!({
            "address": address.to_ip(),
            "interface": pod.device,
            "mac": Mac(pod.mac).to_string(),
            "nodeMac": Mac(pod.node_mac).to_string(),
        })
    };
    Ok(entries.into_iter().map(row).collect())
}

fn sources(maps: &mut PinnedMaps) -> Result<Vec<Value>, MapError> {
    let mut entries = maps.pod_sources().entries()?;
    entries.sort_unstable();
    let shown = |address: Addr| (address != PodAddresses::UNSET).then(|| address.to_ip());
    let row = |(device, pod): (u32, PodAddresses)| json!({"interface": device, "ipv4": shown(pod.v4), "ipv6": shown(pod.v6)});
    Ok(entries.into_iter().map(row).collect())
}

/// As people write it.
fn range(key: &NetKey) -> String {
    let bits = if key.address.to_ip().is_ipv4() { key.bits.saturating_sub(96) } else { key.bits };
    format!("{}/{bits}", key.address.to_ip())
}

fn nat(maps: &mut PinnedMaps) -> Result<Vec<Value>, MapError> {
    let mut entries = maps.nat().entries()?;
    entries.sort_unstable();
    let row = |(key, value): (NatKey, NatValue)| {
        json!({
            "direction": if key.direction == NatKey::LEAVING { "leaving" } else { "coming" },
            "protocol": protocol(key.protocol),
            "localAddress": key.local.to_ip(),
            "localPort": key.local_port.get(),
            "remoteAddress": key.remote.to_ip(),
            "remotePort": key.remote_port.get(),
            "translatedAddress": value.address.to_ip(),
            "translatedPort": value.port.get(),
            "state": match value.state {
                NatValue::OPENING => "opening",
                NatValue::OPEN => "open",
                NatValue::CLOSING => "closing",
                _ => "unknown",
            },
            "backend": (value.backend != NatValue::NO_BACKEND).then_some(value.backend),
        })
    };
    Ok(entries.into_iter().map(row).collect())
}

fn notes(maps: &mut PinnedMaps) -> Result<Vec<Value>, MapError> {
    let mut entries = maps.notes().entries()?;
    entries.sort_unstable();
    let row = |(key, _): (NatKey, u32)| {
        json!({
            "protocol": protocol(key.protocol),
            "localAddress": key.local.to_ip(),
            "localPort": key.local_port.get(),
            "remoteAddress": key.remote.to_ip(),
            "remotePort": key.remote_port.get(),
        })
    };
    Ok(entries.into_iter().map(row).collect())
}

fn fragments(maps: &mut PinnedMaps) -> Result<Vec<Value>, MapError> {
    let mut entries = maps.fragments().entries()?;
    entries.sort_unstable();
    let row = |(key, value): (FragmentKey, FragmentValue)| {
        json!({
            "sourceAddress": key.source.to_ip(),
            "sourcePort": value.source_port.get(),
            "destinationAddress": key.destination.to_ip(),
            "destinationPort": value.destination_port.get(),
            "identification": key.identification,
            "protocol": protocol(key.protocol),
        })
    };
    Ok(entries.into_iter().map(row).collect())
}

/// Takes out what is there: an event is given to one reader, once.
fn events(pin_root: &Path) -> Result<Vec<Value>, MapError> {
    let rows = PinnedMaps::drain_events(pin_root, MOST_EVENTS)?.into_iter().map(|event| match event {
        Ok(Event::Redirect(packet)) => packet_row("redirect", None, &packet),
        Ok(Event::Drop(reason, packet)) => packet_row("drop", Some(reason.text()), &packet),
        Err(error) => json!({"verdict": "unknown", "reason": error.to_string()}),
    });
    Ok(rows.collect())
}

fn packet_row(verdict: &str, reason: Option<&str>, packet: &PacketEvent) -> Value {
    json!({
        "nanosecondsSinceBoot": packet.timestamp,
        "verdict": verdict,
        "reason": reason,
        "interface": packet.ifindex,
        "protocol": protocol(packet.protocol),
        "sourceAddress": packet.source.to_ip(),
        "sourcePort": packet.source_port.get(),
        "destinationAddress": packet.destination.to_ip(),
        "destinationPort": packet.destination_port.get(),
    })
}

fn protocol(number: u8) -> Value {
    match Protocol::from_number(number.into()) {
        Some(Protocol::Tcp) => json!("TCP"),
        Some(Protocol::Udp) => json!("UDP"),
        None => json!(number.to_string()),
    }
}

fn state(number: u8) -> &'static str {
    const ACTIVE: u8 = BackendState::Active as u8;
    const TERMINATING: u8 = BackendState::Terminating as u8;
    const QUARANTINED: u8 = BackendState::Quarantined as u8;
    match number {
        ACTIVE => "active",
        TERMINATING => "terminating",
        QUARANTINED => "quarantined",
        _ => "unknown",
    }
}

fn flags(flags: ServiceFlags) -> Vec<String> {
    let shown = format!("{flags:?}");
    if flags == ServiceFlags::NONE { Vec::new() } else { shown.split(',').map(str::to_owned).collect() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use mesh_ebpf_abi::ServiceFlags;
    use mesh_ebpf_maps::{layouts, names};

    use super::{MAPS, flags};

    #[test]
    fn every_map_of_the_datapath_can_be_listed() {
        let listed: BTreeSet<&str> = MAPS.iter().map(|(_, kernel_name)| *kernel_name).collect();
        // But the one whose bytes mean nothing between two packets.
        let all = layouts().iter().map(|layout| layout.name).filter(|name| *name != names::SCRATCH);
        assert_eq!(listed, all.collect::<BTreeSet<&str>>());
    }

    #[test]
    fn flags_are_words() {
        assert!(flags(ServiceFlags::NONE).is_empty());
        assert_eq!(flags(ServiceFlags::L7_REDIRECT), ["l7-redirect"]);
        let both = ServiceFlags::L7_REDIRECT.with(ServiceFlags::AFFINITY);
        assert_eq!(flags(both), ["l7-redirect", "affinity"]);
    }
}
