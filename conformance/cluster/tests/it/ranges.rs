//! Ranges that the operator gives to nodes, and what is said of pods, in the objects of a cluster.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::ensure;
use mesh_conformance_cluster::cluster::Cluster;
use mesh_conformance_cluster::spec::{Cni, IpFamily, Spec};
use mesh_testkit::process::Guard;
use mesh_testkit::wait;

use crate::fixture::{Own, PODS_WITHIN, Pods, spec};
use crate::mesh::{Mesh, Routing, SOON, logs, program};

/// The definitions of what agents and operator write.
fn define(cluster: &Cluster) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts/millrace/files/crds");
    for kind in ["ciliumnodes", "ciliumidentities", "ciliumendpoints"] {
        let text = fs::read_to_string(folder.join(format!("{kind}.yaml"))).expect("the chart has it");
        cluster.apply(&text).expect("the API server takes it");
    }
}

fn operator(cluster: &Cluster, log: &Path) -> Guard {
    let log = File::options().create(true).append(true).open(log).expect("a log");
    let mut operator = Command::new(program("mesh-agent"));
    operator.args(["operator", "--ipam", "cluster-pool", "--cluster-pool-ipv4-cidr", "10.42.0.0/16"]);
    operator.arg("--kubeconfig").arg(cluster.kubeconfig());
    Guard::start(operator.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log)).expect("it starts")
}

/// What each object of a kind has at a path, sorted.
fn read(cluster: &Cluster, kind: &str, path: &str) -> Vec<String> {
    let path = format!("jsonpath={{range .items[*]}}{path}{{' '}}{{end}}");
    let read = cluster.kubectl(&["get", kind, "--all-namespaces", "--output", &path]).expect("it is read");
    let mut read: Vec<String> = read.split_whitespace().map(str::to_owned).collect();
    read.sort();
    read
}

#[test]
#[ignore = "needs a cluster"]
fn cluster_millrace_gives_nodes_their_ranges_and_says_who_their_pods_are() {
    let own = Own::new(Spec { cni: Cni::None, ..spec("pool", 2, IpFamily::Ipv4) });
    let cluster = own.up();
    define(&cluster);
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("operator.log");
    let all_logs =
        || format!("{}\noperator:\n{}", logs(&cluster), fs::read_to_string(&log).unwrap_or_default());
    let first = operator(&cluster, &log);
    let _mesh = Mesh::start_with(&cluster, Routing::Native, "cluster-pool");
    let pods = Pods::new(&cluster, "it");
    for (name, node) in [("one", "node1"), ("two", "node1"), ("three", "node2")] {
        pods.server(name, node);
    }
    let ready = pods.ready();
    for (pod, addresses) in &ready {
        assert!(addresses.iter().all(|address| address.starts_with("10.42.")), "{pod} has {addresses:?}");
    }
    pods.reach_each_other();

    // Pods of the same labels are the same to everybody.
    let identities = wait::until("each pod has its identity", SOON, || {
        let identities = read(&cluster, "ciliumendpoints", "{.status.identity.id}");
        ensure!(identities.len() == 3, "{identities:?}");
        Ok(identities)
    });
    let identities = identities.unwrap_or_else(|error| panic!("{error:#}\n{}", all_logs()));
    assert!(identities.iter().all(|identity| *identity == identities[0]), "{identities:?}");
    let ranges = read(&cluster, "ciliumnodes", "{.spec.ipam.podCIDRs[*]}");
    assert_eq!(ranges, ["10.42.0.0/24", "10.42.1.0/24"]);

    // Whoever is the operator next knows what was given. A node that goes takes its object along, and leaves its range.
    let (_, of_one) = ready.iter().find(|(pod, _)| pod == "one").expect("it is there");
    let start = format!("{}.", of_one[0].rsplit_once('.').expect("an address").0);
    let kept: Vec<&String> = ranges.iter().filter(|range| range.starts_with(&start)).collect();
    drop(first);
    let _second = operator(&cluster, &log);
    cluster.kubectl(&["delete", "node", "node2"]).expect("it goes");
    wait::until("its object goes", PODS_WITHIN, || {
        let nodes = read(&cluster, "ciliumnodes", "{.metadata.name}");
        ensure!(nodes == ["node1"], "{nodes:?}");
        Ok(())
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", all_logs()));
    assert_eq!(read(&cluster, "ciliumnodes", "{.spec.ipam.podCIDRs[*]}").iter().collect::<Vec<_>>(), kept);
}
