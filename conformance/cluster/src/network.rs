//! The nodes' network: a bridge on the host with a pair of devices to each node.

use std::path::Path;

use mesh_testkit::namespace::{Namespace, ip};

use crate::node::Node;
use crate::spec::{Plan, Spec};

/// Makes the bridge and the nodes' namespaces and devices, where they are missing.
pub(crate) fn create(spec: &Spec, nodes: &[Node]) -> anyhow::Result<()> {
    let (bridge, plan) = (spec.prefix(), spec.plan());
    if !is_device(&bridge) {
        ip(&["link", "add", &bridge, "type", "bridge"])?;
    }
    for (number, node) in (1..).zip(nodes) {
        let namespace = Namespace::ensure(node.network())?;
        let host_end = format!("{bridge}-{number}");
        if namespace.ip(&["link", "show", "eth0"]).is_err() {
            // The node's namespace went; this end goes with it, at a time of the kernel's choosing.
            remove_device(&host_end)?;
            #[rustfmt::skip]
            ip(&["link", "add", &host_end, "type", "veth", "peer", "name", "eth0", "netns", node.network()])?;
        }
        ip(&["link", "set", &host_end, "master", &bridge, "up"])?;
        // Detecting duplicates would take a second, and there are none.
        namespace.sysctl("net/ipv6/conf/eth0/accept_dad", "0")?;
        namespace.sysctl("net/ipv4/ip_forward", "1")?;
        namespace.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        namespace.ip(&["link", "set", "lo", "up"])?;
        namespace.ip(&["link", "set", "eth0", "up"])?;
        for (address, host) in addresses(plan, number).zip(addresses(plan, 0)) {
            namespace.ip(&["address", "replace", &address, "dev", "eth0", "nodad"])?;
            let (gateway, _) = host.split_once('/').unwrap_or((&host, ""));
            namespace.ip(&[family(&host), "route", "replace", "default", "via", gateway, "dev", "eth0"])?;
        }
    }
    for address in addresses(plan, 0) {
        ip(&["address", "replace", &address, "dev", &bridge, "nodad"])?;
    }
    ip(&["link", "set", &bridge, "up"]).map(drop)
}

/// Removes all of it.
pub(crate) fn remove(prefix: &str) -> anyhow::Result<()> {
    mesh_testkit::namespace::sweep(&format!("{prefix}-"))?;
    for entry in Path::new("/sys/class/net").read_dir()? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let is_port = name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('-'));
        if is_port || name == prefix {
            remove_device(&name)?;
        }
    }
    Ok(())
}

/// Removes a device; none is no error. What is gone between looking and deleting is what was wanted.
fn remove_device(name: &str) -> anyhow::Result<()> {
    if is_device(name) && ip(&["link", "delete", name]).is_err() && is_device(name) {
        anyhow::bail!("cannot delete the device {name}");
    }
    Ok(())
}

/// Routes to a range of pods by way of a node: on the host and on the other nodes.
pub(crate) fn route(range: &str, number: u8, spec: &Spec, nodes: &[Node]) -> anyhow::Result<()> {
    let via = way_to(range, number, spec);
    for (other, node) in (1..).zip(nodes) {
        if other != number {
            Namespace::ensure(node.network())?.ip(&[
                family(range),
                "route",
                "replace",
                range,
                "via",
                &via,
            ])?;
        }
    }
    route_on_host(range, number, spec)
}

/// The same on the host alone: the API server reaches pods that are its extensions, and those that are asked through it.
pub(crate) fn route_on_host(range: &str, number: u8, spec: &Spec) -> anyhow::Result<()> {
    ip(&[family(range), "route", "replace", range, "via", &way_to(range, number, spec)]).map(drop)
}

fn way_to(range: &str, number: u8, spec: &Spec) -> String {
    let plan = spec.plan();
    if range.contains(':') { plan.v6(number).to_string() } else { plan.v4(number).to_string() }
}

fn is_device(name: &str) -> bool {
    Path::new("/sys/class/net").join(name).exists()
}

fn family(address: &str) -> &'static str {
    if address.contains(':') { "-6" } else { "-4" }
}

/// With the length of their prefix.
fn addresses(plan: Plan, number: u8) -> impl Iterator<Item = String> {
    let addresses = plan.addresses(number).into_iter();
    addresses.map(|address| format!("{address}/{}", if address.is_ipv4() { 24 } else { 64 }))
}
