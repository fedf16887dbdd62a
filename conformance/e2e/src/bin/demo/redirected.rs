//! As root: redirection by eBPF between network namespaces.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use mesh_conformance::{Stack, StackOptions};
use mesh_testkit::certificate::Certificate;
use mesh_testkit::http::Speak;
use mesh_testkit::topology::{CLIENT_V4, NODE_V4};
use mesh_testkit::wait;

use crate::backend;
use crate::story::{Ask, Story};

const GATEWAY: &str = "edge";
const INGRESS: &str = "shop";
const CATALOG: [&str; 2] = ["10.96.0.20", "fd00:10:96::20"];
const PLAIN: [&str; 2] = ["10.96.0.30", "fd00:10:96::30"];
const MESH_MANIFEST: &str = "40-mesh.yaml";

/// Runs the story. False when something was wrong.
pub(crate) fn run(options: StackOptions, keep: bool) -> anyhow::Result<bool> {
    println!("A node, three pods and a client outside, each a network namespace of its own:");
    println!(
        "  client {CLIENT_V4} -- mrup0 {NODE_V4} [node: agent, proxy, eBPF] mrp1..3 -- pods 10.244.1.11..13"
    );
    let certificate = Certificate::for_hosts(&["shop.example.com"])?;
    let mut stack = Stack::create(options)?;
    stack.write_manifest("15-secret.yaml", &certificate.secret("shop", "shop-tls"))?;
    let started = Instant::now();
    stack.start_agent()?;
    stack.wait_ready()?;
    println!(
        "The agent read {} and everything is programmed after {:?}:",
        stack.manifests().display(),
        rounded(started)
    );
    println!("{}", millrace(&stack, &["get", "ingress"])?);
    println!("{}", millrace(&stack, &["get", "gateway"])?);

    let told = tell(&stack, &certificate);
    if keep {
        // Also when something is wrong: then there is something to look at.
        keep_running(stack)?;
    }
    told
}

fn tell(stack: &Stack, certificate: &Certificate) -> anyhow::Result<bool> {
    let start = stack.counters()?;
    let mut story = Story::default();
    north_south(stack, &mut story, certificate)?;
    gateway(stack, &mut story)?;
    east_west(stack, &mut story)?;
    edit(stack, &mut story)?;

    println!("\nThe kernel's counters, before and after:");
    for (name, after) in stack.counters()? {
        let before = start.get(&name).copied().unwrap_or_default();
        if after > 0 {
            println!("  {name:<30} {before:>6} {after:>6}");
        }
    }
    Ok(story.end())
}

/// Runs `ask`, tells the answer and what the kernel counted, and returns both.
fn scene(
    stack: &Stack,
    story: &mut Story,
    ask: &Ask<'_>,
) -> anyhow::Result<(mesh_testkit::http::Answer, BTreeMap<String, u64>)> {
    let before = stack.counters()?;
    let answer = ask.send()?;
    story.tell_answer(&answer);
    let after = stack.counters()?;
    story.tell_counters(&before, &after);
    let change = after
        .into_iter()
        .map(|(name, value)| {
            let change = value.saturating_sub(before.get(&name).copied().unwrap_or_default());
            (name, change)
        })
        .collect();
    Ok((answer, change))
}

fn north_south(stack: &Stack, story: &mut Story, certificate: &Certificate) -> anyhow::Result<()> {
    let client = &stack.topology.client;
    for v4 in [true, false] {
        let address = stack.address_of("ingress", INGRESS, v4)?;
        let (http, https) = (SocketAddr::new(address, 80), SocketAddr::new(address, 443));
        let owned = stack.topology.node.ip(&["-o", "addr", "show", "to", &address.to_string()])?;
        story.check(owned.is_empty(), "the node must not own the Ingress address");

        story.scene(&format!("The client asks the Ingress for http://hello.example.com/ ({http})"));
        let ask = Ask::get(client, http, "hello.example.com", "/");
        let (answer, change) = scene(stack, story, &ask)?;
        story.check(answer.json()["pod"] == "pod1", "pod1 answers");
        story.check(change["redirected_tc_new"] == 1, "one connection is redirected");

        story.scene(&format!("It asks for https://shop.example.com/catalog over HTTP/2 ({https})"));
        let speak = Speak::Tls {
            server_name: "shop.example.com".to_owned(),
            trusted_pem: certificate.certificate_pem.clone(),
            alpn: vec!["h2", "http/1.1"],
        };
        let ask = Ask { speak, ..Ask::get(client, https, "shop.example.com", "/catalog?page=1") };
        let (answer, _) = scene(stack, story, &ask)?;
        story.check(answer.json()["pod"] == "pod3", "pod3 answers");

        if v4 {
            story.scene("It asks for the same host without TLS");
            let (answer, _) = scene(stack, story, &Ask::get(client, http, "shop.example.com", "/"))?;
            story.check(answer.status.is_redirection(), "it is redirected to https");
        }
    }
    Ok(())
}

