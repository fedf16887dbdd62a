//! The cluster's nodes: the ranges that this one has for its pods, and the ways to the pods of the others.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use ipnet::IpNet;
use mesh_control_ipam::Mark;
use mesh_control_node::{DesiredRoute, KnownNode, NODES, Netlink, NodeState, direct_routes, routing_device};
use mesh_k8s_api::ObjectSet;
use mesh_k8s_ingest::{Nodes, PodRanges, nodes};
use mesh_model::Node;
use mesh_tables::{Database, Table};
use tokio::sync::watch;

use crate::args::{Ipam, PodOptions};
use crate::health::PartHealth;
use crate::pod_network::PodNetwork;
use crate::source::Source;
use crate::tunnels::Tunnels;

/// Who has to fill the table of routes before left-overs of an earlier agent are taken out.
pub(crate) const FILLED_BY_NODES: &str = NODES;
/// How soon what the kernel refused is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// The name of the part.
const NAME: &str = "nodes";

/// What was asked for.
#[derive(Clone, Debug)]
pub(crate) struct NodesConfig {
    /// This node's name.
    own: String,
    /// Who says which ranges nodes have.
    ranges: PodRanges,
    /// Whether this node takes its ranges from there too.
    takes_ranges: bool,
    /// Families that pods have addresses of.
    is_wanted: fn(&PodOptions, &IpNet) -> bool,
    options: PodOptions,
}

impl NodesConfig {
    /// As the options say.
    pub(crate) fn of(options: &PodOptions) -> Self {
        let ranges = match options.ipam {
            Some(Ipam::ClusterPool | Ipam::ClusterPoolV2Beta) => PodRanges::OfCiliumNodes,
            Some(Ipam::Kubernetes) | None => PodRanges::OfNodes,
        };
        Self {
            own: options.node_name(),
            ranges,
            takes_ranges: options.ranges().is_empty() && options.ipam.is_some(),
            is_wanted: |options, range| match range {
                IpNet::V4(_) => options.enable_ipv4,
                IpNet::V6(_) => options.enable_ipv6,
            },
            options: options.clone(),
        }
    }
}

/// What became of the nodes, for whoever looks.
#[derive(Debug)]
pub(crate) struct NodesReport {
    health: ArcSwap<PartHealth>,
}

impl Default for NodesReport {
    fn default() -> Self {
        Self {
            health: ArcSwap::from_pointee(PartHealth::degraded(
                NAME,
                "they were not read yet",
                "wait a moment",
            )),
        }
    }
}

impl NodesReport {
    /// Health, for people.
    pub(crate) fn health(&self) -> PartHealth {
        (**self.health.load()).clone()
    }
}

/// Follows the nodes.
pub(crate) struct NodesKeeper {
    /// What was asked for.
    pub(crate) config: NodesConfig,
    /// Objects.
    pub(crate) source: Source,
    /// Devices and addresses of this node.
    pub(crate) state: watch::Receiver<NodeState>,
    /// Tables.
    pub(crate) database: Arc<Database>,
    /// The nodes.
    pub(crate) nodes: Table<KnownNode>,
    /// Where routes are wanted.
    pub(crate) routes: Option<Table<DesiredRoute>>,
    /// Where the kernel is to keep the next hops towards other nodes resolved.
    pub(crate) neighbours: Option<Netlink>,
    /// Where nodes are reached by tunnels.
    pub(crate) tunnels: Option<Arc<Tunnels>>,
    /// Where this agent makes the pods' network.
    pub(crate) pods: Option<Arc<PodNetwork>>,
    /// What can be looked at.
    pub(crate) report: Arc<NodesReport>,
}

impl NodesKeeper {
    /// Until objects are no longer followed.
    pub(crate) async fn run(mut self) {
        let mut last = ObjectSet::default();
        let mut is_first = true;
        let mut read = Nodes::default();
        let mut tunnel_routes = Vec::new();
        let mut written = None;
        loop {
            let mut trouble = None;
            let now = self.source.read();
            let is_new = !last.nodes.ptr_eq(&now.objects.nodes)
                || !last.cilium_nodes.ptr_eq(&now.objects.cilium_nodes);
            let is_new = now.revision > 0 && (is_new || is_first);
            if is_new {
                last = (*now.objects).clone();
                is_first = false;
                read = nodes(&last, self.config.ranges);
                self.take_ranges(&read.nodes, &released(&last, &self.config.own));
            }
            let state = self.state.borrow_and_update().clone();
            if !is_first {
                match self.bring_tunnels(&read.nodes).await {
                    Ok(routes) => tunnel_routes = routes,
                    // What was there goes on to lead there.
                    Err(error) => {
                        tracing::warn!("{error:#}");
                        trouble = Some(format!("{error:#}"));
                    }
                }
                // Devices of pods come and go all the time.
                let now = (self.devices(&read.nodes, &state), tunnel_routes.clone());
                if is_new || written.as_ref() != Some(&now) {
                    self.write(&read.nodes, now.0, &tunnel_routes);
                    written = Some(now);
                }
                if let Err(error) = self.keep_neighbours(&read.nodes).await {
                    tracing::warn!("{error:#}");
                    trouble = Some(format!("{error:#}"));
                }
                let health = trouble.as_ref().map(|trouble| {
                    PartHealth::degraded(NAME, trouble.clone(), "it is tried again every few seconds")
                });
                self.report.health.store(Arc::new(health.unwrap_or_else(|| self.health(&read))));
            }
            tokio::select! {
                changed = self.source.changed() => if changed.is_err() { return },
                // A node without kernel programs does not follow its devices.
                Ok(()) = self.state.changed() => {}
                () = tokio::time::sleep(AGAIN), if trouble.is_some() => {}
            }
        }
    }

