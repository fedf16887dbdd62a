//! Who is served where: addresses, plain ports, Services, certificates.

use mesh_model::service::ClientAddress;
use mesh_model::{ConditionScope, ConditionStatus, Hostname};
use mesh_xds::resolve::{Binding, Direction};

use super::{TABLE, one_gateway, paths};
use crate::mesh::{
    Mesh, exact, gateway, http_route, ingress, on_service, plain, prefix, redirect, route, rule, to,
};

#[test]
fn an_object_with_addresses_of_both_families_has_two_listeners_and_one_table() {
    let web = gateway("default/web");
    let mesh = one_gateway().assign(&web, &["2001:db8::1", "203.0.113.1"]);
    let effective = mesh.resolve(&redirect());
    let names: Vec<&str> = effective.listeners.iter().map(|l| l.name.as_str()).collect();
    assert_eq!(names, ["203.0.113.1:80", "[2001:db8::1]:80"]);
    for listener in &effective.listeners {
        assert_eq!(listener.label, "gateway/default/web/80");
        assert_eq!(listener.addresses[0].to_string(), listener.name);
        assert_eq!((listener.binding, listener.direction), (Binding::HandOff, Direction::Inbound));
        assert_eq!(listener.client_address, ClientAddress::Node);
        assert_eq!(listener.chains[0].route_table, TABLE);
        assert_eq!(listener.rows, [mesh.fragments.listeners[0].key.clone()]);
    }
    let frontends: Vec<String> = effective
        .frontends
        .iter()
        .map(|frontend| format!("{} {} {}", frontend.address, frontend.port, frontend.listener))
        .collect();
    assert_eq!(frontends, ["203.0.113.1 80 203.0.113.1:80", "2001:db8::1 80 [2001:db8::1]:80"]);
}

#[test]
fn an_object_without_addresses_is_not_served_where_connections_are_redirected() {
    let mut mesh = one_gateway();
    mesh.addresses.clear();
    let effective = mesh.resolve(&redirect());
    assert!(effective.listeners.is_empty() && effective.frontends.is_empty());
    assert!(effective.entry.is_some());
}

/// Name, label and table of each listener.
fn listeners(mesh: &Mesh) -> Vec<[String; 3]> {
    let effective = mesh.resolve(&redirect());
    let row = |l: &mesh_xds::resolve::EffectiveListener| {
        [l.name.clone(), l.label.clone(), l.chains[0].route_table.clone()]
    };
    effective.listeners.iter().map(row).collect()
}

#[test]
fn objects_that_share_only_some_addresses_have_a_table_for_those() {
    let (web, shop) = (gateway("default/web"), ingress("default/shop", 9));
    let mesh = one_gateway()
        .assign(&web, &["203.0.113.1", "203.0.113.2"])
        .listener(&shop, "http", 80, "*")
        .assign(&shop, &["203.0.113.1"]);
    assert_eq!(
        listeners(&mesh),
        [
            ["203.0.113.1:80", "203.0.113.1:80", "203.0.113.1:80/http"],
            ["203.0.113.2:80", "gateway/default/web/80", "203.0.113.2:80/http"],
        ]
    );
}

#[test]
fn a_listener_keeps_its_name_and_table_whoever_joins_its_address() {
    let (a, b) = (ingress("default/a", 1), ingress("default/b", 2));
    let one = Mesh::default().listener(&a, "http", 80, "*").assign(&a, &["203.0.113.1"]);
    let two = one.clone().listener(&b, "http", 80, "*").assign(&b, &["203.0.113.1"]);
    assert_eq!(listeners(&one), [["203.0.113.1:80", "ingress/default/a/80", TABLE]]);
    assert_eq!(listeners(&two), [["203.0.113.1:80", "203.0.113.1:80", TABLE]]);
    let shared = two.share(&a, "ingress").share(&b, "ingress");
    assert_eq!(listeners(&shared), [["203.0.113.1:80", "shared/ingress/80", TABLE]]);
}

#[test]
fn plain_mode_serves_80_and_443_elsewhere_and_refuses_other_low_ports() {
    let web = gateway("default/web");
    let mesh = Mesh::default()
        .listener(&web, "http", 80, "*")
        .tls(&web, "https", 443, "*", "default/cert")
        .listener(&web, "high", 9000, "*")
        .listener(&web, "same", 8080, "b.test")
        .listener(&web, "low", 81, "*");
    let effective = mesh.resolve(&plain());
    let listeners: Vec<(&str, String)> =
        effective.listeners.iter().map(|l| (l.name.as_str(), l.addresses[0].to_string())).collect();
    assert_eq!(
        listeners,
        [
            ("http", "127.0.0.1:8080".to_owned()),
            ("https", "127.0.0.1:8443".to_owned()),
            ("port-9000", "127.0.0.1:9000".to_owned()),
        ]
    );
    assert!(effective.listeners.iter().all(|l| l.binding == Binding::Bound));
    assert!(effective.frontends.is_empty() && effective.entry.is_none());
    let [condition] = effective.conditions.as_slice() else { panic!("{:?}", effective.conditions) };
    assert_eq!(condition.scope, ConditionScope::Listener("low".to_owned()));
    assert_eq!((condition.reason.as_str(), condition.status), ("PortUnavailable", ConditionStatus::False));
    assert!(condition.message.contains("port 81"));
}

