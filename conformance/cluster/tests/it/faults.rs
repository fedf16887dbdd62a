//! Millrace on a cluster of which something breaks, under traffic.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::ensure;
use mesh_conformance_cluster::cluster::Cluster;
use mesh_conformance_cluster::spec::{Cni, IpFamily, Spec};
use mesh_testkit::echo::Echo;
use mesh_testkit::flow::Flow;
use mesh_testkit::http::{Connection, Speak, post_unix};
use mesh_testkit::process::stand_still;
use mesh_testkit::traffic::{Load, Report, Target, Traffic};
use mesh_testkit::wait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::crash;
use crate::fixture::{Own, Pods, spec};
use crate::healing::process;
use crate::manifests::{CLASS, ingress, web};
use crate::mesh::{Mesh, SOON, logs};

/// What `MILLRACE_API_AWAY_SECONDS` says otherwise.
const API_AWAY: Duration = Duration::from_secs(20);
/// Longest time without an answer on anything that asks all the time.
const LONGEST_GAP: Duration = Duration::from_secs(1);
const HTTP: u16 = 8080;
const PLAIN: u16 = 7007;

const WEB: &str = "{selector: {role: server}, ports: [{name: http, port: 80, targetPort: 8080}]}";

/// Two nodes, a backend of the test's own on each, and a pod to ask from on the first.
struct World<'a> {
    own: &'a Own,
    cluster: &'a Cluster,
    mesh: Mesh,
    backends: Vec<(Echo, Flow)>,
}

impl<'a> World<'a> {
    fn new(own: &'a Own, cluster: &'a Cluster) -> Self {
        Self { own, cluster, mesh: Mesh::start(cluster), backends: Vec::new() }
    }

    /// Serves in the pods, and waits until clients of all kinds are answered.
    fn serve(&mut self, pods: &Pods<'_>) {
        let backend = |name: &str| {
            let network = pods.network(name);
            let listen = |port| network.listen((Ipv4Addr::UNSPECIFIED, port).into()).expect("a listener");
            (Echo::start(name, listen(HTTP)).expect("an echo"), Flow::start(listen(PLAIN)).expect("a flow"))
        };
        self.backends = ["one", "two"].map(backend).into();
        self.asks_for(pods);
    }

    /// Asks for the Service and its Ingress and waits until both nodes serve it.
    fn asks_for(&self, pods: &Pods<'_>) {
        self.cluster.apply(CLASS).expect("a class");
        web(self.cluster, &pods.namespace, WEB);
        self.takes_a_change(pods, "web");
    }

    /// Where a node takes what comes from outside.
    fn entry(&self, node: u8) -> SocketAddr {
        SocketAddr::new(self.cluster.spec().plan().v4(node).into(), 80)
    }

