use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use mesh_model::service::{
    Backend, BackendState, L7Frontend, Protocol, Service, ServiceBackends, ServiceKind, ServicePort,
    TrafficPolicy,
};
use mesh_model::{NamespacedName, ObjectKey, Origin};

use super::desired_frontends;
use crate::tables::{Frontend, FrontendKey, FrontendKind, HostPort, Reach, Scope, ThisNode};

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn service(name: &str, address: &str, created_ms: i64) -> Service {
    let name = NamespacedName::new("default", name);
    Service {
        origin: Origin {
            object: ObjectKey::new("", "Service", name.clone()),
            uid: String::new(),
            generation: 1,
            created_ms,
            source: String::new(),
            field: String::new(),
        },
        name,
        kind: ServiceKind::ClusterIp,
        cluster_ips: vec![ip(address), ip("fd00::1")],
        external_ips: vec![],
        ports: vec![ServicePort { port: 80, ..ServicePort::default() }],
        labels: BTreeMap::new(),
        client_address: Default::default(),
        l7_balance: Default::default(),
        external_traffic: Default::default(),
        internal_traffic: Default::default(),
    }
}

fn backend(address: &str, state: BackendState) -> Backend {
    Backend { address: ip(address), port: 8080, state }
}

fn frontends(services: Vec<Service>, ready: &[Backend], proxied: &[L7Frontend]) -> Vec<Arc<Frontend>> {
    let backends = services.iter().map(|service| {
        let ports = BTreeMap::from([((80, Protocol::Tcp), ready.to_vec())]);
        (service.name.clone(), Arc::new(ServiceBackends { service: service.name.clone(), ports }))
    });
    let backends = backends.collect();
    let services = services.into_iter().map(|service| (service.name.clone(), Arc::new(service)));
    desired_frontends(&services.collect(), &backends, proxied, &ThisNode::default())
}

fn balanced(frontend: &Frontend) -> Vec<String> {
    match &frontend.kind {
        FrontendKind::Balanced { backends, .. } => backends.iter().map(|(ip, _)| ip.to_string()).collect(),
        FrontendKind::Proxy { listener } => vec![format!("proxy {listener}")],
    }
}

#[test]
fn each_family_gets_its_own_backends() {
    let ready = [backend("10.0.0.1", BackendState::Active), backend("fd00::a", BackendState::Active)];
    let rows = frontends(vec![service("a", "10.96.0.1", 0)], &ready, &[]);
    assert_eq!(balanced(&rows[0]), ["10.0.0.1"]);
    assert_eq!(balanced(&rows[1]), ["fd00::a"]);
}

#[test]
fn terminating_backends_serve_only_when_no_active_one_is_left() {
    let mixed = [backend("10.0.0.1", BackendState::Terminating), backend("10.0.0.2", BackendState::Active)];
    assert_eq!(balanced(&frontends(vec![service("a", "10.96.0.1", 0)], &mixed, &[])[0]), ["10.0.0.2"]);
    let leaving = &mixed[..1];
    assert_eq!(balanced(&frontends(vec![service("a", "10.96.0.1", 0)], leaving, &[])[0]), ["10.0.0.1"]);
}

#[test]
fn the_proxy_owns_its_addresses_and_gives_them_back() {
    let owned = L7Frontend { address: ip("10.96.0.1"), port: 80, listener: "service/a".to_owned() };
    let ready = [backend("10.0.0.1", BackendState::Active)];
    let with = frontends(vec![service("a", "10.96.0.1", 0)], &ready, &[owned]);
    assert_eq!(balanced(&with[0]), ["proxy service/a"]);
    let without = frontends(vec![service("a", "10.96.0.1", 0)], &ready, &[]);
    assert_eq!(balanced(&without[0]), ["10.0.0.1"]);
}

#[test]
fn the_older_service_keeps_an_address_that_two_claim() {
    let services = vec![service("a", "10.96.0.1", 20), service("b", "10.96.0.1", 10)];
    let rows = frontends(services, &[], &[]);
    assert!(rows.iter().all(|row| row.owner == "default/b"), "{rows:?}");
}

#[test]
fn headless_services_have_no_frontend() {
    let mut headless = service("a", "10.96.0.1", 0);
    headless.kind = ServiceKind::Headless;
    assert!(frontends(vec![headless], &[], &[]).is_empty());
}

/// Port 30080 of each node for a Service with an address from outside.
fn node_port(external_traffic: TrafficPolicy) -> Service {
    Service {
        kind: ServiceKind::LoadBalancer,
        external_ips: vec![ip("192.0.2.1")],
        ports: vec![ServicePort { port: 80, node_port: Some(30080), ..ServicePort::default() }],
        external_traffic,
        ..service("a", "10.96.0.1", 0)
    }
}

