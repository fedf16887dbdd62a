//! The kernel's side: programs loaded, devices attached, the proxy's sockets put where programs find them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow};
use ipnet::IpNet;
use mesh_control_endpoint::{Endpoint, Stranger};
use mesh_control_loadbalancer::FrontendTarget;
use mesh_control_node::{Link, Netlink, NodeState, TUNNEL_DEVICE, remove_all};
use mesh_ebpf_abi::{Addr, EndpointValue, NetKey, PodAddresses, device_flags};
use mesh_ebpf_loader::{
    Choice, Constants, Datapath as Loaded, DatapathConfig, DatapathPlan, Device, DeviceKind, KernelFeatures,
    LoadConfig, plan,
};
use mesh_ebpf_maps::{ListenerPair, LoadBalancerMaps, MapError, PinnedMaps};
use mesh_l7proxy_wire::{OpenListener, StarterClient};
use mesh_xds::server::Progress;
use serde_json::{Value, json};
use tokio::sync::watch;
use wildmatch::WildMatch;

use crate::args::{CleanupOptions, ServeOptions};
use crate::entries::Entries;
use crate::health::PartHealth;
use crate::masquerade::{Masquerade, Outside, bring};
use crate::proxy::ProxyProcess;
use crate::tunnels::TunnelOptions;

/// How often the proxy's sockets are looked at when nothing is heard: a proxy that starts anew has new ones.
const LOOK: Duration = Duration::from_millis(500);

/// The kernel's side of this node.
pub(crate) struct Datapath {
    plan: DatapathPlan,
    features: KernelFeatures,
    proxy: ProxyProcess,
    /// Where each proxy thread listens.
    entries: Entries,
    devices: Vec<WildMatch>,
    pod_devices: Vec<WildMatch>,
    masquerade: Masquerade,
    /// Whether the tunnel device is ours to attach.
    has_tunnels: bool,
    /// Held for a few system calls by whoever changes or reads the kernel's state; never across an await.
    state: Mutex<State>,
}

struct State {
    loaded: Loaded,
    /// By index, because a name may come back on another device.
    attached: BTreeSet<(u32, String)>,
    /// Inodes of the sockets that the programs know.
    sockets: Vec<u64>,
    /// What was last brought up to date with: devices that masquerade, and whether anything is offered there.
    outside: Option<(NodeState, bool)>,
    trouble: Option<String>,
}

impl Datapath {
    /// Asks the kernel what it can, plans, and loads. Every missing thing is named at once, each with its fix.
    pub(crate) fn start(
        options: &ServeOptions,
        proxy: ProxyProcess,
        entries: Entries,
    ) -> anyhow::Result<Self> {
        let features = match &options.kernel_features {
            Some(file) => KernelFeatures::from_file(file).context("--kernel-features")?,
            None => KernelFeatures::probe(),
        };
        let config = DatapathConfig {
            pin_root: options.roots.pin_root.clone(),
            cgroup: options.cgroup.clone(),
            legacy_host_routing: options.pods.enable_host_legacy_routing,
            ..DatapathConfig::default()
        };
        let plan = plan(&config, &features).map_err(|errors| {
            let list: Vec<String> = errors.iter().map(ToString::to_string).collect();
            anyhow!(
                "this kernel cannot redirect (--redirect=off serves on plain listeners): {}",
                list.join("; ")
            )
        })?;
        tracing::info!("datapath plan:\n{plan}");
        let (low, high) = proxy.upstream_ports;
        let constants = Constants {
            upstream_port_low: low.into(),
            upstream_port_high: high.into(),
            ..Constants::default()
        };
        let load = LoadConfig { object: options.bpf_object.clone(), constants };
        let loaded = Loaded::load(&plan, &load).context("cannot load the kernel programs")?;
        let patterns = |texts: &[String]| texts.iter().map(|text| WildMatch::new(text)).collect();
        Ok(Self {
            plan,
            features,
            proxy,
            entries,
            devices: patterns(&options.devices),
            pod_devices: patterns(&options.pod_devices),
            masquerade: Masquerade::of(&options.pods),
            has_tunnels: TunnelOptions::of(&options.pods)?.is_some(),
            state: Mutex::new(State {
                loaded,
                attached: BTreeSet::new(),
                sockets: Vec::new(),
                outside: None,
                trouble: None,
            }),
        })
    }

    /// Where frontends are written; takes over what an earlier agent wrote.
    pub(crate) fn frontend_target(&self) -> anyhow::Result<FrontendTarget<PinnedMaps>> {
        let maps = PinnedMaps::open(&self.plan.pin_root).context("cannot open the pinned maps")?;
        FrontendTarget::restore(maps).context("cannot read the pinned maps")
    }

