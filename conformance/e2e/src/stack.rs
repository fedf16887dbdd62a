//! A running product and the world around it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use mesh_testkit::echo::Echo;
use mesh_testkit::http::get_unix;
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
    /// Whether socket hooks are attached to the whole machine instead of to this process and its children.
    pub whole_machine: bool,
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
    /// The world around.
    pub topology: Topology,
    cgroup: Option<Cgroup>,
    kept: bool,
}

impl Stack {
    /// Makes the world, copies the manifests and starts the backends; the agent is started by
    /// [`Self::start_agent`], so that manifests can be changed before.
    pub fn create(options: StackOptions) -> anyhow::Result<Self> {
        Self::sweep(&options.prefix)?;
        let folder = std::env::temp_dir().join(&options.prefix);
        copy_folder(&options.manifests, &folder.join("manifests"))?;
        let cgroup = match options.whole_machine {
            true => None,
            false => Some(Cgroup::enter(&options.prefix)?),
        };
        let topology = Topology::create(&options.prefix, options.pods)?;
        let mut backends = Vec::new();
        for (number, pod) in (1..).zip(&topology.pods) {
            let name = format!("pod{number}");
            let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 8080));
            let echo = Echo::start(&name, pod.namespace.listen(any)?)?;
            backends.push(Backend { name, echo });
        }
        Ok(Self { options, folder, agent: None, backends, topology, cgroup, kept: false })
    }

    /// Takes down what a stack of this prefix left behind.
    pub fn sweep(prefix: &str) -> anyhow::Result<()> {
        let folder = std::env::temp_dir().join(prefix);
        if let Ok(mut children) = File::open(folder.join("pids")).map(std::io::read_to_string) {
            for pid in children.as_mut().map(|text| text.clone()).unwrap_or_default().lines() {
                if let Some(pid) = pid.parse().ok().and_then(rustix::process::Pid::from_raw) {
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
                }
            }
        }
        namespace::sweep(&format!("{prefix}-"))?;
        let _ = fs::remove_dir_all(Path::new(BPF_FILE_SYSTEM).join(prefix));
        let _ = fs::remove_dir_all(&folder);
        Ok(())
    }

    /// The folder that the agent watches.
    pub fn manifests(&self) -> PathBuf {
        self.folder.join("manifests")
    }

    /// Writes a manifest as an editor does: a new file, moved over the old one.
    pub fn write_manifest(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.manifests().join(name);
        let new = self.manifests().join(format!(".{name}.new"));
        fs::write(&new, text).with_context(|| format!("cannot write {}", new.display()))?;
        fs::rename(&new, &path).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Folder of the sockets.
    pub fn run_dir(&self) -> PathBuf {
        self.folder.join("run")
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
        fs::create_dir_all(self.run_dir())?;
        let log = File::options().create(true).append(true).open(self.run_dir().join("agent.log"))?;
        let cgroup = match &self.cgroup {
            Some(cgroup) => cgroup.path().to_owned(),
            None => cgroup::hierarchy()?,
        };
        let mut command = self.program("mesh-agent");
        command.arg("--manifests").arg(self.manifests());
        command.arg("--run-dir").arg(self.run_dir()).arg("--pin-root").arg(self.pin_root());
        command.arg("--bpf-object").arg(&self.options.bpf_object).arg("--cgroup").arg(cgroup);
        command.args(["--devices", UPLINK_DEVICES, "--pod-devices", POD_DEVICES]);
        command.arg("--proxy-binary").arg(self.options.programs.join("l7proxy"));
        command.args(&self.options.agent_arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut agent = Guard::start(&mut command).context("cannot start the agent")?;
        let socket = self.run_dir().join("agent.sock");
        let answered = wait::until("the agent's socket answers", READY_WITHIN, || {
            if let Some(status) = agent.ended() {
                return Ok(Err(status));
            }
            get_unix(&socket, "/v1/status").map(|_| Ok(()))
        })?;
        self.agent = Some(agent);
        if let Err(status) = answered {
            bail!("the agent ended with {status}:\n{}", self.log("agent.log"));
        }
        Ok(())
    }

    /// Waits until every part is healthy and the proxy has everything.
    pub fn wait_ready(&self) -> anyhow::Result<()> {
        let ready = wait::until("the product is ready", READY_WITHIN, || {
            let status = self.ask("/v1/status")?;
            ensure!(status["healthy"] == true, "status: {status}");
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
        let answer = self.ask("/v1/dump/counters")?;
        let counters = answer.as_object().context("the counters are no object")?;
        Ok(counters.iter().map(|(name, value)| (name.clone(), value.as_u64().unwrap_or_default())).collect())
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

    /// Leaves everything running when dropped, to be taken down by [`Self::sweep`].
    pub fn keep(&mut self) -> anyhow::Result<()> {
        self.kept = true;
        self.topology.keep();
        let mut pids = vec![std::process::id().to_string()];
        pids.extend(self.agent.as_ref().map(|agent| agent.id().to_string()));
        fs::write(self.folder.join("pids"), pids.join("\n"))?;
        Ok(())
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        self.agent = None;
        let mut cleanup = self.program("mesh-agent");
        cleanup.args(["cleanup", "--stop-proxy", "--run-dir"]).arg(self.run_dir());
        cleanup.arg("--pin-root").arg(self.pin_root()).stdout(Stdio::null()).stderr(Stdio::null());
        let _ = cleanup.status();
        let _ = fs::remove_dir_all(&self.folder);
    }
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
