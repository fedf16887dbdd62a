//! The proxy as a process: found by its socket and adopted, or started.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use mesh_l7proxy_wire::{OpenListener, StarterClient};

use crate::logs;

/// How long a starter may take until its socket answers.
const START_WITHIN: Duration = Duration::from_secs(5);

/// How to start the proxy.
#[derive(Clone, Debug)]
pub(crate) struct ProxyProcess {
    /// The program.
    pub(crate) binary: PathBuf,
    /// Folder of the sockets.
    pub(crate) run_dir: PathBuf,
    /// Data threads.
    pub(crate) threads: u16,
    /// First and last source port of connections that keep a pod's address.
    pub(crate) upstream_ports: (u16, u16),
    /// User to become; `None` when the agent is not root.
    pub(crate) user: Option<u32>,
}

impl ProxyProcess {
    /// The starter's socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.run_dir.join("starter.sock")
    }

    /// Makes sure that a starter runs: adopts the one that answers, starts one otherwise. The started one
    /// lives in a session of its own and outlives the agent. Blocks for up to five seconds.
    pub(crate) fn ensure(&self) -> anyhow::Result<Started> {
        if StarterClient::connect(&self.socket()).is_ok() {
            return Ok(Started::Adopted);
        }
        let (log_path, access_path) =
            (self.run_dir.join(logs::PROXY_LOG), self.run_dir.join(logs::ACCESS_LOG));
        let open = |path: &Path| {
            logs::open(path).with_context(|| format!("cannot open the proxy's log {}", path.display()))
        };
        let (log, access) = (open(&log_path)?, open(&access_path)?);
        let mut command = Command::new(&self.binary);
        command.arg("starter").arg("--detach").arg("--run-dir").arg(&self.run_dir);
        command.arg("--worker-threads").arg(self.threads.to_string());
        let (low, high) = self.upstream_ports;
        command.arg("--upstream-ports").arg(format!("{low}-{high}"));
        if let Some(user) = self.user {
            command.arg("--user").arg(user.to_string());
        }
        command.stdin(Stdio::null()).stdout(access).stderr(log);
        let mut child = command.spawn().with_context(|| {
            format!("cannot start the proxy {}: set --proxy-binary", self.binary.display())
        })?;
        let deadline = Instant::now() + START_WITHIN;
        while StarterClient::connect(&self.socket()).is_err() {
            if let Some(status) = child.try_wait().context("cannot ask after the proxy")? {
                bail!("the proxy ended at once with {status}: see {}", log_path.display());
            }
            if Instant::now() > deadline {
                bail!("the proxy does not answer at {}: see {}", self.socket().display(), log_path.display());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        // A dead child stays in the process table until somebody asks after it.
        std::thread::spawn(move || child.wait());
        Ok(Started::New)
    }

    /// All open listeners.
    pub(crate) fn listeners(&self) -> anyhow::Result<Vec<OpenListener>> {
        Ok(StarterClient::connect(&self.socket())?.listeners()?)
    }

    /// Takes over the threads and source ports of a proxy that runs already: it keeps them, and the kernel
    /// programs must know those.
    pub(crate) fn keep_what_runs(&mut self) {
        let asked = StarterClient::connect(&self.socket()).and_then(|mut client| client.status());
        let Ok(status) = asked else { return };
        let (threads, ports) = (status.worker_threads, status.upstream_ports.unwrap_or(self.upstream_ports));
        if (threads, ports) != (self.threads, self.upstream_ports) {
            let (low, high) = ports;
            tracing::warn!(
                "the proxy that runs has {threads} threads and the source ports {low}-{high} and keeps them: for those \
                 of --proxy-threads and --upstream-ports, stop it (`l7proxy stop`) and start the agent again"
            );
            (self.threads, self.upstream_ports) = (threads, ports);
        }
    }
}

/// How the proxy came to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Started {
    /// It ran already.
    Adopted,
    /// It was started now.
    New,
}
