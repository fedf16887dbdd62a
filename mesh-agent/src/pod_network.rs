//! The pods' network on this node: an address, devices and routes, and the programs on the device, as one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use ipnet::IpNet;
use mesh_cni_wire::{Attachment, Code, Failure};
use mesh_control_endpoint::{Endpoint, Endpoints, PodName, PortMapping, PortProtocol, Stranger, Wanted};
use mesh_control_ipam::{IpamError, Mark, NodeIpam, Thresholds, Usage, marks, without_overlaps};
use mesh_control_loadbalancer::HostPort;
use mesh_control_node::{Forwarding, Link, NodeState, TUNNEL_DEVICE, enable_forwarding, shared_local_ports};
use mesh_ebpf_abi::constants::MASQUERADE_PORTS;
use mesh_model::service::Protocol;
use serde_json::json;
use tokio::sync::watch;

use crate::args::{Ipam, PodOptions};
use crate::datapath::Datapath;
use crate::health::PartHealth;
use crate::pod_ranges::KeptRanges;
use crate::strangers::Strangers;
use crate::tunnels::TunnelOptions;
use crate::turns::{Turn, Turns};

/// How long a call may wait for another one about the same interface.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who has the node's own addresses among its pods', as an owner.
const NODE: &str = "the node";

/// Largest packet where no device says.
const MTU: u32 = 1500;

/// The pods' network.
pub(crate) struct PodNetwork {
    endpoints: Endpoints,
    ipam: Mutex<NodeIpam>,
    /// Ranges that this node has and gives nothing from: the operator may have given them to another by now.
    released: Mutex<BTreeSet<IpNet>>,
    /// Rises when an address was given or came back.
    changed: watch::Sender<u64>,
    datapath: Arc<Datapath>,
    node: watch::Receiver<NodeState>,
    /// Asked for; 0: that of the devices.
    mtu: u32,
    /// Where /proc can be written to.
    procfs: PathBuf,
    turns: Turns<Attachment>,
    /// Pods that live without a record.
    strangers: Strangers,
    /// Tunnels to other nodes, where there are any.
    tunnels: Option<TunnelOptions>,
    /// The ranges, for the next agent.
    kept: KeptRanges,
    /// What to do while there is no range.
    awaited: String,
    /// The node's own addresses among its pods'.
    own: Mutex<Vec<IpAddr>>,
    /// Told anew when pods come and go.
    here: watch::Sender<PodsHere>,
    /// What is wrong, in the order it was found.
    troubles: Mutex<Vec<String>>,
}

/// What a pod wants.
pub(crate) struct PodRequest {
    /// Container and interface.
    pub(crate) attachment: Attachment,
    /// Path of the network namespace, for people.
    pub(crate) netns: String,
    /// The pod's name.
    pub(crate) pod: Option<PodName>,
    /// Ports of the node that are to lead to it.
    pub(crate) host_ports: Vec<PortMapping>,
}

/// What of the pods' network decides on frontends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PodsHere {
    /// This node's ranges.
    pub(crate) ranges: Vec<IpNet>,
    /// Ports of the node that lead to pods.
    pub(crate) host_ports: Vec<HostPort>,
}

impl PodNetwork {
    /// Takes up the endpoints that an earlier agent made, with their addresses.
    pub(crate) fn start(
        options: &PodOptions,
        run_dir: &Path,
        procfs: &Path,
        datapath: Arc<Datapath>,
        node: watch::Receiver<NodeState>,
    ) -> anyhow::Result<Self> {
        let kept = KeptRanges::at(run_dir.join("pod-ranges.json"));
        let ranges = match options.ranges() {
            none if none.is_empty() => kept.read(),
            given => given,
        };
        let (endpoints, restored) =
            Endpoints::restore(run_dir.join("endpoints")).context("cannot take up the pods' endpoints")?;
        let endpoints = endpoints.with_unreachable_routes(options.enable_unreachable_routes);
        for endpoint in &restored.dropped {
            tracing::info!(endpoint = endpoint.shown(), "its pod is gone, or never was: taken away");
        }
        let unreadable = restored.unreadable.iter().map(|error| format!("{error}; moved aside"));
        let without_record = restored.strangers.iter().map(|Stranger { device, addresses }| {
            let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            let name = &device.name;
            format!(
                "no record tells of the pod behind {name} ({}): it keeps its network, delete it",
                addresses.join(", ")
            )
        });
        let troubles: Vec<String> = unreadable.chain(without_record).collect();
        for trouble in &troubles {
            tracing::warn!("{trouble}");
        }
        let pods = Self {
            endpoints,
            ipam: Mutex::default(),
            released: Mutex::default(),
            changed: watch::Sender::new(0),
            datapath,
            node,
            mtu: options.mtu,
            procfs: procfs.to_owned(),
            turns: Turns::default(),
            strangers: Strangers::new(restored.strangers),
            tunnels: TunnelOptions::of(options)?,
            kept,
            awaited: awaited(options),
            own: Mutex::default(),
            here: watch::Sender::new(PodsHere::default()),
            troubles: Mutex::new(troubles),
        };
        pods.check_ports();
        if !ranges.is_empty() {
            pods.set_ranges(&ranges);
        }
        pods.tell_host_ports();
        let strangers = pods.strangers.list();
        pods.datapath
            .set_pods(&pods.list(), &strangers)
            .context("cannot tell the kernel programs of the pods")?;
        Ok(pods)
    }