    /// Waits until a node serves `HOST.example.com`.
    fn answers(&self, node: u8, host: &str) {
        let entry = self.entry(node);
        wait::until("a node serves an Ingress", SOON, || {
            let stream = TcpStream::connect_timeout(&entry, Duration::from_secs(2))?;
            let answer = Connection::open(stream, &Speak::Http1)?.get(&format!("{host}.example.com"), "/")?;
            ensure!(answer.status == 200, "answered with {}", answer.status);
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{host} by {entry}: {error:#}\n{}", logs(self.cluster)));
    }

    /// Asks for one more Ingress and waits until both nodes serve it.
    fn takes_a_change(&self, pods: &Pods<'_>, host: &str) {
        ingress(self.cluster, &pods.namespace, host);
        for node in [1, 2] {
            self.answers(node, host);
        }
    }

    /// From outside by each node through the proxy, and plain TCP from a pod to one of each node. (Sockets of the test
    /// are in a pod's network and not in its cgroup, where Services are balanced.)
    fn traffic(&self, pods: &Pods<'_>) -> Vec<(&'static str, Traffic)> {
        let every = Duration::from_millis(40);
        let outside = |node| {
            let target = Target {
                to: self.entry(node),
                host: "web.example.com".to_owned(),
                mark: Some("x-request-id"),
            };
            vec![
                Load::Fresh { target: target.clone(), every },
                Load::Kept { target: target.clone(), connections: 2, every },
                Load::Http2 { target, connections: 2, every },
            ]
        };
        let servers = pods.ready().into_iter().filter(|(name, _)| name == "one" || name == "two");
        let direct = servers.map(|(_, addresses)| Load::Flow {
            to: SocketAddr::new(addresses[0].parse().expect("an address"), PLAIN),
            every,
        });
        let inside = direct.collect();
        let traffic = vec![
            ("node1", Traffic::start(None, outside(1)).expect("traffic")),
            ("node2", Traffic::start(None, outside(2)).expect("traffic")),
            ("pod", Traffic::start(Some(&pods.network("client")), inside).expect("traffic")),
        ];
        wait::until("all kinds of traffic are answered", SOON, || {
            let report = report(&traffic);
            ensure!(
                report.loads.iter().all(|(_, tally)| tally.answered > 0),
                "{report}{}",
                report.troubles()
            );
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", logs(self.cluster)));
        traffic
    }

    /// The API server dies.
    fn kill_api_server(&self) {
        crash::kill(process(self.cluster, "kube-apiserver").expect("it runs"));
    }
}

fn report(traffic: &[(&'static str, Traffic)]) -> Report {
    Report::join(traffic.iter().map(|(place, traffic)| (*place, traffic.report())))
}

/// Ends it; everything was answered, no connection cut, and nobody waited for long.
fn nothing_was_lost(traffic: Vec<(&'static str, Traffic)>, cluster: &Cluster) {
    let ended = traffic.into_iter().map(|(place, traffic)| (place, traffic.finish().expect("a report")));
    let report = Report::join(ended);
    let said = format!("{report}{}\n{}", report.troubles(), logs(cluster));
    assert_eq!(report.sum(|tally| tally.unanswered()), 0, "{said}");
    assert_eq!(report.sum(|tally| tally.cut), 0, "{said}");
    assert!(report.longest_gap() <= LONGEST_GAP, "{said}");
}

fn cluster_of(name: &str) -> Own {
    Own::new(Spec { cni: Cni::None, ..spec(name, 2, IpFamily::Ipv4) })
}

/// Breaks something on two nodes under traffic: nothing may be lost by it.
fn under_traffic(name: &str, breaks: impl FnOnce(&mut World<'_>, &Pods<'_>)) {
    let own = cluster_of(name);
    let cluster = own.up();
    let mut world = World::new(&own, &cluster);
    let pods = Pods::new(&cluster, "it");
    for (name, node, role) in
        [("client", "node1", "client"), ("one", "node1", "server"), ("two", "node2", "server")]
    {
        pods.idle(name, node, role);
    }
    world.serve(&pods);
    let traffic = world.traffic(&pods);
    breaks(&mut world, &pods);
    nothing_was_lost(traffic, &cluster);
}

#[test]
#[ignore = "needs a cluster"]
fn cluster_an_api_server_that_is_away_while_an_agent_restarts_costs_no_request() {
    let away = std::env::var("MILLRACE_API_AWAY_SECONDS").ok();
    let away = away.map_or(API_AWAY, |text| Duration::from_secs(text.parse().expect("seconds")));
    under_traffic("away", |world, pods| {
        world.kill_api_server();
        let back = Instant::now() + away;
        std::thread::sleep(away / 3);
        world.mesh.kill_agent("node1");
        std::thread::sleep(Duration::from_secs(1));
        world.mesh.start_agent(world.cluster, "node1");
        std::thread::sleep(back.saturating_duration_since(Instant::now()));
        world.own.up();
        world.takes_a_change(pods, "later");
    });
}

#[test]
#[ignore = "needs a cluster"]
fn cluster_agents_killed_at_odd_moments_under_traffic_and_changes_cost_no_request() {
    under_traffic("kill", |world, pods| {
        for round in 0..6_u64 {
            let node = if round % 2 == 0 { "node1" } else { "node2" };
            let name = format!("new-{round}");
            ingress(world.cluster, &pods.namespace, &name);
            pods.idle(&name, node, "other");
            std::thread::sleep(Duration::from_millis(37 * round));
            world.mesh.kill_agent(node);
            world.mesh.start_agent(world.cluster, node);
            // The pod is made by this agent or by the next one, and the change is served by both nodes.
            pods.ready();
            for node in [1, 2] {
                world.answers(node, &name);
            }
        }
    });
}

#[test]
#[ignore = "needs a cluster"]
fn cluster_agents_that_slept_through_a_compaction_of_etcd_read_anew_and_go_on() {
    under_traffic("compact", |world, pods| {
        let agents = ["node1", "node2"].map(|node| world.mesh.agent(node));
        for agent in agents {
            stand_still(agent).expect("it sleeps");
        }
        ingress(world.cluster, &pods.namespace, "missed");
        let etcd = world.cluster.etcd_socket();
        let key = json!({"key": "Lw=="});
        let now = post_unix(&etcd, "/v3/kv/range", &key).expect("etcd answers");
        let revision = now["header"]["revision"].as_str().expect("a revision").to_owned();
        post_unix(&etcd, "/v3/kv/compaction", &json!({"revision": revision, "physical": true}))
            .expect("compacted");
        // Watches end with it; where they stood is known to nobody any more.
        world.kill_api_server();
        world.own.up();
        for agent in agents {
            kill(Pid::from_raw(i32::try_from(agent).expect("an id")), Signal::SIGCONT).expect("it wakes up");
        }
        for node in [1, 2] {
            world.answers(node, "missed");
        }
        world.takes_a_change(pods, "later");
        assert_eq!(
            agents,
            ["node1", "node2"].map(|node| world.mesh.agent(node)),
            "an agent was started again"
        );
    });
}

#[test]
#[ignore = "needs a cluster"]
fn cluster_a_node_that_reboots_has_its_pods_and_their_services_again() {
    let own = cluster_of("reboot");
    let cluster = own.up();
    let mut world = World::new(&own, &cluster);
    let pods = Pods::new(&cluster, "it");
    for (name, node) in [("one", "node1"), ("two", "node1"), ("three", "node2")] {
        pods.server(name, node);
    }
    pods.ready();
    world.asks_for(&pods);

    cluster.node("node2").expect("a node").stop().expect("nothing runs");
    // What the other node has by itself goes on.
    pods.exec("one", &["/agnhost", "connect", &format!("{}:8080", address(&pods, "two")), "--timeout=5s"])
        .expect("pods of the other node reach each other");
    let cluster = world.own.up();
    world.mesh.kill_agent("node2");
    world.mesh.start_agent(&cluster, "node2");
    wait::until("the pod runs again", SOON, || {
        pods.exec(
            "three",
            &["/agnhost", "connect", &format!("{}:8080", address(&pods, "one")), "--timeout=5s"],
        )
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", logs(&cluster)));
    pods.reach_each_other();
    world.answers(2, "web");
    world.takes_a_change(&pods, "later");
}

fn address(pods: &Pods<'_>, name: &str) -> String {
    let (_, addresses) = pods.ready().into_iter().find(|(pod, _)| pod == name).expect("the pod");
    addresses.into_iter().next().expect("an address")
}
