//! The proxy as a process: found by its socket and adopted, or started.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use mesh_l7proxy_wire::{OpenListener, StarterClient};

use crate::logs;

/// Name of the listener that redirected connections arrive on.
pub(crate) const REDIRECT_LISTENER: &str = "redirect";
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

    /// The open listeners of the redirect listener, by thread: IPv4 and IPv6. Empty when the proxy has not
    /// opened them yet.
    pub(crate) fn redirect_sockets(&self) -> anyhow::Result<Vec<OpenListener>> {
        let mut client = StarterClient::connect(&self.socket())?;
        let mut listeners = client.listeners()?;
        listeners.retain(|open| open.info.spec.name == REDIRECT_LISTENER);
        Ok(listeners)
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

/// The loopback port of each proxy thread, the same for IPv4 and IPv6.
///
/// A running proxy keeps the ports it has, so that an agent's restart changes nothing; otherwise the
/// first ports of `range` that are free in both families.
pub(crate) fn redirect_ports(socket: &Path, threads: u16, range: (u16, u16)) -> anyhow::Result<Vec<u16>> {
    if let Ok(mut client) = StarterClient::connect(socket) {
        let mut ports: Vec<u16> = client
            .listeners()?
            .iter()
            .filter(|open| open.info.spec.name == REDIRECT_LISTENER && open.info.local.is_ipv4())
            .map(|open| open.info.local.port())
            .collect();
        ports.sort_unstable();
        if ports.len() == usize::from(threads) {
            return Ok(ports);
        }
    }
    let free = (range.0..=range.1).filter(|port| is_free(*port));
    let ports: Vec<u16> = free.take(usize::from(threads)).collect();
    if ports.len() < usize::from(threads) {
        bail!("no {threads} free loopback ports in {}-{}: widen --proxy-ports", range.0, range.1);
    }
    Ok(ports)
}

/// Free in both families; an IPv6 that is switched off does not count against it.
fn is_free(port: u16) -> bool {
    let v4 = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let v6 = TcpListener::bind(SocketAddr::from((Ipv6Addr::LOCALHOST, port)));
    let in_use = |error: &std::io::Error| error.kind() == std::io::ErrorKind::AddrInUse;
    v4.is_ok() && v6.as_ref().err().is_none_or(|error| !in_use(error))
}

/// The sockets of the redirect listener with the index each has in the kernel's socket map, sorted by it: two
/// for each thread, IPv4 first.
pub(crate) fn by_thread(listeners: Vec<OpenListener>, ports: &[u16]) -> Vec<(u32, OwnedFd)> {
    let mut indexed = Vec::new();
    for open in listeners {
        let local = open.info.local;
        let Some(thread) = ports.iter().position(|port| *port == local.port()) else { continue };
        let family = u32::from(local.is_ipv6());
        let thread = u32::try_from(thread).expect("threads are counted in 16 bits");
        indexed.extend(open.sockets.into_iter().take(1).map(|socket| (thread * 2 + family, socket)));
    }
    indexed.sort_by_key(|(index, _)| *index);
    indexed
}