fn of_node(
    services: Vec<Service>,
    ready: &[Backend],
    node: &ThisNode,
) -> BTreeMap<FrontendKey, Arc<Frontend>> {
    let backends = services.iter().map(|service| {
        let ports = BTreeMap::from([((80, Protocol::Tcp), ready.to_vec())]);
        (service.name.clone(), Arc::new(ServiceBackends { service: service.name.clone(), ports }))
    });
    let backends = backends.collect();
    let services = services.into_iter().map(|service| (service.name.clone(), Arc::new(service)));
    let frontends = desired_frontends(&services.collect(), &backends, &[], node);
    frontends.into_iter().map(|frontend| (frontend.key, frontend)).collect()
}

fn at(address: &str, port: u16, scope: Scope) -> FrontendKey {
    FrontendKey { address: ip(address), port, protocol: Protocol::Tcp, scope }
}

fn reach(frontend: &Frontend) -> Option<Reach> {
    match frontend.kind {
        FrontendKind::Balanced { reach, .. } => Some(reach),
        FrontendKind::Proxy { .. } => None,
    }
}

#[test]
fn a_node_port_is_one_of_each_address_of_the_node_and_open_to_the_outside() {
    let ready = [backend("10.0.0.1", BackendState::Active), backend("fd00::a", BackendState::Active)];
    let rows = of_node(vec![node_port(TrafficPolicy::Cluster)], &ready, &ThisNode::default());
    for (address, port, expected) in [
        ("10.96.0.1", 80, Reach::Cluster),
        ("fd00::1", 80, Reach::Cluster),
        ("0.0.0.0", 30080, Reach::Outside),
        ("::", 30080, Reach::Outside),
        ("192.0.2.1", 80, Reach::Outside),
    ] {
        let row = &rows[&at(address, port, Scope::Everyone)];
        assert_eq!((reach(row), balanced(row).len()), (Some(expected), 1), "{address}");
    }
    assert_eq!(rows.len(), 5);
}

#[test]
fn clients_outside_get_this_nodes_backends_where_the_service_says_so() {
    let ready = [
        backend("10.0.0.1", BackendState::Active),
        backend("10.0.1.1", BackendState::Active),
        backend("192.0.2.200", BackendState::Active),
    ];
    let node = ThisNode {
        pods: vec!["10.0.1.0/24".parse().expect("a range")],
        own: vec![ip("192.0.2.200")],
        ..ThisNode::default()
    };
    let rows = of_node(vec![node_port(TrafficPolicy::Local)], &ready, &node);
    for (address, port) in [("0.0.0.0", 30080), ("192.0.2.1", 80)] {
        let (everyone, outside) =
            (&rows[&at(address, port, Scope::Everyone)], &rows[&at(address, port, Scope::Outside)]);
        assert_eq!(balanced(everyone).len(), 3);
        assert_eq!(balanced(outside), ["10.0.1.1", "192.0.2.200"], "pods and the node's own");
        assert_eq!((reach(everyone), reach(outside)), (Some(Reach::OutsideApart), Some(Reach::OutsideApart)));
    }
    let internal = Service { internal_traffic: TrafficPolicy::Local, ..service("a", "10.96.0.1", 0) };
    let rows = of_node(vec![internal], &ready, &node);
    assert_eq!(balanced(&rows[&at("10.96.0.1", 80, Scope::Everyone)]).len(), 2);
}

#[test]
fn a_pods_host_port_is_one_of_the_node_unless_a_service_has_it() {
    let host_port = |address: Option<&str>, port| HostPort {
        owner: "pod shop/web".to_owned(),
        address: address.map(ip),
        port,
        protocol: Protocol::Tcp,
        pod: vec![ip("10.0.1.1"), ip("fd00::11")],
        pod_port: 8080,
    };
    let asked = vec![host_port(None, 8080), host_port(Some("192.0.2.200"), 8081), host_port(None, 30080)];
    let node = ThisNode { host_ports: asked, ..ThisNode::default() };
    let rows = of_node(vec![node_port(TrafficPolicy::Cluster)], &[], &node);
    assert_eq!(balanced(&rows[&at("0.0.0.0", 8080, Scope::Everyone)]), ["10.0.1.1"]);
    assert_eq!(balanced(&rows[&at("::", 8080, Scope::Everyone)]), ["fd00::11"]);
    assert_eq!(balanced(&rows[&at("192.0.2.200", 8081, Scope::Everyone)]), ["10.0.1.1"]);
    assert!(rows.keys().filter(|key| key.port == 8081).count() == 1, "of its own family alone");
    assert_eq!(rows[&at("0.0.0.0", 30080, Scope::Everyone)].owner, "default/a");
}
