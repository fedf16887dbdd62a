//! The pods' network on this node: an address, devices and routes, and the programs on the device, as one.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use mesh_cni_wire::{Attachment, Code, Failure};
use mesh_control_endpoint::{Endpoint, Endpoints, PodName, Wanted};
use mesh_control_ipam::{NodeIpam, Usage};
use mesh_control_node::{Forwarding, Link, NodeState, enable_forwarding};
use serde_json::json;
use tokio::sync::watch;

use crate::args::PodOptions;
use crate::datapath::Datapath;
use crate::health::PartHealth;
use crate::turns::{Turn, Turns};

/// How long a call may wait for another one about the same interface.
const PATIENCE: Duration = Duration::from_secs(60);

/// Largest packet where no device says.
const MTU: u32 = 1500;

/// The pods' network.
pub(crate) struct PodNetwork {
    endpoints: Endpoints,
    ipam: Mutex<NodeIpam>,
    datapath: Arc<Datapath>,
    node: watch::Receiver<NodeState>,
    /// Asked for; 0: that of the devices.
    mtu: u32,
    turns: Turns<Attachment>,
    /// What is wrong since the start.
    troubles: Vec<String>,
}

/// What a pod wants.
pub(crate) struct PodRequest {
    /// Container and interface.
    pub(crate) attachment: Attachment,
    /// Path of the network namespace, for people.
    pub(crate) netns: String,
    /// The pod's name.
    pub(crate) pod: Option<PodName>,
}

impl PodNetwork {
    /// Takes up the endpoints that an earlier agent made, with their addresses.
    pub(crate) fn start(
        options: &PodOptions,
        run_dir: &Path,
        datapath: Arc<Datapath>,
        node: watch::Receiver<NodeState>,
    ) -> anyhow::Result<Self> {
        let ranges = options.ranges();
        let families = [
            (Forwarding::V4, options.ipv4_range.is_empty()),
            (Forwarding::V6, options.ipv6_range.is_empty()),
        ];
        let mut troubles = Vec::new();
        for (family, _) in families.into_iter().filter(|(_, is_empty)| !is_empty) {
            if let Err(error) = enable_forwarding(family) {
                let switch = match family {
                    Forwarding::V4 => "net.ipv4.ip_forward",
                    Forwarding::V6 => "net.ipv6.conf.all.forwarding",
                };
                troubles.push(format!("the node does not forward ({error}): sysctl -w {switch}=1"));
            }
        }
        let (endpoints, restored) =
            Endpoints::restore(run_dir.join("endpoints")).context("cannot take up the pods' endpoints")?;
        let mut ipam = NodeIpam::default();
        ipam.set_ranges(&ranges);
        for endpoint in &restored.kept {
            if !ipam.claim(&endpoint.addresses, &owner_of(endpoint)) {
                let shown = endpoint.shown();
                tracing::warn!(endpoint = shown, "its address is outside of the node's ranges; it keeps it");
            }
        }
        for endpoint in &restored.dropped {
            tracing::info!(endpoint = endpoint.shown(), "its pod is gone, or never was: taken away");
        }
        troubles.extend(restored.unreadable.iter().map(|error| format!("{error}; moved aside")));
        for trouble in &troubles {
            tracing::warn!("{trouble}");
        }
        let (ipam, turns) = (Mutex::new(ipam), Turns::default());
        Ok(Self { endpoints, ipam, datapath, node, mtu: options.mtu, turns, troubles })
    }

    /// Gives a pod its network.
    pub(crate) fn add(
        &self,
        request: PodRequest,
        namespace: &OwnedFd,
        inside: OwnedFd,
    ) -> Result<Endpoint, Failure> {
        let PodRequest { attachment, netns, pod } = request;
        let _turn = self.turn(&attachment)?;
        // The runtime asks again after an answer that it did not hear.
        self.take_away(&attachment)?;
        let owner = owner_name(&attachment);
        let addresses = self.lock().allocate(&owner).map_err(|error| {
            let fix = "delete pods of this node, or give it another range";
            Failure::new(Code::Exhausted, format!("millrace: {error}; {fix}"))
        })?;
        let mtu = self.device_mtu();
        let Attachment { container_id, interface } = attachment.clone();
        let given = addresses.clone();
        let wanted = Wanted { container_id, interface, netns, pod, addresses, mtu, route_mtu: mtu };
        let made = self.endpoints.create(wanted, namespace.as_fd(), inside).map_err(|error| {
            self.lock().release(&given, &owner);
            network(&error)
        })?;
        let attached = self.datapath.attach_pod(&made.device.name, made.device.index);
        let finished = match attached {
            Ok(()) => self.endpoints.finish(&made).map_err(|error| network(&error)),
            Err(error) => Err(network(&format!("{error:#}"))),
        };
        if finished.is_err() {
            self.take_away(&attachment)?;
        }
        finished
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

    /// Takes the networks away that are none of these; whose they were.
    pub(crate) fn collect(&self, valid: &BTreeSet<Attachment>) -> Result<Vec<Endpoint>, Failure> {
        let of = |endpoint: &Endpoint| Attachment {
            container_id: endpoint.container_id.clone(),
            interface: endpoint.interface.clone(),
        };
        let stale: Vec<Attachment> =
            self.endpoints.list().iter().map(of).filter(|attachment| !valid.contains(attachment)).collect();
        let removed: Result<Vec<_>, _> = stale.iter().map(|attachment| self.remove(attachment)).collect();
        Ok(removed?.into_iter().flatten().collect())
    }

    /// Whether a pod would get a network now.
    pub(crate) fn is_available(&self) -> Result<(), Failure> {
        let available = self.lock().can_allocate();
        available.map_err(|error| Failure::new(Code::NotAvailable, format!("millrace: {error}")))
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
        if !self.troubles.is_empty() {
            return PartHealth::degraded(NAME, self.troubles.join("; "), "mend it and start the agent again");
        }
        if let Err(failure) = self.is_available() {
            return PartHealth::degraded(
                NAME,
                failure.msg,
                "delete pods of this node, or give it another range",
            );
        }
        PartHealth::ok(NAME, format!("{} endpoints; {}", self.list().len(), ranges.join(", ")))
    }

    fn take_away(&self, attachment: &Attachment) -> Result<Option<Endpoint>, Failure> {
        let removed = self.endpoints.remove(&attachment.container_id, &attachment.interface);
        let removed = removed.map_err(|error| network(&error))?;
        if let Some(endpoint) = &removed {
            self.lock().release(&endpoint.addresses, &owner_of(endpoint));
        }
        Ok(removed)
    }

    /// What was asked for, or the smallest of the devices towards the outside.
    fn device_mtu(&self) -> u32 {
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

fn owner_name(attachment: &Attachment) -> String {
    format!("{}/{}", attachment.container_id, attachment.interface)
}

fn owner_of(endpoint: &Endpoint) -> String {
    format!("{}/{}", endpoint.container_id, endpoint.interface)
}

fn network(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Code::Network, format!("millrace: {error}"))
}
