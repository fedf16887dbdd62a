//! Millrace as the only network of a cluster: pods that the kubelet starts, by the CNI plugin and the agents.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::ensure;
use mesh_conformance_cluster::node::Node;
use mesh_conformance_cluster::spec::{Cni, IpFamily, Spec};
use mesh_testkit::http::{Connection, Speak};
use mesh_testkit::wait;

use crate::fixture::{Own, PODS_WITHIN, Pods, spec};
use crate::manifests::{CLASS, ingress, web};
use crate::mesh::{Mesh, Routing, SOON, logs};

const WEB: &str = "{type: NodePort, selector: {test: it}, ipFamilyPolicy: PreferDualStack, \
                   ports: [{port: 80, targetPort: 8080, nodePort: 30088}]}";

#[test]
#[ignore = "needs a cluster"]
fn cluster_millrace_is_the_network_of_two_nodes_and_their_services() {
    network_of_two_nodes("mill", Routing::Native);
}

#[test]
#[ignore = "needs a cluster"]
fn cluster_millrace_is_the_network_of_two_nodes_by_tunnels() {
    network_of_two_nodes("tunn", Routing::Tunnel);
}

fn network_of_two_nodes(name: &str, routing: Routing) {
    let own = Own::new(Spec { cni: Cni::None, ..spec(name, 2, IpFamily::Dual) });
    let cluster = own.up();
    let mut mesh = Mesh::start_with(&cluster, routing, "kubernetes");

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

    cluster.apply(CLASS).expect("a class");
    web(&cluster, &pods.namespace, WEB);
    ingress(&cluster, &pods.namespace, "web");
    let services = ["get", "service", "web", "--namespace", pods.namespace.as_str(), "-o"];
    let addresses = cluster.kubectl(&[&services[..], &["jsonpath={.spec.clusterIPs[*]}"]].concat());
    for address in addresses.expect("a Service").split_whitespace() {
        let to = if address.contains(':') { format!("[{address}]:80") } else { format!("{address}:80") };
        wait::until("the Service answers a pod", SOON, || {
            pods.exec("one", &["/agnhost", "connect", &to, "--timeout=2s"])
        })
        .unwrap_or_else(|error| panic!("{to}: {error:#}\n{}", logs(&cluster)));
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
        .unwrap_or_else(|error| panic!("{entry}: {error:#}\n{}", logs(&cluster)));
    }

    // By a port of each node, to pods of both.
    for number in [1, 2] {
        let plan = cluster.spec().plan();
        for address in [IpAddr::from(plan.v4(number)), plan.v6(number).into()] {
            let entry = SocketAddr::new(address, 30088);
            let mut heard = BTreeSet::new();
            let all = BTreeSet::from(["one", "two", "three"].map(str::to_owned));
            wait::until("every pod has answered", SOON, || {
                let stream = TcpStream::connect_timeout(&entry, Duration::from_secs(2))?;
                let answer = Connection::open(stream, &Speak::Http1)?.get("web", "/hostname")?;
                heard.insert(String::from_utf8_lossy(&answer.body).into_owned());
                ensure!(heard == all, "{heard:?}");
                Ok(())
            })
            .unwrap_or_else(|error| panic!("{entry}: {error:#}\n{}", logs(&cluster)));
        }
    }

    // Pods live on without an agent; the next one knows them, and new ones wait for it.
    mesh.kill_agent("node1");
    pods.reach_each_other();
    pods.server("late", "node1");
    mesh.start_agent(&cluster, "node1");
    let late =
        cluster.wait_for_pods(&pods.namespace, "test=it", PODS_WITHIN).expect("the kubelet tries again");
    assert_eq!(late.len(), 4);
    pods.reach_each_other();
}
