use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use mesh_model::service::{
    Backend, BackendState, L7Frontend, Protocol, Service, ServiceBackends, ServiceKind, ServicePort,
};
use mesh_model::{NamespacedName, ObjectKey, Origin};

use super::desired_frontends;
use crate::tables::{Frontend, FrontendKind};

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
    desired_frontends(&services.collect(), &backends, proxied)
}

fn balanced(frontend: &Frontend) -> Vec<String> {
    match &frontend.kind {
        FrontendKind::Balanced { backends } => backends.iter().map(|(ip, _)| ip.to_string()).collect(),
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