    /// Says so if processes of the node choose from the ports that pods' connections leave by.
    fn check_ports(&self) {
        let ports = MASQUERADE_PORTS.0..=MASQUERADE_PORTS.1;
        match shared_local_ports(&ports, &self.procfs) {
            Ok(None) => {}
            Ok(Some(shared)) => {
                let (low, high) = (shared.start(), shared.end());
                self.trouble(format!(
                    "the node's own processes choose from ports {low}-{high}, by which pods' connections leave: \
                     sysctl -w net.ipv4.ip_local_port_range=\"32768 60999\""
                ));
            }
            Err(error) => tracing::warn!("cannot tell which ports the node's processes choose: {error}"),
        }
    }

    /// Gives addresses from these ranges from now on. Pods that have one of another range keep it.
    pub(crate) fn set_ranges(&self, ranges: &[IpNet]) {
        let mut ranges = without_overlaps(ranges);
        // As their use is told: the order counts within a family.
        ranges.sort_by_key(|range| matches!(range, IpNet::V6(_)));
        let families = [
            (Forwarding::V4, "net.ipv4.ip_forward", ranges.iter().any(|range| matches!(range, IpNet::V4(_)))),
            (
                Forwarding::V6,
                "net.ipv6.conf.all.forwarding",
                ranges.iter().any(|range| matches!(range, IpNet::V6(_))),
            ),
        ];
        for (family, switch, _) in families.into_iter().filter(|(_, _, is_there)| *is_there) {
            if let Err(error) = enable_forwarding(family, &self.procfs) {
                self.trouble(format!("the node does not forward ({error}): sysctl -w {switch}=1"));
            }
        }
        {
            let mut released = self.released.lock().unwrap_or_else(PoisonError::into_inner);
            // One that went and comes again is as any other.
            released.retain(|range| ranges.contains(range));
            ranges.retain(|range| !released.contains(range));
        }
        {
            // Whoever is removed meanwhile gives back only after this, what it is given here as well.
            let mut ipam = self.lock();
            let last: Vec<IpNet> =
                ipam.usage().iter().filter(|usage| !usage.is_leaving).map(|usage| usage.range).collect();
            if last == ranges {
                return;
            }
            // Before an address of them is given.
            self.tell_masquerade(&ranges);
            ipam.set_ranges(&ranges);
            self.strangers.claim(&mut ipam);
            for endpoint in self.endpoints.list() {
                if !ipam.claim(&endpoint.addresses, &owner_of(&endpoint)) {
                    let shown = endpoint.shown();
                    tracing::warn!(
                        endpoint = shown,
                        "its address is outside of the node's ranges; it keeps it"
                    );
                }
            }
        }
        self.take_own_addresses();
        let shown: Vec<String> = ranges.iter().map(ToString::to_string).collect();
        tracing::info!(ranges = shown.join(","), "pods get addresses");
        self.kept.write(&ranges);
        self.here.send_modify(|here| here.ranges = ranges);
    }

    /// Says whose packets are masqueraded: those of the ranges, and of pods that have kept an address of another.
    fn tell_masquerade(&self, ranges: &[IpNet]) {
        let mut own = ranges.to_vec();
        let mut addresses = self.strangers.addresses();
        addresses.extend(self.endpoints.list().into_iter().flat_map(|endpoint| endpoint.addresses));
        addresses.retain(|address| !own.iter().any(|range| range.contains(address)));
        own.extend(addresses.into_iter().map(IpNet::from));
        if let Err(error) = self.datapath.set_own_ranges(own) {
            tracing::warn!("cannot tell the kernel programs whom to masquerade, will retry: {error}");
        }
    }

