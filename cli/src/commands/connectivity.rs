//! `millrace connectivity test`: pods of its own, and every way between them.
//!
//! ```text
//!  node A                 node B
//!  client, server-a       server-b          pods
//!  host-a (node's network) host-b           what runs on the nodes themselves
//!        Service: both servers, by address, by name, by a port of each node
//! ```

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use crate::args::{ConnectivityOptions, Format};
use crate::exit::{FAILED, Outcome};
use crate::kubectl::Kubectl;
use crate::output::{Output, rendered};

/// How long an attempt may take, and how often one is made before a way counts as broken.
const ATTEMPT: Duration = Duration::from_secs(3);
const ATTEMPTS: usize = 3;
/// How long pods may take to be ready.
const PODS_WITHIN: Duration = Duration::from_secs(120);
/// Ports of the servers. Those on the nodes' own network are out of others' way.
const HTTP: u16 = 8080;
const UDP: u16 = 8081;
const HOST_HTTP: u16 = 38480;
const HOST_UDP: u16 = 38481;

/// One way.
#[derive(Clone, Debug)]
struct Check {
    from: &'static str,
    to: String,
    address: String,
    protocol: &'static str,
}

/// Makes pods, tries every way, removes them. Exit code 1 when one is broken.
pub(crate) fn run(output: &Output, options: &ConnectivityOptions) -> Outcome {
    let kubectl = Kubectl::new(&options.cluster);
    let test = Test { kubectl: &kubectl, namespace: &options.namespace, image: &options.image };
    test.remove()?;
    let outcome = test.run(output);
    if !options.keep {
        test.remove()?;
    }
    Ok(outcome?)
}

struct Test<'a> {
    kubectl: &'a Kubectl,
    namespace: &'a str,
    image: &'a str,
}

