//! A node: a network namespace on the cluster's bridge, mounts and a host name of its own, a cgroup; in it
//! containerd and kubelet.
//!
//! ```text
//!  node1            node2                  containerd, kubelet, pods: /run, /opt/cni/bin, /etc/cni/net.d,
//!  eth0             eth0                   /var/lib/kubelet ... are the node's own
//!    |                |
//!  mrc-dev-1        mrc-dev-2
//!  [      bridge mrc-dev      ]            host: the control plane, and the world outside
//! ```

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use mesh_testkit::wait;
use serde_json::json;

use crate::cgroup::Cgroup;
use crate::control_plane::{flags, shown};
use crate::folder::{Folder, STANDINS, write_private};
use crate::image;
use crate::process::Place;
use crate::programs::{self, Programs};
use crate::spec::{Cni, Spec};

/// What runs on a node, in the order in which it is started; the first holds its mounts.
pub(crate) const PROGRAMS: &[&str] = &["node", "containerd", "kubelet"];

const HOLD: &str = include_str!("node.sh");
const CONTAINERD_SOCKET: &str = "/run/containerd/containerd.sock";
/// How long mounting, and containerd, may take.
const START_WITHIN: Duration = Duration::from_secs(60);

/// A node of a cluster.
#[derive(Clone, Debug)]
pub struct Node {
    name: String,
    number: u8,
    folder: PathBuf,
    cluster: Folder,
    spec: Spec,
    network: String,
    cgroup: Cgroup,
}

