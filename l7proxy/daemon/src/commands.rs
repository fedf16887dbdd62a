//! `l7proxy status`, `upgrade` and `stop`: questions to a running starter.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use mesh_l7proxy_wire::{OpenListener, StarterClient, StarterStatus, WorkerState};

use crate::args::{Identity, RunDir};

pub(crate) fn status(run: &RunDir, json: bool, identity: &Identity) -> anyhow::Result<ExitCode> {
    let mut starter = StarterClient::connect(&run.starter_socket())?;
    let status = starter.status()?;
    let listeners = starter.listeners()?;
    let mut out = io::stdout().lock();
    if json {
        let listeners: Vec<_> = listeners.iter().map(|listener| &listener.info).collect();
        let all = serde_json::json!({ "starter": status, "listeners": listeners });
        writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
    } else {
        write!(out, "{}", as_text(&status, &listeners))?;
    }
    if let Some(wanted) = &identity.instance
        && status.instance.as_ref() != Some(wanted)
    {
        let answers = status.instance.as_deref().unwrap_or("a starter without a name");
        bail!("the starter `{wanted}` does not serve (yet, or any more): {answers} does");
    }
    let serving = status.workers.iter().any(|worker| worker.state == WorkerState::Serving);
    Ok(if serving { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(crate) fn upgrade(
    run: &RunDir,
    binary: Option<PathBuf>,
    ready_within: Duration,
) -> anyhow::Result<ExitCode> {
    let binary = match binary {
        Some(path) => std::path::absolute(&path).with_context(|| format!("{}", path.display()))?,
        None => {
            std::env::current_exe().context("this binary's own path is not known; name it with --binary")?
        }
    };
    let mut starter = StarterClient::connect(&run.starter_socket())?;
    let pid = starter.upgrade(&binary, ready_within)?;
    writeln!(
        io::stdout(),
        "worker {pid} of {} serves; the old one finishes its connections",
        binary.display()
    )?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn stop(run: &RunDir, wait: Duration) -> anyhow::Result<ExitCode> {
    let mut starter = StarterClient::connect(&run.starter_socket())?;
    starter.shutdown()?;
    starter.wait_closed(wait).context("the starter is still there; its worker finishes connections")?;
    Ok(ExitCode::SUCCESS)
}

fn as_text(status: &StarterStatus, listeners: &[OpenListener]) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "starter   pid {}  version {}  up {} s  restarts {}  capabilities {}",
        status.pid,
        status.version,
        status.uptime_s,
        status.restarts,
        if status.capabilities.is_empty() { "none".to_owned() } else { status.capabilities.join(",") },
    );
    if let Some(ended) = &status.last_exit {
        let _ = writeln!(text, "          last worker that died: {ended}");
    }
    let _ = match status.stored_config_bytes {
        Some(bytes) => writeln!(text, "stored    {bytes} bytes of configuration, in sealed memory"),
        None => writeln!(text, "stored    no configuration yet"),
    };
    for worker in &status.workers {
        let state = match worker.state {
            WorkerState::Starting => "starting",
            WorkerState::Serving => "serving",
            WorkerState::Draining => "draining",
        };
        let version = worker.version.as_deref().unwrap_or("?");
        let _ = writeln!(
            text,
            "worker    pid {}  {state}  version {version}  up {} s  threads {}",
            worker.pid, worker.uptime_s, status.worker_threads
        );
    }
    for listener in listeners {
        let spec = &listener.info.spec;
        let transparent = if spec.transparent { "  transparent" } else { "" };
        let _ = writeln!(
            text,
            "listener  {}  {}  sockets {}{transparent}",
            listener.info.local, spec.name, spec.sockets
        );
    }
    text
}
