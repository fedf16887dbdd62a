//! What has ended is started again.

use mesh_conformance_cluster::cgroup::Cgroup;
use mesh_conformance_cluster::cluster::Cluster;
use mesh_conformance_cluster::spec::IpFamily;
use mesh_conformance_cluster::status::Status;
use mesh_testkit::namespace;

use crate::crash::{kill, up_killed_after};
use crate::fixture::{Own, PODS_WITHIN, Pods, spec};

#[test]
#[ignore = "needs a cluster"]
fn cluster_a_second_up_starts_what_has_ended_and_leaves_the_rest_alone() {
    let own = Own::new(spec("heal", 1, IpFamily::Ipv4));
    let cluster = own.up();
    let pods = Pods::new(&cluster, "it");
    pods.server("web", "node1");
    pods.ready();
    for victim in ["kube-apiserver", "kubelet"] {
        kill(process(&cluster, victim).expect("it runs"));
        mesh_testkit::wait::until("it ends", PODS_WITHIN, || {
            anyhow::ensure!(process(&cluster, victim).is_none(), "{victim} still runs");
            Ok(())
        })
        .expect("status says that it has ended");
        assert!(!Status::of(&cluster).well);
        let others = ["etcd", "containerd", "node"].map(|name| process(&cluster, name));
        let cluster = own.up();
        assert!(Status::of(&cluster).well, "{}", Status::of(&cluster).table());
        assert_eq!(others, ["etcd", "containerd", "node"].map(|name| process(&cluster, name)));
        pods.ready();
    }
}

#[test]
#[ignore = "needs a cluster"]
fn cluster_an_up_that_was_killed_is_finished_by_the_next() {
    let own = Own::new(spec("again", 2, IpFamily::Ipv4));
    for moment in [20, 150, 700, 2000, 5000] {
        up_killed_after(moment, &own.spec.name, own.spec.ip_family);
        let cluster = own.up();
        let status = Status::of(&cluster);
        assert!(status.well, "after {moment} ms: {}", status.table());
        mesh_conformance_cluster::cluster::down(&own.spec.name).expect("it is gone");
    }
}

#[test]
#[ignore = "needs a cluster"]
fn cluster_a_program_whose_starter_was_killed_before_it_could_record_it_is_found_again() {
    let own = Own::new(spec("found", 1, IpFamily::Ipv4));
    let cluster = own.up();
    let kubeconfig = cluster.kubeconfig();
    let folder = kubeconfig.parent().expect("a folder");
    let names = ["etcd", "kube-apiserver", "containerd", "kubelet"];
    let before = names.map(|name| process(&cluster, name));
    for (name, place) in names.iter().zip(["", "", "node1", "node1"]) {
        std::fs::remove_file(folder.join(place).join("records").join(name)).expect("there was a record");
        assert_eq!(process(&cluster, name), None);
    }
    let cluster = own.up();
    assert_eq!(names.map(|name| process(&cluster, name)), before, "a second was started");
    assert!(Status::of(&cluster).well);
}

#[test]
#[ignore = "needs a cluster"]
fn cluster_a_node_whose_plug_was_pulled_comes_back_with_its_pods_and_without_its_pins() {
    let own = Own::new(spec("plug", 1, IpFamily::Ipv4));
    let cluster = own.up();
    let pods = Pods::new(&cluster, "it");
    pods.server("web", "node1");
    pods.ready();
    let node = cluster.node("node1").expect("a node");
    node.exec("mkdir", &["/sys/fs/bpf/pinned", "/run/left"]).expect("a pin");
    node.stop().expect("nothing runs");
    assert!(node.exec("true", &[]).is_err(), "one runs programs on a node that is off");
    let cluster = own.up();
    let node = cluster.node("node1").expect("a node");
    assert!(node.exec("ls", &["/sys/fs/bpf/pinned"]).is_err(), "a pin outlived the node");
    assert!(node.exec("ls", &["/run/left"]).is_err(), "/run outlived the node");
    mesh_testkit::wait::until("the pod runs again", PODS_WITHIN, || {
        pods.exec("web", &["/agnhost", "--help"]).map(drop)
    })
    .expect("the pod runs again");
    pods.ready();
}

#[test]
#[ignore = "needs a cluster"]
fn cluster_a_cluster_comes_back_with_its_objects_after_the_machine_was_restarted() {
    let own = Own::new(spec("again", 2, IpFamily::Ipv4));
    let cluster = own.up();
    let pods = Pods::new(&cluster, "it");
    pods.server("web", "node2");
    pods.ready();
    // What a restart leaves: files, and nothing that is in memory.
    let prefix = own.spec.prefix();
    for cgroup in Cgroup::all(&format!("{prefix}-")).expect("cgroups") {
        cgroup.kill().and_then(|()| cgroup.remove()).expect("it is gone");
    }
    namespace::sweep(&format!("{prefix}-")).expect("namespaces are gone");
    namespace::ip(&["link", "delete", &prefix]).expect("the bridge is gone");
    let cluster = own.up();
    assert!(Status::of(&cluster).well, "{}", Status::of(&cluster).table());
    mesh_testkit::wait::until("the pod runs again", PODS_WITHIN, || {
        pods.exec("web", &["/agnhost", "--help"]).map(drop)
    })
    .expect("the pod runs again");
}

pub(crate) fn process(cluster: &Cluster, program: &str) -> Option<u32> {
    let programs = Status::of(cluster).programs;
    programs.into_iter().find(|found| found.name == program).expect("a program of this name").process
}
