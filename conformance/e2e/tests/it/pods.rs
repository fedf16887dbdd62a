//! Pods that a container runtime brings: the CNI plugin, as containerd calls it, and the agent behind it.

use std::io::Write;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use mesh_conformance::Stack;
use mesh_testkit::echo::Echo;
use mesh_testkit::http::{Connection, Speak};
use mesh_testkit::namespace::Namespace;
use mesh_testkit::topology::{CLIENT_V4, CLIENT_V6, NODE_V4, NODE_V6};
use mesh_testkit::wait;
use serde_json::{Value, json};

use crate::fixture::{Redirecting, redirecting};

const SOON: Duration = Duration::from_secs(10);

/// Room for six pods.
const RANGES: &[&str] =
    &["--ipv4-range", "10.77.0.0/29", "--ipv6-range", "fd77::/120", "--routing-mode", "native"];

/// A pod's namespace, and what the runtime calls it.
pub(crate) struct Pod {
    namespace: Namespace,
    container: String,
}

impl Pod {
    pub(crate) fn new(stack: &Stack, name: &str) -> Self {
        let prefix = stack.topology.node.name().trim_end_matches("node");
        let namespace = Namespace::create(format!("{prefix}{name}")).expect("root may make a namespace");
        Self { namespace, container: name.to_owned() }
    }

    /// Adds it and returns its addresses.
    pub(crate) fn add(&self, stack: &Stack) -> Result<Vec<IpAddr>, Value> {
        self.add_with(stack, json!({}))
    }

    /// An echo behind port 8080 of all its addresses, until dropped.
    fn serves(&self) -> Echo {
        let everywhere = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 8080));
        let port = self.namespace.listen(everywhere).expect("a port");
        Echo::start(&self.container, port).expect("an echo")
    }

    /// Adds it with more in the runtime's configuration.
    fn add_with(&self, stack: &Stack, more: Value) -> Result<Vec<IpAddr>, Value> {
        let added = plugin(stack, "ADD", Some(self), more)?;
        let ips = added["ips"].as_array().expect("a result has addresses").iter();
        let addresses =
            ips.map(|ip| ip["address"].as_str().expect("text").split('/').next().expect("a part"));
        Ok(addresses.map(|address| address.parse().expect("an address")).collect())
    }
}

