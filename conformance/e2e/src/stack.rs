//! A running product and the world around it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use mesh_testkit::echo::Echo;
use mesh_testkit::http::get_unix;
use mesh_testkit::ledger::Ledger;
use mesh_testkit::namespace::{self, Namespace};
use mesh_testkit::process::Guard;
use mesh_testkit::topology::{POD_DEVICES, Topology, UPLINK_DEVICES};
use mesh_testkit::wait;
use serde_json::Value;

use crate::cgroup::{self, Cgroup};

/// How long the product may take until it serves.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// Where the BPF file system is mounted.
const BPF_FILE_SYSTEM: &str = "/sys/fs/bpf";
/// Port of the backends in their pods.
pub const BACKEND_PORT: u16 = 8080;
/// Where a kept stack notes its processes.
const PIDS: &str = "pids";

/// What to run, and how.
#[derive(Clone, Debug)]
pub struct StackOptions {
    /// Prefix of everything that has a name on the machine: namespaces, pins, cgroup, folders.
    pub prefix: String,
    /// Folder of `mesh-agent`, `l7proxy` and `millrace`.
    pub programs: PathBuf,
    /// The compiled kernel programs.
    pub bpf_object: PathBuf,
    /// Manifests, copied before the agent reads them.
    pub manifests: PathBuf,
    /// Number of pods; each runs an echo backend on port 8080.
    pub pods: u8,
    /// More arguments for the agent.
    pub agent_arguments: Vec<String>,
}

/// An echo backend of a pod.
#[derive(Debug)]
pub struct Backend {
    /// Name of the pod, as it answers.
    pub name: String,
    /// The running echo.
    pub echo: Echo,
}

/// A node with agent and proxy, pods with backends, and a client.
#[derive(Debug)]
pub struct Stack {
    options: StackOptions,
    folder: PathBuf,
    agent: Option<Guard>,
    /// Backends, the first in pod 1.
    pub backends: Vec<Backend>,
    /// What the backends saw of requests that carry a number.
    pub ledger: Ledger,
    /// The world around.
    pub topology: Topology,
    cgroup: Cgroup,
    kept: bool,
    /// Held while this process uses the prefix.
    _lock: File,
}

