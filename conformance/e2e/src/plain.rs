//! The product without root: plain listeners, and backends on loopback addresses.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use mesh_testkit::echo::Echo;
use mesh_testkit::http::get_unix;
use mesh_testkit::process::Guard;
use mesh_testkit::wait;
use serde_json::Value;

use crate::BACKEND_PORT;

/// How long the agent may take until its socket answers.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// Loopback networks to choose from: 127.1.0.0/24 and following.
const NETWORKS: u32 = 0xfe00;

/// What to run, and how.
#[derive(Clone, Debug)]
pub struct PlainOptions {
    /// Folder of `mesh-agent` and `l7proxy`.
    pub programs: PathBuf,
    /// Manifests of pods 10.244.1.11 and following, copied before the agent reads them; the addresses become
    /// loopback ones. IPv6 has only one of these, so its EndpointSlices are left out.
    pub manifests: PathBuf,
    /// Working folder, removed in the end.
    pub folder: PathBuf,
    /// Number of backends.
    pub pods: u8,
    /// Port of plain HTTP; one that is free when 0.
    pub http_port: u16,
    /// Port of HTTPS; one that is free when 0.
    pub https_port: u16,
}

/// An agent, a proxy and backends, all in this network namespace and without privileges.
#[derive(Debug)]
pub struct PlainStack {
    options: PlainOptions,
    network: [u8; 3],
    http: SocketAddr,
    https: SocketAddr,
    agent: Option<Guard>,
    /// Backends, the first being `pod1`.
    pub backends: Vec<Echo>,
}

impl PlainStack {
    /// Starts the backends and copies the manifests; the agent is started by [`Self::start_agent`].
    pub fn create(options: PlainOptions) -> anyhow::Result<Self> {
        let free = |port| -> anyhow::Result<SocketAddr> {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
                .with_context(|| format!("127.0.0.1:{port} is taken"))?;
            Ok(listener.local_addr()?)
        };
        let (http, https) = (free(options.http_port)?, free(options.https_port)?);
        let (network, backends) = start_backends(options.pods)?;
        let stack = Self { options, network, http, https, agent: None, backends };
        fs::create_dir_all(stack.manifests())?;
        let from = stack.options.manifests.clone();
        for entry in fs::read_dir(&from).with_context(|| format!("cannot read {}", from.display()))? {
            let entry = entry?;
            let text = fs::read_to_string(entry.path())?;
            stack.write_manifest(&entry.file_name().to_string_lossy(), &text)?;
        }
        Ok(stack)
    }

    /// Where plain HTTP is served.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// Where HTTPS is served.
    pub fn https(&self) -> SocketAddr {
        self.https
    }

    /// The folder that the agent watches.
    pub fn manifests(&self) -> PathBuf {
        self.options.folder.join("manifests")
    }

    /// Folder of the sockets.
    pub fn run_dir(&self) -> PathBuf {
        self.options.folder.join("run")
    }

    /// What 10.244.1.`number` of a manifest becomes.
    pub fn loopback(&self, number: u8) -> Ipv4Addr {
        let [a, b, c] = self.network;
        Ipv4Addr::new(a, b, c, number)
    }

    /// Writes a manifest, pods' addresses made loopback ones: a new file, moved over the old one.
    pub fn write_manifest(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let documents = text.split("\n---\n").filter(|document| !document.contains("addressType: IPv6"));
        let [a, b, c] = self.network;
        let text =
            documents.collect::<Vec<_>>().join("\n---\n").replace("10.244.1.", &format!("{a}.{b}.{c}."));
        crate::manifest::replace(&self.manifests().join(name), &text)
    }

    /// Starts the agent and waits until its socket answers.
    pub fn start_agent(&mut self) -> anyhow::Result<()> {
        self.start(&[])
    }

    /// Starts the agent without a proxy, for whoever serves in its place.
    pub fn start_agent_alone(&mut self) -> anyhow::Result<()> {
        self.start(&["--start-proxy", "false"])
    }

    fn start(&mut self, more: &[&str]) -> anyhow::Result<()> {
        let run_dir = self.run_dir();
        fs::create_dir_all(&run_dir)?;
        let log = File::options().create(true).append(true).open(run_dir.join("agent.log"))?;
        let mut command = Command::new(self.options.programs.join("mesh-agent"));
        command.arg("--manifests").arg(self.manifests()).arg("--run-dir").arg(&run_dir);
        command.args(["--redirect", "off", "--http-port", &self.http.port().to_string()]);
        command.args(["--https-port", &self.https.port().to_string()]);
        command.arg("--proxy-binary").arg(self.options.programs.join("l7proxy"));
        command.args(more).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut agent = Guard::start(&mut command).context("cannot start the agent")?;
        let answered = wait::until("the agent's socket answers", READY_WITHIN, || {
            if let Some(status) = agent.ended() {
                return Ok(Err(status));
            }
            get_unix(&run_dir.join("agent.sock"), "/v1/status").map(|_| Ok(()))
        })?;
        if let Err(status) = answered {
            bail!("the agent ended with {status}:\n{}", self.log("agent.log"));
        }
        self.agent = Some(agent);
        Ok(())
    }

    /// Kills the agent; the proxy serves on.
    pub fn stop_agent(&mut self) {
        self.agent = None;
    }

    /// Asks the agent.
    pub fn ask(&self, path: &str) -> anyhow::Result<Value> {
        get_unix(&self.run_dir().join("agent.sock"), path)
    }

    /// A log in the run directory.
    pub fn log(&self, name: &str) -> String {
        fs::read_to_string(self.run_dir().join(name)).unwrap_or_default()
    }
}

/// Backends listen on one port, so each stack of a machine has a loopback network for itself: the first one
/// that is free, from one that depends on this process.
fn start_backends(pods: u8) -> anyhow::Result<([u8; 3], Vec<Echo>)> {
    let first = std::process::id().wrapping_mul(31) % NETWORKS;
    for candidate in (first..NETWORKS).chain(0..first) {
        let [.., high, low] = candidate.to_be_bytes();
        let network = [127, high + 1, low];
        let listeners: std::io::Result<Vec<TcpListener>> = (1..=pods)
            .map(|number| TcpListener::bind((pod_address(network, number), BACKEND_PORT)))
            .collect();
        match listeners {
            Ok(listeners) => {
                let named = (1..=pods).zip(listeners);
                let backends = named.map(|(number, listener)| Echo::start(&format!("pod{number}"), listener));
                return Ok((network, backends.collect::<anyhow::Result<_>>()?));
            }
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error).context("backends cannot listen"),
        }
    }
    bail!("no loopback network is free")
}

fn pod_address(network: [u8; 3], number: u8) -> Ipv4Addr {
    Ipv4Addr::new(network[0], network[1], network[2], 10 + number)
}

impl Drop for PlainStack {
    fn drop(&mut self) {
        self.agent = None;
        // In a destructor there is nobody to tell.
        let _ = stop_proxy(&self.options.programs, &self.run_dir());
        let _ = fs::remove_dir_all(&self.options.folder);
    }
}

fn stop_proxy(programs: &Path, run_dir: &Path) -> std::io::Result<()> {
    let mut cleanup = Command::new(programs.join("mesh-agent"));
    cleanup.args(["cleanup", "--stop-proxy", "--run-dir"]).arg(run_dir);
    cleanup.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().map(drop)
}
