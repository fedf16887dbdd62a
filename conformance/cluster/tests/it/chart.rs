//! Millrace by its chart: installed, unprivileged, upgraded, rolled back, and gone without a trace.

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::ensure;
use mesh_conformance_cluster::chart::{self, Chart, NAMESPACE};
use mesh_conformance_cluster::cluster::Cluster;
use mesh_conformance_cluster::dns;
use mesh_conformance_cluster::node::Node;
use mesh_conformance_cluster::spec::{Cni, IpFamily, Spec};
use mesh_testkit::http::{Connection, Speak};
use mesh_testkit::wait;

use crate::fixture::{Own, PODS_WITHIN, Pods, spec};
use crate::manifests::{ingress, web};

const INSTALLED_WITHIN: Duration = Duration::from_secs(180);
const SOON: Duration = Duration::from_secs(60);
/// Stands for the CNI that a node had before.
const BEFORE: &str = "/etc/cni/net.d/90-before.conflist";

#[test]
#[ignore = "needs a cluster"]
fn cluster_the_chart_makes_millrace_the_network_and_takes_it_away_without_a_trace() {
    let own = Own::new(Spec { cni: Cni::None, ..spec("chart", 2, IpFamily::Dual) });
    let cluster = own.up();
    let before = r#"{"cniVersion": "1.0.0", "name": "before", "plugins": [{"type": "before"}]}"#;
    for node in cluster.nodes() {
        fs::write(node.path(BEFORE).expect("the node runs"), before).expect("written");
    }
    dns::install(&cluster).expect("a DNS");
    let chart = Chart::from_environment().expect("a chart");
    chart.load_images(&cluster).expect("images");
    chart.install(&cluster, &[], INSTALLED_WITHIN).expect("installed");
    for node in cluster.nodes() {
        assert!(!node.path(BEFORE).expect("the node runs").exists(), "another CNI is still there");
    }
    processes_have_no_more_rights_than_they_need(&cluster);
    dns::wait(&cluster, SOON).unwrap_or_else(|error| panic!("{error:#}\n{}", chart::state(&cluster)));

    let pods = Pods::new(&cluster, "it");
    for (name, node) in [("one", "node1"), ("two", "node1"), ("three", "node2")] {
        pods.server(name, node);
    }
    pods.reach_each_other();
    web(&cluster, &pods.namespace, WEB);
    ingress(&cluster, &pods.namespace, "web");
    is_served(&cluster, &pods);

    // Agents are replaced one after the other while what they made serves on.
    chart.install(&cluster, &["MTU=1400".to_owned()], INSTALLED_WITHIN).expect("upgraded");
    is_served(&cluster, &pods);
    chart::roll_back(&cluster, 1, INSTALLED_WITHIN).expect("every pod is of the first version again");
    is_served(&cluster, &pods);
    pods.reach_each_other();

    // Pods first: nobody could take their network away once the plugin is gone.
    cluster.kubectl(&["delete", "namespace", &pods.namespace]).expect("pods go");
    cluster.kubectl(&["delete", "deployment", "coredns", "--namespace=kube-system"]).expect("the DNS goes");
    wait::until("all pods are gone", SOON, || {
        let left = cluster.kubectl(&["get", "pods", "--namespace=kube-system", "--output=name"])?;
        ensure!(left.trim().is_empty(), "{left}");
        Ok(())
    })
    .expect("gone");
    chart.uninstall(&cluster, INSTALLED_WITHIN).expect("uninstalled");
    for node in cluster.nodes() {
        nothing_is_left(node);
        let back = fs::read_to_string(node.path(BEFORE).expect("the node runs")).expect("it is back");
        assert_eq!(back, before);
    }
    let left = cluster.kubectl(&["get", "clusterroles,clusterrolebindings,ingressclasses", "--output=name"]);
    assert!(!left.expect("a list").contains("millrace"), "objects are left");
}

const WEB: &str =
    "{selector: {test: it}, ipFamilyPolicy: PreferDualStack, ports: [{port: 80, targetPort: 8080}]}";

