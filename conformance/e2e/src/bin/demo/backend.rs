//! An echo backend as a process, which lives on when the demo has ended.

use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::Context;
use clap::Args;
use mesh_conformance::{BACKEND_PORT, Stack};
use mesh_testkit::echo::Echo;

/// Options of a backend.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// What it answers as `pod`.
    #[arg(long)]
    name: String,
    /// Folder of the demo it belongs to; it is known by that when it is to end.
    #[arg(long)]
    of: PathBuf,
}

/// Serves until the process is ended.
pub(crate) fn serve(options: &Options) -> anyhow::Result<()> {
    let listener = TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, BACKEND_PORT)))
        .with_context(|| format!("{}: port {BACKEND_PORT} is taken", options.of.display()))?;
    let _echo = Echo::start(&options.name, listener)?;
    loop {
        std::thread::park();
    }
}

/// Starts one in every pod, in sessions of their own, and returns their processes.
pub(crate) fn start_all(stack: &Stack) -> anyhow::Result<Vec<u32>> {
    let program = std::env::current_exe().context("cannot tell where this program lies")?;
    let mut pids = Vec::new();
    for number in 1..=stack.topology.pods.len() {
        let mut command = Command::new("setsid");
        let inner = stack.pod(number).command(&program);
        command.arg(inner.get_program()).args(inner.get_args());
        command.args(["backend", "--name", &format!("pod{number}"), "--of"]).arg(stack.run_dir());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        pids.push(command.spawn().context("cannot start a backend")?.id());
    }
    Ok(pids)
}
