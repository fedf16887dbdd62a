use mesh_model::Node;
use serde_json::{Value, json};

use super::set;
use crate::{Nodes, PodRanges, nodes};

fn node(name: &str, created: &str, addresses: &[&str], ranges: &[&str]) -> Value {
    let addresses: Vec<Value> =
        addresses.iter().map(|ip| json!({"type": "InternalIP", "address": ip})).collect();
    json!({
        "kind": "Node",
        "metadata": {"name": name, "creationTimestamp": created},
        "spec": {"podCIDRs": ranges},
        "status": {"addresses": addresses},
    })
}

fn shown(node: &Node) -> String {
    let addresses: Vec<String> = node.internal_addresses().map(|address| address.to_string()).collect();
    let ranges: Vec<String> = node.pod_ranges.iter().map(ToString::to_string).collect();
    format!("{} {} {}", node.name, addresses.join(","), ranges.join(","))
}

fn read(objects: Vec<Value>, ranges: PodRanges) -> (Vec<String>, Vec<String>) {
    let Nodes { nodes, notes } = nodes(&set(objects), ranges);
    let notes = notes.iter().map(|note| format!("{}: {}", note.origin, note.message));
    (nodes.iter().map(shown).collect(), notes.collect())
}

#[test]
fn a_node_has_its_first_internal_address_of_each_family_and_its_ranges() {
    let mut one = node(
        "one",
        "2026-01-01T00:00:00Z",
        &["192.0.2.1", "2001:db8::1", "192.0.2.9"],
        &["10.0.1.7/24", "fd00::/64"],
    );
    let addresses = one["status"]["addresses"].as_array_mut().unwrap();
    addresses.insert(0, json!({"type": "Hostname", "address": "one"}));
    let mut old = node("old", "2026-01-01T00:00:00Z", &["192.0.2.2"], &[]);
    old["spec"] = json!({"podCIDR": "10.0.2.0/24"});
    let (nodes, notes) = read(vec![one, old], PodRanges::OfNodes);
    assert_eq!(nodes, ["old 192.0.2.2 10.0.2.0/24", "one 192.0.2.1,2001:db8::1 10.0.1.0/24,fd00::/64"]);
    assert!(notes.is_empty(), "{notes:?}");
}

#[test]
fn what_is_no_address_or_range_or_is_anothers_is_left_out_and_named() {
    let objects = vec![
        node("younger", "2026-01-02T00:00:00Z", &["192.0.2.1"], &["10.0.0.0/23", "10.0.9.0/24"]),
        node("older", "2026-01-01T00:00:00Z", &["x", "192.0.2.2"], &["10.0.1.0/24", "10.0.0"]),
    ];
    let (nodes, notes) = read(objects, PodRanges::OfNodes);
    assert_eq!(nodes, ["older 192.0.2.2 10.0.1.0/24", "younger 192.0.2.1 10.0.9.0/24"]);
    assert_eq!(notes.len(), 3, "{notes:?}");
    assert!(notes.iter().any(|note| note.starts_with("Node older spec.podCIDRs[1]: ")), "{notes:?}");
    assert!(
        notes.iter().any(|note| note.starts_with("Node older status.addresses[0].address: ")),
        "{notes:?}"
    );
    assert!(
        notes.iter().any(|note| note.starts_with("Node younger: 10.0.0.0/23 overlaps a range of Node older"))
    );
}

#[test]
fn ranges_that_the_operator_gives_count_in_place_of_those_of_kubernetes() {
    let cilium = json!({
        "kind": "CiliumNode", "metadata": {"name": "one"},
        "spec": {
            "addresses": [{"type": "InternalIP", "ip": "192.0.2.5"}, {"type": "CiliumInternalIP", "ip": "10.7.0.1"}],
            "ipam": {"podCIDRs": ["10.7.0.0/24"], "pools": {}},
            "health": {"ipv4": "10.7.0.2"},
        },
    });
    let bare = json!({"kind": "CiliumNode", "metadata": {"name": "two"}});
    let objects = vec![
        node("one", "2026-01-01T00:00:00Z", &["192.0.2.1"], &["10.0.1.0/24"]),
        node("two", "2026-01-01T00:00:00Z", &["192.0.2.2"], &["10.0.2.0/24"]),
        node("three", "2026-01-01T00:00:00Z", &["192.0.2.3"], &["10.0.3.0/24"]),
        cilium,
        bare,
    ];
    let (nodes, notes) = read(objects, PodRanges::OfCiliumNodes);
    assert_eq!(nodes, ["one 192.0.2.5 10.7.0.0/24", "two 192.0.2.2 "]);
    assert!(notes.is_empty(), "{notes:?}");
}