/// Calls the plugin as the runtime does, on the node: what it printed, or the error it printed.
pub(crate) fn plugin(stack: &Stack, command: &str, pod: Option<&Pod>, more: Value) -> Result<Value, Value> {
    let mut config = json!({
        "cniVersion": "1.1.0", "name": "millrace", "type": "millrace-cni",
        "agentSocket": stack.run_dir().join("cni.sock"),
    });
    let more = more.as_object().expect("an object").clone();
    config.as_object_mut().expect("an object").extend(more);
    let mut program = stack.program("millrace-cni");
    program.env("CNI_COMMAND", command).env("CNI_PATH", "/opt/cni/bin");
    if let Some(Pod { namespace, container }) = pod {
        program.env("CNI_CONTAINERID", container).env("CNI_IFNAME", "eth0");
        program.env("CNI_NETNS", format!("/run/netns/{}", namespace.name()));
        program.env("CNI_ARGS", format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME={container}"));
    }
    let program = program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut child = program.spawn().expect("the plugin is built");
    let mut stdin = child.stdin.take().expect("it has one");
    stdin.write_all(config.to_string().as_bytes()).expect("it reads its configuration");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let printed = match output.stdout.is_empty() {
        true => Value::Null,
        false => serde_json::from_slice(&output.stdout).expect("it prints JSON"),
    };
    if output.status.success() { Ok(printed) } else { Err(printed) }
}

/// The agent with addresses for pods.
fn with_ranges(test: &str) -> Option<Redirecting> {
    let mut world = redirecting(test, RANGES)?;
    world.stack.start_agent().expect("the agent starts");
    world.stack.wait_ready().expect("the product is ready");
    Some(world)
}

/// What an echo says of the connection that a request came by.
fn ask(from: &Namespace, to: SocketAddr, host: &str) -> anyhow::Result<Value> {
    let answer = Connection::open(from.connect(to)?, &Speak::Http1)?.get(host, "/")?;
    ensure!(answer.status == 200, "answered with {}", answer.status);
    Ok(serde_json::from_slice(&answer.body)?)
}

fn endpoints(stack: &Stack) -> Vec<Value> {
    let answer = stack.ask("/v1/endpoints").expect("the agent answers");
    answer["endpoints"].as_array().expect("a list").clone()
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_pods_that_the_plugin_adds_reach_each_other_the_node_and_services() {
    let test = "kernel_pods_that_the_plugin_adds_reach_each_other_the_node_and_services";
    let Some(world) = with_ranges(test) else { return };
    let stack = &world.stack;
    let (web, asker) = (Pod::new(stack, "web"), Pod::new(stack, "asker"));
    let at = web.add(stack).expect("a network");
    let from = asker.add(stack).expect("a network");
    assert_eq!(at.iter().map(IpAddr::is_ipv4).collect::<Vec<_>>(), [true, false]);
    let _echo = web.serves();
    for (family, address) in at.iter().enumerate() {
        let to = SocketAddr::new(*address, 8080);
        let seen = ask(&asker.namespace, to, "web").expect("the pod answers a pod");
        assert_eq!(seen["client"], json!(from[family]), "{seen}");
        ask(&stack.topology.node, to, "web").expect("the pod answers its node");
    }
    // By the Service, and so by the proxy, which keeps the pod's address.
    let catalog = "10.96.0.20:80".parse().expect("an address");
    let seen = wait::until("the Service answers", SOON, || ask(&asker.namespace, catalog, "catalog"));
    let seen = seen.unwrap_or_else(|error| panic!("{error:#}\n{}", stack.log("agent.log")));
    assert!(!seen["headers"]["x-mesh"].is_null(), "it passed the proxy by: {seen}");
    assert_eq!(seen["client"], json!(from[0]), "{seen}");
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_pods_talk_to_the_outside_with_the_nodes_address() {
    let test = "kernel_pods_talk_to_the_outside_with_the_nodes_address";
    let Some(world) = with_ranges(test) else { return };
    let stack = &world.stack;
    let asker = Pod::new(stack, "asker");
    asker.add(stack).expect("a network");
    let everywhere = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 9000));
    let _outside = Echo::start("outside", stack.topology.client.listen(everywhere).expect("a port"));
    let ends: [(IpAddr, IpAddr); 2] =
        [(CLIENT_V4.into(), NODE_V4.into()), (CLIENT_V6.into(), NODE_V6.into())];
    for (at, node) in ends {
        let seen = ask(&asker.namespace, SocketAddr::new(at, 9000), "outside").expect("the outside answers");
        assert_eq!(seen["client"], json!(node), "{seen}");
    }
    let counters = stack.counters().expect("an agent");
    assert!(counters["masqueraded"] > 0 && counters["unmasqueraded"] > 0, "{counters:?}");
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_pods_outlive_the_agent_and_their_addresses_are_not_given_again() {
    let test = "kernel_pods_outlive_the_agent_and_their_addresses_are_not_given_again";
    let Some(mut world) = with_ranges(test) else { return };
    let stack = &mut world.stack;
    let web = Pod::new(stack, "web");
    let at = web.add(stack).expect("a network");
    let _echo = web.serves();
    let to = SocketAddr::new(at[0], 8080);
    stack.kill_agent().expect("it runs");
    ask(&stack.topology.node, to, "web").expect("the pod answers without an agent");
    // Without an agent no pod comes, and the runtime is told to try again.
    let late = Pod::new(stack, "late");
    let refused = late.add(stack).expect_err("no agent");
    assert_eq!(refused["code"], 11, "{refused}");
    assert!(refused["msg"].as_str().expect("text").contains("mesh-agent"), "{refused}");
    let status = plugin(stack, "STATUS", None, json!({})).expect_err("no agent");
    assert_eq!(status["code"], 50, "{status}");

    stack.start_agent().expect("the agent starts");
    assert_eq!(plugin(stack, "STATUS", None, json!({})), Ok(Value::Null));
    let known = endpoints(stack);
    assert_eq!((known.len(), &known[0]["pod"]["name"]), (1, &json!("web")));
    plugin(stack, "CHECK", Some(&web), json!({})).expect("it is as it was");
    let given = late.add(stack).expect("the runtime tried again");
    assert!(given.iter().all(|address| !at.contains(address)), "{given:?} and {at:?}");
    ask(&late.namespace, to, "web").expect("the pod answers a new one");
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_a_pod_whose_record_is_lost_keeps_its_address_until_it_goes() {
    let test = "kernel_a_pod_whose_record_is_lost_keeps_its_address_until_it_goes";
    let Some(mut world) = with_ranges(test) else { return };
    let stack = &mut world.stack;
    let web = Pod::new(stack, "web");
    let at = web.add(stack).expect("a network");
    let everywhere = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 8080));
    let _echo = Echo::start("web", web.namespace.listen(everywhere).expect("a port")).expect("an echo");
    let id = endpoints(stack)[0]["id"].clone();
    stack.kill_agent().expect("it runs");
    std::fs::write(stack.run_dir().join(format!("endpoints/{id}.json")), "{").expect("half a record");
    stack.start_agent().expect("the agent starts");
    assert_eq!(endpoints(stack).len(), 0);
    // All others of the range, and not this one.
    let others: Vec<Pod> = (0..5).map(|number| Pod::new(stack, &format!("p{number}"))).collect();
    for pod in &others {
        let given = pod.add(stack).expect("there is room for five more");
        assert!(given.iter().all(|address| !at.contains(address)), "{given:?} and {at:?}");
    }
    let last = Pod::new(stack, "last");
    last.add(stack).expect_err("the sixth address is in use");
    for address in &at {
        let seen = ask(&others[0].namespace, SocketAddr::new(*address, 8080), "web");
        seen.expect("the pod answers as before");
    }
    let health = stack.ask("/v1/status").expect("an agent").to_string();
    assert!(health.contains("no record tells of the pod behind mrp"), "{health}");
    plugin(stack, "DEL", Some(&web), json!({})).expect("it goes as any other");
    assert_eq!(last.add(stack).expect("there is room")[0], at[0]);
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_a_pod_cannot_speak_in_anothers_name() {
    let test = "kernel_a_pod_cannot_speak_in_anothers_name";
    let Some(world) = with_ranges(test) else { return };
    let stack = &world.stack;
    let (web, asker, liar) = (Pod::new(stack, "web"), Pod::new(stack, "asker"), Pod::new(stack, "liar"));
    let (at, _, own) = (web.add(stack), asker.add(stack).expect("a network"), liar.add(stack));
    let (at, own) = (at.expect("a network"), own.expect("a network"));
    for (index, of_web) in at.iter().enumerate() {
        let server = stack.topology.node.enter(|| UdpSocket::bind(("::", 0))).expect("it is entered");
        let server = server.expect("a port");
        server.set_read_timeout(Some(Duration::from_secs(1))).expect("it can be set");
        let port = server.local_addr().expect("it is bound").port();
        let node: IpAddr = if of_web.is_ipv4() { NODE_V4.into() } else { NODE_V6.into() };
        let bits = if of_web.is_ipv4() { "32" } else { "128" };
        let address = format!("{of_web}/{bits}");
        liar.namespace.ip(&["address", "add", &address, "dev", "lo"]).expect("root may");
        let says = |from: IpAddr| {
            let sent = liar.namespace.enter(|| UdpSocket::bind((from, 0))?.send_to(b"hear me", (node, port)));
            sent.expect("it is entered").expect("it is sent");
            server.recv_from(&mut [0; 8])
        };
        says(own[index]).expect("its own name is good");
        says(*of_web).expect_err("another's is not");
    }
    let counters = stack.counters().expect("an agent");
    assert!(counters["dropped_tc_invalid_source"] >= 2, "{counters:?}");
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_a_node_without_free_addresses_says_so_until_a_pod_goes() {
    let test = "kernel_a_node_without_free_addresses_says_so_until_a_pod_goes";
    let Some(world) = with_ranges(test) else { return };
    let stack = &world.stack;
    let pods: Vec<Pod> = (0..7).map(|number| Pod::new(stack, &format!("p{number}"))).collect();
    for pod in &pods[..6] {
        pod.add(stack).expect("there is room for six");
    }
    let refused = pods[6].add(stack).expect_err("there is none for a seventh");
    let msg = refused["msg"].as_str().expect("text");
    assert!(
        refused["code"] == 100 && msg.contains("10.77.0.0/29") && msg.contains("delete pods"),
        "{refused}"
    );
    let status = plugin(stack, "STATUS", None, json!({})).expect_err("ADD would fail");
    assert_eq!(status["code"], 50, "{status}");
    let health = stack.ask("/v1/status").expect("an agent");
    let parts = health["parts"].as_array().expect("parts");
    assert!(
        parts.iter().any(|part| part["name"] == "pod network" && part["state"] == "degraded"),
        "{health}"
    );

    for _ in 0..2 {
        assert_eq!(plugin(stack, "DEL", Some(&pods[2]), json!({})), Ok(Value::Null), "twice is no error");
    }
    pods[6].add(stack).expect("one went");
    // The runtime did not hear the answer and asks again.
    let again = pods[6].add(stack).expect("the same pod");
    assert_eq!(endpoints(stack).len(), 6);
    let listed = endpoints(stack);
    let last = listed.iter().find(|endpoint| endpoint["containerId"] == "p6").expect("it is listed");
    assert_eq!(last["addresses"], json!(again));
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_what_changed_or_is_left_over_is_found() {
    let test = "kernel_what_changed_or_is_left_over_is_found";
    let Some(world) = with_ranges(test) else { return };
    let stack = &world.stack;
    let (kept, stale) = (Pod::new(stack, "kept"), Pod::new(stack, "stale"));
    for pod in [&kept, &stale] {
        pod.add(stack).expect("a network");
        plugin(stack, "CHECK", Some(pod), json!({})).expect("it is as it was made");
    }
    let valid = json!([{"containerID": "kept", "ifname": "eth0"}]);
    plugin(stack, "GC", None, json!({})).expect_err("without a list nothing is collected");
    assert_eq!(endpoints(stack).len(), 2);
    plugin(stack, "GC", None, json!({"cni.dev/valid-attachments": valid})).expect("it collects");
    assert_eq!(endpoints(stack).len(), 1);
    let gone = plugin(stack, "CHECK", Some(&stale), json!({})).expect_err("it was collected");
    assert_eq!(gone["code"], 102, "{gone}");
    // One whose record cannot be removed holds back no other.
    let (stuck, other) = (Pod::new(stack, "stuck"), Pod::new(stack, "other"));
    for pod in [&stuck, &other] {
        pod.add(stack).expect("a network");
    }
    let listed = endpoints(stack);
    let id = &listed.iter().find(|listed| listed["containerId"] == "stuck").expect("it is listed")["id"];
    let record = stack.run_dir().join(format!("endpoints/{id}.json"));
    std::fs::remove_file(&record).and_then(|()| std::fs::create_dir(&record)).expect("root may");
    let valid = json!({"cni.dev/valid-attachments": [{"containerID": "kept", "ifname": "eth0"}]});
    plugin(stack, "GC", None, valid.clone()).expect_err("one is still there");
    assert_eq!(endpoints(stack).len(), 2);
    std::fs::remove_dir(&record).expect("root may");
    plugin(stack, "GC", None, valid).expect("it collects the rest");
    assert_eq!(endpoints(stack).len(), 1);

    kept.namespace.ip(&["address", "flush", "dev", "eth0", "scope", "global"]).expect("root may");
    let changed = plugin(stack, "CHECK", Some(&kept), json!({})).expect_err("its addresses are gone");
    assert_eq!(changed["code"], 102, "{changed}");
    let version =
        plugin(stack, "ADD", Some(&kept), json!({"cniVersion": "9.0.0"})).expect_err("no such version");
    assert_eq!((&version["code"], &version["cniVersion"]), (&json!(1), &json!("1.1.0")));
    let versions = plugin(stack, "VERSION", None, json!({})).expect("it knows");
    assert!(versions["supportedVersions"].as_array().expect("a list").contains(&json!("1.1.0")));
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_forty_pods_come_side_by_side() {
    let test = "kernel_forty_pods_come_side_by_side";
    let ranges = ["--ipv4-range", "10.78.0.0/24"];
    let Some(mut world) = redirecting(test, &ranges) else { return };
    world.stack.start_agent().expect("the agent starts");
    let stack = &world.stack;
    let pods: Vec<Pod> = (0..40).map(|number| Pod::new(stack, &format!("p{number}"))).collect();
    let mut given: Vec<IpAddr> = std::thread::scope(|scope| {
        let halves = pods.chunks(10).map(|some| {
            scope.spawn(move || {
                some.iter().map(|pod| pod.add(stack).expect("a network")[0]).collect::<Vec<_>>()
            })
        });
        let running: Vec<_> = halves.collect();
        running.into_iter().flat_map(|half| half.join().expect("it ends")).collect()
    });
    given.sort();
    given.dedup();
    assert_eq!((given.len(), endpoints(stack).len()), (40, 40));
    let first = SocketAddr::new(given[0], 8080);
    let owner = endpoints(stack).iter().find(|endpoint| endpoint["addresses"][0] == json!(given[0])).cloned();
    let owner =
        owner.and_then(|endpoint| endpoint["containerId"].as_str().map(str::to_owned)).context("an owner");
    let owner =
        pods.iter().find(|pod| Some(&pod.container) == owner.as_ref().ok()).expect("it is one of ours");
    let _echo = Echo::start("p", owner.namespace.listen(first).expect("a port")).expect("an echo");
    for pod in pods.iter().filter(|pod| pod.container != owner.container).take(5) {
        ask(&pod.namespace, first, "p").expect("pods reach each other");
    }
}

/// A NodePort Service of a pod.
fn node_port(addresses: &[IpAddr]) -> String {
    let slice = |family: &str, address: &IpAddr| {
        format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: door-{}, namespace: shop, labels: {{kubernetes.io/service-name: door}}}}\n\
             addressType: {family}\nendpoints: [{{addresses: [\"{address}\"], conditions: {{ready: true}}}}]\n\
             ports: [{{name: http, port: 8080}}]\n",
            family.to_lowercase()
        )
    };
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: door, namespace: shop}\n\
         spec: {type: NodePort, clusterIP: 10.96.0.77, clusterIPs: [10.96.0.77, \"fd00:10:96::77\"], \
         ports: [{name: http, port: 80, targetPort: 8080, nodePort: 30080}]}\n";
    format!("{service}{}{}", slice("IPv4", &addresses[0]), slice("IPv6", &addresses[1]))
}

/// The node's addresses, and the client's beside them.
fn entries() -> [(IpAddr, IpAddr); 2] {
    [(NODE_V4.into(), CLIENT_V4.into()), (NODE_V6.into(), CLIENT_V6.into())]
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_a_node_port_leads_from_outside_to_a_pod_with_and_without_an_agent() {
    let test = "kernel_a_node_port_leads_from_outside_to_a_pod_with_and_without_an_agent";
    let Some(mut world) = with_ranges(test) else { return };
    let stack = &mut world.stack;
    let web = Pod::new(stack, "web");
    let at = web.add(stack).expect("a network");
    let _echo = web.serves();
    stack.write_manifest("60-door.yaml", &node_port(&at)).expect("written");
    let mut kept = Vec::new();
    for (node, client) in entries() {
        let to = SocketAddr::new(node, 30080);
        let asked = wait::until("the node port answers", SOON, || ask(&stack.topology.client, to, "door"));
        let seen = asked.unwrap_or_else(|error| panic!("{to}: {error:#}\n{}", stack.log("agent.log")));
        assert_eq!(seen["client"], json!(client), "{seen}");
        let stream = stack.topology.client.connect(to).expect("a connection");
        kept.push(Connection::open(stream, &Speak::Http1).expect("HTTP"));
    }
    let listed = stack.ask("/v1/services").expect("an agent");
    let is_door = |row: &&Value| row["type"] == "NodePort" && row["service"] == "shop/door";
    let rows: Vec<&Value> = listed.as_array().expect("rows").iter().filter(is_door).collect();
    assert!(rows.len() == 2 && rows.iter().all(|row| row["backends"][0]["port"] == 8080), "{rows:?}");
    stack.kill_agent().expect("it runs");
    for when in ["without an agent", "with the next one"] {
        for (connection, (node, _)) in kept.iter_mut().zip(entries()) {
            assert_eq!(connection.get("door", "/").expect(when).status, 200);
            ask(&stack.topology.client, SocketAddr::new(node, 30080), "door").expect(when);
        }
        if when == "without an agent" {
            stack.start_agent().expect("the agent starts");
            stack.wait_ready().expect("the product is ready");
        }
    }
    std::fs::remove_file(stack.manifests().join("60-door.yaml")).expect("it is there");
    wait::until("nobody answers", SOON, || {
        let refused = stack.topology.client.connect(SocketAddr::new(NODE_V4.into(), 30080)).is_err();
        ensure!(refused, "it is answered");
        Ok(())
    })
    .expect("the port goes with its Service");
}

#[test]
#[ignore = "needs root and the kernel programs"]
fn kernel_a_host_port_leads_to_its_pod_and_goes_with_it() {
    let test = "kernel_a_host_port_leads_to_its_pod_and_goes_with_it";
    let Some(mut world) = with_ranges(test) else { return };
    let stack = &mut world.stack;
    let mappings = |list: Value| json!({"runtimeConfig": {"portMappings": list}});
    let wanted = mappings(json!([
        {"hostPort": 8081, "containerPort": 8080, "protocol": "tcp"},
        {"hostPort": 8082, "containerPort": 8080, "protocol": "tcp", "hostIP": NODE_V4.to_string()},
    ]));
    let web = Pod::new(stack, "web");
    web.add_with(stack, wanted.clone()).expect("a network");
    let _echo = web.serves();
    let reached = |stack: &Stack| {
        for (node, client) in entries() {
            let to = SocketAddr::new(node, 8081);
            let asked = wait::until("the host port answers", SOON, || ask(&stack.topology.client, to, "web"));
            let seen = asked.unwrap_or_else(|error| panic!("{to}: {error:#}\n{}", stack.log("agent.log")));
            assert_eq!(seen["client"], json!(client), "{seen}");
        }
        ask(&stack.topology.client, SocketAddr::new(NODE_V4.into(), 8082), "web")
            .expect("by its own address");
        let other = stack.topology.client.connect(SocketAddr::new(NODE_V6.into(), 8082));
        assert!(other.is_err(), "not by another one");
    };
    reached(stack);
    // Two pods cannot have one port, and what cannot be carried is refused.
    let other = Pod::new(stack, "other");
    let refused = other.add_with(stack, wanted).expect_err("it is taken");
    let msg = refused["msg"].as_str().expect("text");
    assert!(refused["code"] == 11 && msg.contains("8081") && msg.contains("pod shop/web"), "{refused}");
    let sctp = mappings(json!([{"hostPort": 9, "containerPort": 9, "protocol": "sctp"}]));
    let refused = other.add_with(stack, sctp).expect_err("SCTP is not carried");
    assert!(refused["msg"].as_str().expect("text").contains("sctp on port 9"), "{refused}");
    assert_eq!(endpoints(stack).len(), 1, "nothing is left of them");

    stack.kill_agent().expect("it runs");
    reached(stack);
    stack.start_agent().expect("the agent starts");
    stack.wait_ready().expect("the product is ready");
    reached(stack);
    plugin(stack, "DEL", Some(&web), json!({})).expect("it goes");
    wait::until("nobody answers", SOON, || {
        let refused = stack.topology.client.connect(SocketAddr::new(NODE_V4.into(), 8081)).is_err();
        ensure!(refused, "it is answered");
        Ok(())
    })
    .expect("the port goes with its pod");
}