    /// The same, when a pod has gone that may have kept such an address.
    fn tell_masquerade_without(&self, addresses: &[IpAddr]) {
        let ranges = self.here.borrow().ranges.clone();
        let is_kept = |address: &IpAddr| !ranges.iter().any(|range| range.contains(address));
        // Until they are known the maps stay as an earlier agent left them.
        if !ranges.is_empty() && addresses.iter().any(is_kept) {
            self.tell_masquerade(&ranges);
        }
    }

    /// Takes an address of each family for the node itself, where tunnels have to lead answers back to it: those that
    /// it had with an earlier agent, if they are still its own.
    fn take_own_addresses(&self) {
        if self.tunnels.is_none() {
            return;
        }
        let node = self.node.borrow();
        let device = node.links.values().find(|link| link.name == TUNNEL_DEVICE).map(|link| link.index);
        let had: Vec<IpAddr> = node
            .addresses
            .iter()
            .filter(|(at, _)| Some(*at) == device)
            .map(|(_, address)| *address)
            .collect();
        drop(node);
        let mut ipam = self.lock();
        let mut own: Vec<IpAddr> = self.own_addresses();
        own.extend(had);
        own.sort_unstable();
        own.dedup();
        own.retain(|address| ipam.claim(&[*address], NODE));
        let is_whole = ipam
            .usage()
            .iter()
            .filter(|usage| !usage.is_leaving)
            .all(|usage| own.iter().any(|address| address.is_ipv4() == usage.range.addr().is_ipv4()));
        if !is_whole {
            ipam.release(&own, NODE);
            match ipam.allocate(NODE) {
                Ok(given) => own = given,
                Err(error) => tracing::warn!("the node has no address in its tunnels: {error}"),
            }
        }
        drop(ipam);
        *self.own.lock().unwrap_or_else(PoisonError::into_inner) = own;
    }

    /// The node's addresses among its pods', at most one of each family; none without tunnels.
    pub(crate) fn own_addresses(&self) -> Vec<IpAddr> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is to be said of the blocks that this node has, see [`marks`]. From one that is marked as released nothing is
    /// given any more.
    pub(crate) fn mark(&self, blocks: &[IpNet], thresholds: Thresholds) -> BTreeMap<IpNet, Mark> {
        // Nobody may get an address of a block between its being found unused and its release.
        let mut ipam = self.lock();
        let mut released = self.released.lock().unwrap_or_else(PoisonError::into_inner);
        let marks = marks(blocks, &ipam.usage(), &released, thresholds);
        let now: BTreeSet<IpNet> =
            marks.iter().filter(|(_, mark)| **mark == Mark::Released).map(|(block, _)| *block).collect();
        if now != *released {
            let usage = ipam.usage();
            let kept = usage.iter().filter(|usage| !usage.is_leaving && !now.contains(&usage.range));
            ipam.set_ranges(&kept.map(|usage| usage.range).collect::<Vec<_>>());
            *released = now;
        }
        marks
    }

    /// Wakes when an address was given or came back.
    pub(crate) fn usage_changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The ranges of other nodes' pods.
    pub(crate) fn set_remote_ranges(&self, ranges: Vec<IpNet>) {
        self.datapath.set_remote_ranges(ranges);
    }

    /// Gives a pod its network.
    pub(crate) fn add(
        &self,
        request: PodRequest,
        namespace: &OwnedFd,
        inside: OwnedFd,
    ) -> Result<Endpoint, Failure> {
        let PodRequest { attachment, netns, pod, host_ports } = request;
        let _turn = self.turn(&attachment)?;
        // The runtime asks again after an answer that it did not hear.
        self.take_away(&attachment)?;
        self.refuse_clash(&host_ports)?;
        let gone = self.strangers.forget_gone(&self.node.borrow(), &mut self.lock());
        self.tell_masquerade_without(&gone);
        let owner = owner_name(&attachment);
        let addresses = self.lock().allocate(&owner).map_err(|error| {
            let code = match error {
                IpamError::NoRange => Code::TryAgainLater,
                IpamError::Exhausted { .. } => Code::Exhausted,
            };
            Failure::new(code, format!("millrace: {error}; {}", self.fix_of(&error)))
        })?;
        let mtu = self.device_mtu();
        let route_mtu = self.tunnels.map_or(mtu, |tunnels| tunnels.inner_mtu(mtu));
        let Attachment { container_id, interface } = attachment.clone();
        let given = addresses.clone();
        let wanted = Wanted { container_id, interface, netns, pod, addresses, mtu, route_mtu, host_ports };
        let made = self.endpoints.create(wanted, namespace.as_fd(), inside).map_err(|error| {
            self.lock().release(&given, &owner);
            network(&error)
        })?;
        let attached = self.datapath.attach_pod(&made);
        let finished = match attached {
            Ok(()) => self.endpoints.finish(&made).map_err(|error| network(&error)),
            Err(error) => Err(network(&format!("{error:#}"))),
        };
        match &finished {
            // What is said of it is said of an endpoint that is there.
            Ok(_) => {
                self.tell_host_ports();
                self.changed.send_modify(|count| *count += 1);
            }
            Err(_) => drop(self.take_away(&attachment)?),
        }
        finished
    }