    /// `released`: those that an agent of this node has given back, and the operator has not taken yet.
    fn take_ranges(&self, nodes: &[Node], released: &BTreeSet<IpNet>) {
        let Some(pods) = &self.pods else { return };
        let NodesConfig { own, takes_ranges, is_wanted, options, .. } = &self.config;
        let others = nodes.iter().filter(|node| node.name != *own).flat_map(|node| &node.pod_ranges);
        pods.set_remote_ranges(others.copied().collect());
        let own = nodes.iter().find(|node| node.name == *own);
        // While its object is away, as when it is made anew, the node goes on with what it has.
        let Some(own) = own.filter(|own| *takes_ranges && !own.pod_ranges.is_empty()) else { return };
        let ranges: Vec<IpNet> = own
            .pod_ranges
            .iter()
            .filter(|range| is_wanted(options, range) && !released.contains(range))
            .copied()
            .collect();
        pods.set_ranges(&ranges);
    }

    /// The routes into tunnels, whose device and ends are as they should be then.
    async fn bring_tunnels(&self, nodes: &[Node]) -> anyhow::Result<Vec<Arc<DesiredRoute>>> {
        let (Some(tunnels), Some(pods)) = (&self.tunnels, &self.pods) else { return Ok(Vec::new()) };
        let (tunnels, nodes, own) = (tunnels.clone(), nodes.to_vec(), self.config.own.clone());
        let (mtu, sources) = (pods.device_mtu(), pods.own_addresses());
        tokio::task::spawn_blocking(move || tunnels.bring(&nodes, &own, mtu, &sources)).await?
    }

    /// After the routes were handed on; what they change is seen with the next change of the node's own routes.
    async fn keep_neighbours(&self, nodes: &[Node]) -> anyhow::Result<()> {
        let Some(netlink) = self.neighbours.clone() else { return Ok(()) };
        let others = nodes.iter().filter(|node| node.name != self.config.own);
        let towards: Vec<IpAddr> = others.flat_map(Node::internal_addresses).collect();
        tokio::task::spawn_blocking(move || netlink.set_managed_neighbours(&towards)).await??;
        Ok(())
    }

    /// The devices towards other nodes, of IPv4 and of IPv6.
    fn devices(&self, nodes: &[Node], state: &NodeState) -> [Option<u32>; 2] {
        let own = nodes.iter().find(|node| node.name == self.config.own);
        let asked = self.config.options.direct_routing_device.as_deref();
        [true, false]
            .map(|is_v4| own.and_then(|own| routing_device(state, asked, own, is_v4)).map(|link| link.index))
    }

    fn write(&self, nodes: &[Node], [v4, v6]: [Option<u32>; 2], tunnel_routes: &[Arc<DesiredRoute>]) {
        let device = |is_v4| if is_v4 { v4 } else { v6 };
        let routes = match self.config.options.auto_direct_node_routes {
            true => direct_routes(nodes, &self.config.own, device),
            false => tunnel_routes.to_vec(),
        };
        let known = |node: &Node| KnownNode { node: node.clone(), is_own: node.name == self.config.own };
        let known: Vec<Arc<KnownNode>> = nodes.iter().map(|node| Arc::new(known(node))).collect();
        self.database.write(|txn| {
            txn.replace(self.nodes, known);
            if let Some(table) = self.routes {
                txn.replace_part(table, |row| row.owner == NODES, routes);
                txn.complete(table, FILLED_BY_NODES);
            }
        });
    }

    fn health(&self, read: &Nodes) -> PartHealth {
        let (count, own) = (read.nodes.len(), &self.config.own);
        if let Some(note) = read.notes.first() {
            let detail =
                format!("{} problems; the first is {}: {}", read.notes.len(), note.origin, note.message);
            return PartHealth::degraded(NAME, detail, "mend the objects");
        }
        let is_known = read.nodes.iter().any(|node| node.name == *own);
        // Ranges that were given to this node alone need no Node.
        let has_to_be = self.config.takes_ranges || self.config.options.auto_direct_node_routes || count > 0;
        if !is_known && has_to_be && self.pods.is_some() {
            let detail = format!("{count} nodes, and {own}, this one, is not among them");
            let fix = "set --k8s-node-name (or K8S_NODE_NAME) to the name of this machine's Node";
            return PartHealth::degraded(NAME, detail, fix);
        }
        PartHealth::ok(NAME, format!("{count} nodes"))
    }
}

fn released(objects: &ObjectSet, own: &str) -> BTreeSet<IpNet> {
    let marks = objects.cilium_nodes.get(own).map(|stored| &stored.object.status.ipam.pod_cidrs);
    let released =
        marks.into_iter().flatten().filter(|(_, said)| Mark::find(&said.status) == Some(Mark::Released));
    released.filter_map(|(range, _)| range.parse::<IpNet>().ok()).map(|range| range.trunc()).collect()
}
