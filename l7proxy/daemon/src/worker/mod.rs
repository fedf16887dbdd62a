//! The worker: serves traffic, and has no privileges to do anything else.
//!
//! In: its end of the socket pair with the starter (sockets, the last good configuration, the word to
//! drain), resources from the xDS server, traffic. Out: traffic, the admin socket's answers, sealed
//! configuration for the starter. Tasks, all on the control runtime of this thread and joined at the
//! end: the link to the starter ([`link`]), configuration ([`control`]), the xDS client ([`xds`]) and the
//! admin socket ([`admin`]). Data threads are the data plane's own.

mod admin;
mod control;
mod controller;
mod link;
mod patience;
mod sandbox;
mod xds;

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use mesh_l7proxy_proxy::{AccessLogSink, DataPlane, DataPlaneConfig};
use mesh_l7proxy_wire::{Channel, Event, ListenSpec, StarterClient, Welcome};
use mesh_xds::client::ClientConfig;
use nix::sys::signal::{SigSet, Signal};
use tokio::task::JoinSet;
use tracing::{info, warn};
use zeroize::Zeroizing;

use self::admin::Admin;
use self::control::{ControlHandle, ControlTask};
use self::controller::Controller;
use self::link::Link;
use self::sandbox::SandboxReport;
use self::xds::{Sink, XdsClient};
use crate::args::WorkerOptions;
use crate::sys;

/// What connections get to finish when the starter is gone and can say nothing.
const ORPHAN_DRAIN: Duration = Duration::from_secs(30);

/// What was taken from the starter before the process confined itself.
struct Inheritance {
    channel: Channel,
    early: VecDeque<Event>,
    welcome: Welcome,
    admin: OwnedFd,
    saved: Option<Zeroizing<Vec<u8>>>,
    /// What the last worker had opened.
    open: Vec<ListenSpec>,
}

/// Runs until the starter says drain, or is gone.
///
/// # Errors
/// When started by hand, when it cannot be confined, or when the kernel refuses threads and the like.
pub(crate) fn run(options: WorkerOptions) -> anyhow::Result<ExitCode> {
    // First of all, while no other descriptor was opened by us.
    let socket = sys::inherited_descriptor(options.control_fd)
        .context("the worker is started by `l7proxy starter` only: --control-fd is no open descriptor")?;
    block_signals().context("cannot block signals")?;
    die_of_panics();
    // It was executed as /proc/self/exe, and would be called so.
    rustix::thread::set_name(c"l7proxy-worker")?;
    let inheritance = inherit(socket)?;
    let sandbox = sandbox::enter(options.shared.sandbox)?;
    info!(
        version = env!("CARGO_PKG_VERSION"),
        generation = inheritance.welcome.generation,
        seccomp = sandbox.seccomp,
        landlock = sandbox.landlock,
        "worker runs"
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(options, inheritance, sandbox))?;
    Ok(ExitCode::SUCCESS)
}

/// The starter decides when a worker ends. Ctrl-C and a service manager's SIGTERM reach the whole
/// group; the starter gets them too and tells us.
fn block_signals() -> nix::Result<()> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        set.add(signal);
    }
    set.thread_block()
}

/// A thread that panics takes the process with it, in every build: half a worker would hold sockets
/// and not serve them, while a dead one is replaced within milliseconds.
fn die_of_panics() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}

fn inherit(socket: OwnedFd) -> anyhow::Result<Inheritance> {
    let mut starter = StarterClient::from_socket(socket);
    let (welcome, admin) = starter.hello(env!("CARGO_PKG_VERSION")).context("no starter at --control-fd")?;
    let saved = match starter.load_config() {
        Ok(saved) => saved.map(Zeroizing::new),
        // Better to wait for the xDS server than not to start at all.
        Err(error) => {
            warn!(%error, "the stored configuration is not used");
            None
        }
    };
    let open = starter.listeners().unwrap_or_else(|error| {
        warn!(%error, "what is open at the starter is not known");
        Vec::new()
    });
    let open = open.into_iter().map(|listener| listener.info.spec).collect();
    let (channel, early) = starter.into_parts();
    Ok(Inheritance { channel, early, welcome, admin, saved, open })
}

async fn serve(
    options: WorkerOptions,
    inheritance: Inheritance,
    sandbox: SandboxReport,
) -> anyhow::Result<()> {
    let Inheritance { channel, early, welcome, admin, saved, open } = inheritance;
    let threads = usize::from(options.threads.max(1));
    // Two groups: what stops when draining begins, and what traffic needs to the end.
    let (mut fronts, mut core) = (JoinSet::new(), JoinSet::new());

    let (link, handle, mut events) = Link::new(channel, early)?;
    core.spawn(link.run());
    let plane = DataPlane::start(DataPlaneConfig {
        threads,
        upstream_sockets: Arc::new(handle.clone()),
        access_log: AccessLogSink::new(std::io::stdout()),
    })
    .context("data threads cannot start")?;
    let (mut controller, served_late) = Controller::new(plane, threads, handle.clone());
    if let Some(saved) = saved {
        controller.restore(&saved, open).await;
    }
    let held = controller.held();
    let mut accepting = controller.accepting();
    let (control_task, control, changes) = ControlTask::new(controller, handle.clone());
    let config = ClientConfig {
        socket: options.xds_socket,
        node_id: options.shared.node_id,
        node_cluster: "millrace".to_owned(),
    };
    let (xds_client, xds) = XdsClient::new(config, Sink::new(changes, held, served_late));
    core.spawn(control_task.run(xds.clone()));
    let admin = prepare_admin(
        admin,
        Admin {
            control: control.clone(),
            xds,
            welcome,
            sandbox,
            threads: options.threads,
            started: Instant::now(),
        },
    )?;
    let xds_thread = xds_client.start().context("the xDS client's thread cannot start")?;
    // A worker that takes over answers for itself only once it serves: until then the old one does. Connections
    // that nobody accepts yet wait for what the server says, or for want of one until it has waited long enough.
    let _ = accepting.wait_for(|accepting| *accepting).await;
    handle.ready().await.context("the starter does not take note")?;
    fronts.spawn(async move {
        if let Err(error) = admin.await {
            warn!(%error, "admin socket ended");
        }
    });

    let deadline = wait_for_drain(&mut events, &control).await;
    info!(deadline_ms = deadline.as_millis(), "draining");
    drop(xds_thread);
    fronts.shutdown().await;
    control.drain(deadline).await;
    info!("drained");
    core.shutdown().await;
    Ok(())
}

fn prepare_admin(
    listener: OwnedFd,
    admin: Admin,
) -> std::io::Result<impl Future<Output = std::io::Result<()>> + Send + 'static> {
    let listener = UnixListener::from(listener);
    listener.set_nonblocking(true)?;
    let listener = tokio::net::UnixListener::from_std(listener)?;
    Ok(admin::serve(listener, admin))
}

/// Does what the starter says until it says drain. Returns how long connections may take.
async fn wait_for_drain(
    events: &mut tokio::sync::mpsc::UnboundedReceiver<Event>,
    control: &ControlHandle,
) -> Duration {
    loop {
        match events.recv().await {
            Some(Event::Checkpoint) => control.store_now().await,
            Some(Event::Drain { deadline_ms }) => return Duration::from_millis(deadline_ms),
            None => {
                warn!("the starter is gone");
                return ORPHAN_DRAIN;
            }
        }
    }
}