    /// The ranges of this node's pods, whose packets leave with the node's address: from now on, so that a pod that gets
    /// an address of them is masqueraded from its first packet.
    pub(crate) fn set_own_ranges(&self, ranges: Vec<IpNet>) -> Result<(), MapError> {
        self.masquerade.set_own(ranges);
        let mut state = self.lock();
        // At the start there are no pods to come before the first time.
        let Some((node, has_frontends)) = state.outside.clone() else { return Ok(()) };
        self.masquerade.write(state.loaded.maps(), &node, &self.outside_of(&node), has_frontends)
    }

    /// The ranges of other nodes' pods, to whom packets leave as they are.
    pub(crate) fn set_remote_ranges(&self, ranges: Vec<IpNet>) {
        self.masquerade.set_remote(ranges);
    }

    /// Whether an earlier agent offered anything to the outside.
    pub(crate) fn has_frontends(&self) -> anyhow::Result<bool> {
        let entries = self.lock().loaded.maps().masquerade().entries()?;
        Ok(entries.iter().any(|(_, value)| value.flags & device_flags::FRONTENDS != 0))
    }

    /// Writes which node has which range of pods.
    pub(crate) fn set_tunnels(&self, ends: &BTreeMap<NetKey, Addr>) -> Result<(), MapError> {
        bring(self.lock().loaded.maps().tunnels(), ends, true)
    }

    /// Health, for people.
    pub(crate) fn health(&self) -> PartHealth {
        let state = self.lock();
        let devices: Vec<&str> = state.attached.iter().map(|(_, name)| name.as_str()).collect();
        if let Some(trouble) = &state.trouble {
            return PartHealth::degraded("datapath", trouble.clone(), "it is tried again every half second");
        }
        if devices.is_empty() {
            let fix = "set --devices and --pod-devices to the names of this node's devices";
            return PartHealth::degraded("datapath", "no device is attached", fix);
        }
        let threads = self.entries.ports.len();
        if state.sockets.is_empty() {
            let detail = "the proxy has not opened its sockets yet";
            return PartHealth::degraded("datapath", detail, "see proxy.log in the run directory");
        }
        let families = if self.entries.ipv6 { "" } else { "; IPv4 alone: this node has no IPv6" };
        PartHealth::ok("datapath", format!("on {}; {threads} proxy threads{families}", devices.join(", ")))
    }

    /// What the kernel can, what was chosen, and why.
    pub(crate) fn plan(&self) -> Value {
        let state = self.lock();
        let instructions: serde_json::Map<String, Value> = state
            .loaded
            .verified_instructions()
            .iter()
            .map(|(program, count)| ((*program).to_owned(), json!(count)))
            .collect();
        json!({
            "plan": self.plan,
            "kernel": self.features,
            "devices": state.attached.iter().map(|(_, name)| name).collect::<Vec<_>>(),
            "verifiedInstructions": instructions,
        })
    }

    /// The decisions of the plan.
    pub(crate) fn choices(&self) -> &[Choice] {
        &self.plan.choices
    }

    /// Folder of the pinned maps.
    pub(crate) fn pin_root(&self) -> &Path {
        &self.plan.pin_root
    }

    /// Brings devices, addresses and sockets up to date, each as far as it can be. Blocks for some system calls,
    /// and for the starter's answer.
    pub(crate) fn bring_up_to_date(&self, node: &NodeState, has_frontends: bool) {
        let mut troubles = self.attach_devices(&mut self.lock(), node);
        troubles.extend(write_node_addresses(&mut self.lock().loaded, node).err());
        {
            let mut state = self.lock();
            let outside = self.outside_of(node);
            let masqueraded = self.masquerade.write(state.loaded.maps(), node, &outside, has_frontends);
            troubles.extend(masqueraded.err().map(Into::into));
            state.outside = Some((node.clone(), has_frontends));
        }
        // Asked without the lock: whoever looks at the datapath does not wait for the starter.
        let listeners = self.proxy.listeners().unwrap_or_default();
        let mut state = self.lock();
        troubles.extend(self.take_sockets(&mut state, listeners).err());
        let troubles: Vec<String> = troubles.iter().map(|trouble| format!("{trouble:#}")).collect();
        let trouble = (!troubles.is_empty()).then(|| troubles.join("; "));
        if trouble != state.trouble
            && let Some(trouble) = &trouble
        {
            tracing::warn!("{trouble}");
        }
        state.trouble = trouble;
    }

