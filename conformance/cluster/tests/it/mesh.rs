//! Millrace on the nodes of a cluster.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use mesh_conformance_cluster::cluster::Cluster;
use mesh_conformance_cluster::node::Node;
use mesh_testkit::process::Guard;

/// How long what the agents have to do may take.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// How packets between nodes travel.
#[derive(Clone, Copy)]
pub(crate) enum Routing {
    /// As they are, by routes that the agents make.
    Native,
    /// Wrapped.
    Tunnel,
}

/// The plugin, and an agent for each node.
pub(crate) struct Mesh {
    routing: Routing,
    /// Who gives nodes their ranges.
    ipam: &'static str,
    agents: Vec<(String, Guard)>,
}

impl Mesh {
    /// Installs the plugin and starts the agents; waits until the nodes are ready.
    pub(crate) fn start(cluster: &Cluster) -> Self {
        Self::start_with(cluster, Routing::Native, "kubernetes")
    }

    /// The same, with agents that route so, and with ranges of somebody else's.
    pub(crate) fn start_with(cluster: &Cluster, routing: Routing, ipam: &'static str) -> Self {
        let mut mesh = Self { routing, ipam, agents: Vec::new() };
        for node in cluster.nodes() {
            mesh.start_agent(cluster, node.name());
        }
        cluster.wait_until_ready(SOON).unwrap_or_else(|error| panic!("{error:#}\n{}", logs(cluster)));
        mesh
    }

    /// Starts the agent of a node.
    pub(crate) fn start_agent(&mut self, cluster: &Cluster, node: &str) {
        let agent = start(cluster, cluster.node(node).expect("a node"), self.routing, self.ipam);
        self.agents.push((node.to_owned(), agent));
    }

    /// Ends the agent of a node the hard way.
    pub(crate) fn kill_agent(&mut self, node: &str) {
        let place = self.agents.iter().position(|(name, _)| name == node).expect("its agent runs");
        self.agents.remove(place).1.kill().expect("killed");
    }

    /// The process of a node's agent.
    pub(crate) fn agent(&self, node: &str) -> u32 {
        self.agents.iter().find(|(name, _)| name == node).expect("its agent runs").1.id()
    }
}

/// What the agents logged.
pub(crate) fn logs(cluster: &Cluster) -> String {
    let of = |node: &Node| {
        let log = node.path("/run/millrace/agent.log").and_then(|path| Ok(fs::read_to_string(path)?));
        format!("{}:\n{}", node.name(), log.unwrap_or_default())
    };
    cluster.nodes().iter().map(of).collect::<Vec<_>>().join("\n")
}

/// The product's programs lie beside the harness's.
pub(crate) fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_cluster")).with_file_name(name)
}

/// Installs the plugin on a node and starts its agent there.
fn start(cluster: &Cluster, node: &Node, routing: Routing, ipam: &str) -> Guard {
    let object =
        std::env::var("MILLRACE_BPF_OBJECT").expect("`cargo xtask cluster e2e` names the kernel programs");
    let at = |path: &str| node.path(path).expect("the node runs");
    fs::create_dir_all(at("/run/millrace")).expect("a run directory");
    fs::copy(program("millrace-cni"), at("/opt/cni/bin/millrace-cni")).expect("the plugin is built");
    let config = r#"{"cniVersion": "1.0.0", "name": "millrace",
        "plugins": [{"type": "millrace-cni", "capabilities": {"portMappings": true}}]}"#;
    fs::write(at("/etc/cni/net.d/05-millrace.conflist"), config).expect("written");
    let log = File::options().create(true).append(true).open(at("/run/millrace/agent.log")).expect("a log");
    let mut agent = node.command(program("mesh-agent")).expect("the node runs");
    agent.arg("--kubeconfig").arg(cluster.kubeconfig()).args([
        "--bpf-object",
        &object,
        "--proxy-threads",
        "1",
    ]);
    agent.arg("--cgroup").arg(Path::new("/sys/fs/cgroup/unified").join(node.network()));
    let routing = match routing {
        Routing::Native => "--auto-direct-node-routes",
        Routing::Tunnel => "--routing-mode=tunnel",
    };
    agent.args(["--ipam", ipam, routing, "--k8s-node-name", node.name()]);
    agent.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    Guard::start(&mut agent).expect("the agent starts")
}
