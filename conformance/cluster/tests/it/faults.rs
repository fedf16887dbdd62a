//! Millrace on a cluster of which something breaks, under traffic.

use std::time::{Duration, Instant};

use anyhow::ensure;
use mesh_conformance_cluster::cluster::Cluster;
use mesh_conformance_cluster::spec::{Cni, IpFamily, Spec};
use mesh_testkit::http::post_unix;
use mesh_testkit::process::stand_still;
use mesh_testkit::wait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::crash;
use crate::fixture::{Own, Pods, spec};
use crate::healing::process;
use crate::manifests::{CLASS, ingress};
use crate::mesh::{Mesh, SOON, logs};
use crate::served::Served;

/// What `MILLRACE_API_AWAY_SECONDS` says otherwise.
const API_AWAY: Duration = Duration::from_secs(20);

/// Two nodes with agents of the test's own.
struct World<'a> {
    own: &'a Own,
    cluster: &'a Cluster,
    pods: &'a Pods<'a>,
    mesh: Mesh,
    served: Served<'a>,
}

impl<'a> World<'a> {
    fn new(own: &'a Own, cluster: &'a Cluster, mesh: Mesh, pods: &'a Pods<'a>) -> Self {
        cluster.apply(CLASS).expect("a class");
        Self { own, cluster, pods, mesh, served: Served::new(cluster, pods, logs) }
    }

    /// The API server dies; whoever starts it again finds it gone.
    fn kill_api_server(&self) {
        crash::kill(process(self.cluster, "kube-apiserver").expect("it runs"));
        wait::until("the API server ends", SOON, || {
            ensure!(process(self.cluster, "kube-apiserver").is_none(), "it still runs");
            Ok(())
        })
        .expect("it was killed");
    }
}

fn cluster_of(name: &str) -> Own {
    Own::new(Spec { cni: Cni::None, ..spec(name, 2, IpFamily::Ipv4) })
}

/// Breaks something on two nodes under traffic: nothing may be lost by it.
fn under_traffic(name: &str, breaks: impl FnOnce(&mut World<'_>)) {
    let own = cluster_of(name);
    let cluster = own.up();
    let mesh = Mesh::start(&cluster);
    let pods = Pods::new(&cluster, "it");
    let mut world = World::new(&own, &cluster, mesh, &pods);
    let traffic = world.served.under_traffic();
    breaks(&mut world);
    world.served.nothing_was_lost(traffic);
}

#[test]
#[ignore = "needs a cluster"]
fn cluster_an_api_server_that_is_away_while_an_agent_restarts_costs_no_request() {
    let away = std::env::var("MILLRACE_API_AWAY_SECONDS").ok();
    let away = away.map_or(API_AWAY, |text| Duration::from_secs(text.parse().expect("seconds")));
    under_traffic("away", |world| {
        world.kill_api_server();
        let back = Instant::now() + away;
        std::thread::sleep(away / 3);
        world.mesh.kill_agent("node1");
        std::thread::sleep(Duration::from_secs(1));
        world.mesh.start_agent(world.cluster, "node1");
        std::thread::sleep(back.saturating_duration_since(Instant::now()));
        world.own.up();
        world.served.takes_a_change("later");
    });
}

#[test]
#[ignore = "needs a cluster"]
fn cluster_agents_killed_at_odd_moments_under_traffic_and_changes_cost_no_request() {
    under_traffic("kill", |world| {
        for round in 0..6_u64 {
            let node = if round % 2 == 0 { "node1" } else { "node2" };
            let name = format!("new-{round}");
            ingress(world.cluster, &world.pods.namespace, &name);
            world.pods.idle(&name, node, "other");
            std::thread::sleep(Duration::from_millis(37 * round));
            world.mesh.kill_agent(node);
            world.mesh.start_agent(world.cluster, node);
            // The pod is made by this agent or by the next one, and the change is served by both nodes.
            world.pods.ready();
            for node in [1, 2] {
                world.served.answers(node, &name);
            }
        }
    });
}

#[test]
#[ignore = "needs a cluster"]
fn cluster_agents_that_slept_through_a_compaction_of_etcd_read_anew_and_go_on() {
    under_traffic("compact", |world| {
        let agents = ["node1", "node2"].map(|node| world.mesh.agent(node));
        for agent in agents {
            stand_still(agent).expect("it sleeps");
        }
        ingress(world.cluster, &world.pods.namespace, "missed");
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
            world.served.answers(node, "missed");
        }
        world.served.takes_a_change("later");
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
    let mesh = Mesh::start(&cluster);
    let pods = Pods::new(&cluster, "it");
    let mut world = World::new(&own, &cluster, mesh, &pods);
    for (name, node) in [("one", "node1"), ("two", "node1"), ("three", "node2")] {
        pods.server(name, node);
    }
    pods.ready();
    world.served.asks_for();

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
    world.served.answers(2, "web");
    world.served.takes_a_change("later");
}

fn address(pods: &Pods<'_>, name: &str) -> String {
    let (_, addresses) = pods.ready().into_iter().find(|(pod, _)| pod == name).expect("the pod");
    addresses.into_iter().next().expect("an address")
}
