//! This node's CiliumNode: what the agent says of its node to the others and to the operator.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use mesh_control_ipam::{Mark, Thresholds};
use mesh_k8s_api::core::Node;
use mesh_k8s_api::{CiliumNode, Kind, Stored};
use mesh_k8s_reflect::{ObjectWriter, Part};
use mesh_model::NamespacedName;
use serde_json::{Map, Value, json};
use tokio::time::sleep;

use crate::args::Ipam;
use crate::pod_network::PodNetwork;
use crate::source::{Read, Source};

/// What was refused, or not seen in the state yet, is tried again so often.
const RETRY: Duration = Duration::from_secs(5);
/// Addresses that are passed on.
const KINDS: [&str; 2] = ["InternalIP", "ExternalIP"];

/// Writes it.
pub(crate) struct OwnNode {
    /// To the cluster.
    pub(crate) writer: ObjectWriter,
    /// Its name.
    pub(crate) name: String,
    /// Who gives it its ranges.
    pub(crate) ipam: Ipam,
    /// Objects.
    pub(crate) source: Source,
    /// Whose addresses the ranges are for.
    pub(crate) pods: Arc<PodNetwork>,
}

/// One write.
#[derive(Debug, PartialEq)]
enum Write {
    Create(Value),
    Patch(Part, Value),
}

impl OwnNode {
    /// Until objects are no longer followed.
    pub(crate) async fn run(mut self) {
        let mut used = self.pods.usage_changed();
        let mut complained = None;
        loop {
            let read = self.source.read();
            for write in self.writes(&read) {
                let outcome = self.write(&write).await;
                let complaint = outcome.err().map(|failure| (failure.message, failure.fix));
                if complaint != complained
                    && let Some((message, fix)) = &complaint
                {
                    tracing::warn!(fix, "the CiliumNode of this node is not written: {message}");
                }
                complained = complaint;
            }
            tokio::select! {
                changed = self.source.changed() => if changed.is_err() { return },
                Ok(()) = used.changed() => {}
                () = sleep(RETRY) => {}
            }
        }
    }

    /// What is to be written: nothing before the node itself was read.
    fn writes(&self, read: &Read) -> Vec<Write> {
        let node = read.objects.nodes.get(&self.name).filter(|_| read.revision > 0);
        let Some(node) = node else { return Vec::new() };
        let current = read.objects.cilium_nodes.get(&self.name).map(|stored| &**stored);
        let mut writes: Vec<Write> = said(node, current, self.ipam).into_iter().collect();
        if let (Ipam::ClusterPoolV2Beta, Some(current)) = (self.ipam, current) {
            let blocks = blocks_of(current);
            let marks = self.pods.mark(&blocks, thresholds(current));
            writes.extend(marked(current, &marks));
        }
        writes
    }

    async fn write(&self, write: &Write) -> Result<(), mesh_k8s_reflect::Failure> {
        let name = NamespacedName::new("", &self.name);
        match write {
            Write::Create(object) => self.writer.create(Kind::CiliumNode, object).await,
            Write::Patch(part, patch) => self.writer.patch(Kind::CiliumNode, &name, *part, patch).await,
        }
        .map(drop)
    }
}