fn gateway(stack: &Stack, story: &mut Story) -> anyhow::Result<()> {
    let client = &stack.topology.client;
    let address = stack.address_of("gateway", GATEWAY, true)?;
    let to = SocketAddr::new(address, 80);

    story.scene(&format!(
        "It sends 100 requests to the Gateway, http://gw.example.com/ ({to}), weights 90 and 10"
    ));
    let mut connection = Ask::get(client, to, "gw.example.com", "/").open()?;
    let mut shares: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..100 {
        let seen = connection.get("gw.example.com", "/")?.json();
        *shares.entry(seen["pod"].as_str().unwrap_or("nobody").to_owned()).or_default() += 1;
    }
    let told: Vec<String> = shares.iter().map(|(pod, count)| format!("{pod} {count}")).collect();
    story.tell("answers", &told.join(", "));
    let v1 = shares.get("pod1").copied().unwrap_or_default();
    let v2 = shares.get("pod2").copied().unwrap_or_default();
    story.check(v1 + v2 == 100 && (75..=99).contains(&v1), "about nine in ten come from pod1");

    story.scene("It asks for /old/shoes, which has moved");
    let (answer, _) = scene(stack, story, &Ask::get(client, to, "gw.example.com", "/old/shoes"))?;
    story.check(answer.status == 301, "301");
    story.check(answer.header("location").is_some_and(|to| to.ends_with("/new/shoes")), "to /new/shoes");

    story.scene("It asks for /v2/shoes: the path is rewritten and a header set");
    let (answer, _) = scene(stack, story, &Ask::get(client, to, "gw.example.com", "/v2/shoes"))?;
    let seen = answer.json();
    story.check(seen["path"] == "/shoes" && seen["headers"]["x-shop"][0] == "v2", "/shoes with x-shop");

    story.scene("It asks with the header x-version: 2, over IPv6");
    let to = SocketAddr::new(stack.address_of("gateway", GATEWAY, false)?, 80);
    let ask = Ask { headers: &[("x-version", "2")], ..Ask::get(client, to, "gw.example.com", "/") };
    let (answer, _) = scene(stack, story, &ask)?;
    story.check(answer.json()["pod"] == "pod2", "pod2 answers");
    Ok(())
}

fn east_west(stack: &Stack, story: &mut Story) -> anyhow::Result<()> {
    let pod = &stack.topology.pods[0];
    for (address, own) in CATALOG.into_iter().zip(pod.addresses()) {
        let to = SocketAddr::new(address.parse::<IpAddr>()?, 80);
        story.scene(&format!("pod1 asks the catalog at its ClusterIP {to}, which has an HTTPRoute"));
        let (answer, change) = scene(stack, story, &Ask::get(&pod.namespace, to, "catalog", "/shoes"))?;
        let seen = answer.json();
        story.check(seen["headers"]["x-mesh"][0] == "millrace", "the route sets x-mesh");
        story.check(seen["client"] == own.to_string(), "the catalog sees pod1's own address");
        story.check(change["redirected_tc_new"] == 1, "the connection is redirected");
    }

    let to = SocketAddr::new(CATALOG[0].parse::<IpAddr>()?, 80);
    story.scene(&format!("A process of the node asks the catalog at {to}"));
    let (answer, change) = scene(stack, story, &Ask::get(&stack.topology.node, to, "catalog", "/shoes"))?;
    story.check(answer.json()["headers"]["x-mesh"][0] == "millrace", "the route sets x-mesh");
    story.check(change["redirected_sk_lookup"] == 1, "the socket lookup hands it over");

    for address in PLAIN {
        let to = SocketAddr::new(address.parse::<IpAddr>()?, 80);
        story.scene(&format!("pod1 asks a Service without any route at {to}"));
        let (answer, change) = scene(stack, story, &Ask::get(&pod.namespace, to, "plain", "/"))?;
        let is_there = answer.json()["pod"].is_string();
        story.check(is_there, "a pod answers");
        let redirected: u64 =
            change.iter().filter(|(name, _)| name.starts_with("redirected_")).map(|(_, count)| count).sum();
        story.check(redirected == 0, "the proxy has no part in it");
        story.tell("proxy", "took no part: the socket was connected to a pod when it was opened");
    }
    Ok(())
}

