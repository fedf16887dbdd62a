//! Ranges that the operator gives to nodes.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::ensure;
use mesh_testkit::api_server::ApiServer;
use mesh_testkit::process::Guard;
use mesh_testkit::wait::until;
use serde_json::{Value, json};

use crate::fixture::server;

const NODES: &str = "/apis/cilium.io/v2/ciliumnodes";
const WITHIN: Duration = Duration::from_secs(20);

fn operator(server: &ApiServer, arguments: &[&str]) -> Guard {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mesh-agent"));
    command.args(["operator", "--k8s-api-server-urls", &server.url()]).args(arguments);
    command.args(["--leader-election-lease-duration", "3s", "--leader-election-renew-deadline", "2s"]);
    command.args(["--leader-election-retry-period", "100ms"]);
    Guard::start(command.stdin(Stdio::null()).stderr(Stdio::null())).unwrap()
}

fn node(name: &str, second: u8) -> Value {
    json!({
        "metadata": {"name": name, "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z")},
        "spec": {"addresses": [{"type": "InternalIP", "ip": "192.0.2.1"}]},
    })
}

fn ranges(server: &ApiServer, name: &str) -> Value {
    server.get(NODES, "", name).unwrap()["spec"]["ipam"]["podCIDRs"].clone()
}

fn error(server: &ApiServer, name: &str) -> String {
    let node = server.get(NODES, "", name).unwrap();
    node["status"]["ipam"]["operator-status"]["error"].as_str().unwrap_or_default().to_owned()
}

fn has(server: &ApiServer, name: &str, expected: &[&str]) {
    until(&format!("{name} has {expected:?}"), WITHIN, || {
        let ranges = ranges(server, name);
        ensure!(ranges == json!(expected), "{ranges}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn nodes_get_ranges_keep_them_over_a_restart_and_the_last_one_is_told_why_it_has_none() {
    let server = server();
    let flags = [
        "--ipam=cluster-pool",
        "--cluster-pool-ipv4-cidr=10.7.0.0/23",
        "--cluster-pool-ipv6-cidr=fd00::/110",
        "--cluster-pool-ipv6-mask-size=112",
    ];
    for (second, name) in (0..).zip(["one", "two"]) {
        server.put(NODES, node(name, second));
    }
    let first = operator(&server, &flags);
    has(&server, "one", &["10.7.0.0/24", "fd00::/112"]);
    has(&server, "two", &["10.7.1.0/24", "fd00::1:0/112"]);
    assert_eq!(server.get(NODES, "", "one").unwrap()["spec"]["addresses"][0]["ip"], "192.0.2.1");
    drop(first);

    // The next operator knows what the last one gave, also to a node that comes before all others by name.
    server.put(NODES, node("a", 9));
    let _second = operator(&server, &flags);
    until("the third is told", WITHIN, || {
        let error = error(&server, "a");
        ensure!(error.contains("no /24 is free in 10.7.0.0/23"), "{error:?}");
        Ok(())
    })
    .unwrap();
    has(&server, "a", &["fd00::2:0/112"]);
    has(&server, "one", &["10.7.0.0/24", "fd00::/112"]);
    until("an event", WITHIN, || {
        ensure!(server.count("POST /api/v1/namespaces/default/events") == 1, "not yet");
        Ok(())
    })
    .unwrap();

    // A node that goes leaves its ranges to the one that waits.
    server.delete(NODES, "", "one");
    has(&server, "a", &["fd00::2:0/112", "10.7.0.0/24"]);
    until("nothing is wrong any more", WITHIN, || {
        ensure!(error(&server, "a").is_empty(), "{}", error(&server, "a"));
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_node_whose_ranges_are_depleted_gets_another_and_gives_back_what_it_released() {
    let server = server();
    let (one, two) = ("10.7.0.0/28", "10.7.0.16/28");
    let marked = |ranges: &[(&str, &str)]| {
        let mut node = node("one", 0);
        node["spec"]["ipam"]["podCIDRs"] = ranges.iter().map(|(range, _)| json!(range)).collect();
        let marks: serde_json::Map<String, Value> =
            ranges.iter().map(|(range, mark)| ((*range).to_owned(), json!({"status": mark}))).collect();
        node["status"]["ipam"]["pod-cidrs"] = Value::Object(marks);
        node
    };
    server.put(NODES, marked(&[(one, "depleted")]));
    let _operator = operator(
        &server,
        &[
            "--ipam=cluster-pool-v2beta",
            "--cluster-pool-ipv4-cidr=10.7.0.0/24",
            "--cluster-pool-ipv4-mask-size=28",
        ],
    );
    has(&server, "one", &[one, two]);
    server.put(NODES, marked(&[(one, "released"), (two, "in-use")]));
    has(&server, "one", &[two]);
}

#[test]
fn ranges_that_cannot_be_given_from_are_refused_by_the_flag() {
    let refused = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_mesh-agent"))
            .args(["operator", "--k8s-api-server-urls", "http://127.0.0.1:9"])
            .args(arguments)
            .output()
            .unwrap();
        assert!(!output.status.success(), "{arguments:?} is taken");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let none = refused(&["--ipam", "cluster-pool"]);
    assert!(none.contains("--cluster-pool-ipv4-cidr"), "{none}");
    let small = refused(&["--ipam", "cluster-pool", "--cluster-pool-ipv4-cidr", "10.0.0.0/28"]);
    assert!(small.contains("--cluster-pool-ipv4-cidr") && small.contains("/24"), "{small}");
}
