//! Nodes that are not as usual, and agents that should not be there.

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use mesh_conformance::Stack;
use mesh_testkit::http::{Connection, Speak};
use mesh_testkit::namespace::Namespace;
use mesh_testkit::wait;

use crate::fixture::{redirecting, serving};

const SOON: Duration = Duration::from_secs(10);

fn is_answered(from: &Namespace, to: SocketAddr, host: &str, mark: &str) -> anyhow::Result<()> {
    let answer = Connection::open(from.connect(to)?, &Speak::Http1)?.get(host, "/")?;
    ensure!(answer.status == 200, "answered with {}", answer.status);
    let seen: serde_json::Value = serde_json::from_slice(&answer.body)?;
    ensure!(!seen["headers"][mark].is_null(), "it passed the proxy by: {seen}");
    Ok(())
}

fn part(stack: &Stack, name: &str) -> anyhow::Result<serde_json::Value> {
    let status = stack.ask("/v1/status")?;
    let parts = status["parts"].as_array().context("parts")?;
    parts
        .iter()
        .find(|part| part["name"] == name)
        .cloned()
        .with_context(|| format!("no part {name}: {status}"))
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_a_node_without_ipv6_redirects_ipv4_and_says_so() {
    let test = "kernel_a_node_without_ipv6_redirects_ipv4_and_says_so";
    let Some(mut world) = redirecting(test, &[]) else { return };
    let stack = &mut world.stack;
    for device in ["all", "default", "lo", "mrup0"] {
        let path = format!("net/ipv6/conf/{device}/disable_ipv6");
        stack.topology.node.sysctl(&path, "1").expect("root may");
    }
    stack.start_agent().expect("the agent starts");
    let gateway =
        wait::until("the Gateway has an address", SOON, || stack.address_of("gateway", "edge", true));
    let gateway = SocketAddr::new(gateway.expect("an address"), 80);
    wait::until("the Gateway answers", SOON, || {
        is_answered(&stack.topology.client, gateway, "gw.example.com", "x-request-id")
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}\n{}", stack.log("agent.log"), stack.log("proxy.log")));
    let catalog = "10.96.0.20:80".parse().expect("an address");
    wait::until("the Service answers", SOON, || is_answered(stack.pod(1), catalog, "catalog", "x-mesh"))
        .unwrap_or_else(|error| panic!("{error:#}\n{}", stack.log("agent.log")));
    let datapath = part(stack, "datapath").expect("an agent");
    assert_eq!(datapath["state"], "ok", "{datapath}");
    let detail = datapath["detail"].as_str().expect("text");
    assert!(detail.contains("no IPv6"), "{detail}");
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_a_device_made_anew_under_its_old_name_gets_the_programs_again() {
    let test = "kernel_a_device_made_anew_under_its_old_name_gets_the_programs_again";
    let Some(mut world) = serving(test) else { return };
    let stack = &mut world.stack;
    let node = &stack.topology.node;
    let has_programs = |index: &str| {
        wait::until("the device has the programs", SOON, || {
            let mut names = std::fs::read_dir(stack.pin_root().join("links"))?;
            let found = names.any(|name| {
                name.is_ok_and(|name| {
                    name.file_name().to_string_lossy().rsplit(['-', '_']).next() == Some(index)
                })
            });
            ensure!(found, "no link of device {index}");
            Ok(())
        })
    };
    node.ip(&["link", "add", "mrp9", "type", "veth", "peer", "name", "other"]).expect("root may");
    let shown = node.ip(&["-o", "link", "show", "mrp9"]).expect("it is there");
    let first = shown.split(':').next().expect("an index").to_owned();
    has_programs(&first).unwrap_or_else(|error| panic!("{error:#}\n{}", stack.log("agent.log")));
    // In one go, so that the agent sees one state and then the other, and nothing in between.
    let again = "ip link del mrp9 && ip link add mrp9 type veth peer name other";
    let made = node.command("sh").args(["-c", again]).status().expect("a shell");
    assert!(made.success());
    let shown = node.ip(&["-o", "link", "show", "mrp9"]).expect("it is there");
    let second = shown.split(':').next().expect("an index").to_owned();
    assert_ne!(first, second);
    has_programs(&second).unwrap_or_else(|error| panic!("{error:#}\n{}", stack.log("agent.log")));
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_a_second_agent_with_the_same_run_directory_ends_and_changes_nothing() {
    let test = "kernel_a_second_agent_with_the_same_run_directory_ends_and_changes_nothing";
    let Some(mut world) = serving(test) else { return };
    let stack = &mut world.stack;
    let pins = || {
        let folder = std::fs::read_dir(stack.pin_root().join("progs")).expect("a folder");
        let mut pins: Vec<u64> =
            folder.map(|pin| pin.expect("a pin").metadata().expect("a pin").ino()).collect();
        pins.sort_unstable();
        pins
    };
    let before = pins();
    let mut second = stack.program("mesh-agent");
    second.arg("--manifests").arg(stack.manifests()).arg("--run-dir").arg(stack.run_dir());
    second.arg("--pin-root").arg(stack.pin_root()).arg("--cgroup").arg(stack.cgroup());
    second.arg("--bpf-object").arg(std::env::var_os("MILLRACE_BPF_OBJECT").expect("as above"));
    second.args(["--upstream-ports", "40000-41000"]);
    let ended = second.stdin(Stdio::null()).output().expect("it starts");
    let told = String::from_utf8_lossy(&ended.stderr);
    assert!(!ended.status.success());
    assert!(told.contains("a server listens on"), "{told}");
    assert_eq!(pins(), before);
    assert!(stack.ask("/v1/status").expect("the first agent answers")["healthy"] == true);
}
