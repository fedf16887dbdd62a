//! Pods connected by the reference plugins: what a cluster has until a CNI of its own is installed.

use std::time::Duration;

use anyhow::{Context, ensure};
use mesh_testkit::wait;
use serde_json::json;

use crate::cluster::Cluster;
use crate::network;
use crate::node::Node;

/// How long the controller manager may take to give a node its range.
const RANGE_WITHIN: Duration = Duration::from_secs(60);
/// Name of the file; an agent that wants to be the only CNI renames it.
const FILE: &str = "90-bridge.conflist";

/// Waits for each node's ranges, and writes the configuration and the routes that they make.
pub(crate) fn install_bridge(cluster: &Cluster) -> anyhow::Result<()> {
    for (number, node) in (1..).zip(cluster.nodes()) {
        let ranges = ranges(cluster, node)?;
        let routes =
            ranges.iter().map(|range| json!({"dst": if range.contains(':') { "::/0" } else { "0.0.0.0/0" }}));
        let config = json!({
            "cniVersion": "1.0.0",
            "name": "bridge",
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": "cni0",
                    "isGateway": true,
                    "hairpinMode": true,
                    "ipam": {
                        "type": "host-local",
                        "ranges": ranges.iter().map(|range| [json!({"subnet": range})]).collect::<Vec<_>>(),
                        "routes": routes.collect::<Vec<_>>(),
                    },
                },
                {"type": "portmap", "capabilities": {"portMappings": true}},
            ],
        });
        node.write_cni(FILE, &config)?;
        for range in &ranges {
            network::route(range, number, cluster.spec(), cluster.nodes())
                .with_context(|| format!("cannot route {range}"))?;
        }
    }
    Ok(())
}

/// Waits for a node's ranges.
fn ranges(cluster: &Cluster, node: &Node) -> anyhow::Result<Vec<String>> {
    let ranges = wait::until("the node has ranges for its pods", RANGE_WITHIN, || {
        let ranges = cluster.kubectl(&["get", "node", node.name(), "-o", "jsonpath={.spec.podCIDRs[*]}"])?;
        ensure!(!ranges.is_empty(), "{} has no spec.podCIDRs", node.name());
        Ok(ranges)
    })?;
    Ok(ranges.split_whitespace().map(str::to_owned).collect())
}

/// Tells the host, where the API server is, the way to each node's pods. The nodes know the way to each other.
pub(crate) fn route_on_host(cluster: &Cluster) -> anyhow::Result<()> {
    for (number, node) in (1..).zip(cluster.nodes()) {
        for range in ranges(cluster, node)? {
            network::route_on_host(&range, number, cluster.spec())
                .with_context(|| format!("cannot route {range}"))?;
        }
    }
    Ok(())
}
