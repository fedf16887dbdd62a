//! Millrace as the only network of a cluster: pods that the kubelet starts, by the CNI plugin and the agents.

use std::net::{SocketAddr, TcpStream};

use anyhow::ensure;
use mesh_conformance_cluster::node::Node;
use mesh_conformance_cluster::spec::{Cni, IpFamily, Spec};
use mesh_testkit::http::{Connection, Speak};
use mesh_testkit::wait;

use crate::fixture::{Own, PODS_WITHIN, Pods, spec};
use crate::mesh::{Mesh, SOON, logs};

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
    let mut mesh = Mesh::start(&cluster);

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
