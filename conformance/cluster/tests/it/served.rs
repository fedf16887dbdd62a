//! Backends of the test's own on two nodes, an Ingress before them, and all kinds of traffic to them.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::ensure;
use mesh_conformance_cluster::cluster::Cluster;
use mesh_testkit::echo::Echo;
use mesh_testkit::flow::Flow;
use mesh_testkit::http::{Connection, Speak};
use mesh_testkit::traffic::{Load, Report, Target, Traffic};
use mesh_testkit::wait;

use crate::fixture::Pods;
use crate::manifests::{ingress, web};
use crate::mesh::SOON;

/// Longest time without an answer on anything that asks all the time.
const LONGEST_GAP: Duration = Duration::from_secs(1);
const HTTP: u16 = 8080;
const PLAIN: u16 = 7007;

const WEB: &str = "{selector: {role: server}, ports: [{name: http, port: 80, targetPort: 8080}]}";

/// Backends in pods `one` and `two`, on a node each, and a pod to ask from on the first.
pub(crate) struct Served<'a> {
    cluster: &'a Cluster,
    pods: &'a Pods<'a>,
    /// What the product says of itself, for a failure.
    logs: fn(&Cluster) -> String,
    backends: Vec<(Echo, Flow)>,
}

impl<'a> Served<'a> {
    /// Nothing yet.
    pub(crate) fn new(cluster: &'a Cluster, pods: &'a Pods<'a>, logs: fn(&Cluster) -> String) -> Self {
        Self { cluster, pods, logs, backends: Vec::new() }
    }

    /// Starts the pods and the backends in them, and the traffic.
    pub(crate) fn under_traffic(&mut self) -> Vec<(&'static str, Traffic)> {
        for (name, node, role) in
            [("client", "node1", "client"), ("one", "node1", "server"), ("two", "node2", "server")]
        {
            self.pods.idle(name, node, role);
        }
        self.serve();
        self.traffic()
    }

    /// Serves in the pods, and waits until clients of all kinds are answered.
    fn serve(&mut self) {
        let backend = |name: &str| {
            let network = self.pods.network(name);
            let listen = |port| network.listen((Ipv4Addr::UNSPECIFIED, port).into()).expect("a listener");
            (Echo::start(name, listen(HTTP)).expect("an echo"), Flow::start(listen(PLAIN)).expect("a flow"))
        };
        self.backends = ["one", "two"].map(backend).into();
        self.asks_for();
    }

    /// Asks for the Service and its Ingress and waits until both nodes serve it.
    pub(crate) fn asks_for(&self) {
        web(self.cluster, &self.pods.namespace, WEB);
        self.takes_a_change("web");
    }

    /// Where a node takes what comes from outside.
    fn entry(&self, node: u8) -> SocketAddr {
        SocketAddr::new(self.cluster.spec().plan().v4(node).into(), 80)
    }

    /// Waits until a node serves `HOST.example.com`.
    pub(crate) fn answers(&self, node: u8, host: &str) {
        let entry = self.entry(node);
        wait::until("a node serves an Ingress", SOON, || {
            let stream = TcpStream::connect_timeout(&entry, Duration::from_secs(2))?;
            let answer = Connection::open(stream, &Speak::Http1)?.get(&format!("{host}.example.com"), "/")?;
            ensure!(answer.status == 200, "answered with {}", answer.status);
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{host} by {entry}: {error:#}\n{}", (self.logs)(self.cluster)));
    }

    /// Asks for one more Ingress and waits until both nodes serve it.
    pub(crate) fn takes_a_change(&self, host: &str) {
        ingress(self.cluster, &self.pods.namespace, host);
        for node in [1, 2] {
            self.answers(node, host);
        }
    }

    /// From outside by each node through the proxy, and plain TCP from a pod to one of each node. (Sockets of the test
    /// are in a pod's network and not in its cgroup, where Services are balanced.)
    fn traffic(&self) -> Vec<(&'static str, Traffic)> {
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
        let servers = self.pods.ready().into_iter().filter(|(name, _)| name == "one" || name == "two");
        let direct = servers.map(|(_, addresses)| Load::Flow {
            to: SocketAddr::new(addresses[0].parse().expect("an address"), PLAIN),
            every,
        });
        let inside = direct.collect();
        let traffic = vec![
            ("node1", Traffic::start(None, outside(1)).expect("traffic")),
            ("node2", Traffic::start(None, outside(2)).expect("traffic")),
            ("pod", Traffic::start(Some(&self.pods.network("client")), inside).expect("traffic")),
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
        .unwrap_or_else(|error| panic!("{error:#}\n{}", (self.logs)(self.cluster)));
        traffic
    }

    /// Ends it; everything was answered, no connection cut, and nobody waited for long.
    pub(crate) fn nothing_was_lost(&self, traffic: Vec<(&'static str, Traffic)>) {
        let ended = traffic.into_iter().map(|(place, traffic)| (place, traffic.finish().expect("a report")));
        let report = Report::join(ended);
        let said = format!("{report}{}\n{}", report.troubles(), (self.logs)(self.cluster));
        assert_eq!(report.sum(|tally| tally.unanswered()), 0, "{said}");
        assert_eq!(report.sum(|tally| tally.cut), 0, "{said}");
        assert!(report.longest_gap() <= LONGEST_GAP, "{said}");
    }
}

fn report(traffic: &[(&'static str, Traffic)]) -> Report {
    Report::join(traffic.iter().map(|(place, traffic)| (*place, traffic.report())))
}