/// The Service by its name from pods of both nodes, over UDP and TCP of the DNS, and the Ingress by each node, from
/// outside and from a pod, until every pod of both nodes has answered.
fn is_served(cluster: &Cluster, pods: &Pods<'_>) {
    let name = format!("web.{}.svc.cluster.local:80", pods.namespace);
    for from in ["one", "three"] {
        wait::until("the Service answers by its name", SOON, || {
            pods.exec(from, &["/agnhost", "connect", &name, "--timeout=2s"])
        })
        .unwrap_or_else(|error| panic!("{from}: {error:#}\n{}", chart::state(cluster)));
    }
    let pod = pods.network("one");
    let all = BTreeSet::from(["one", "two", "three"].map(str::to_owned));
    for number in [1, 2] {
        let entry = SocketAddr::new(cluster.spec().plan().v4(number).into(), 80);
        for (from, network) in [("outside", None), ("a pod", Some(&pod))] {
            let mut heard = BTreeSet::new();
            wait::until("every pod has answered by the Ingress", SOON, || {
                let stream = match network {
                    Some(network) => network.connect(entry)?,
                    None => TcpStream::connect_timeout(&entry, Duration::from_secs(2))?,
                };
                let answer = Connection::open(stream, &Speak::Http1)?.get("web.example.com", "/hostname")?;
                ensure!(answer.status == 200, "answered with {}", answer.status);
                heard.insert(String::from_utf8_lossy(&answer.body).into_owned());
                ensure!(heard == all, "{heard:?}");
                Ok(())
            })
            .unwrap_or_else(|error| panic!("{entry} from {from}: {error:#}\n{}", chart::state(cluster)));
        }
    }
}

/// Effective capabilities of the processes of a name on a node, as the kernel writes them.
fn capabilities(node: &Node, name: &str, argument: &str) -> Vec<u64> {
    let mut found = Vec::new();
    for id in node.cgroup().processes() {
        let read = |file: &str| fs::read_to_string(format!("/proc/{id}/{file}")).unwrap_or_default();
        let command = read("cmdline");
        let mut words = command.split('\0');
        if !words.next().is_some_and(|program| program.ends_with(name)) || words.next() != Some(argument) {
            continue;
        }
        let status = read("status");
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        found.extend(line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()));
    }
    found
}

fn processes_have_no_more_rights_than_they_need(cluster: &Cluster) {
    // capabilities(7): CHOWN, NET_ADMIN, NET_RAW, PERFMON, BPF.
    let agent: u64 = [0, 12, 13, 38, 39].into_iter().map(|number| 1 << number).sum();
    let net_raw: u64 = 1 << 13;
    for node in cluster.nodes() {
        assert_eq!(capabilities(node, "mesh-agent", "--start-proxy=false"), [agent], "{}", node.name());
        assert_eq!(capabilities(node, "l7proxy", "starter"), [net_raw], "{}", node.name());
        assert_eq!(capabilities(node, "l7proxy", "worker"), [0], "{}", node.name());
    }
    let operators: Vec<u64> =
        cluster.nodes().iter().flat_map(|node| capabilities(node, "mesh-agent", "operator")).collect();
    assert_eq!(operators, [0, 0]);
}

/// Devices, routes, rules, pins, files.
fn nothing_is_left(node: &Node) {
    let seen = |program: &str, arguments: &[&str]| node.exec(program, arguments).expect("it can be asked");
    let names = |folder: &str| {
        let entries = fs::read_dir(node.path(folder).expect("the node runs")).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect::<Vec<_>>()
    };
    let devices = seen("ip", &["-o", "link"]);
    assert_eq!(devices.lines().count(), 2, "lo and eth0, but: {devices}");
    for family in ["-4", "-6"] {
        let rules = seen("ip", &[family, "rule"]);
        assert!(!rules.contains("2004"), "{rules}");
        let routes = seen("ip", &[family, "route", "show", "table", "all"]);
        assert!(!routes.contains("2004"), "{routes}");
        // The way out is the node's own; ways to other nodes' pods are not.
        let ways = routes.lines().filter(|route| route.contains(" via ") && !route.starts_with("default "));
        assert_eq!(ways.count(), 0, "{routes}");
    }
    // Programs are held by nothing but their pinned links.
    assert!(!names("/sys/fs/bpf").contains(&"millrace".to_owned()));
    assert_eq!(names("/etc/cni/net.d"), ["90-before.conflist"]);
    assert!(!names("/opt/cni/bin").contains(&"millrace-cni".to_owned()));
    assert!(names("/run/millrace").is_empty(), "{:?}", names("/run/millrace"));
    let pods = names("/run/netns");
    assert!(pods.is_empty(), "network namespaces of pods: {pods:?}");
}