impl Node {
    /// The node of a number, the first being 1. It need not run.
    ///
    /// # Errors
    /// No cgroup file system is mounted.
    pub(crate) fn new(cluster: &Folder, spec: &Spec, number: u8) -> anyhow::Result<Self> {
        let name = crate::spec::node_name(number);
        let full = format!("{}-{name}", spec.prefix());
        Ok(Self {
            number,
            folder: cluster.node(&name),
            cluster: cluster.clone(),
            spec: spec.clone(),
            cgroup: Cgroup::named(&full)?,
            network: full,
            name,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of its network namespace, and of its cgroup.
    pub fn network(&self) -> &str {
        &self.network
    }

    /// Its cgroup: pods are below it.
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// A command that runs on it: in its network, mounts and cgroup.
    ///
    /// # Errors
    /// The node does not run.
    pub fn command(&self, program: impl AsRef<OsStr>) -> anyhow::Result<Command> {
        Ok(self.inside()?.command(program))
    }

    /// Runs a program on it and returns what it printed.
    ///
    /// # Errors
    /// The node does not run, or the program fails: with what it printed as error.
    pub fn exec(&self, program: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = self.command(program)?;
        let output = command.args(arguments).output().with_context(|| format!("cannot start {program}"))?;
        if !output.status.success() {
            let told = String::from_utf8_lossy(&output.stderr);
            bail!("{program} {} on {}: {}: {}", arguments.join(" "), self.name, output.status, told.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// A path of the node as this process can open it.
    ///
    /// # Errors
    /// The node does not run.
    pub fn path(&self, path: &str) -> anyhow::Result<PathBuf> {
        Ok(PathBuf::from(format!("/proc/{}/root{path}", self.holder()?)))
    }

    /// A file that stands for the network namespace of a pod that runs on it, by the pod's uid.
    ///
    /// # Errors
    /// No process of this pod runs here.
    pub fn pod_network(&self, uid: &str) -> anyhow::Result<PathBuf> {
        let of_pod = |process: &u32| {
            let cgroups = fs::read_to_string(format!("/proc/{process}/cgroup")).unwrap_or_default();
            cgroups.contains(&format!("/pod{uid}/"))
        };
        let process = self.cgroup.processes().into_iter().find(of_pod);
        let process = process.with_context(|| format!("nothing of pod {uid} runs on {}", self.name))?;
        Ok(PathBuf::from(format!("/proc/{process}/ns/net")))
    }

    /// Makes its cgroup and mounts and starts containerd, where they are missing; its network is there already.
    pub(crate) fn start(&self, programs: &Programs) -> anyhow::Result<()> {
        self.cgroup.create()?;
        if self.holder().is_err() {
            // What is left of it runs in mounts that nobody can enter any more.
            self.cgroup.kill()?;
            self.hold()?;
        }
        self.install_plugins(programs)?;
        let place = self.inside()?;
        let config = self.folder.join("containerd.toml");
        write_private(&config, containerd_config().as_bytes())?;
        let containerd = programs::of_the_system("containerd")?;
        place.start("containerd", &containerd, &[format!("--config={}", shown(&config))])?;
        wait::until("containerd answers", START_WITHIN, || {
            place.check("containerd")?;
            self.ctr(&["version"]).map(drop)
        })?;
        for file in image::ours(programs)? {
            self.load_image(&file)?;
        }
        Ok(())
    }

    /// Starts kubelet, where it does not run.
    pub(crate) fn start_kubelet(&self, programs: &Programs) -> anyhow::Result<()> {
        let config = self.folder.join("kubelet.json");
        write_private(&config, &serde_json::to_vec_pretty(&self.kubelet_config())?)?;
        fs::write(self.folder.join("resolv.conf"), "# nothing but the cluster's own names\n")?;
        let addresses: Vec<String> =
            self.spec.plan().addresses(self.number).iter().map(ToString::to_string).collect();
        let arguments = flags([
            ("config", shown(&config)),
            ("kubeconfig", shown(&self.cluster.key(&format!("{}.kubeconfig", self.name)))),
            ("root-dir", "/var/lib/kubelet".to_owned()),
            ("hostname-override", self.name.clone()),
            ("node-ip", addresses.join(",")),
        ]);
        self.inside()?.start("kubelet", &programs.find("kubelet")?, &arguments).map(drop)
    }

    /// Ends all that runs on it, pods included, as pulling the plug does.
    ///
    /// # Errors
    /// Something does not end.
    pub fn stop(&self) -> anyhow::Result<()> {
        self.cgroup.kill()
    }

    /// Gives it the images in an OCI or Docker archive.
    ///
    /// # Errors
    /// The node does not run, or containerd does not take the file.
    pub fn load_image(&self, archive: &Path) -> anyhow::Result<()> {
        let archive =
            fs::canonicalize(archive).with_context(|| format!("there is no {}", archive.display()))?;
        self.ctr(&["--namespace=k8s.io", "images", "import", &shown(&archive)]).map(drop)
    }

    /// References of the images that it has.
    ///
    /// # Errors
    /// The node does not run.
    pub fn images(&self) -> anyhow::Result<Vec<String>> {
        let text = self.ctr(&["--namespace=k8s.io", "images", "list", "--quiet"])?;
        Ok(text.lines().filter(|line| !line.starts_with("sha256:")).map(str::to_owned).collect())
    }

    pub(crate) fn write_cni(&self, name: &str, config: &serde_json::Value) -> anyhow::Result<()> {
        write_private(&self.folder.join("cni-conf").join(name), &serde_json::to_vec_pretty(config)?)
    }

    /// Where its programs are started, whether or not its mounts are there.
    pub(crate) fn place(&self) -> Place {
        Place {
            cgroup: self.cgroup.clone(),
            network: Some(Path::new("/run/netns").join(&self.network)),
            mounts_of: None,
            logs: self.folder.join("logs"),
            records: self.folder.join("records"),
        }
    }

    fn inside(&self) -> anyhow::Result<Place> {
        Ok(Place { mounts_of: Some(self.holder()?), ..self.place() })
    }

    /// The process that holds its mounts.
    fn holder(&self) -> anyhow::Result<u32> {
        let holder = self.place().recorded("node").filter(crate::process::Process::runs);
        let holder = holder
            .with_context(|| format!("{} does not run: `cargo xtask cluster up` starts it", self.name))?;
        Ok(holder.id)
    }

    fn hold(&self) -> anyhow::Result<()> {
        let ready = self.folder.join("ready");
        let _ = fs::remove_file(&ready);
        let mut arguments = ["--mount", "--uts", "sh", "-c", HOLD, "sh"].map(str::to_owned).to_vec();
        arguments.extend([shown(&self.folder), self.name.clone()]);
        arguments.extend(STANDINS.iter().flat_map(|(part, target)| [*part, *target]).map(str::to_owned));
        let place = self.place();
        place.start("node", Path::new("unshare"), &arguments)?;
        wait::until("the node's mounts are there", START_WITHIN, || {
            place.check("node")?;
            fs::metadata(&ready).map(drop).context("not yet")
        })
    }

    /// containerd takes no pod without loopback; the others are for clusters whose CNI is not ours.
    fn install_plugins(&self, programs: &Programs) -> anyhow::Result<()> {
        let mut names = vec!["loopback"];
        if self.spec.cni == Cni::Bridge {
            names.extend(["bridge", "host-local", "portmap"]);
        }
        for name in names {
            let to = self.folder.join("cni-bin").join(name);
            if !to.exists() {
                fs::copy(programs.find(name)?, &to)
                    .with_context(|| format!("cannot write {}", to.display()))?;
            }
        }
        Ok(())
    }

    fn ctr(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut all = vec!["--address", CONTAINERD_SOCKET];
        all.extend(arguments);
        self.exec("ctr", &all)
    }

    fn kubelet_config(&self) -> serde_json::Value {
        let key = |name: &str| shown(&self.cluster.key(name));
        json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": self.spec.plan().address(self.number),
            "authentication": {
                "anonymous": {"enabled": false},
                "webhook": {"enabled": true},
                "x509": {"clientCAFile": key("ca.crt")},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": key(&format!("{}.crt", self.name)),
            "tlsPrivateKeyFile": key(&format!("{}.key", self.name)),
            "clusterDNS": [self.spec.plan().dns()],
            "clusterDomain": "cluster.local",
            "resolvConf": shown(&self.folder.join("resolv.conf")),
            "containerRuntimeEndpoint": format!("unix://{CONTAINERD_SOCKET}"),
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": self.cgroup.path(),
            "enforceNodeAllocatable": [],
            "failCgroupV1": false,
            "failSwapOn": false,
            // Lowering it takes a capability that containers of build machines lack.
            "oomScoreAdj": 0,
            "volumePluginDir": "/var/lib/kubelet/volume-plugins",
            "makeIPTablesUtilChains": false,
            // The disk is shared with everything else on the machine: how full it is says nothing.
            "evictionHard": {
                "memory.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%",
                "imagefs.available": "0%", "imagefs.inodesFree": "0%",
            },
            "imageGCHighThresholdPercent": 100,
            "serializeImagePulls": false,
            "registryPullQPS": 0,
        })
    }
}

/// Everything below folders that are the node's own.
fn containerd_config() -> String {
    format!(
        r#"version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
address = "{CONTAINERD_SOCKET}"
[plugins."io.containerd.internal.v1.opt"]
path = "/var/lib/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{}"
# Lowering it takes a capability that containers of build machines lack.
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/opt/cni/bin"
conf_dir = "/etc/cni/net.d"
"#,
        image::PAUSE
    )
}
