//! Starting the parts, each in one place.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use arc_swap::{ArcSwap, ArcSwapOption};
use mesh_control_node::{Netlink, NetlinkTarget, NodeState, RedirectRouting, observe};
use mesh_k8s_reflect::ObjectWriter;
use mesh_tables::{Database, Reconciler, ReconcilerConfig};
use mesh_xds::resolve::ResolveConfig;
use mesh_xds::server::{ResourceCache, Server, ServerConfig};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};

use crate::addresses::KeptAddresses;
use crate::args::{Redirect, ServeOptions};
use crate::control::{Control, FILLED_BY_CONTROL, Kernel};
use crate::datapath::Datapath;
use crate::derive::DeriveConfig;
use crate::entries::Entries;
use crate::events::{EventLog, Happened, Kind};
use crate::identity_keeper::IdentityKeeper;
use crate::nodes::{FILLED_BY_NODES, NodesConfig, NodesKeeper, NodesReport};
use crate::own_node::OwnNode;
use crate::pod_network::{PodNetwork, PodsHere};
use crate::proxy::{ProxyProcess, Started};
use crate::source::{Source, reflect_config};
use crate::state::State;
use crate::tunnels::{TunnelOptions, Tunnels};
use crate::view::View;
use crate::{api, cni, datapath, logs, proxy_watch, run_dir};

/// Who writes objects, for the record of the API server.
const AGENT: &str = "millrace-agent";

/// Runs the agent until SIGTERM or SIGINT. What it set up in the kernel and the proxy stays and serves on.
pub(crate) fn serve(options: &ServeOptions) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("agent")
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let outcome = runtime.block_on(run(options));
    // A starter that hangs keeps who asked it waiting; that is no reason to stay.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

