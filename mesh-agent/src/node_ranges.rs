//! The operator's part in pods' addresses: which blocks of the cluster's ranges each node has.

use std::collections::BTreeMap;

use anyhow::Context;
use ipnet::IpNet;
use mesh_control_ipam::{ClusterRanges, Given, Mark, NodeBlocks, give};
use mesh_k8s_api::{CiliumNode, Kind, Stored};
use mesh_k8s_reflect::{ApiState, Cause, Failure, ObjectWriter, Part};
use mesh_model::{NamespacedName, ObjectKey, Severity};
use serde_json::json;

use crate::args::{ClusterPoolOptions, Ipam};

/// Gives blocks to nodes.
pub(crate) struct NodeRanges {
    families: Vec<ClusterRanges>,
    writer: ObjectWriter,
    /// What was written and not seen yet, with the generation of the object that has it.
    written: BTreeMap<String, (i64, Vec<IpNet>)>,
    /// The problems that events were recorded of.
    told: BTreeMap<String, String>,
}

impl NodeRanges {
    /// As the options say; `None` where somebody else gives nodes their ranges.
    pub(crate) fn new(options: &ClusterPoolOptions, writer: ObjectWriter) -> anyhow::Result<Option<Self>> {
        match options.ipam {
            Some(Ipam::ClusterPool | Ipam::ClusterPoolV2Beta) => {}
            Some(Ipam::Kubernetes) | None => return Ok(None),
        }
        let v4: Vec<IpNet> = options.cluster_pool_ipv4_cidr.iter().copied().map(IpNet::V4).collect();
        let v6: Vec<IpNet> = options.cluster_pool_ipv6_cidr.iter().copied().map(IpNet::V6).collect();
        if v4.is_empty() && v6.is_empty() {
            anyhow::bail!(
                "--ipam={} gives nodes blocks of the cluster's ranges, and there are none: set \
                 --cluster-pool-ipv4-cidr or --cluster-pool-ipv6-cidr",
                options.ipam.map(Ipam::as_str).unwrap_or_default()
            );
        }
        let families = vec![
            ClusterRanges::new(&v4, options.cluster_pool_ipv4_mask_size)
                .context("--cluster-pool-ipv4-cidr")?,
            ClusterRanges::new(&v6, options.cluster_pool_ipv6_mask_size)
                .context("--cluster-pool-ipv6-cidr")?,
        ];
        Ok(Some(Self { families, writer, written: BTreeMap::new(), told: BTreeMap::new() }))
    }

    /// Writes what differs, one node after the other, as long as `may_write` says yes. What could not be written is
    /// tried again with the next state.
    pub(crate) async fn write(&mut self, state: &ApiState, may_write: impl Fn() -> bool) {
        let mut nodes: Vec<&Stored<CiliumNode>> =
            state.objects.cilium_nodes.values().map(|stored| &**stored).collect();
        nodes.sort_by_key(|stored| (stored.created_ms, stored.object.metadata.name.clone()));
        let names: Vec<&str> = nodes.iter().map(|stored| name_of(stored)).collect();
        self.written.retain(|name, _| names.contains(&name.as_str()));
        self.told.retain(|name, _| names.contains(&name.as_str()));
        let blocks: Vec<NodeBlocks> = nodes.iter().map(|stored| self.blocks(stored)).collect();
        let given = give(&self.families, &blocks);
        for ((stored, has), given) in nodes.into_iter().zip(&blocks).zip(&given) {
            if !may_write() {
                return;
            }
            if let Err(failure) = self.write_node(state, stored, has, given).await
                && !matches!(failure.cause, Cause::Conflict | Cause::Absent)
            {
                let (node, fix) = (name_of(stored), &failure.fix);
                tracing::warn!(node, fix, "the ranges of a node are not written: {}", failure.message);
                if failure.is_of_server() {
                    return;
                }
            }
        }
    }

    /// What a node has, by its object or by what was written since.
    fn blocks(&mut self, stored: &Stored<CiliumNode>) -> NodeBlocks {
        let name = name_of(stored).to_owned();
        let is_seen = self.written.get(&name).is_some_and(|(generation, _)| stored.generation >= *generation);
        if is_seen {
            self.written.remove(&name);
        }
        let has = match self.written.get(&name) {
            Some((_, blocks)) => blocks.clone(),
            None => parsed(stored.object.spec.ipam.pod_cidrs.iter()),
        };
        let marks = stored.object.status.ipam.pod_cidrs.iter().filter_map(|(block, said)| {
            Some((block.parse::<IpNet>().ok()?.trunc(), Mark::find(&said.status)?))
        });
        NodeBlocks { name, has, marks: marks.collect() }
    }

    async fn write_node(
        &mut self,
        state: &ApiState,
        stored: &Stored<CiliumNode>,
        has: &NodeBlocks,
        given: &Given,
    ) -> Result<(), Failure> {
        let name = NamespacedName::new("", name_of(stored));
        let key = ObjectKey::new(Kind::CiliumNode.group(), Kind::CiliumNode.as_str(), name.clone());
        if given.blocks != has.has {
            // Somebody who was the operator a moment ago may have given it something.
            let version = state.statuses.get(&key).map(|status| status.resource_version.clone());
            let patch = json!({
                "metadata": {"resourceVersion": version},
                "spec": {"ipam": {"podCIDRs": given.blocks}},
            });
            let written = self.writer.patch(Kind::CiliumNode, &name, Part::Object, &patch).await?;
            let generation = written["metadata"]["generation"].as_i64().unwrap_or(stored.generation + 1);
            let shown: Vec<String> = given.blocks.iter().map(ToString::to_string).collect();
            tracing::info!(node = name.name, ranges = shown.join(","), "a node has other ranges");
            self.written.insert(name.name.clone(), (generation, given.blocks.clone()));
        }
        let error = given.problem.clone().unwrap_or_default();
        if stored.object.status.ipam.operator_status.error != error {
            let patch = json!({"status": {"ipam": {"operator-status": {"error": error}}}});
            self.writer.patch(Kind::CiliumNode, &name, Part::Status, &patch).await?;
        }
        match &given.problem {
            None => drop(self.told.remove(&name.name)),
            Some(problem) if self.told.get(&name.name) != Some(problem) => {
                tracing::warn!(node = name.name, "{problem}");
                self.told.insert(name.name.clone(), problem.clone());
                let node = ObjectKey::new("", Kind::Node.as_str(), name.clone());
                let uid =
                    state.objects.nodes.get(&name.name).map(|node| node.uid.clone()).unwrap_or_default();
                self.writer.event(&node, &uid, Severity::Warning, "NoPodRange", problem).await?;
            }
            Some(_) => {}
        }
        Ok(())
    }
}

fn name_of(stored: &Stored<CiliumNode>) -> &str {
    stored.object.metadata.name.as_deref().unwrap_or_default()
}

fn parsed<'a>(texts: impl Iterator<Item = &'a String>) -> Vec<IpNet> {
    texts.filter_map(|text| text.parse::<IpNet>().ok()).map(|block| block.trunc()).collect()
}