    /// Ranges and host ports, and how they change.
    pub(crate) fn here(&self) -> watch::Receiver<PodsHere> {
        self.here.subscribe()
    }

    /// Says which ports of the node lead to pods now.
    fn tell_host_ports(&self) {
        let host_ports: Vec<HostPort> = self.endpoints.list().iter().flat_map(host_ports_of).collect();
        self.here.send_if_modified(|here| {
            let changed = here.host_ports != host_ports;
            here.host_ports = host_ports;
            changed
        });
    }

    /// Two pods cannot have one port. The scheduler knows that; who comes here all the same took the place of a pod
    /// that has not gone yet, and is tried again.
    fn refuse_clash(&self, wanted: &[PortMapping]) -> Result<(), Failure> {
        for endpoint in self.endpoints.list() {
            let taken =
                endpoint.host_ports.iter().find(|has| wanted.iter().any(|port| port.clashes_with(has)));
            if let Some(PortMapping { host_port, protocol, .. }) = taken {
                let msg = format!(
                    "millrace: hostPort {host_port} ({protocol:?}) leads to {} of this node: delete one of the two",
                    endpoint.shown()
                );
                return Err(Failure::new(Code::TryAgainLater, msg));
            }
        }
        Ok(())
    }

    /// Takes a pod's network away; None: it had none.
    pub(crate) fn remove(&self, attachment: &Attachment) -> Result<Option<Endpoint>, Failure> {
        let _turn = self.turn(attachment)?;
        self.take_away(attachment)
    }

    /// Whether a pod's network is as it was made.
    pub(crate) fn check(&self, attachment: &Attachment, inside: OwnedFd) -> Result<(), Failure> {
        let _turn = self.turn(attachment)?;
        let Attachment { container_id, interface } = attachment;
        let unknown = || {
            let msg =
                format!("millrace: container {container_id} has no endpoint for {interface} on this node");
            Failure::new(Code::Changed, msg)
        };
        let endpoint = self.endpoints.get(container_id, interface).ok_or_else(unknown)?;
        let differences = self.endpoints.differences(&endpoint, inside).map_err(|error| network(&error))?;
        match differences.is_empty() {
            true => Ok(()),
            false => Err(Failure::new(Code::Changed, format!("millrace: {}", differences.join("; ")))),
        }
    }

    /// Takes the networks away that are none of these; whose they were, and why one is still there.
    pub(crate) fn collect(&self, valid: &BTreeSet<Attachment>) -> (Vec<Endpoint>, Result<(), Failure>) {
        let of = |endpoint: &Endpoint| Attachment {
            container_id: endpoint.container_id.clone(),
            interface: endpoint.interface.clone(),
        };
        let stale: Vec<Attachment> =
            self.endpoints.list().iter().map(of).filter(|attachment| !valid.contains(attachment)).collect();
        let (mut removed, mut outcome) = (Vec::new(), Ok(()));
        for attachment in &stale {
            // One that cannot be taken away keeps no other.
            match self.remove(attachment) {
                Ok(endpoint) => removed.extend(endpoint),
                Err(failure) => outcome = Err(failure),
            }
        }
        (removed, outcome)
    }

    /// Whether a pod would get a network now.
    pub(crate) fn is_available(&self) -> Result<(), Failure> {
        let available = self.lock().can_allocate();
        available.map_err(|error| {
            Failure::new(Code::NotAvailable, format!("millrace: {error}; {}", self.fix_of(&error)))
        })
    }

    /// All endpoints.
    pub(crate) fn list(&self) -> Vec<Endpoint> {
        self.endpoints.list()
    }

    /// How full the ranges are.
    pub(crate) fn usage(&self) -> Vec<Usage> {
        self.lock().usage()
    }

