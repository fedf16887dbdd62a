//! Starting the proxies, each alone on its core, and looking at what they use.

mod agent;
mod envoy;
mod haproxy;
mod l7proxy;
mod nginx;
mod pingora;
mod xds;

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::runtime::Runtime;

pub(crate) use self::agent::Agent;
use self::xds::ControlPlane;
use crate::accounting::{self, Usage};
use crate::args::{Options, Peer};
use crate::cores;
use crate::generator::{self, Request};
use mesh_xds_proto::route::RouteConfiguration;

/// How long a proxy may take until it answers: Envoy takes some seconds for 10,000 routes.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// A proxy that serves. Ended, with all that it started, when dropped.
pub(crate) struct Running {
    pub(crate) name: String,
    pub(crate) http1: SocketAddr,
    pub(crate) http2: SocketAddr,
    process: Child,
    folder: TempDir,
    control: Option<ControlPlane>,
}

/// Where everybody's backend is, and whether everybody logs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    pub(crate) backend: SocketAddr,
    pub(crate) log: bool,
}

impl Running {
    /// The proxy of this repository, fed over xDS.
    pub(crate) fn l7proxy(
        name: &str,
        binary: &Path,
        setting: Setting,
        table: &RouteConfiguration,
    ) -> anyhow::Result<Self> {
        l7proxy::start(name, binary, setting, table)
    }

    /// Another proxy. None: it is not installed, which was said.
    pub(crate) fn peer(
        peer: Peer,
        options: &Options,
        setting: Setting,
        table: &RouteConfiguration,
    ) -> anyhow::Result<Option<Self>> {
        let binary = match peer {
            Peer::Envoy => &options.envoy,
            Peer::Nginx => &options.nginx,
            Peer::Haproxy => &options.haproxy,
            Peer::Pingora => &options.pingora,
        };
        let Some(binary) = binary else {
            eprintln!("SKIPPED: {peer}: it is not installed; --{peer} names its binary");
            return Ok(None);
        };
        let running = match peer {
            Peer::Envoy => envoy::start(binary, setting, table),
            Peer::Nginx => nginx::start(binary, setting),
            Peer::Haproxy => haproxy::start(binary, setting),
            Peer::Pingora => pingora::start(binary, setting),
        };
        running.map(Some).with_context(|| format!("cannot start {peer}"))
    }

    /// What its processes have used since they started.
    pub(crate) fn usage(&self) -> anyhow::Result<Usage> {
        Usage::of_tree(self.process.id()).with_context(|| self.log())
    }

    /// Bytes of memory, see [`accounting::memory`].
    pub(crate) fn memory(&self) -> anyhow::Result<u64> {
        accounting::memory(self.process.id())
    }

    /// The same by process, with its name.
    pub(crate) fn memory_by_process(&self) -> anyhow::Result<Vec<(String, u64)>> {
        accounting::memory_by_process(&accounting::tree(self.process.id())?)
    }

    /// Bytes of memory files, see [`accounting::sealed_memory`].
    pub(crate) fn sealed_memory(&self) -> anyhow::Result<u64> {
        accounting::sealed_memory(self.process.id())
    }

    /// The xDS server that feeds it.
    pub(crate) fn control(&self) -> anyhow::Result<&ControlPlane> {
        self.control.as_ref().with_context(|| format!("{} takes no xDS", self.name))
    }

    /// Waits until it answers `request` with 200.
    pub(crate) fn wait_for(&mut self, runtime: &Runtime, request: &Request) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait()? {
                bail!("{} ended with {status}: {}", self.name, self.log());
            }
            let answer = runtime.block_on(generator::ask(self.http1, request));
            if answer.is_ok_and(|(head, _)| head.status == 200) {
                return Ok(());
            }
            if begun.elapsed() > READY_WITHIN {
                bail!("{} does not answer: {}", self.name, self.log());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The end of what it wrote.
    fn log(&self) -> String {
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        kill(&accounting::tree(self.process.id()).unwrap_or_default());
        let _ = self.process.wait();
    }
}

fn kill(processes: &[u32]) {
    for process in processes {
        if let Some(process) = i32::try_from(*process).ok().and_then(Pid::from_raw) {
            // One that has ended meanwhile needs no killing.
            let _ = kill_process(process, Signal::KILL);
        }
    }
}

/// A port that is free now.
fn free() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

fn folder() -> anyhow::Result<TempDir> {
    tempfile::Builder::new().prefix("millrace-bench-").tempdir().context("no folder for a proxy")
}

/// Starts a program on the proxy's core, its stdout in `access.log`, its stderr in `log`.
fn spawn(command: &mut Command, folder: &TempDir) -> anyhow::Result<Child> {
    let file = |name: &str| File::create(folder.path().join(name));
    command.stdin(Stdio::null()).stdout(file("access.log")?).stderr(file("log")?);
    let shown = command.get_program().to_string_lossy().into_owned();
    cores::spawn(cores::PROXY, command).with_context(|| format!("cannot start {shown}"))
}

/// A template with its words replaced.
fn filled(template: &str, words: &[(&str, &str)]) -> String {
    let mut text = template.to_owned();
    for (word, value) in words {
        text = text.replace(&format!("@{word}@"), value);
    }
    text
}