    /// Attaches a pod's device at once, as no packet of a pod may pass before its programs see it, and tells the
    /// programs whose addresses are behind it.
    pub(crate) fn attach_pod(&self, pod: &Endpoint) -> anyhow::Result<()> {
        let (name, index) = (&pod.device.name, pod.device.index);
        let mut state = self.lock();
        // Before the first packet, so that the first one is held to it.
        state.loaded.maps().pod_sources().insert(&index, &sources_of(&pod.addresses))?;
        state.loaded.attach(&Device { name: name.clone(), kind: DeviceKind::Pod })?;
        state.attached.insert((index, name.clone()));
        for (address, value) in entries_of(pod) {
            state.loaded.maps().endpoints().insert(&address, &value)?;
        }
        Ok(())
    }

    /// Nothing is handed to a pod any more whose device is about to go.
    pub(crate) fn forget_pod(&self, pod: &Endpoint) -> Result<(), MapError> {
        let mut state = self.lock();
        let map = state.loaded.maps().endpoints();
        for (address, value) in entries_of(pod) {
            // The address may have another pod by now.
            if map.get(&address)? == Some(value) {
                map.remove(&address)?;
            }
        }
        Ok(())
    }

    /// Nothing comes from a device any more that is gone.
    pub(crate) fn forget_device(&self, index: u32) -> Result<(), MapError> {
        self.lock().loaded.maps().pod_sources().remove(&index).map(drop)
    }

    /// The pods that there are, and no others. Of those without a record packets are handed over by the stack.
    pub(crate) fn set_pods(&self, pods: &[Endpoint], strangers: &[Stranger]) -> Result<(), MapError> {
        let wanted: BTreeMap<Addr, EndpointValue> = pods.iter().flat_map(entries_of).collect();
        let known = pods.iter().map(|pod| (pod.device.index, sources_of(&pod.addresses)));
        let others = strangers.iter().map(|pod| (pod.device.index, sources_of(&pod.addresses)));
        let sources: BTreeMap<u32, PodAddresses> = known.chain(others).collect();
        let mut state = self.lock();
        bring(state.loaded.maps().endpoints(), &wanted, true)?;
        bring(state.loaded.maps().pod_sources(), &sources, true)
    }

    /// What could not be attached holds back nothing else.
    fn attach_devices(&self, state: &mut State, node: &NodeState) -> Vec<anyhow::Error> {
        let wanted: Vec<&Link> = node.links.values().filter(|link| self.is_wanted(link)).collect();
        let identities: BTreeSet<(u32, String)> =
            wanted.iter().map(|link| (link.index, link.name.clone())).collect();
        if identities == state.attached {
            return Vec::new();
        }
        state.attached.retain(|identity| identities.contains(identity));
        let mut troubles: Vec<anyhow::Error> = Vec::new();
        for link in wanted {
            let identity = (link.index, link.name.clone());
            if state.attached.contains(&identity) {
                continue;
            }
            let device = Device { name: link.name.clone(), kind: self.kind_of(link) };
            match state.loaded.attach(&device) {
                Ok(()) => {
                    state.attached.insert(identity);
                    tracing::info!(device = %link.name, "device attached");
                }
                Err(error) => troubles.push(error.into()),
            }
        }
        troubles.extend(state.loaded.forget_missing_devices().err().map(Into::into));
        troubles
    }

    /// Devices that lead away from the node.
    fn outside_of(&self, node: &NodeState) -> Vec<Outside> {
        let outside =
            node.links.values().filter(|link| self.is_wanted(link) && !is_named(&self.pod_devices, link));
        outside.map(|link| Outside { index: link.index, is_tunnel: link.name == TUNNEL_DEVICE }).collect()
    }

    /// A pod's device, or one towards the outside.
    fn is_wanted(&self, link: &Link) -> bool {
        let outside = if self.devices.is_empty() { link.external } else { is_named(&self.devices, link) };
        let is_tunnel = self.has_tunnels && link.name == TUNNEL_DEVICE;
        link.name != "lo" && (outside || is_tunnel || is_named(&self.pod_devices, link))
    }

    fn kind_of(&self, link: &Link) -> DeviceKind {
        if link.name == TUNNEL_DEVICE {
            DeviceKind::Tunnel
        } else if !link.ethernet {
            DeviceKind::Ip
        } else if is_named(&self.pod_devices, link) {
            DeviceKind::Pod
        } else {
            DeviceKind::Ethernet
        }
    }

