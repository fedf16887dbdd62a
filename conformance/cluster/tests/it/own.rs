//! Clusters of every kind, each in a minute.

use std::time::{Duration, Instant};

use mesh_conformance_cluster::spec::{Cni, IpFamily, Spec};
use mesh_conformance_cluster::status::Status;

use crate::fixture::{Own, Pods, spec};

/// With programs and images in the cache.
const UP_WITHIN: Duration = Duration::from_secs(60);

#[test]
#[ignore = "needs a cluster"]
fn cluster_two_nodes_of_both_families_are_ready_within_a_minute_and_their_pods_talk_in_both() {
    two_nodes("dual", IpFamily::Dual, 2);
}

#[test]
#[ignore = "needs a cluster"]
fn cluster_two_nodes_of_ipv6_alone_are_ready_within_a_minute_and_their_pods_talk() {
    two_nodes("six", IpFamily::Ipv6, 1);
}

#[test]
#[ignore = "needs a cluster"]
fn cluster_nodes_without_a_cni_register_say_why_they_are_not_ready_and_become_so_with_one() {
    let own = Own::new(Spec { cni: Cni::None, ..spec("bare", 1, IpFamily::Ipv4) });
    let cluster = own.up();
    let status = Status::of(&cluster);
    assert!(!status.well && status.problem.is_none(), "{}", status.table());
    let state = &status.nodes[0].state;
    assert!(state.starts_with("NotReady: ") && state.contains("cni plugin not initialized"), "{state}");
    assert!(status.programs.iter().all(|program| program.process.is_some()), "{}", status.table());
    // As an installer does it: through the node's own folder.
    let node = cluster.node("node1").expect("a node");
    let config = r#"{"cniVersion": "1.0.0", "name": "test", "plugins": [{"type": "loopback"}]}"#;
    std::fs::write(node.path("/etc/cni/net.d/10-test.conflist").expect("a path"), config).expect("written");
    cluster.wait_until_ready(UP_WITHIN).expect("the node is ready");
    assert!(Status::of(&cluster).well);
}

fn two_nodes(name: &str, family: IpFamily, addresses: usize) {
    let own = Own::new(spec(name, 2, family));
    let start = Instant::now();
    let cluster = own.up();
    let took = start.elapsed();
    assert!(took < UP_WITHIN, "two nodes took {took:?}");
    let pods = Pods::new(&cluster, "it");
    pods.server("one", "node1");
    pods.server("two", "node1");
    pods.server("three", "node2");
    for (pod, found) in pods.ready() {
        assert_eq!(found.len(), addresses, "{pod} has {found:?}");
    }
    pods.reach_each_other();
}