/// What the object should say of the node; `None` when it does.
fn said(node: &Stored<Node>, current: Option<&Stored<CiliumNode>>, ipam: Ipam) -> Option<Write> {
    let object = &node.object;
    let addresses = object.status.as_ref().and_then(|status| status.addresses.as_ref());
    let addresses: Vec<Value> = addresses
        .into_iter()
        .flatten()
        .filter(|address| KINDS.contains(&address.type_.as_str()))
        .map(|address| json!({"type": address.type_, "ip": address.address}))
        .collect();
    let mut spec = json!({"addresses": addresses});
    if ipam == Ipam::Kubernetes {
        let ranges = object.spec.as_ref().and_then(|spec| spec.pod_cidrs.clone()).unwrap_or_default();
        spec["ipam"] = json!({"podCIDRs": ranges});
    }
    let labels = object.metadata.labels.clone().unwrap_or_default();
    // It goes with its Node.
    let owner = json!({"apiVersion": "v1", "kind": "Node", "name": object.metadata.name, "uid": node.uid});
    let Some(current) = current else {
        return Some(Write::Create(json!({
            "apiVersion": Kind::CiliumNode.api_version(),
            "kind": Kind::CiliumNode.as_str(),
            "metadata": {"name": object.metadata.name, "labels": labels, "ownerReferences": [owner]},
            "spec": spec,
        })));
    };
    let has = serde_json::to_value(&current.object.spec).unwrap_or_default();
    let is_said = |field: &str| match field {
        "ipam" => {
            has["ipam"]["podCIDRs"].as_array().map_or(&[][..], Vec::as_slice)
                == spec["ipam"]["podCIDRs"].as_array().map_or(&[][..], Vec::as_slice)
        }
        field => {
            has[field].as_array().map_or(&[][..], Vec::as_slice)
                == spec[field].as_array().map_or(&[][..], Vec::as_slice)
        }
    };
    let has_labels = current.object.metadata.labels.clone().unwrap_or_default();
    let spec_is_said = spec.as_object().into_iter().flatten().all(|(field, _)| is_said(field));
    if has_labels == labels && spec_is_said {
        return None;
    }
    let gone = has_labels.keys().filter(|label| !labels.contains_key(*label));
    let mut patched: Map<String, Value> =
        labels.iter().map(|(label, value)| (label.clone(), json!(value))).collect();
    patched.extend(gone.map(|label| (label.clone(), Value::Null)));
    Some(Write::Patch(
        Part::Object,
        json!({"metadata": {"labels": patched, "ownerReferences": [owner]}, "spec": spec}),
    ))
}

/// The blocks that the operator gave.
fn blocks_of(current: &Stored<CiliumNode>) -> Vec<IpNet> {
    let texts = current.object.spec.ipam.pod_cidrs.iter();
    texts.filter_map(|text| text.parse::<IpNet>().ok()).map(|block| block.trunc()).collect()
}

/// As the object says, or Cilium's.
fn thresholds(current: &Stored<CiliumNode>) -> Thresholds {
    let (ipam, default) = (&current.object.spec.ipam, Thresholds::default());
    Thresholds {
        allocate: ipam.allocation_threshold.map_or(default.allocate, u128::from),
        release: ipam.release_threshold.map_or(default.release, u128::from),
    }
}