    /// Gives the programs the proxy's sockets, once all threads have theirs. Without a proxy the sockets in
    /// the map are gone with it; nothing has to be taken out.
    fn take_sockets(&self, state: &mut State, listeners: Vec<OpenListener>) -> anyhow::Result<()> {
        let Some(sockets) = self.entries.complete(listeners) else { return Ok(()) };
        let inodes: Vec<u64> = sockets
            .iter()
            .flat_map(|thread| std::iter::once(&thread.v4).chain(&thread.v6))
            .map(|socket| rustix::fs::fstat(socket).map(|stat| stat.st_ino))
            .collect::<Result<_, _>>()
            .context("cannot look at the proxy's sockets")?;
        if inodes == state.sockets {
            return Ok(());
        }
        let pairs: Vec<ListenerPair<'_>> = sockets
            .iter()
            .map(|thread| ListenerPair { v4: thread.v4.as_fd(), v6: thread.v6.as_ref().map(AsFd::as_fd) })
            .collect();
        state
            .loaded
            .set_listeners(&pairs)
            .context("cannot give the proxy's sockets to the kernel programs")?;
        state.sockets = inodes;
        tracing::info!(threads = pairs.len(), "the proxy's sockets take redirected connections");
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the datapath up to date with devices and the proxy until the node is no longer observed.
pub(crate) async fn keep(
    datapath: Arc<Datapath>,
    mut node: watch::Receiver<NodeState>,
    mut has_frontends: watch::Receiver<bool>,
    mut progress: watch::Receiver<Progress>,
) {
    loop {
        let (now, here) = (node.borrow_and_update().clone(), datapath.clone());
        let frontends = *has_frontends.borrow_and_update();
        if tokio::task::spawn_blocking(move || here.bring_up_to_date(&now, frontends)).await.is_err() {
            return;
        }
        tokio::select! {
            changed = node.changed() => if changed.is_err() { return },
            Ok(()) = has_frontends.changed() => {}
            // The proxy has taken something: it may have opened its sockets.
            Ok(()) = progress.changed() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// How packets for a pod find it.
fn entries_of(pod: &Endpoint) -> impl Iterator<Item = (Addr, EndpointValue)> + '_ {
    let Endpoint { device, mac, addresses, .. } = pod;
    let value = EndpointValue { device: device.index, mac: mac.0, node_mac: device.mac.0 };
    addresses.iter().map(move |address| (Addr::from(*address), value))
}

/// What a pod may send with.
fn sources_of(addresses: &[IpAddr]) -> PodAddresses {
    let first = |is_wanted: fn(&IpAddr) -> bool| {
        addresses.iter().find(|address| is_wanted(address)).map_or(PodAddresses::UNSET, |ip| Addr::from(*ip))
    };
    PodAddresses { v4: first(IpAddr::is_ipv4), v6: first(IpAddr::is_ipv6) }
}

fn is_named(patterns: &[WildMatch], link: &Link) -> bool {
    patterns.iter().any(|pattern| pattern.matches(&link.name))
}

/// Writes the node's own addresses, whose packets the stack delivers by itself.
fn write_node_addresses(loaded: &mut Loaded, node: &NodeState) -> anyhow::Result<()> {
    let wanted: BTreeSet<Addr> =
        node.addresses.iter().map(|(_, address): &(u32, IpAddr)| Addr::from(*address)).collect();
    let map = loaded.maps().node_addresses();
    let present: BTreeSet<Addr> = map.entries()?.into_iter().map(|(address, _)| address).collect();
    for address in wanted.difference(&present) {
        map.insert(address, &0)?;
    }
    for address in present.difference(&wanted) {
        map.remove(address)?;
    }
    Ok(())
}

/// `mesh-agent cleanup`: takes out what an agent with these roots left.
pub(crate) fn cleanup(options: &CleanupOptions) -> anyhow::Result<()> {
    if options.stop_proxy
        && let Ok(mut starter) = StarterClient::connect(&options.roots.run_dir.join("starter.sock"))
    {
        starter.shutdown().context("the proxy does not stop")?;
        starter.wait_closed(Duration::from_secs(40)).context("the proxy does not stop")?;
    }
    let removed = mesh_ebpf_loader::cleanup(&options.roots.pin_root)
        .with_context(|| format!("cannot clean {}", options.roots.pin_root.display()))?;
    let netlink = Netlink::start().context("cannot talk to the kernel's routing tables")?;
    let routes = remove_all(&netlink).context("cannot take the routes and rules out")?;
    let tunnels = netlink.remove_tunnel().context("cannot take the tunnel device away")?;
    let sockets = remove_dead_sockets(&options.roots.run_dir).context("cannot remove a dead socket")?;
    tracing::info!(
        links = removed.links,
        programs = removed.programs,
        maps = removed.maps,
        routes,
        tunnels,
        sockets,
        "cleaned up"
    );
    Ok(())
}

/// Removes the sockets in a run directory that nobody serves any more; how many.
fn remove_dead_sockets(run_dir: &Path) -> std::io::Result<usize> {
    let mut removed = 0;
    for name in ["agent.sock", "xds.sock", "starter.sock", "proxy-admin.sock", mesh_cni_wire::SOCKET] {
        let path = run_dir.join(name);
        // One that is alive but of another type (starter.sock) says so with another error.
        match UnixStream::connect(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(&path)?;
                removed += 1;
            }
            _ => {}
        }
    }
    Ok(removed)
}
