//! Pods connected by the reference plugins: what a cluster has until a CNI of its own is installed.

use std::time::Duration;

use anyhow::{Context, ensure};
use mesh_testkit::wait;
use serde_json::json;

use crate::cluster::Cluster;
use crate::network;

/// How long the controller manager may take to give a node its range.
const RANGE_WITHIN: Duration = Duration::from_secs(60);
/// Name of the file; an agent that wants to be the only CNI renames it.
const FILE: &str = "90-bridge.conflist";

/// Waits for each node's ranges, and writes the configuration and the routes that they make.
pub(crate) fn install_bridge(cluster: &Cluster) -> anyhow::Result<()> {
    for (number, node) in (1..).zip(cluster.nodes()) {
        let ranges = wait::until("the node has ranges for its pods", RANGE_WITHIN, || {
            let ranges =
                cluster.kubectl(&["get", "node", node.name(), "-o", "jsonpath={.spec.podCIDRs[*]}"])?;
            ensure!(!ranges.is_empty(), "{} has no spec.podCIDRs", node.name());
            Ok(ranges)
        })?;
        let ranges: Vec<&str> = ranges.split_whitespace().collect();
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
        for range in ranges {
            network::route(range, number, cluster.spec(), cluster.nodes())
                .with_context(|| format!("cannot route {range}"))?;
        }
    }
    Ok(())
}
