//! Nodes: where they are, and the ranges of their pods.

use std::net::IpAddr;

use ipnet::IpNet;
use mesh_k8s_api::core::Node as Object;
use mesh_k8s_api::{CiliumNode, ObjectSet, Stored};
use mesh_model::{Node, Note, Origin};

use crate::note::warning;

/// The type of an address that other nodes use.
const INTERNAL: &str = "InternalIP";

/// Who says which addresses the pods of a node have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodRanges {
    /// `spec.podCIDRs` of the Node, which Kubernetes writes.
    OfNodes,
    /// `spec.ipam.podCIDRs` of the CiliumNode, which the operator writes.
    OfCiliumNodes,
}

/// The nodes, and what is wrong with them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nodes {
    /// In the order of their names.
    pub nodes: Vec<Node>,
    /// An address or a range that cannot be used, in order of object and field.
    pub notes: Vec<Note>,
}

/// All nodes. A range that overlaps one of an older node is left out of the younger, with a note: packets can go to
/// one of the two only. Costs time in the square of the number of nodes, a millisecond for five hundred.
pub fn nodes(objects: &ObjectSet, ranges: PodRanges) -> Nodes {
    let mut notes = Vec::new();
    let mut nodes: Vec<Node> = match ranges {
        PodRanges::OfNodes => objects.nodes.values().map(|stored| of_node(stored, &mut notes)).collect(),
        PodRanges::OfCiliumNodes => objects
            .cilium_nodes
            .iter()
            .map(|(name, stored)| of_cilium_node(stored, objects.nodes.get(name), &mut notes))
            .collect(),
    };
    nodes.sort_by(|one, other| one.origin.precedence().cmp(&other.origin.precedence()));
    leave_out_overlaps(&mut nodes, &mut notes);
    nodes.sort_by(|one, other| one.name.cmp(&other.name));
    notes.sort();
    Nodes { nodes, notes }
}

fn of_node(stored: &Stored<Object>, notes: &mut Vec<Note>) -> Node {
    let spec = stored.object.spec.as_ref();
    let list = spec.and_then(|spec| spec.pod_cidrs.as_ref()).filter(|list| !list.is_empty());
    // Before Kubernetes 1.16 a node had one range and no list.
    let first = spec.and_then(|spec| spec.pod_cidr.as_ref()).map(std::slice::from_ref);
    let texts = list.map(Vec::as_slice).or(first).unwrap_or_default();
    let addresses = internal_addresses(stored, notes);
    node(stored.origin(), &addresses, read_ranges(&stored.origin(), "spec.podCIDRs", texts, notes))
}

fn of_cilium_node(
    stored: &Stored<CiliumNode>,
    object: Option<&std::sync::Arc<Stored<Object>>>,
    notes: &mut Vec<Note>,
) -> Node {
    let origin = stored.origin();
    let spec = &stored.object.spec;
    let said = spec.addresses.iter().enumerate().filter(|(_, address)| address.kind == INTERNAL);
    let said = said.map(|(index, address)| (format!("spec.addresses[{index}].ip"), address.ip.as_str()));
    let mut addresses = read_addresses(&origin, said, notes);
    // An agent may not have said them yet; Kubernetes knows them.
    if let Some(object) = object.filter(|_| addresses.is_empty()) {
        addresses = internal_addresses(object, notes);
    }
    let ranges = read_ranges(&origin, "spec.ipam.podCIDRs", &spec.ipam.pod_cidrs, notes);
    node(origin, &addresses, ranges)
}

fn internal_addresses(stored: &Stored<Object>, notes: &mut Vec<Note>) -> Vec<IpAddr> {
    let addresses = stored.object.status.as_ref().and_then(|status| status.addresses.as_ref());
    let said = addresses.into_iter().flatten().enumerate().filter(|(_, address)| address.type_ == INTERNAL);
    let said =
        said.map(|(index, address)| (format!("status.addresses[{index}].address"), address.address.as_str()));
    read_addresses(&stored.origin(), said, notes)
}

fn node(origin: Origin, addresses: &[IpAddr], pod_ranges: Vec<IpNet>) -> Node {
    let v4 = addresses.iter().find_map(|address| match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    });
    let v6 = addresses.iter().find_map(|address| match address {
        IpAddr::V6(address) => Some(*address),
        IpAddr::V4(_) => None,
    });
    Node { name: origin.object.name.name.clone(), origin, internal_v4: v4, internal_v6: v6, pod_ranges }
}

fn read_addresses<'a>(
    origin: &Origin,
    said: impl Iterator<Item = (String, &'a str)>,
    notes: &mut Vec<Note>,
) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for (field, text) in said {
        match text.parse() {
            Ok(address) => addresses.push(address),
            Err(_) => {
                let message = format!("{text:?} is no address and is left out; write an IPv4 or IPv6 one");
                notes.push(warning(origin.at(field), "InvalidAddress", message));
            }
        }
    }
    addresses
}

fn read_ranges(origin: &Origin, field: &str, texts: &[String], notes: &mut Vec<Note>) -> Vec<IpNet> {
    let mut ranges: Vec<IpNet> = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        match text.parse::<IpNet>() {
            Ok(range) => ranges.push(range.trunc()),
            Err(_) => {
                let message = format!("{text:?} is no range and is left out; write one such as 10.0.1.0/24");
                notes.push(warning(origin.at(format!("{field}[{index}]")), "InvalidRange", message));
            }
        }
    }
    ranges
}

/// Of nodes in the order of their precedence.
fn leave_out_overlaps(nodes: &mut [Node], notes: &mut Vec<Note>) {
    for index in 0..nodes.len() {
        let (older, rest) = nodes.split_at_mut(index);
        let Some(node) = rest.first_mut() else { return };
        let origin = &node.origin;
        node.pod_ranges.retain(|range| {
            let overlaps = |other: &&Node| other.pod_ranges.iter().any(|taken| is_overlapping(taken, range));
            let Some(other) = older.iter().find(overlaps) else { return true };
            let message = format!(
                "{range} overlaps a range of {}, which is older, and is left out; give each node ranges of its own",
                other.origin.object
            );
            notes.push(warning(origin.clone(), "OverlappingRange", message));
            false
        });
    }
}

fn is_overlapping(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}
