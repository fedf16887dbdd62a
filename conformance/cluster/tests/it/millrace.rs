//! Millrace as the only network of a cluster: pods that the kubelet starts, by the CNI plugin and the agents.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::ensure;
use mesh_conformance_cluster::cluster::Cluster;
use mesh_conformance_cluster::node::Node;
use mesh_conformance_cluster::spec::{Cni, IpFamily, Spec};
use mesh_testkit::http::{Connection, Speak};
use mesh_testkit::process::Guard;
use mesh_testkit::wait;

use crate::fixture::{Own, PODS_WITHIN, Pods, spec};

const SOON: Duration = Duration::from_secs(30);

/// The product's programs lie beside the harness's.
fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_cluster")).with_file_name(name)
}

/// Installs the plugin on a node and starts its agent there.
fn start(cluster: &Cluster, node: &Node) -> Guard {
    let object =
        std::env::var("MILLRACE_BPF_OBJECT").expect("`cargo xtask cluster e2e` names the kernel programs");
    let at = |path: &str| node.path(path).expect("the node runs");
    fs::create_dir_all(at("/run/millrace")).expect("a run directory");
    fs::copy(program("millrace-cni"), at("/opt/cni/bin/millrace-cni")).expect("the plugin is built");
    let config = r#"{"cniVersion": "1.0.0", "name": "millrace", "plugins": [{"type": "millrace-cni"}]}"#;
    fs::write(at("/etc/cni/net.d/05-millrace.conflist"), config).expect("written");
    let log = File::create(at("/run/millrace/agent.log")).expect("a log");
    let mut agent = node.command(program("mesh-agent")).expect("the node runs");
    agent.arg("--kubeconfig").arg(cluster.kubeconfig()).args([
        "--bpf-object",
        &object,
        "--proxy-threads",
        "1",
    ]);
    agent.arg("--cgroup").arg(Path::new("/sys/fs/cgroup/unified").join(node.network()));
    agent.args(["--ipam", "kubernetes", "--auto-direct-node-routes", "--k8s-node-name", node.name()]);
    agent.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    Guard::start(&mut agent).expect("the agent starts")
}

const SERVED: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: web, namespace: NAMESPACE}
spec: {selector: {test: it}, ipFamilyPolicy: PreferDualStack, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: cilium}
spec: {controller: cilium.io/ingress-controller}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: NAMESPACE}
spec:
  ingressClassName: cilium
  rules:
  - host: web.example.com
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}
"#;

#[test]
#[ignore = "needs a cluster"]
fn cluster_millrace_is_the_network_of_two_nodes_and_their_services() {
    let own = Own::new(Spec { cni: Cni::None, ..spec("mill", 2, IpFamily::Dual) });
    let cluster = own.up();
    let mut agents: Vec<Guard> = cluster.nodes().iter().map(|node| start(&cluster, node)).collect();
    let ready = cluster.wait_until_ready(SOON);
    let logs = || {
        let of = |node: &Node| {
            let log = node.path("/run/millrace/agent.log").and_then(|path| Ok(fs::read_to_string(path)?));
            format!("{}:\n{}", node.name(), log.unwrap_or_default())
        };
        cluster.nodes().iter().map(of).collect::<Vec<_>>().join("\n")
    };
    ready.unwrap_or_else(|error| panic!("{error:#}\n{}", logs()));

    let pods = Pods::new(&cluster, "it");
    for (name, node) in [("one", "node1"), ("two", "node1"), ("three", "node2")] {
        pods.server(name, node);
    }
    for (pod, addresses) in pods.ready() {
        assert_eq!(addresses.len(), 2, "{pod} has {addresses:?}");
    }
    pods.reach_each_other();
    // What the ways to the other node are is the agent's: a route of somebody else's stays.
    let routes = |node: &Node| {
        let of = |family| node.exec("ip", &[family, "route", "show", "proto", "109"]).expect("routes");
        [of("-4"), of("-6")].map(|routes| routes.lines().filter(|line| line.contains(" via ")).count())
    };
    assert_eq!(cluster.nodes().iter().map(routes).collect::<Vec<_>>(), [[1, 1], [1, 1]]);

    cluster.apply(&SERVED.replace("NAMESPACE", &pods.namespace)).expect("a Service and an Ingress");
    let services = ["get", "service", "web", "--namespace", pods.namespace.as_str(), "-o"];
    let addresses = cluster.kubectl(&[&services[..], &["jsonpath={.spec.clusterIPs[*]}"]].concat());
    for address in addresses.expect("a Service").split_whitespace() {
        let to = if address.contains(':') { format!("[{address}]:80") } else { format!("{address}:80") };
        wait::until("the Service answers a pod", SOON, || {
            pods.exec("one", &["/agnhost", "connect", &to, "--timeout=2s"])
        })
        .unwrap_or_else(|error| panic!("{to}: {error:#}\n{}", logs()));
    }
    // From outside, by each node, to pods of both.
    for number in [1, 2] {
        let entry = SocketAddr::new(cluster.spec().plan().v4(number).into(), 80);
        wait::until("the Ingress answers", SOON, || {
            let answer = Connection::open(TcpStream::connect(entry)?, &Speak::Http1)?
                .get("web.example.com", "/hostname")?;
            ensure!(answer.status == 200, "answered with {}", answer.status);
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{entry}: {error:#}\n{}", logs()));
    }

    // Pods live on without an agent; the next one knows them, and new ones wait for it.
    let killed = agents.remove(0);
    drop(killed);
    pods.reach_each_other();
    pods.server("late", "node1");
    agents.push(start(&cluster, &cluster.nodes()[0]));
    let late =
        cluster.wait_for_pods(&pods.namespace, "test=it", PODS_WITHIN).expect("the kubelet tries again");
    assert_eq!(late.len(), 4);
    pods.reach_each_other();
}
