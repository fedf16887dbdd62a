//! `mesh-agent cleanup`: takes out what an agent left in the kernel, and for good also what it put on the node.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use mesh_control_endpoint::Endpoints;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::CleanupOptions;
use crate::{datapath, node_files};

/// How often it is looked whether the agent is gone.
const LOOK: Duration = Duration::from_millis(200);

/// As the options say. In this order: while the configuration is there the runtime starts pods, and while the agent
/// runs it puts everything back.
pub(crate) fn run(options: &CleanupOptions) -> anyhow::Result<()> {
    let run_dir = &options.roots.run_dir;
    if let Some(within) = options.wait_for_agent {
        wait_for_end(&run_dir.join("agent.sock"), within)?;
    }
    node_files::uninstall(&options.folders)?;
    datapath::cleanup(options)?;
    if options.pods {
        remove_pods(run_dir)?;
        empty(run_dir).with_context(|| format!("cannot empty {}", run_dir.display()))?;
    }
    tracing::info!("nothing of Millrace is left");
    Ok(())
}

/// `mesh-agent pause`.
pub(crate) fn pause() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("cannot wait for signals")?;
        terminate.recv().await;
        Ok(())
    })
}

fn wait_for_end(socket: &Path, within: Duration) -> anyhow::Result<()> {
    let start = Instant::now();
    while UnixStream::connect(socket).is_ok() {
        if start.elapsed() > within {
            bail!("an agent still serves {}: stop it first", socket.display());
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// Devices, addresses and routes of all pods of this node.
fn remove_pods(run_dir: &Path) -> anyhow::Result<()> {
    let (endpoints, _) =
        Endpoints::restore(run_dir.join("endpoints")).context("cannot read the pods' endpoints")?;
    let known = endpoints.list();
    for endpoint in &known {
        endpoints
            .remove(&endpoint.container_id, &endpoint.interface)
            .with_context(|| format!("cannot take the network of {} away", endpoint.shown()))?;
    }
    tracing::info!(pods = known.len(), "the pods' devices are gone");
    Ok(())
}

/// The directory itself may be a mount.
fn empty(run_dir: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(run_dir)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(entry.path())?,
            false => fs::remove_file(entry.path())?,
        }
    }
    Ok(())
}