async fn run(options: &ServeOptions) -> anyhow::Result<()> {
    let started = Instant::now();
    let run_dir = &options.roots.run_dir;
    run_dir::make(run_dir)?;
    let is_root = rustix::process::geteuid().is_root();
    let redirect = match options.redirect {
        Redirect::On => true,
        Redirect::Off => false,
        Redirect::Auto => is_root,
    };
    let threads = match options.proxy_threads {
        Some(threads) => threads,
        None => std::thread::available_parallelism().map_or(1, |cores| cores.get().min(64) as u16),
    };
    let mut proxy = ProxyProcess {
        binary: proxy_binary(options)?,
        run_dir: run_dir.clone(),
        threads,
        upstream_ports: options.upstream_ports,
        user: is_root.then_some(options.proxy_user),
    };

    // First of all: a second agent with this run directory ends here, and has changed nothing.
    let cache = ResourceCache::default();
    let mut server_config = ServerConfig::new(run_dir.join("xds.sock"));
    if is_root {
        server_config.owner = Some(options.proxy_user);
        server_config.allowed_uids = vec![options.proxy_user];
    }
    let server = Server::bind(server_config, cache.clone()).context("cannot serve xDS")?;
    let handle = server.handle();
    let (stop_server, server_stops) = oneshot::channel::<()>();
    let serving = tokio::spawn(server.run(async {
        let _ = server_stops.await;
    }));

    proxy.keep_what_runs();
    let entries = match redirect {
        true => Entries::choose(&proxy.socket(), proxy.threads, options.proxy_ports)?,
        false => Entries::default(),
    };
    let datapath = match redirect {
        true => Some(Arc::new(Datapath::start(options, proxy.clone(), entries.clone())?)),
        false => None,
    };

    let mut source =
        Source::start(&options.source, options.pods.ipam.map(|_| options.pods.node_name())).await?;
    let node = match redirect {
        true => observe().await.context("cannot follow the node's devices")?,
        false => watch::channel(NodeState::default()).1,
    };

    let pods = start_pods(options, datapath.as_ref(), &node)?;
    let pods_here = pods.as_ref().map_or_else(|| watch::channel(PodsHere::default()).1, |pods| pods.here());
    let database = Arc::new(Database::new());
    let kernel = match &datapath {
        Some(datapath) => Some(start_kernel(&database, datapath)?),
        None => None,
    };
    let nodes = Arc::<NodesReport>::default();
    let view = Arc::new(View {
        started,
        state: ArcSwap::from_pointee(State::starting(source.read().health)),
        processes: ArcSwapOption::empty(),
        database: database.clone(),
        cache: cache.clone(),
        server: handle.clone(),
        datapath: datapath.clone(),
        pods: pods.clone(),
        nodes: nodes.clone(),
        run_dir: run_dir.clone(),
        events: EventLog::default(),
    });
    tell_start(&view);
    let has_frontends = kernel.as_ref().map(|kernel| kernel.has_frontends.subscribe());
    let has_frontends = has_frontends.unwrap_or_else(|| watch::channel(false).1);
    if let Some(datapath) = &datapath {
        // Before pods come: what the first one sends outside is masqueraded.
        let (here, now, frontends) = (datapath.clone(), node.borrow().clone(), *has_frontends.borrow());
        tokio::task::spawn_blocking(move || here.bring_up_to_date(&now, frontends)).await?;
    }
    // Before the agent's own socket: whoever sees that answer finds the pods' network served.
    let _cni = match pods.clone() {
        Some(pods) => Some(cni::serve(&run_dir.join(mesh_cni_wire::SOCKET), pods, view.clone())?),
        None => None,
    };
    let _api = api::serve(&run_dir.join("agent.sock"), view.clone())?;
    if let Some(datapath) = &datapath {
        tokio::spawn(datapath::keep(datapath.clone(), node.clone(), has_frontends, handle.progress()));
    }
    let logs = tokio::spawn(logs::keep_small(run_dir.clone()));
    tokio::spawn(proxy_watch::watch(proxy.clone(), view.clone()));
    let keeper = options.start_proxy.then(|| tokio::spawn(keep_proxy(proxy)));

    let known_nodes = database.add_table([]);
    let nodes_keeper = NodesKeeper {
        config: NodesConfig::of(&options.pods),
        source: source.clone(),
        state: node.clone(),
        database: database.clone(),
        nodes: known_nodes,
        routes: kernel.as_ref().map(|kernel| kernel.routes),
        neighbours: match kernel.is_some() && options.pods.enable_l2_neigh_discovery {
            true => Some(Netlink::start().context("cannot talk to the kernel about neighbours")?),
            false => None,
        },
        tunnels: start_tunnels(options, datapath.as_ref())?,
        pods: pods.clone(),
        report: nodes,
    };
    // All end with the source.
    tokio::spawn(nodes_keeper.run());
    if let (Some(ipam), Some(pods), None) = (options.pods.ipam, pods, &options.source.manifests) {
        let server = reflect_config(&options.source.cluster).server;
        let writer = ObjectWriter::new(server.clone(), AGENT).await?;
        let name = options.pods.node_name();
        tokio::spawn(
            OwnNode { writer, name: name.clone(), ipam, source: source.clone(), pods: pods.clone() }.run(),
        );
        let identities = IdentityKeeper {
            writer: ObjectWriter::new(server, AGENT).await?,
            own: name,
            source: source.clone(),
            pods,
            database: database.clone(),
            nodes: known_nodes,
            ipcache: database.add_table([]),
        };
        tokio::spawn(identities.run());
    }
    let control = Control {
        config: derive_config(options, &entries),
        source,
        node,
        pods: pods_here,
        addresses: KeptAddresses::read(run_dir.join("addresses.json")),
        cache,
        server: handle,
        database,
        kernel,
        view,
    };
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for signals")?;
    let outcome = tokio::select! {
        () = control.run() => Err(anyhow!("objects are no longer followed: see what was logged before")),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    tracing::info!("the agent ends; kernel and proxy serve on");
    // Whoever stops the agent may stop the proxy next.
    if let Some(keeper) = keeper {
        keeper.abort();
    }
    logs.abort();
    let _ = stop_server.send(());
    let _ = serving.await;
    outcome
}

/// The pods' network, where this node has addresses for them.
fn start_pods(
    options: &ServeOptions,
    datapath: Option<&Arc<Datapath>>,
    node: &watch::Receiver<NodeState>,
) -> anyhow::Result<Option<Arc<PodNetwork>>> {
    if !options.pods.is_wanted() {
        return Ok(None);
    }
    let datapath = datapath.context(
        "--ipam, --ipv4-range and --ipv6-range make this agent the pods' network, which needs its kernel programs: \
         start it as root, without --redirect=off",
    )?;
    let (run_dir, procfs) = (&options.roots.run_dir, &options.procfs);
    let pods = PodNetwork::start(&options.pods, run_dir, procfs, datapath.clone(), node.clone())?;
    Ok(Some(Arc::new(pods)))
}

/// Tunnels to other nodes, where they are wanted; what an agent with other options left of them goes.
fn start_tunnels(
    options: &ServeOptions,
    datapath: Option<&Arc<Datapath>>,
) -> anyhow::Result<Option<Arc<Tunnels>>> {
    let Some(datapath) = datapath.filter(|_| options.pods.is_wanted()) else { return Ok(None) };
    let netlink = Netlink::start().context("cannot talk to the kernel about devices")?;
    let Some(wanted) = TunnelOptions::of(&options.pods)? else {
        netlink.remove_tunnel().context("cannot take the tunnel device away")?;
        datapath.set_tunnels(&BTreeMap::new()).context("cannot take the tunnels' ends out")?;
        return Ok(None);
    };
    Ok(Some(Arc::new(Tunnels::new(wanted, netlink, datapath.clone()))))
}

/// The first events: that the agent began, and the plan it follows.
fn tell_start(view: &View) {
    let version = View::version();
    let message = format!("version {}, pid {}", env!("CARGO_PKG_VERSION"), std::process::id());
    view.events.record(Happened::normal(Kind::AgentStarted, "agent", message).with(version));
    let Some(datapath) = &view.datapath else {
        let message = "plain listeners: nothing is redirected";
        view.events.record(Happened::normal(Kind::PlanChosen, "datapath", message));
        return;
    };
    for choice in datapath.choices() {
        let message = format!("{} ({})", choice.chosen, choice.why);
        view.events
            .record(Happened::normal(Kind::PlanChosen, choice.need, message).with(serde_json::json!(choice)));
    }
}

/// Tables of the kernel's state, each with its reconciler.
fn start_kernel(database: &Arc<Database>, datapath: &Arc<Datapath>) -> anyhow::Result<Kernel> {
    let netlink = Netlink::start().context("cannot talk to the kernel's routing tables")?;
    let frontends = database.add_table([FILLED_BY_CONTROL]);
    let routes = database.add_table([FILLED_BY_CONTROL, FILLED_BY_NODES]);
    let rules = database.add_table([FILLED_BY_CONTROL]);
    let config = ReconcilerConfig::default();
    let target = datapath.frontend_target()?;
    let frontend_reconciler = Reconciler::start(database.clone(), frontends, target, config);
    let route_reconcilers = [
        Reconciler::start(database.clone(), routes, NetlinkTarget::new(netlink.clone()), config),
        Reconciler::start(database.clone(), rules, NetlinkTarget::new(netlink), config),
    ];
    let routing = RedirectRouting::default();
    // As it was before: the first look at the objects says whether that is still so.
    let has_frontends = watch::Sender::new(datapath.has_frontends()?);
    Ok(Kernel { routing, has_frontends, frontends, routes, rules, frontend_reconciler, route_reconcilers })
}

fn derive_config(options: &ServeOptions, entries: &Entries) -> DeriveConfig {
    let resolve = if entries.ports.is_empty() {
        let (http, https) = (options.plain(options.http_port), options.plain(options.https_port));
        ResolveConfig::Plain { http, https }
    } else {
        ResolveConfig::Redirect { thread_ports: entries.by_thread() }
    };
    // Plain listeners are here and nowhere else, whatever a pool has.
    let fixed = match entries.ports.is_empty() {
        true => vec![Ipv4Addr::LOCALHOST.into()],
        false => options.translation.address.clone(),
    };
    DeriveConfig::new(&options.translation, resolve, fixed)
}

fn proxy_binary(options: &ServeOptions) -> anyhow::Result<PathBuf> {
    if let Some(binary) = &options.proxy_binary {
        return Ok(binary.clone());
    }
    let own = std::env::current_exe().context("cannot tell where this program lies")?;
    Ok(own.with_file_name("l7proxy"))
}

/// Finds or starts the proxy, and starts it again should its starter go.
async fn keep_proxy(proxy: ProxyProcess) {
    let mut every = tokio::time::interval(Duration::from_millis(500));
    let mut complained = false;
    loop {
        every.tick().await;
        let asked = proxy.clone();
        match tokio::task::spawn_blocking(move || asked.ensure()).await {
            Ok(Ok(Started::New)) => tracing::info!("proxy started"),
            Ok(Ok(Started::Adopted)) => complained = false,
            Ok(Err(error)) if !complained => {
                tracing::error!("{error:#}");
                complained = true;
            }
            _ => {}
        }
    }
}