#[test]
fn plain_mode_says_that_routes_of_services_are_unavailable() {
    let own = http_route("default/r", 1);
    let mesh = Mesh::default().service("default/s", 80, &["10.96.0.1"]).route(route(
        &own,
        &[on_service("default/s", 80)],
        &[],
        vec![rule(vec![prefix("/")], to("default/s:80"))],
    ));
    let effective = mesh.resolve(&plain());
    assert!(effective.listeners.is_empty() && effective.clusters.is_empty());
    assert_eq!(effective.conditions[0].reason, "Unavailable");
    assert!(effective.conditions[0].message.contains("default/s:80"));
}

#[test]
fn routes_of_one_service_port_merge_and_do_not_look_at_hosts() {
    let parent = [on_service("default/s", 80)];
    let mesh = Mesh::default()
        .service("default/s", 80, &["10.96.0.1", "fd00::1"])
        .route(route(
            &http_route("default/a", 1),
            &parent,
            &["a.test"],
            vec![rule(vec![prefix("/a")], to("default/s:80"))],
        ))
        .route(route(
            &http_route("default/b", 2),
            &parent,
            &["b.test"],
            vec![rule(vec![exact("/b")], to("default/t:80"))],
        ));
    let effective = mesh.resolve(&redirect());
    let names: Vec<&str> = effective.listeners.iter().map(|l| l.name.as_str()).collect();
    assert_eq!(names, ["10.96.0.1:80", "[fd00::1]:80"]);
    for listener in &effective.listeners {
        assert_eq!(listener.label, "service/default/s/80");
        assert_eq!((listener.direction, listener.client_address), (Direction::Outbound, ClientAddress::Keep));
    }
    let [table] = effective.route_tables.as_slice() else { panic!("{:?}", effective.route_tables) };
    let [any] = table.hosts.as_slice() else { panic!("{:?}", table.hosts) };
    assert_eq!(any.host, Hostname::Any);
    assert_eq!(paths(&any.routes), ["=/b", "^/a"], "and nothing for the rest, which is 404");
    assert_eq!(effective.frontends.len(), 2);
}

#[test]
fn routes_of_a_service_that_cannot_be_reached_have_a_condition_that_says_why() {
    let check = |mesh: Mesh, expected: &str| {
        let row = route(
            &http_route("default/r", 1),
            &[on_service("default/s", 80)],
            &[],
            vec![rule(vec![prefix("/")], to("default/s:80"))],
        );
        let effective = mesh.route(row).resolve(&redirect());
        let [condition] = effective.conditions.as_slice() else { panic!("{:?}", effective.conditions) };
        assert!(condition.message.contains(expected), "{}", condition.message);
        assert!(effective.frontends.is_empty());
    };
    check(Mesh::default(), "Service default/s does not exist");
    check(Mesh::default().service("default/s", 81, &["10.96.0.1"]), "has no TCP port 80; its ports are 81");
    check(Mesh::default().service("default/s", 80, &[]), "no cluster address");
}

#[test]
fn an_address_of_an_ingress_is_not_taken_over_by_a_service() {
    let mesh = one_gateway().service("default/s", 80, &["203.0.113.1", "fd00::1"]).route(route(
        &http_route("default/r", 1),
        &[on_service("default/s", 80)],
        &[],
        vec![rule(vec![prefix("/")], to("default/s:80"))],
    ));
    let effective = mesh.resolve(&redirect());
    let owner = |address: &str| {
        let address: std::net::IpAddr = address.parse().expect("an address");
        effective.frontends.iter().find(|f| f.address == address).map(|f| f.listener.as_str())
    };
    assert_eq!(owner("203.0.113.1"), Some("203.0.113.1:80"));
    assert_eq!(owner("fd00::1"), Some("[fd00::1]:80"));
    assert_eq!(effective.conditions[0].reason, "AddressConflict");
}

#[test]
fn one_certificate_makes_one_chain_and_two_for_one_host_are_a_conflict() {
    let (old, new) = (gateway("default/old"), ingress("default/new", 9));
    let mesh = Mesh::default()
        .assign(&old, &["203.0.113.1"])
        .assign(&new, &["203.0.113.1"])
        .tls(&old, "a", 443, "a.test", "default/one")
        .tls(&old, "b", 443, "b.test", "default/one")
        .tls(&old, "c", 443, "*.c.test", "default/two")
        .tls(&old, "any", 443, "*", "default/one")
        .tls(&new, "https-a.test", 443, "a.test", "default/three");
    let effective = mesh.resolve(&redirect());
    let chains: Vec<Vec<String>> = effective.listeners[0]
        .chains
        .iter()
        .map(|chain| chain.tls.as_ref().expect("TLS").hosts.iter().map(ToString::to_string).collect())
        .collect();
    assert_eq!(chains, [vec!["*"], vec!["*.c.test"], vec!["a.test", "b.test"]]);
    let [condition] = effective.conditions.as_slice() else { panic!("{:?}", effective.conditions) };
    assert_eq!((condition.reason.as_str(), &condition.origin.object), ("CertificateConflict", &new.object));
    assert!(condition.message.contains("Gateway default/old"));
}