    /// Health, for people.
    pub(crate) fn health(&self) -> PartHealth {
        const NAME: &str = "pod network";
        let usage = self.usage();
        let ranges: Vec<String> = usage
            .iter()
            .map(|usage| format!("{} of {} addresses of {} in use", usage.used, usage.capacity, usage.range))
            .collect();
        let troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner).join("; ");
        if !troubles.is_empty() {
            return PartHealth::degraded(NAME, troubles, "mend it and start the agent again");
        }
        let available = self.lock().can_allocate();
        if let Err(error) = available {
            return PartHealth::degraded(NAME, error.to_string(), self.fix_of(&error));
        }
        PartHealth::ok(NAME, format!("{} endpoints; {}", self.list().len(), ranges.join(", ")))
    }

    fn fix_of(&self, error: &IpamError) -> String {
        match error {
            IpamError::NoRange => self.awaited.clone(),
            IpamError::Exhausted { .. } => "delete pods of this node, or give it another range".to_owned(),
        }
    }

    fn trouble(&self, trouble: String) {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        if !troubles.contains(&trouble) {
            tracing::warn!("{trouble}");
            troubles.push(trouble);
        }
    }

    fn take_away(&self, attachment: &Attachment) -> Result<Option<Endpoint>, Failure> {
        if let Some(endpoint) = self.endpoints.get(&attachment.container_id, &attachment.interface) {
            self.datapath.forget_pod(&endpoint).map_err(|error| network(&error))?;
        }
        let removed = self.endpoints.remove(&attachment.container_id, &attachment.interface);
        let removed = removed.map_err(|error| network(&error))?;
        if let Some(endpoint) = &removed {
            let forgotten = self.datapath.forget_device(endpoint.device.index);
            self.lock().release(&endpoint.addresses, &owner_of(endpoint));
            self.tell_host_ports();
            self.tell_masquerade_without(&endpoint.addresses);
            self.changed.send_modify(|count| *count += 1);
            forgotten.map_err(|error| network(&error))?;
        }
        if removed.is_none() {
            let stranger = self.endpoints.remove_stranger(&attachment.container_id, &attachment.interface);
            if let Some(device) = stranger.map_err(|error| network(&error))? {
                let gone = self.strangers.forget_device(&device, &mut self.lock());
                self.tell_masquerade_without(&gone);
            }
        }
        Ok(removed)
    }

    /// What was asked for, or the smallest of the devices towards the outside.
    pub(crate) fn device_mtu(&self) -> u32 {
        let node = self.node.borrow();
        let outside = node.links.values().filter(|link: &&Link| link.default_route && link.mtu > 0);
        match self.mtu {
            0 => outside.map(|link| link.mtu).min().unwrap_or(MTU),
            asked => asked,
        }
    }

    fn turn(&self, attachment: &Attachment) -> Result<Turn<'_, Attachment>, Failure> {
        let busy = || {
            let msg = "millrace: another call about this interface has not ended; the runtime tries again";
            Failure { details: json!(attachment).to_string(), ..Failure::new(Code::TryAgainLater, msg) }
        };
        self.turns.take(attachment, PATIENCE).ok_or_else(busy)
    }

    fn lock(&self) -> MutexGuard<'_, NodeIpam> {
        self.ipam.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What somebody can do about a node without a range.
fn awaited(options: &PodOptions) -> String {
    let node = options.node_name();
    match options.ipam {
        Some(Ipam::Kubernetes) => format!(
            "Kubernetes writes spec.podCIDRs of Node {node} when its controller manager runs with \
             --allocate-node-cidrs; this is tried again"
        ),
        Some(Ipam::ClusterPool | Ipam::ClusterPoolV2Beta) => format!(
            "the operator writes spec.ipam.podCIDRs of CiliumNode {node}; see its log; this is tried again"
        ),
        None => "set --ipv4-range or --ipv6-range".to_owned(),
    }
}

fn owner_name(attachment: &Attachment) -> String {
    format!("{}/{}", attachment.container_id, attachment.interface)
}

fn owner_of(endpoint: &Endpoint) -> String {
    format!("{}/{}", endpoint.container_id, endpoint.interface)
}

fn host_ports_of(endpoint: &Endpoint) -> impl Iterator<Item = HostPort> + '_ {
    endpoint.host_ports.iter().map(|port| HostPort {
        owner: endpoint.shown(),
        address: port.host_ip,
        port: port.host_port,
        protocol: match port.protocol {
            PortProtocol::Tcp => Protocol::Tcp,
            PortProtocol::Udp => Protocol::Udp,
        },
        pod: endpoint.addresses.clone(),
        pod_port: port.container_port,
    })
}

fn network(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Code::Network, format!("millrace: {error}"))
}
