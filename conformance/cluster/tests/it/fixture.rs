//! Clusters for tests, and pods on them.

use std::time::Duration;

use mesh_conformance_cluster::cluster::{self, Cluster};
use mesh_conformance_cluster::image;
use mesh_conformance_cluster::programs::Programs;
use mesh_conformance_cluster::spec::{Cni, DEFAULT_NAME, IpFamily, Spec};
use mesh_testkit::namespace::Namespace;
use serde_json::json;

/// How long pods may take to be ready.
pub(crate) const PODS_WITHIN: Duration = Duration::from_secs(60);

/// The cluster that is up for all tests.
pub(crate) fn shared() -> Cluster {
    let name = std::env::var("MILLRACE_CLUSTER").unwrap_or_else(|_| DEFAULT_NAME.to_owned());
    Cluster::connect(&name).expect("a cluster is up: `cargo xtask cluster e2e` makes one")
}

/// What a cluster of a test's own is to be.
pub(crate) fn spec(name: &str, nodes: u8, ip_family: IpFamily) -> Spec {
    Spec { name: name.to_owned(), nodes, ip_family, cni: Cni::Bridge }
}

/// A cluster of a test's own, removed at the end.
pub(crate) struct Own {
    pub(crate) spec: Spec,
}

impl Own {
    /// Nothing yet; what an earlier run left is removed.
    pub(crate) fn new(spec: Spec) -> Self {
        cluster::down(&spec.name).expect("the rest of an earlier run is removed");
        Self { spec }
    }

    /// Makes it, or what is missing of it.
    pub(crate) fn up(&self) -> Cluster {
        let programs = Programs::from_environment().expect("programs");
        Cluster::up(&self.spec, programs, &mut |_, _| {}).expect("the cluster is up")
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let removed = cluster::down(&self.spec.name);
        // While a test fails, a second panic would hide why.
        assert!(removed.is_ok() || std::thread::panicking(), "{removed:?}");
    }
}

/// Pods of a test in a Kubernetes namespace of its own, which goes with this.
pub(crate) struct Pods<'a> {
    cluster: &'a Cluster,
    pub(crate) namespace: String,
}

impl<'a> Pods<'a> {
    pub(crate) fn new(cluster: &'a Cluster, namespace: &str) -> Self {
        let _ = cluster.kubectl(&["delete", "namespace", namespace, "--ignore-not-found"]);
        cluster.kubectl(&["create", "namespace", namespace]).expect("a namespace");
        // The controller manager gives it an account; without it no pod is taken.
        mesh_testkit::wait::until("the namespace has its account", PODS_WITHIN, || {
            cluster.kubectl(&["get", "serviceaccount", "default", "--namespace", namespace])
        })
        .expect("an account");
        Self { cluster, namespace: namespace.to_owned() }
    }

    /// Starts a server of Kubernetes' own test program on a node: HTTP on 8080, `/hostname` says its name.
    pub(crate) fn server(&self, name: &str, node: &str) {
        let container = json!({"name": "server", "image": image::AGNHOST, "args": ["netexec"]});
        self.pod(name, node, "server", container);
    }

    /// Starts a pod; Services select by its role.
    pub(crate) fn pod(&self, name: &str, node: &str, role: &str, container: serde_json::Value) {
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": self.namespace, "labels": {"test": "it", "role": role}},
            "spec": {"nodeName": node, "terminationGracePeriodSeconds": 0, "containers": [container]},
        });
        self.cluster.apply(&pod.to_string()).expect("a pod");
    }

    /// Waits until all are ready; their addresses, all of each pod, by name.
    pub(crate) fn ready(&self) -> Vec<(String, Vec<String>)> {
        let pods = self.cluster.wait_for_pods(&self.namespace, "test=it", PODS_WITHIN).expect("ready pods");
        let addresses = |pod: &k8s_openapi::api::core::v1::Pod| {
            let status = pod.status.clone().unwrap_or_default();
            status.pod_ips.unwrap_or_default().into_iter().map(|address| address.ip).collect()
        };
        pods.iter().map(|pod| (pod.metadata.name.clone().unwrap_or_default(), addresses(pod))).collect()
    }

    /// Starts a pod that does nothing: what it serves and asks is the test's.
    pub(crate) fn idle(&self, name: &str, node: &str, role: &str) {
        self.pod(name, node, role, json!({"name": "idle", "image": image::AGNHOST, "args": ["pause"]}));
    }

    /// The network of a pod that is ready, for sockets of the test.
    pub(crate) fn network(&self, name: &str) -> Namespace {
        let pods = self.cluster.wait_for_pods(&self.namespace, "test=it", PODS_WITHIN).expect("ready pods");
        let pod = pods.into_iter().find(|pod| pod.metadata.name.as_deref() == Some(name)).expect("the pod");
        let node = pod.spec.and_then(|spec| spec.node_name).expect("it is on a node");
        let node = self.cluster.node(&node).expect("a node");
        let uid = pod.metadata.uid.expect("an object has a uid");
        Namespace::at(name, node.pod_network(&uid).expect("it runs"))
    }

    /// Runs a program in a pod and returns what it prints.
    pub(crate) fn exec(&self, pod: &str, command: &[&str]) -> anyhow::Result<String> {
        let mut arguments = vec!["exec", "--namespace", self.namespace.as_str(), pod, "--"];
        arguments.extend(command);
        self.cluster.kubectl(&arguments)
    }

    /// Fails unless each pod reaches each address of each other one.
    pub(crate) fn reach_each_other(&self) {
        let pods = self.ready();
        for (from, _) in &pods {
            for (to, addresses) in pods.iter().filter(|(to, _)| to != from) {
                for address in addresses {
                    let to_address =
                        if address.contains(':') { format!("[{address}]") } else { address.clone() };
                    let url = format!("{to_address}:8080");
                    let asked = self.exec(from, &["/agnhost", "connect", &url, "--timeout=5s"]);
                    asked.unwrap_or_else(|error| panic!("{from} does not reach {to} at {url}: {error:#}"));
                }
            }
        }
    }
}

impl Drop for Pods<'_> {
    fn drop(&mut self) {
        let _ = self.cluster.kubectl(&["delete", "namespace", &self.namespace, "--wait=false"]);
    }
}
