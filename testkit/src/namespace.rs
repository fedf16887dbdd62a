//! Network namespaces: those with a name, so that `ip netns exec NAME` works for people too, and others by path.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sched::{CloneFlags, setns};

/// Where iproute2 keeps names of namespaces.
const FOLDER: &str = "/run/netns";
/// How long a connection attempt may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// A network namespace; one that this made is deleted when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    path: PathBuf,
    keep: bool,
}

impl Namespace {
    /// Makes it, with its loopback device up.
    pub fn create(name: impl Into<String>) -> anyhow::Result<Self> {
        let name = name.into();
        ip(&["netns", "add", &name])?;
        let namespace = Self { path: PathBuf::from(FOLDER).join(&name), name, keep: false };
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// The one of this name, made where it is not there; it stays when this is dropped.
    pub fn ensure(name: impl Into<String>) -> anyhow::Result<Self> {
        let name = name.into();
        let path = PathBuf::from(FOLDER).join(&name);
        if path.exists() {
            return Ok(Self { name, path, keep: true });
        }
        let mut made = Self::create(name)?;
        made.keep();
        Ok(made)
    }

    /// Somebody else's, by the file that stands for it, such as a pod's; it stays when this is dropped.
    pub fn at(name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self { name: name.into(), path: path.into(), keep: true }
    }

    /// The file that stands for it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Leaves it in place when dropped.
    pub fn keep(&mut self) {
        self.keep = true;
    }

    /// Runs `ip` in it.
    pub fn ip(&self, arguments: &[&str]) -> anyhow::Result<String> {
        run_ip(self.command("ip"), arguments)
    }

    /// A command that runs in it, see [`command_in`].
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        command_at(&self.path, program)
    }

    /// Runs `work` on a thread of its own in the namespace. A socket made there stays in the namespace
    /// wherever it is used later.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
        let file = File::open(&self.path).with_context(|| format!("cannot open {}", self.path.display()))?;
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || -> nix::Result<T> {
                setns(&file, CloneFlags::CLONE_NEWNET)?;
                Ok(work())
            });
            match thread.join() {
                Ok(outcome) => outcome.with_context(|| format!("cannot enter {}", self.name)),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Runs `work` on a thread of its own that stays in the namespace and outlives this call.
    pub fn spawn<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> anyhow::Result<JoinHandle<anyhow::Result<T>>> {
        let file = File::open(&self.path).with_context(|| format!("cannot open {}", self.path.display()))?;
        let namespace = self.name.clone();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            setns(&file, CloneFlags::CLONE_NEWNET).with_context(|| format!("cannot enter {namespace}"))?;
            Ok(work())
        });
        thread.context("cannot start a thread")
    }

    /// Connects from the namespace.
    pub fn connect(&self, address: SocketAddr) -> anyhow::Result<TcpStream> {
        let outcome = self.enter(|| TcpStream::connect_timeout(&address, CONNECT_WITHIN))?;
        outcome.with_context(|| format!("cannot connect from {} to {address}", self.name))
    }

    /// Listens in the namespace.
    pub fn listen(&self, address: SocketAddr) -> anyhow::Result<TcpListener> {
        let outcome = self.enter(|| TcpListener::bind(address))?;
        outcome.with_context(|| format!("cannot listen in {} on {address}", self.name))
    }

    /// Writes a file below /proc/sys/net, which is each namespace's own.
    pub fn sysctl(&self, path: &str, value: &str) -> anyhow::Result<()> {
        let file = PathBuf::from("/proc/sys").join(path);
        let outcome: io::Result<()> = self.enter(|| std::fs::write(&file, value))?;
        outcome.with_context(|| format!("cannot set {path} to {value}"))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if !self.keep {
            let _ = ip(&["netns", "del", &self.name]);
        }
    }
}

/// A command that runs in the namespace of this name, or here where there is none. Only the network differs:
/// unlike `ip netns exec`, the mounts of /sys stay, with the BPF file system and the cgroups.
pub fn command_in(name: &str, program: impl AsRef<OsStr>) -> Command {
    let path = PathBuf::from(FOLDER).join(name);
    if !path.exists() {
        return Command::new(program);
    }
    command_at(&path, program)
}

fn command_at(path: &Path, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", path.display())).arg("--").arg(program);
    command
}

/// Deletes the namespaces whose name starts with `prefix`, left by a run that did not end well. Returns
/// how many there were.
pub fn sweep(prefix: &str) -> anyhow::Result<usize> {
    let Ok(entries) = std::fs::read_dir(FOLDER) else { return Ok(0) };
    let mut count = 0;
    for entry in entries {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(prefix) {
            ip(&["netns", "del", &name])?;
            count += 1;
        }
    }
    Ok(count)
}

/// Runs `ip` where this process is.
pub fn ip(arguments: &[&str]) -> anyhow::Result<String> {
    run_ip(Command::new("ip"), arguments)
}

fn run_ip(mut ip: Command, arguments: &[&str]) -> anyhow::Result<String> {
    let output = ip.args(arguments).output().context("iproute2 is not installed")?;
    if !output.status.success() {
        bail!("ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
