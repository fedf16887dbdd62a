//! A cluster as a test sees it: made, found, asked.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use k8s_openapi::api::core::v1::{Node as NodeObject, Pod};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::cgroup::Cgroup;
use crate::control_plane::{ControlPlane, ETCD_SOCKET};
use crate::folder::{self, Folder, Made};
use crate::node::Node;
use crate::process::{self, Place};
use crate::programs::Programs;
use crate::spec::{Cni, Spec};
use crate::{cni, image, keys, network};

/// How long nodes may take to register, and to become ready.
const NODES_WITHIN: Duration = Duration::from_secs(120);

/// A cluster whose parts were made.
#[derive(Debug)]
pub struct Cluster {
    folder: Folder,
    made: Made,
    programs: Programs,
    control: Place,
    nodes: Vec<Node>,
}

/// Told of each phase when it has ended, and how long it took.
pub type Progress<'a> = &'a mut dyn FnMut(&str, Duration);

impl Cluster {
    /// Makes a cluster, or what is missing of it: what runs already is left alone. Ends when the nodes are
    /// ready, or, without a CNI, registered.
    ///
    /// # Errors
    /// This is not root, a program is missing, a cluster of this name was made as another, or a part does not
    /// start: then what there is stays, with the logs, until `down`.
    pub fn up(spec: &Spec, programs: Programs, progress: Progress<'_>) -> anyhow::Result<Self> {
        spec.check()?;
        ensure!(rustix::process::geteuid().is_root(), "a cluster needs root: namespaces, mounts, cgroups");
        let _lock = Folder::lock()?;
        let folder = Folder::of(&spec.name);
        for (_, other) in folder::others(&spec.name) {
            let name = &other.spec.name;
            ensure!(
                !other.spec.plan().clashes(spec.plan()),
                "cluster {name} has these networks: give another --name"
            );
        }
        folder.create(spec.nodes)?;
        let made = match folder.load()? {
            Some(made) => made,
            None => {
                let made = Made::new(spec, &programs);
                folder.store(&made)?;
                made
            }
        };
        let before = &made.spec;
        ensure!(
            before == spec,
            "cluster {} was made with --nodes {} --ip-family {} --cni {}: ask for the same, or take it down first",
            spec.name,
            before.nodes,
            before.ip_family,
            before.cni
        );
        folder::make(&made.made_folders)?;
        let cluster = Self::connect(&spec.name)?;
        cluster.start(progress)?;
        Ok(cluster)
    }

    /// A cluster that was made, whether or not all of it runs.
    ///
    /// # Errors
    /// There is none of this name, or this is not root.
    pub fn connect(name: &str) -> anyhow::Result<Self> {
        let folder = Folder::of(name);
        let made = folder
            .load()?
            .with_context(|| format!("there is no cluster {name}: `cargo xtask cluster up`"))?;
        let control = Place {
            cgroup: Cgroup::named(&format!("{}-control", made.spec.prefix()))?,
            network: None,
            mounts_of: None,
            logs: folder.path("logs"),
            records: folder.path("records"),
        };
        let nodes = (1..=made.spec.nodes).map(|number| Node::new(&folder, &made.spec, number));
        let nodes = nodes.collect::<anyhow::Result<_>>()?;
        Ok(Self { programs: Programs::in_folders(made.programs.clone()), folder, made, control, nodes })
    }

    /// What it is.
    pub fn spec(&self) -> &Spec {
        &self.made.spec
    }