/// Edits a file under the running agent.
fn edit(stack: &Stack, story: &mut Story) -> anyhow::Result<()> {
    story.scene(&format!("Somebody edits {MESH_MANIFEST}: x-mesh becomes `edited`"));
    let path = stack.manifests().join(MESH_MANIFEST);
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let to = SocketAddr::new(CATALOG[0].parse::<IpAddr>()?, 80);
    let mut connection = Ask::get(stack.pod(1), to, "catalog", "/").open()?;
    connection.get("catalog", "/")?;
    stack.write_manifest(MESH_MANIFEST, &text.replace("value: millrace", "value: edited"))?;
    let written = Instant::now();
    let answered = wait::until("the edit is served", Duration::from_secs(2), || {
        let seen = connection.get("catalog", "/")?.json();
        ensure!(seen["headers"]["x-mesh"][0] == "edited", "still {seen}");
        Ok(())
    });
    let took = rounded(written);
    story.check(answered.is_ok(), "the edit is served");
    story.tell("served", &format!("after {took:?}, on the connection that was open"));
    Ok(())
}

fn keep_running(mut stack: Stack) -> anyhow::Result<()> {
    // The pods' backends are threads of this process: others take their place.
    stack.backends.clear();
    let pids = backend::start_all(&stack)?;
    let ingress = stack.address_of("ingress", INGRESS, true)?;
    let gateway = stack.address_of("gateway", GATEWAY, true)?;
    let millrace = stack.program("millrace");
    let run_dir = stack.run_dir();
    let (client, pod) = (stack.topology.client.name(), stack.pod(1).name());
    println!("\nEverything is left running. To try:");
    println!("  ip netns exec {client} curl -s -H 'Host: hello.example.com' http://{ingress}/");
    println!(
        "  ip netns exec {client} curl -sk --resolve shop.example.com:443:{ingress} https://shop.example.com/catalog"
    );
    println!("  ip netns exec {client} curl -s -H 'Host: gw.example.com' http://{gateway}/v2/shoes");
    println!("  ip netns exec {pod} curl -s http://{}/", CATALOG[0]);
    println!("A shell that is to count as a process of this node joins its cgroup first:");
    println!("  echo $$ > {}/cgroup.procs", stack.cgroup().display());
    println!("  ip netns exec {pod} curl -s http://{}/", PLAIN[0]);
    println!("Edit {}/{MESH_MANIFEST} and ask again.", stack.original_manifests().display());
    let program = std::path::PathBuf::from(millrace.get_args().last().unwrap_or_default());
    let programs = program.parent().unwrap_or(&program).display();
    println!("What the agent, the proxy and the kernel think of it:");
    println!("  export PATH=$PATH:{programs} MILLRACE_RUN_DIR={}", run_dir.display());
    println!("  millrace status");
    println!("  millrace describe httproute catalog");
    println!("  millrace service list");
    println!("  millrace events --follow");
    println!("  tail {}/access.log", run_dir.display());
    println!("To take it down: cargo xtask demo --down");
    stack.keep(&pids)
}

fn millrace(stack: &Stack, arguments: &[&str]) -> anyhow::Result<String> {
    let mut command = stack.program("millrace");
    let output = command.args(arguments).arg("--run-dir").arg(stack.run_dir()).output()?;
    let indented = |text: &[u8]| {
        String::from_utf8_lossy(text).lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
    };
    ensure!(output.status.success(), "millrace: {}", indented(&output.stderr));
    Ok(indented(&output.stdout))
}

fn rounded(since: Instant) -> Duration {
    Duration::from_millis(since.elapsed().as_millis().try_into().unwrap_or(u64::MAX))
}