impl Test<'_> {
    fn run(&self, output: &Output) -> anyhow::Result<ExitCode> {
        let nodes = self.nodes()?;
        self.deploy(&nodes)?;
        let mut checks = self.checks(&nodes)?;
        let mut skipped = Vec::new();
        if nodes.len() < 2 {
            skipped.push("ways between nodes: there is one node alone");
        }
        checks.sort_by_key(|check| (check.from, check.to.clone()));
        let mut rows = Vec::new();
        for check in &checks {
            rows.push((check, self.attempt(check).err()));
        }
        let failed = rows.iter().filter(|(_, error)| error.is_some()).count();
        let total = format!("{} passed, {failed} failed, {} skipped", rows.len() - failed, skipped.len());
        if output.format() == Format::Table {
            let mut table = output.prose_table(&["FROM", "TO", "ADDRESS", "PROTOCOL", "RESULT"]);
            for (check, error) in &rows {
                let result =
                    error.as_ref().map_or_else(|| "ok".to_owned(), |error| format!("FAILED: {error:#}"));
                table.add_row([check.from, &check.to, &check.address, check.protocol, &result]);
            }
            let mut text = rendered(&table);
            skipped.iter().for_each(|what| text.push_str(&format!("\nSKIPPED: {what}")));
            output.text(&format!("{text}\n{total}")).map_err(|failure| anyhow::anyhow!("{failure}"))?;
        } else {
            let checks: Vec<Value> = rows
                .iter()
                .map(|(check, error)| {
                    json!({"from": check.from, "to": check.to, "address": check.address, "protocol": check.protocol,
                           "error": error.as_ref().map(|error| format!("{error:#}"))})
                })
                .collect();
            let document = json!({"checks": checks, "skipped": skipped, "total": total});
            output.document(&document).map_err(|failure| anyhow::anyhow!("{failure}"))?;
        }
        Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
    }

    /// Two nodes that are ready, or one, each with its addresses.
    fn nodes(&self) -> anyhow::Result<Vec<(String, Vec<IpAddr>)>> {
        let mut nodes = Vec::new();
        for node in self.kubectl.list(&["nodes"])? {
            let conditions = node["status"]["conditions"].as_array().into_iter().flatten();
            let is_ready = conditions.clone().any(|c| c["type"] == "Ready" && c["status"] == "True");
            let addresses = node["status"]["addresses"].as_array().into_iter().flatten();
            let addresses = addresses.filter(|address| address["type"] == "InternalIP");
            let addresses = addresses.filter_map(|a| a["address"].as_str()?.parse().ok()).collect();
            if is_ready && let Some(name) = node["metadata"]["name"].as_str() {
                nodes.push((name.to_owned(), addresses));
            }
        }
        ensure!(!nodes.is_empty(), "no node is ready: `kubectl get nodes`");
        nodes.truncate(2);
        Ok(nodes)
    }

    fn deploy(&self, nodes: &[(String, Vec<IpAddr>)]) -> anyhow::Result<()> {
        let metadata =
            |name: &str| json!({"name": name, "namespace": self.namespace, "labels": {"app": name}});
        let mut items =
            vec![json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}})];
        for ((node, _), letter) in nodes.iter().zip(["a", "b"]) {
            for (role, http, udp, is_host) in
                [("server", HTTP, UDP, false), ("host", HOST_HTTP, HOST_UDP, true)]
            {
                let mut pod_metadata = metadata(&format!("{role}-{letter}"));
                pod_metadata["labels"] = json!({"role": role});
                items.push(json!({
                    "apiVersion": "v1", "kind": "Pod", "metadata": pod_metadata,
                    "spec": {
                        "nodeName": node, "hostNetwork": is_host, "terminationGracePeriodSeconds": 0,
                        "containers": [{
                            "name": "server", "image": self.image, "imagePullPolicy": "IfNotPresent",
                            "args": ["netexec", format!("--http-port={http}"), format!("--udp-port={udp}")],
                            "readinessProbe": {"httpGet": {"path": "/healthz", "port": http}, "periodSeconds": 1},
                        }],
                    },
                }));
            }
        }
        items.push(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": metadata("client"),
            "spec": {
                "nodeName": nodes[0].0, "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "client", "image": self.image, "imagePullPolicy": "IfNotPresent", "args": ["pause"]}],
            },
        }));
        items.push(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": metadata("servers"),
            "spec": {
                "type": "NodePort", "selector": {"role": "server"}, "ipFamilyPolicy": "PreferDualStack",
                "ports": [
                    {"name": "http", "port": 80, "targetPort": HTTP, "protocol": "TCP"},
                    {"name": "udp", "port": 90, "targetPort": UDP, "protocol": "UDP"},
                ],
            },
        }));
        let namespace = items.remove(0);
        self.kubectl.run_with(&["apply", "--filename=-"], &namespace.to_string())?;
        // The controller manager gives it an account; without it no pod is taken.
        let account =
            || self.kubectl.run(&["get", "serviceaccount", "default", "--namespace", self.namespace]);
        until(PODS_WITHIN, || account().map(drop))?;
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
        self.kubectl.run_with(&["apply", "--filename=-"], &list.to_string())?;
        let timeout = format!("--timeout={}s", PODS_WITHIN.as_secs());
        let wait =
            ["wait", "--namespace", self.namespace, "--for=condition=Ready", "pods", "--all", &timeout];
        self.kubectl.run(&wait).map(drop).context("the test's pods do not become ready")
    }

    /// Every way from a pod, from a node and from here.
    fn checks(&self, nodes: &[(String, Vec<IpAddr>)]) -> anyhow::Result<Vec<Check>> {
        let pods = self.kubectl.list(&["pods", "--namespace", self.namespace])?;
        let addresses = |name: &str| -> Vec<IpAddr> {
            let pod = pods.iter().find(|pod| pod["metadata"]["name"] == name);
            let ips = pod.and_then(|pod| pod["status"]["podIPs"].as_array()).into_iter().flatten();
            ips.filter_map(|ip| ip["ip"].as_str()?.parse().ok()).collect()
        };
        let services = self.kubectl.list(&["services", "--namespace", self.namespace])?;
        let service = services.first().context("the test's Service is gone")?;
        let port_of = |name: &str| {
            let mut ports = service["spec"]["ports"].as_array().into_iter().flatten();
            ports.find(|port| port["name"] == name).and_then(|port| port["nodePort"].as_u64())
        };
        let (node_http, node_udp) = (port_of("http").context("no port")?, port_of("udp").context("no port")?);
        let cluster_ips = service["spec"]["clusterIPs"].as_array().into_iter().flatten();
        let cluster_ips: Vec<IpAddr> = cluster_ips.filter_map(|ip| ip.as_str()?.parse().ok()).collect();

        let mut targets: Vec<(String, IpAddr, u64, u64)> = Vec::new();
        for ((node, node_addresses), letter) in nodes.iter().zip(["a", "b"]) {
            for address in addresses(&format!("server-{letter}")) {
                targets.push((format!("pod on {node}"), address, HTTP.into(), UDP.into()));
            }
            for address in node_addresses {
                targets.push((format!("host {node}"), *address, HOST_HTTP.into(), HOST_UDP.into()));
                targets.push((format!("NodePort of {node}"), *address, node_http, node_udp));
            }
        }
        for address in &cluster_ips {
            targets.push(("Service".to_owned(), *address, 80, 90));
        }
        let mut checks = Vec::new();
        for from in ["client", "host-a"] {
            for (to, address, http, udp) in &targets {
                for (protocol, port) in [("tcp", http), ("udp", udp)] {
                    let address = socket(*address, *port)?;
                    checks.push(Check { from, to: to.clone(), address, protocol });
                }
            }
        }
        let name = format!("servers.{}.svc.cluster.local:80", self.namespace);
        checks.push(Check {
            from: "client",
            to: "Service by name".to_owned(),
            address: name,
            protocol: "tcp",
        });
        // From here, which is outside of the pods' network.
        for (to, address, http, _) in targets.iter().filter(|(to, ..)| to.starts_with("NodePort")) {
            let address = socket(*address, *http)?;
            checks.push(Check { from: "outside", to: to.clone(), address, protocol: "tcp" });
        }
        Ok(checks)
    }

    fn attempt(&self, check: &Check) -> anyhow::Result<()> {
        let mut outcome = Ok(());
        for _ in 0..ATTEMPTS {
            outcome = match check.from {
                "outside" => reached_from_here(&check.address),
                pod => self.asked_in(pod, check),
            };
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    fn asked_in(&self, pod: &str, check: &Check) -> anyhow::Result<()> {
        let timeout = format!("--timeout={}s", ATTEMPT.as_secs());
        let protocol = format!("--protocol={}", check.protocol);
        let mut words = vec!["exec", "--namespace", self.namespace, pod, "--", "/agnhost", "connect"];
        words.extend([check.address.as_str(), &timeout, &protocol]);
        // Of UDP an answer alone says that somebody is there.
        if check.protocol == "udp" {
            words.push("--udp-data=hostname");
        }
        match self.kubectl.run(&words) {
            Ok(_) => Ok(()),
            Err(error) => {
                let told = format!("{error:#}");
                // What kubectl told comes after what it was given.
                let told = told.split_once(": ").map_or(told.as_str(), |(_, told)| told);
                let last = told.lines().rev().find(|line| !line.starts_with("command terminated"));
                bail!("{}", last.unwrap_or("it fails"))
            }
        }
    }

    fn remove(&self) -> anyhow::Result<()> {
        self.kubectl.run(&["delete", "namespace", self.namespace, "--ignore-not-found"]).map(drop)
    }
}

fn socket(address: IpAddr, port: u64) -> anyhow::Result<String> {
    Ok(SocketAddr::new(address, u16::try_from(port)?).to_string())
}

fn reached_from_here(address: &str) -> anyhow::Result<()> {
    let address: SocketAddr = address.parse()?;
    TcpStream::connect_timeout(&address, ATTEMPT).map(drop).context("cannot connect")
}

fn until(within: Duration, mut attempt: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let deadline = Instant::now() + within;
    loop {
        match attempt() {
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(200)),
            outcome => return outcome,
        }
    }
}