    /// Its nodes, the first being number 1.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// A node by its name.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn node(&self, name: &str) -> anyhow::Result<&Node> {
        let found = self.nodes.iter().find(|node| node.name() == name);
        found.with_context(|| {
            format!("there is no node {name}; there are {}", self.spec().node_names().join(", "))
        })
    }

    /// The file with which its administrator logs in.
    pub fn kubeconfig(&self) -> std::path::PathBuf {
        self.folder.kubeconfig()
    }

    /// The socket on which etcd takes requests.
    pub fn etcd_socket(&self) -> std::path::PathBuf {
        self.folder.path(ETCD_SOCKET)
    }

    /// kubectl with its administrator's rights.
    ///
    /// # Errors
    /// kubectl is not there.
    pub fn kubectl_command(&self) -> anyhow::Result<Command> {
        // In the cgroup of the cluster, so that one that waits ends with it.
        let mut command = self.control.command(self.programs.find("kubectl")?);
        command.arg("--kubeconfig").arg(self.kubeconfig());
        // Discovery is kept in the cluster's folder: it goes with it.
        command.arg("--cache-dir").arg(self.folder.path("kubectl-cache"));
        Ok(command)
    }

    /// Runs kubectl and returns what it prints.
    ///
    /// # Errors
    /// It fails: with what it told.
    pub fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.kubectl_with(arguments, "")
    }

    /// Applies objects, as YAML or JSON.
    ///
    /// # Errors
    /// The API server refuses one.
    pub fn apply(&self, objects: &str) -> anyhow::Result<()> {
        self.kubectl_with(&["apply", "--filename=-"], objects).map(drop)
    }

    /// Lists objects: `what` as after `kubectl get`.
    ///
    /// # Errors
    /// kubectl fails, or what it prints are no such objects.
    pub fn list<T: DeserializeOwned>(&self, what: &[&str]) -> anyhow::Result<Vec<T>> {
        // kubectl's own kind of list, whatever is in it.
        #[derive(Deserialize)]
        struct List<T> {
            items: Vec<T>,
        }

        let mut arguments = vec!["get", "--output=json"];
        arguments.extend(what);
        let text = self.kubectl(&arguments)?;
        let list: List<T> =
            serde_json::from_str(&text).with_context(|| format!("kubectl get {}", what.join(" ")))?;
        Ok(list.items)
    }

    /// Waits until each pod of a namespace with these labels is ready, and there is one at least.
    ///
    /// # Errors
    /// They are not within the time.
    pub fn wait_for_pods(&self, namespace: &str, labels: &str, within: Duration) -> anyhow::Result<Vec<Pod>> {
        process::wait_while(
            || Ok(()),
            "pods are ready",
            within,
            || {
                let pods: Vec<Pod> = self.list(&["pods", "--namespace", namespace, "--selector", labels])?;
                ensure!(!pods.is_empty(), "no pod of {namespace} has the labels {labels}");
                let late = pods.iter().filter(|pod| !pod_is_ready(pod));
                let late: Vec<&str> = late.filter_map(|pod| pod.metadata.name.as_deref()).collect();
                ensure!(late.is_empty(), "not ready: {}", late.join(", "));
                Ok(pods)
            },
        )
    }

    /// Nodes as the API has them.
    ///
    /// # Errors
    /// The API server does not answer.
    pub fn node_objects(&self) -> anyhow::Result<Vec<NodeObject>> {
        self.list(&["nodes"])
    }

    /// Gives each node, or one, the images in an archive.
    ///
    /// # Errors
    /// A node does not take it.
    pub fn load_image(&self, archive: &Path, node: Option<&str>) -> anyhow::Result<()> {
        match node {
            Some(name) => self.node(name)?.load_image(archive),
            None => self.each_node(|node| node.load_image(archive)),
        }
    }

    /// A file in the cluster's folder for an image on its way to the nodes.
    pub fn image_file(&self) -> std::path::PathBuf {
        self.folder.path("images").join(format!("{}.tar", std::process::id()))
    }

    pub(crate) fn programs(&self) -> &Programs {
        &self.programs
    }

    pub(crate) fn control(&self) -> &Place {
        &self.control
    }

    pub(crate) fn api_answers(&self) -> anyhow::Result<()> {
        self.kubectl(&["get", "--raw=/readyz", "--request-timeout=5s"]).map(drop)
    }

    fn start(&self, progress: Progress<'_>) -> anyhow::Result<()> {
        let mut phase = |name: &str, run: &mut dyn FnMut() -> anyhow::Result<()>| {
            let start = Instant::now();
            run().with_context(|| format!("while {name}"))?;
            progress(name, start.elapsed());
            Ok::<_, anyhow::Error>(())
        };
        phase("making keys, network and images", &mut || {
            // The last that is written.
            if !self.folder.key("tokens.csv").exists() {
                keys::create(&self.folder, self.spec())?;
            }
            image::ours(&self.programs)?;
            self.control.cgroup.create()?;
            network::create(self.spec(), &self.nodes)
        })?;
        phase("starting the control plane, and containerd on the nodes", &mut || {
            std::thread::scope(|scope| {
                let nodes = scope.spawn(|| self.each_node(|node| node.start(&self.programs)));
                let control = ControlPlane {
                    folder: &self.folder,
                    spec: self.spec(),
                    programs: &self.programs,
                    place: &self.control,
                };
                let outcome = control.start(|| self.api_answers());
                outcome.and(nodes.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            })
        })?;
        phase("registering the nodes", &mut || {
            self.each_node(|node| node.start_kubelet(&self.programs))?;
            process::wait_while(
                || self.check_processes(),
                "the nodes register",
                NODES_WITHIN,
                || {
                    let count = self.node_objects()?.len();
                    ensure!(
                        count == self.nodes.len(),
                        "{count} of {} nodes have registered",
                        self.nodes.len()
                    );
                    Ok(())
                },
            )
        })?;
        if self.spec().cni == Cni::None {
            return Ok(());
        }
        phase("connecting pods", &mut || cni::install_bridge(self))?;
        phase("waiting until nodes are ready and pods can be made", &mut || {
            self.wait_until_ready(NODES_WITHIN)
        })
    }

    /// Waits until each node is ready and pods can be made.
    ///
    /// # Errors
    /// They are not within the time.
    pub fn wait_until_ready(&self, within: Duration) -> anyhow::Result<()> {
        process::wait_while(
            || self.check_processes(),
            "the nodes are ready",
            within,
            || {
                for node in self.node_objects()? {
                    ensure!(node_is_ready(&node), "{} is not ready", node.metadata.name.unwrap_or_default());
                }
                // Without it the API server refuses every pod.
                self.kubectl(&["get", "serviceaccount", "default"]).map(drop)
            },
        )
    }

    /// Fails with the end of its log when a program that was started has ended.
    fn check_processes(&self) -> anyhow::Result<()> {
        crate::control_plane::PROGRAMS.iter().try_for_each(|name| self.control.check(name))?;
        let mut places = self.nodes.iter().map(Node::place);
        places.try_for_each(|place| crate::node::PROGRAMS.iter().try_for_each(|name| place.check(name)))
    }

    /// On all nodes at once.
    fn each_node(&self, work: impl Fn(&Node) -> anyhow::Result<()> + Sync) -> anyhow::Result<()> {
        let work = &work;
        std::thread::scope(|scope| {
            let threads: Vec<_> =
                self.nodes.iter().map(|node| (node, scope.spawn(move || work(node)))).collect();
            for (node, thread) in threads {
                let outcome = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                outcome.with_context(|| format!("on {}", node.name()))?;
            }
            Ok(())
        })
    }

    fn kubectl_with(&self, arguments: &[&str], input: &str) -> anyhow::Result<String> {
        let mut command = self.kubectl_command()?;
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot start kubectl")?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that has ended without reading says itself why.
            let _ = stdin.write_all(input.as_bytes());
        }
        let output = child.wait_with_output()?;
        if !output.status.success() {
            let told = String::from_utf8_lossy(&output.stderr);
            bail!("kubectl {}: {}", arguments.join(" "), told.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// Removes a cluster, or what a crash has left of it: processes, mounts, namespaces, devices, cgroups, files.
/// True when there was something.
///
/// # Errors
/// This is not root, somebody else makes or removes a cluster, or a part cannot be removed: the others are.
pub fn down(name: &str) -> anyhow::Result<bool> {
    ensure!(rustix::process::geteuid().is_root(), "taking a cluster down needs root");
    let prefix = crate::spec::prefix(name);
    let folder = Folder::of(name);
    let lock = Folder::lock()?;
    // A record that cannot be read keeps nothing from being removed.
    let made = folder.load().ok().flatten();
    let cgroups = Cgroup::all(&format!("{prefix}-"))?;
    let was_there = folder.exists() || !cgroups.is_empty();
    // In this order: what runs holds mounts, devices and cgroups.
    let killed = cgroups.iter().try_for_each(Cgroup::kill);
    let network = network::remove(&prefix);
    let removed = cgroups.iter().try_for_each(Cgroup::remove);
    // Before what is known of it goes: one that is killed in between is finished by the next.
    if let Some(made) = made {
        made.hand_over_or_undo()?;
    }
    let files = folder.remove();
    drop(lock);
    killed.and(network).and(removed).and(files)?;
    Ok(was_there)
}

/// Whether a node says that it is ready.
pub fn node_is_ready(node: &NodeObject) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn pod_is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
