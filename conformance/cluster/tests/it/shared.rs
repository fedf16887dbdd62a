//! What tests rely on, on the cluster that is up.

use mesh_conformance_cluster::cluster::node_is_ready;
use mesh_conformance_cluster::programs::Programs;
use mesh_conformance_cluster::status::Status;
use mesh_oci::Image;
use serde_json::json;

use crate::fixture::{Pods, shared};

#[test]
#[ignore = "needs a cluster"]
fn cluster_every_program_runs_and_every_node_is_ready() {
    let cluster = shared();
    let status = Status::of(&cluster);
    assert!(status.well, "{}", status.table());
    let nodes = cluster.node_objects().expect("nodes");
    assert_eq!(nodes.len(), usize::from(cluster.spec().nodes));
    assert!(nodes.iter().all(node_is_ready));
}

#[test]
#[ignore = "needs a cluster"]
fn cluster_a_pod_of_each_node_has_its_token_and_can_be_looked_into() {
    let cluster = shared();
    let pods = Pods::new(&cluster, "it-pods");
    for node in cluster.nodes() {
        pods.server(node.name(), node.name());
    }
    for (name, addresses) in pods.ready() {
        let url = format!("{}:8080", bracketed(&addresses[0]));
        // Of itself: the token's mount is there, and the process is where it belongs.
        let token = "/var/run/secrets/kubernetes.io/serviceaccount/token";
        let shown = pods.exec(&name, &["/agnhost", "mounttest", &format!("--file_content={token}")]);
        let shown = shown.expect("exec works");
        assert!(shown.contains("eyJ"), "no token: {shown}");
        pods.exec(&name, &["/agnhost", "connect", &url, "--timeout=5s"]).expect("it answers itself");
        let logs = cluster.kubectl(&["logs", "--namespace", &pods.namespace, &name]).expect("logs");
        assert!(logs.contains("Started HTTP server on port 8080"), "{logs}");
        let groups = cluster.node(&name).expect("a node").cgroup().processes();
        assert!(groups.iter().any(|id| is_program(*id, "agnhost")), "the pod is not in its node's cgroup");
    }
}

#[test]
#[ignore = "needs a cluster"]
fn cluster_pods_reach_each_other_on_a_node_and_across_nodes() {
    let cluster = shared();
    let pods = Pods::new(&cluster, "it-reach");
    pods.server("first", "node1");
    pods.server("second", "node1");
    pods.server("other", cluster.nodes().last().expect("a node").name());
    pods.reach_each_other();
}

#[test]
#[ignore = "needs a cluster"]
fn cluster_an_image_made_of_a_program_runs_on_every_node() {
    let cluster = shared();
    let program =
        Programs::from_environment().and_then(|programs| programs.find("pause")).expect("a program");
    let reference = "millrace.test/own:7".to_owned();
    let file = cluster.image_file();
    let image = Image::of_programs(&reference, &[program], Vec::new()).expect("a program");
    image.write(&file).expect("made");
    let loaded = cluster.load_image(&file, None);
    std::fs::remove_file(&file).expect("removed");
    loaded.expect("loaded");
    let pods = Pods::new(&cluster, "it-image");
    for node in cluster.nodes() {
        assert!(node.images().expect("images").contains(&reference));
        pods.pod(
            node.name(),
            node.name(),
            "own",
            json!({"name": "own", "image": reference, "imagePullPolicy": "Never"}),
        );
    }
    assert_eq!(pods.ready().len(), cluster.nodes().len());
}

#[test]
#[ignore = "needs a cluster"]
fn cluster_what_a_node_writes_where_daemonsets_write_is_its_own() {
    let cluster = shared();
    for folder in ["/run", "/opt/cni/bin", "/etc/cni/net.d", "/var/lib/kubelet", "/sys/fs/bpf"] {
        let of_the_machine = std::path::Path::new(folder).join("of-node1");
        let node = cluster.node("node1").expect("a node");
        let name = of_the_machine.display().to_string();
        node.exec("mkdir", &[&name]).expect("a folder on the node");
        assert!(!of_the_machine.exists(), "{name} is there on the machine too");
        for other in cluster.nodes().iter().filter(|other| other.name() != node.name()) {
            assert!(other.exec("ls", &[&name]).is_err(), "{name} is there on {} too", other.name());
        }
        assert!(node.path(&name).expect("a path").is_dir(), "{name} can be looked at from outside");
        node.exec("rmdir", &[&name]).expect("gone");
    }
}

fn is_program(id: u32, name: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|comm| comm.trim() == name)
}

fn bracketed(address: &str) -> String {
    if address.contains(':') { format!("[{address}]") } else { address.to_owned() }
}