/// The marks as the status should have them; `None` when it does.
fn marked(current: &Stored<CiliumNode>, marks: &BTreeMap<IpNet, Mark>) -> Option<Write> {
    let wanted: BTreeMap<String, &str> =
        marks.iter().map(|(block, mark)| (block.to_string(), mark.as_str())).collect();
    let has = &current.object.status.ipam.pod_cidrs;
    let is_said = has.len() == wanted.len()
        && has.iter().all(|(block, said)| wanted.get(block) == Some(&said.status.as_str()));
    if is_said {
        return None;
    }
    let mut patch: Map<String, Value> =
        wanted.iter().map(|(block, mark)| (block.clone(), json!({"status": mark}))).collect();
    let gone: BTreeSet<&String> = has.keys().filter(|block| !wanted.contains_key(*block)).collect();
    patch.extend(gone.into_iter().map(|block| (block.clone(), Value::Null)));
    Some(Write::Patch(Part::Status, json!({"status": {"ipam": {"pod-cidrs": patch}}})))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use mesh_control_ipam::Mark;
    use mesh_k8s_api::{Facts, Kind, Object, ObjectSet, Source, normalise};
    use mesh_k8s_reflect::Part;
    use serde_json::{Value, json};

    use super::{Write, marked, said};
    use crate::args::Ipam;

    fn set(objects: Vec<(Kind, Value)>) -> ObjectSet {
        let decoded = objects.into_iter().map(|(kind, mut value)| {
            normalise(kind, &mut value);
            let facts = Facts { source: Source::Api, uid: "u1".to_owned(), generation: 1 };
            let mut findings = Vec::new();
            let object = Object::decode(kind, value, |_| facts, &mut findings);
            object.unwrap_or_else(|| panic!("{findings:?}"))
        });
        decoded.collect()
    }

    fn node() -> (Kind, Value) {
        let addresses = json!([
            {"type": "InternalIP", "address": "192.0.2.1"}, {"type": "Hostname", "address": "one"},
            {"type": "ExternalIP", "address": "198.51.100.1"},
        ]);
        (
            Kind::Node,
            json!({
                "metadata": {"name": "one", "labels": {"zone": "a"}},
                "spec": {"podCIDRs": ["10.0.1.0/24"]},
                "status": {"addresses": addresses, "capacity": {"cpu": "4"}},
            }),
        )
    }

    #[test]
    fn a_node_says_its_addresses_and_goes_with_its_node() {
        let objects = set(vec![node()]);
        let Some(Write::Create(made)) = said(&objects.nodes["one"], None, Ipam::Kubernetes) else {
            panic!("it is made");
        };
        assert_eq!(made["metadata"]["ownerReferences"][0]["uid"], "u1");
        let spec = json!({
            "addresses": [{"type": "InternalIP", "ip": "192.0.2.1"}, {"type": "ExternalIP", "ip": "198.51.100.1"}],
            "ipam": {"podCIDRs": ["10.0.1.0/24"]},
        });
        assert_eq!(made["spec"], spec);
        let objects = set(vec![node(), (Kind::CiliumNode, made)]);
        let current = &objects.cilium_nodes["one"];
        assert_eq!(said(&objects.nodes["one"], Some(current), Ipam::Kubernetes), None);
    }

    #[test]
    fn what_others_write_stays_and_what_is_wrong_is_patched() {
        let cilium = json!({
            "metadata": {"name": "one", "labels": {"zone": "b", "old": "1"}},
            "spec": {
                "addresses": [], "health": {"ipv4": "10.0.0.9"}, "ipam": {"podCIDRs": ["10.7.0.0/24"], "pools": {}},
            },
        });
        let objects = set(vec![node(), (Kind::CiliumNode, cilium)]);
        let patch = said(&objects.nodes["one"], Some(&objects.cilium_nodes["one"]), Ipam::ClusterPool);
        let Some(Write::Patch(Part::Object, patch)) = patch else { panic!("it is patched") };
        assert_eq!(patch["metadata"]["labels"], json!({"zone": "a", "old": null}));
        assert_eq!(patch["spec"]["addresses"][0]["ip"], "192.0.2.1");
        assert!(patch["spec"].get("ipam").is_none(), "the operator gives ranges: {patch}");
    }

    #[test]
    fn marks_are_written_when_they_differ_and_those_of_blocks_that_are_gone_are_removed() {
        let cilium = json!({
            "metadata": {"name": "one"},
            "status": {"ipam": {"pod-cidrs": {
                "10.7.0.0/28": {"status": "in-use"}, "10.7.0.16/28": {"status": "released"},
            }}},
        });
        let objects = set(vec![(Kind::CiliumNode, cilium)]);
        let current = &objects.cilium_nodes["one"];
        let block = |text: &str| text.parse().expect("a range");
        let marks = BTreeMap::from([(block("10.7.0.0/28"), Mark::Depleted)]);
        let Some(Write::Patch(Part::Status, patch)) = marked(current, &marks) else {
            panic!("it is patched")
        };
        let expected = json!({"10.7.0.0/28": {"status": "depleted"}, "10.7.0.16/28": null});
        assert_eq!(patch["status"]["ipam"]["pod-cidrs"], expected);
        let same =
            BTreeMap::from([(block("10.7.0.0/28"), Mark::InUse), (block("10.7.0.16/28"), Mark::Released)]);
        assert_eq!(marked(current, &same), None);
    }
}
