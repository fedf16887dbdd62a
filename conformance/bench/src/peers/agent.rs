//! The agent with its proxy on the quickstart, without redirection.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Instant;

use anyhow::{bail, ensure};
use tempfile::TempDir;

use super::{READY_WITHIN, folder, free, kill, spawn};
use crate::accounting;

/// Agent and proxy. Ended when dropped.
pub(crate) struct Agent {
    process: Child,
    folder: TempDir,
}

impl Agent {
    /// Starts both and waits until the proxy listens.
    pub(crate) fn start(binary: &Path, proxy: &Path) -> anyhow::Result<Self> {
        let folder = folder()?;
        let (http, https) = (free()?, free()?);
        let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/quickstart");
        ensure!(manifests.is_dir(), "{} is not there", manifests.display());
        let mut command = Command::new(binary);
        command.arg("--manifests").arg(manifests).arg("--run-dir").arg(folder.path().join("run"));
        command.arg("--pin-root").arg(folder.path().join("pins")).args(["--redirect", "off"]);
        command.arg("--proxy-binary").arg(proxy).args(["--proxy-threads", "1", "--log", "warn"]);
        command.args(["--proxy-user", "0"]);
        command.arg("--http-port").arg(http.port().to_string());
        command.arg("--https-port").arg(https.port().to_string());
        let process = spawn(&mut command, &folder)?;
        let agent = Self { process, folder };
        let begun = Instant::now();
        while TcpStream::connect(http).is_err() {
            if begun.elapsed() > READY_WITHIN {
                let log = fs::read_to_string(agent.folder.path().join("log")).unwrap_or_default();
                bail!("the agent's proxy does not listen: {log}");
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Ok(agent)
    }

    /// Bytes of memory of each process, with its name.
    pub(crate) fn memory_by_process(&self) -> anyhow::Result<Vec<(String, u64)>> {
        accounting::memory_by_process(&self.processes())
    }

    /// The proxy is in a session of its own and may be nobody's child, but it names its run directory.
    fn processes(&self) -> Vec<u32> {
        let run = self.run_dir().display().to_string();
        let mut found = accounting::tree(self.process.id()).unwrap_or_default();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(process) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if !found.contains(&process) && String::from_utf8_lossy(&arguments).contains(&run) {
                found.push(process);
            }
        }
        found
    }

    fn run_dir(&self) -> PathBuf {
        self.folder.path().join("run")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        kill(&self.processes());
        let _ = self.process.wait();
    }
}