impl Stack {
    /// Makes the world, copies the manifests and starts the backends; the agent is started by
    /// [`Self::start_agent`], so that manifests can be changed before. What an earlier run of this prefix left
    /// is taken down first. This process joins a cgroup of the stack's own: it counts as one of the node.
    pub fn create(options: StackOptions) -> anyhow::Result<Self> {
        let lock = lock(&options.prefix)?;
        remove_leftovers(&options)?;
        mount_bpf_file_system()?;
        let folder = folder_of(&options);
        copy_folder(&options.manifests, &folder.join("manifests"))?;
        let cgroup = Cgroup::enter(&options.prefix)?;
        let topology = Topology::create(&options.prefix, options.pods)?;
        let mut stack = Self {
            options,
            folder,
            agent: None,
            backends: Vec::new(),
            ledger: Ledger::default(),
            topology,
            cgroup,
            kept: false,
            _lock: lock,
        };
        for number in 1..=stack.topology.pods.len() {
            let name = format!("pod{number}");
            let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, BACKEND_PORT));
            let echo = Echo::start_noting(&name, stack.pod(number).listen(any)?, stack.ledger.clone())?;
            stack.backends.push(Backend { name, echo });
        }
        Ok(stack)
    }

    /// Takes down what a stack of this prefix left behind, by a crash or on purpose. An error while a process
    /// uses it.
    pub fn take_down(options: &StackOptions) -> anyhow::Result<()> {
        let _lock = lock(&options.prefix)?;
        remove_leftovers(options)
    }

    /// The folder that the agent watches.
    pub fn manifests(&self) -> PathBuf {
        self.folder.join("manifests")
    }

    /// The manifests that were copied.
    pub fn original_manifests(&self) -> &Path {
        &self.options.manifests
    }

    /// Writes a manifest as an editor does: a new file, moved over the old one.
    pub fn write_manifest(&self, name: &str, text: &str) -> anyhow::Result<()> {
        crate::manifest::replace(&self.manifests().join(name), text)
    }

    /// Folder of the sockets.
    pub fn run_dir(&self) -> PathBuf {
        self.folder.join("run")
    }

    /// The working folder, with the manifests and the folder of the sockets.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Folder of the pinned maps and links.
    pub fn pin_root(&self) -> PathBuf {
        Path::new(BPF_FILE_SYSTEM).join(&self.options.prefix)
    }

    /// A program of the product, run on the node.
    pub fn program(&self, name: &str) -> Command {
        self.topology.node.command(self.options.programs.join(name))
    }

    /// Starts the agent on the node and waits until its socket answers.
    pub fn start_agent(&mut self) -> anyhow::Result<()> {
        self.spawn_agent()?;
        self.wait_for_agent()
    }

    /// The same, with an API server to read from in place of the folder.
    pub fn start_agent_of_an_api_server(&mut self, url: &str) -> anyhow::Result<()> {
        self.spawn_agent_with(&["--k8s-api-server-urls".into(), url.into()])?;
        self.wait_for_agent()
    }

    fn wait_for_agent(&mut self) -> anyhow::Result<()> {
        let socket = self.run_dir().join("agent.sock");
        let agent = self.agent.as_mut().context("the agent was started")?;
        let answered = wait::until("the agent's socket answers", READY_WITHIN, || {
            if let Some(status) = agent.ended() {
                return Ok(Err(status));
            }
            get_unix(&socket, "/v1/status").map(|_| Ok(()))
        })?;
        if let Err(status) = answered {
            bail!("the agent ended with {status}:\n{}", self.log("agent.log"));
        }
        Ok(())
    }

    /// Starts the agent on the node, and waits for nothing.
    pub fn spawn_agent(&mut self) -> anyhow::Result<()> {
        self.spawn_agent_with(&["--manifests".into(), self.manifests().into_os_string()])
    }

    fn spawn_agent_with(&mut self, source: &[OsString]) -> anyhow::Result<()> {
        fs::create_dir_all(self.run_dir())?;
        let log = File::options().create(true).append(true).open(self.run_dir().join("agent.log"))?;
        let mut command = self.program("mesh-agent");
        command.args(source);
        command.arg("--run-dir").arg(self.run_dir()).arg("--pin-root").arg(self.pin_root());
        command.arg("--bpf-object").arg(&self.options.bpf_object).arg("--cgroup").arg(self.cgroup.path());
        command.args(["--devices", UPLINK_DEVICES, "--pod-devices", POD_DEVICES]);
        command.arg("--proxy-binary").arg(self.options.programs.join("l7proxy"));
        command.args(&self.options.agent_arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.agent = Some(Guard::start(&mut command).context("cannot start the agent")?);
        Ok(())
    }

    /// Waits until every part is healthy and the proxy has everything.
    pub fn wait_ready(&self) -> anyhow::Result<()> {
        let ready = wait::until("the product is ready", READY_WITHIN, || {
            let status = self.ask("/v1/status")?;
            // Before the first objects are read, no part has anything to say.
            let parts = status["parts"].as_array().cloned().unwrap_or_default();
            let proxy_is_ok = parts.iter().any(|part| part["name"] == "proxy" && part["state"] == "ok");
            ensure!(status["healthy"] == true && proxy_is_ok, "status: {status}");
            for kind in ["gateway", "ingress"] {
                for object in self.objects(kind)? {
                    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
                    let programmed = |condition: &&Value| {
                        condition["type"].as_str().is_some_and(|kind| kind.ends_with("Programmed"))
                    };
                    let told = conditions.iter().find(programmed);
                    let name = &object["metadata"]["name"];
                    ensure!(told.is_some_and(|c| c["status"] == "True"), "{kind} {name}: {told:?}");
                }
            }
            Ok(())
        });
        ready.with_context(|| format!("agent:\n{}\nproxy:\n{}", self.log("agent.log"), self.log("proxy.log")))
    }

    /// Asks the agent.
    pub fn ask(&self, path: &str) -> anyhow::Result<Value> {
        get_unix(&self.run_dir().join("agent.sock"), path)
    }

    /// Objects of a kind with their status.
    pub fn objects(&self, kind: &str) -> anyhow::Result<Vec<Value>> {
        let answer = self.ask(&format!("/v1/get/{kind}"))?;
        Ok(answer.as_array().cloned().unwrap_or_default())
    }

    /// The kernel programs' counters.
    pub fn counters(&self) -> anyhow::Result<BTreeMap<String, u64>> {
        let answer = self.ask("/v1/bpf/counters")?;
        let counters = answer.as_array().context("the counters are no list")?.iter();
        let named =
            counters.filter_map(|row| Some((row["name"].as_str()?.to_owned(), row["value"].as_u64()?)));
        Ok(named.collect())
    }

    /// The end of a log in the run directory.
    pub fn log(&self, name: &str) -> String {
        let text = fs::read_to_string(self.run_dir().join(name)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// The running agent.
    pub fn agent(&mut self) -> Option<&mut Guard> {
        self.agent.as_mut()
    }

    /// Takes the kernel programs off: without an agent, a link lives as long as its pin.
    pub fn detach_programs(&mut self) -> anyhow::Result<()> {
        self.stop_agent();
        let pins = self.pin_root();
        fs::remove_dir_all(&pins).with_context(|| format!("cannot remove {}", pins.display()))
    }

    /// Kills the agent, with SIGKILL; the proxy and the kernel go on.
    pub fn kill_agent(&mut self) -> anyhow::Result<()> {
        match self.agent.take() {
            Some(mut agent) => agent.kill().context("cannot kill the agent"),
            None => bail!("no agent runs"),
        }
    }

    /// Ends the agent, with SIGTERM; the proxy and the kernel go on.
    pub fn stop_agent(&mut self) {
        self.agent = None;
    }

    /// The namespace of a pod, from 1.
    pub fn pod(&self, number: usize) -> &Namespace {
        &self.topology.pods[number - 1].namespace
    }

    /// An address of the first Ingress, Gateway or whatever kind, by name.
    pub fn address_of(&self, kind: &str, name: &str, v4: bool) -> anyhow::Result<IpAddr> {
        let objects = self.objects(kind)?;
        let object = objects.iter().find(|object| object["metadata"]["name"] == name);
        let object = object.with_context(|| format!("there is no {kind} {name}"))?;
        let listed = match kind {
            "ingress" => object["status"]["loadBalancer"]["ingress"].as_array(),
            _ => object["status"]["addresses"].as_array(),
        };
        let addresses = listed.into_iter().flatten().filter_map(|entry| {
            let text = entry["ip"].as_str().or(entry["value"].as_str())?;
            text.parse::<IpAddr>().ok()
        });
        let mut addresses = addresses.filter(|address| address.is_ipv4() == v4);
        addresses.next().with_context(|| format!("{kind} {name} has no such address"))
    }

    /// The cgroup whose processes are balanced by the socket hooks.
    pub fn cgroup(&self) -> &Path {
        self.cgroup.path()
    }

    /// Leaves everything running when dropped, to be taken down by [`Self::take_down`]. From now on the agent
    /// follows the original manifests, so that editing those shows. Backends go with this process; `in_their_place` are processes that do their work from now on.
    pub fn keep(&mut self, in_their_place: &[u32]) -> anyhow::Result<()> {
        let mut pids: Vec<String> = in_their_place.iter().map(u32::to_string).collect();
        if let Some(agent) = self.agent.take() {
            pids.push(agent.forget().to_string());
        }
        fs::write(self.folder.join(PIDS), pids.join("\n")).context("cannot note the processes")?;
        link_folder(&self.options.manifests, &self.manifests())?;
        self.topology.keep();
        self.cgroup.keep();
        self.kept = true;
        Ok(())
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        self.agent = None;
        // In a destructor there is nobody to tell; the next stack of this prefix takes down what is left.
        let _ = cleanup(&self.options, &self.folder);
        let _ = fs::remove_dir_all(Path::new(BPF_FILE_SYSTEM).join(&self.options.prefix));
        let _ = fs::remove_dir_all(&self.folder);
        // The prefix of a test is its own, so nobody waits for its lock; a demo's lock file stays.
        if self.options.prefix.starts_with("mrt-") {
            let _ = fs::remove_file(lock_path(&self.options.prefix));
        }
    }
}

/// Two processes with one prefix would take down each other's world.
fn lock_path(prefix: &str) -> PathBuf {
    std::env::temp_dir().join(format!("{prefix}.lock"))
}

fn lock(prefix: &str) -> anyhow::Result<File> {
    let path = lock_path(prefix);
    let file = File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
    let outcome = rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive);
    outcome.with_context(|| format!("{prefix} is in use by another process"))?;
    Ok(file)
}

fn remove_leftovers(options: &StackOptions) -> anyhow::Result<()> {
    let folder = folder_of(options);
    if folder.exists() {
        // The agent first: while it lives it would start the proxy anew.
        let pids = fs::read_to_string(folder.join(PIDS)).unwrap_or_default();
        let pids: Vec<u32> = pids.lines().filter_map(|line| line.parse().ok()).collect();
        pids.iter().for_each(|pid| end_process(*pid, &folder));
        wait::until("the processes end", Duration::from_secs(5), || {
            ensure!(pids.iter().all(|pid| !is_ours(*pid, &folder)), "some of {pids:?} still run");
            Ok(())
        })?;
        cleanup(options, &folder)?;
    }
    namespace::sweep(&format!("{}-", options.prefix))?;
    cgroup::remove(&options.prefix)?;
    let _ = fs::remove_dir_all(Path::new(BPF_FILE_SYSTEM).join(&options.prefix));
    let _ = fs::remove_dir_all(&folder);
    Ok(())
}

fn folder_of(options: &StackOptions) -> PathBuf {
    std::env::temp_dir().join(&options.prefix)
}

/// Has the agent take its things out of the kernel and stop the proxy. On the node, while there is one.
fn cleanup(options: &StackOptions, folder: &Path) -> anyhow::Result<()> {
    let program = options.programs.join("mesh-agent");
    let mut cleanup = namespace::command_in(&format!("{}-node", options.prefix), program);
    cleanup.args(["cleanup", "--stop-proxy", "--run-dir"]).arg(folder.join("run"));
    cleanup.arg("--pin-root").arg(Path::new(BPF_FILE_SYSTEM).join(&options.prefix));
    cleanup.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    cleanup.status().map(drop).context("cannot start the agent's cleanup")
}

/// Ends a process that a kept stack noted, unless its number has gone to a stranger since.
fn end_process(pid: u32, folder: &Path) {
    let is_ours = is_ours(pid, folder);
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    if let (true, Some(pid)) = (is_ours, pid) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
}

/// Whether a process runs and was started for this folder.
fn is_ours(pid: u32, folder: &Path) -> bool {
    let command_line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&command_line).contains(&*folder.to_string_lossy())
}

/// Machines without systemd come up without it.
fn mount_bpf_file_system() -> anyhow::Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("cannot read the mounts")?;
    if mounts.lines().any(|line| line.split(' ').nth(1) == Some(BPF_FILE_SYSTEM)) {
        return Ok(());
    }
    let status = Command::new("mount").args(["-t", "bpf", "bpf", BPF_FILE_SYSTEM]).status();
    ensure!(
        status.is_ok_and(|status| status.success()),
        "cannot mount the BPF file system at {BPF_FILE_SYSTEM}"
    );
    Ok(())
}

/// Puts a link to each file of `from` in the place of its copy.
fn link_folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    let from = fs::canonicalize(from).with_context(|| format!("cannot find {}", from.display()))?;
    for entry in fs::read_dir(&from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let (copy, new) = (to.join(entry.file_name()), to.join(".link"));
        if entry.file_type()?.is_dir() {
            link_folder(&entry.path(), &copy)?;
            continue;
        }
        std::os::unix::fs::symlink(entry.path(), &new)
            .and_then(|()| fs::rename(&new, &copy))
            .with_context(|| format!("cannot link {}", copy.display()))?;
    }
    Ok(())
}

fn copy_folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    let entries = fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))?;
    for entry in entries {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}