/// Pods of a node that need more than one block of sixteen addresses.
const MANY: u8 = 20;

#[test]
#[ignore = "needs a cluster"]
fn cluster_the_chart_gives_nodes_blocks_of_a_pool_as_they_need_them_and_tunnels_between_them() {
    let own = Own::new(Spec { cni: Cni::None, ..spec("chpool", 2, IpFamily::Ipv4) });
    let cluster = own.up();
    let chart = Chart::from_environment().expect("a chart");
    chart.load_images(&cluster).expect("images");
    let set = [
        "ipam.mode=cluster-pool-v2beta",
        "ipam.operator.clusterPoolIPv4PodCIDRList={10.42.0.0/16}",
        "ipam.operator.clusterPoolIPv4MaskSize=28",
        "ipv4NativeRoutingCIDR=10.42.0.0/16",
        "routingMode=tunnel",
        "autoDirectNodeRoutes=false",
    ];
    chart.install(&cluster, &set.map(str::to_owned), INSTALLED_WITHIN).expect("installed");

    let pods = Pods::new(&cluster, "it");
    pods.server("server", "node1");
    pods.server("asks", "node2");
    for number in 0..MANY {
        pods.idle(&format!("idle-{number}"), "node1", "idle");
    }
    let ready = pods.ready();
    assert!(ready.iter().all(|(_, addresses)| addresses[0].starts_with("10.42.")), "{ready:?}");
    let (_, server) = ready.iter().find(|(name, _)| name == "server").expect("it is ready");
    wait::until("the other node's pod is reached", SOON, || {
        pods.exec("asks", &["/agnhost", "connect", &format!("{}:8080", server[0]), "--timeout=2s"])
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", chart::state(&cluster)));
    let blocks = |node: &str| {
        let path = "jsonpath={.spec.ipam.podCIDRs[*]}";
        let read = cluster.kubectl(&["get", "ciliumnodes", node, "--output", path]).expect("it is read");
        read.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(blocks("node1").len() >= 2, "{MANY} pods have {:?}", blocks("node1"));
    assert!(blocks("node2").iter().all(|block| !blocks("node1").contains(block)));
    let node = cluster.node("node2").expect("a node");
    let tunnels = node.exec("ip", &["-oneline", "link", "show", "type", "vxlan"]).expect("devices");
    let tunnel = tunnels.split(": ").nth(1).expect("a tunnel");
    let ways = node.exec("ip", &["route", "show", "proto", "109"]).expect("routes");
    for block in blocks("node1") {
        let way = ways.lines().find(|way| way.starts_with(&format!("{block} ")));
        assert!(way.is_some_and(|way| way.contains(&format!("dev {tunnel} "))), "{block}: {ways}");
    }
}

#[test]
#[ignore = "needs a cluster"]
fn cluster_a_release_without_its_required_values_is_refused_before_anything_is_made() {
    let cluster = crate::fixture::shared();
    let chart = Chart::from_environment().expect("a chart");
    let set = ["hubble.enabled=true".to_owned(), "k8sServiceHost=".to_owned()];
    let error = chart.install(&cluster, &set, PODS_WITHIN).expect_err("Millrace has no Hubble").to_string();
    let told = format!("{error:#}");
    let namespaces = cluster.kubectl(&["get", "namespaces", "--output=name"]).expect("a list");
    assert!(!namespaces.contains(NAMESPACE), "{told}");
}
