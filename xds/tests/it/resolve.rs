//! Conflicts, host names, orders, addresses.

use mesh_model::l7::{Action, HeaderMutation, MatchPrecedence, PathMatch, Redirect, RouteMatch};
use mesh_model::service::{AppProtocol, ClientAddress};
use mesh_model::{ConditionScope, ConditionStatus, Hostname};
use mesh_xds::resolve::{Binding, Direction, Effective, EffectiveHost, EffectiveRoute};

use crate::mesh::{
    Mesh, backend, exact, gateway, h2c, header, http_route, ingress, ingress_route, on, on_service, plain,
    prefix, query, redirect, redirect_to, regex, route, rule, split, to,
};

/// Host of a table, by name.
fn host<'a>(effective: &'a Effective, table: &str, host: &str) -> &'a EffectiveHost {
    try_host(effective, table, host).unwrap_or_else(|| panic!("no host {host} in {table}"))
}

fn try_host<'a>(effective: &'a Effective, table: &str, host: &str) -> Option<&'a EffectiveHost> {
    let host: Hostname = host.parse().expect("a host");
    let table = effective.route_tables.iter().find(|t| t.name == table).expect("the table is there");
    table.hosts.iter().find(|h| h.host == host)
}

/// Paths of routes as `=exact`, `^prefix`, `~regex`, in order.
fn paths(routes: &[EffectiveRoute]) -> Vec<String> {
    routes
        .iter()
        .map(|route| match &route.matches.path {
            PathMatch::Exact(path) => format!("={path}"),
            PathMatch::Prefix(path) => format!("^{path}"),
            PathMatch::Regex(path) => format!("~{path}"),
        })
        .collect()
}

/// The Service that the first route of a host forwards to.
fn first_backend(routes: &[EffectiveRoute]) -> String {
    let Some(Action::Forward(forward)) = routes.first().map(|route| &route.rule.action) else {
        panic!("the first route does not forward: {routes:?}")
    };
    forward.backends[0].backend.as_ref().expect("a backend").to_string()
}

/// A Gateway with one listener `http` on port 80 for every host.
fn one_gateway() -> Mesh {
    let web = gateway("default/web");
    Mesh::default().listener(&web, "http", 80, "*").assign(&web, &["203.0.113.1"])
}

const TABLE: &str = "203.0.113.1:80/http";

#[test]
fn the_older_of_two_objects_with_one_host_and_path_wins_and_the_loser_names_it() {
    let (old, new) = (ingress("z/old", 10), ingress("a/new", 20));
    let mesh = Mesh::default()
        .listener(&old, "http", 80, "*")
        .listener(&new, "http", 80, "*")
        .share(&old, "ingress")
        .share(&new, "ingress")
        .assign(&old, &["203.0.113.1"])
        .assign(&new, &["203.0.113.1"])
        .route(ingress_route(&old, &["http"], &["a.test"], vec![rule(vec![prefix("/x")], to("z/old:80"))]))
        .route(ingress_route(
            &new,
            &["http"],
            &["a.test"],
            vec![rule(vec![prefix("/x"), prefix("/y")], to("a/new:80"))],
        ));
    let effective = mesh.resolve(&redirect());
    let host = host(&effective, TABLE, "a.test");
    assert_eq!(paths(&host.routes), ["^/x", "^/y"]);
    assert_eq!(first_backend(&host.routes), "z/old:80");

    let [condition] = effective.conditions.as_slice() else { panic!("{:?}", effective.conditions) };
    assert_eq!(condition.origin.object, new.object);
    assert_eq!(condition.origin.field, "spec.rules[0]");
    assert_eq!(
        (condition.kind.as_str(), condition.status, condition.reason.as_str()),
        ("Conflicted", ConditionStatus::True, "RouteConflict")
    );
    for part in ["a.test", "/x", "Ingress z/old", "old.yaml", "is older", "spec.rules[0]"] {
        assert!(condition.message.contains(part), "{part:?} is missing in {:?}", condition.message);
    }
}

#[test]
fn of_two_objects_of_one_age_the_first_by_name_wins() {
    let (a, b) = (http_route("default/a", 5), http_route("default/b", 5));
    let web = gateway("default/web");
    let mesh = one_gateway()
        .route(route(&b, &[on(&web, "http")], &[], vec![rule(vec![exact("/x")], to("default/b:80"))]))
        .route(route(&a, &[on(&web, "http")], &[], vec![rule(vec![exact("/x")], to("default/a:80"))]));
    let effective = mesh.resolve(&redirect());
    assert_eq!(first_backend(&host(&effective, TABLE, "*").routes), "default/a:80");
    assert_eq!(effective.conditions[0].origin.object, b.object);
    assert!(effective.conditions[0].message.contains("comes first by name"));
}

#[test]
fn matches_that_differ_in_a_header_do_not_conflict_whatever_the_order_of_headers() {
    let web = gateway("default/web");
    let with = |headers: &[(&str, &str)]| RouteMatch {
        headers: headers.iter().map(|(n, v)| header(n, v)).collect(),
        ..prefix("/x")
    };
    let at = |name: &str, age, m| {
        route(&http_route(name, age), &[on(&web, "http")], &[], vec![rule(vec![m], to("default/a:80"))])
    };
    let different = one_gateway().route(at("default/a", 1, with(&[("x", "1")]))).route(at(
        "default/b",
        2,
        with(&[("x", "2")]),
    ));
    assert!(different.resolve(&redirect()).conditions.is_empty());

    let same = one_gateway().route(at("default/a", 1, with(&[("x", "1"), ("y", "1")]))).route(at(
        "default/b",
        2,
        with(&[("y", "1"), ("x", "1")]),
    ));
    assert_eq!(same.resolve(&redirect()).conditions.len(), 1);
}

#[test]
fn one_object_that_repeats_itself_is_not_told_so() {
    let web = gateway("default/web");
    let own = http_route("default/a", 1);
    let rules = vec![
        rule(vec![prefix("/x")], to("default/first:80")),
        rule(vec![prefix("/x")], to("default/second:80")),
    ];
    let effective = one_gateway().route(route(&own, &[on(&web, "http")], &[], rules)).resolve(&redirect());
    assert!(effective.conditions.is_empty());
    assert_eq!(first_backend(&host(&effective, TABLE, "*").routes), "default/first:80");
}

/// Order in which matches are tried, given in any order.
fn check_order(precedence: MatchPrecedence, expected: &[RouteMatch]) {
    let web = gateway("default/web");
    let mut rules: Vec<_> = expected.iter().map(|m| rule(vec![m.clone()], to("default/a:80"))).collect();
    rules.reverse();
    let mut row = route(&http_route("default/a", 1), &[on(&web, "http")], &[], rules);
    row.precedence = precedence;
    let effective = one_gateway().route(row).resolve(&redirect());
    let found: Vec<RouteMatch> =
        host(&effective, TABLE, "*").routes.iter().map(|r| r.matches.as_ref().clone()).collect();
    assert_eq!(found, expected);
}

#[test]
fn gateway_api_tries_exact_then_longest_prefix_then_expression_then_method_headers_and_query() {
    let method = |m: RouteMatch| RouteMatch { method: Some("GET".to_owned()), ..m };
    let headers = |names: &[&str], m: RouteMatch| RouteMatch {
        headers: names.iter().map(|n| header(n, "v")).collect(),
        ..m
    };
    let queries = |names: &[&str], m: RouteMatch| RouteMatch {
        query: names.iter().map(|n| query(n, "v")).collect(),
        ..m
    };
    check_order(
        MatchPrecedence::GatewayApi,
        &[
            exact("/a"),
            prefix("/longer/prefix"),
            method(prefix("/same")),
            headers(&["a", "b"], prefix("/same")),
            queries(&["a", "b"], headers(&["a"], prefix("/same"))),
            queries(&["a"], headers(&["a"], prefix("/same"))),
            headers(&["a"], prefix("/same")),
            queries(&["a"], prefix("/same")),
            prefix("/same"),
            prefix("/"),
            regex("/expression/[0-9]+/is/longest"),
        ],
    );
}

#[test]
fn ingress_tries_exact_then_expression_then_prefix_each_longest_first() {
    check_order(
        MatchPrecedence::Ingress,
        &[exact("/aa"), exact("/a"), regex("/a.+"), regex("/b"), prefix("/aaa"), prefix("/b"), prefix("/")],
    );
}

#[test]
fn where_both_kinds_meet_an_ingress_expression_still_precedes_prefixes() {
    let (web, shop) = (gateway("default/web"), ingress("default/shop", 9));
    let mesh = one_gateway()
        .listener(&shop, "http", 80, "*")
        .assign(&shop, &["203.0.113.1"])
        .route(route(
            &http_route("default/r", 1),
            &[on(&web, "http")],
            &["a.test"],
            vec![rule(vec![prefix("/"), regex("/gateway/.*")], to("default/r:80"))],
        ))
        .route(ingress_route(
            &shop,
            &["http"],
            &["a.test"],
            vec![rule(vec![regex("/i.*"), prefix("/p")], to("default/s:80"))],
        ));
    let effective = mesh.resolve(&redirect());
    let host = host(&effective, TABLE, "a.test");
    assert_eq!(paths(&host.routes), ["~/gateway/.*", "~/i.*", "^/p", "^/"]);
}

#[test]
fn a_request_belongs_to_the_most_specific_listener_of_its_gateway() {
    let web = gateway("default/web");
    let mesh = Mesh::default()
        .assign(&web, &["203.0.113.1"])
        .listener(&web, "any", 80, "*")
        .listener(&web, "wild", 80, "*.example.com")
        .listener(&web, "exact", 80, "foo.example.com")
        .route(route(
            &http_route("default/wide", 1),
            &[on(&web, "any")],
            &["bar.example.com", "foo.example.com", "*.com", "other.test"],
            vec![rule(vec![prefix("/")], to("default/wide:80"))],
        ))
        .route(route(
            &http_route("default/wild", 2),
            &[on(&web, "wild")],
            &[],
            vec![rule(vec![prefix("/")], to("default/wild:80"))],
        ));
    let effective = mesh.resolve(&redirect());
    // Hosts that belong to a narrower listener never get the wide one's routes.
    assert!(try_host(&effective, TABLE, "bar.example.com").is_none());
    assert!(host(&effective, TABLE, "foo.example.com").routes.is_empty(), "its own listener has no routes");
    assert_eq!(first_backend(&host(&effective, TABLE, "*.example.com").routes), "default/wild:80");
    assert_eq!(first_backend(&host(&effective, TABLE, "*.com").routes), "default/wide:80");
    assert_eq!(first_backend(&host(&effective, TABLE, "other.test").routes), "default/wide:80");
}

#[test]
fn listeners_of_other_objects_do_not_take_hosts_away() {
    let (web, shop) = (gateway("default/web"), ingress("default/shop", 9));
    let mesh = Mesh::default()
        .assign(&web, &["203.0.113.1"])
        .assign(&shop, &["203.0.113.1"])
        .listener(&web, "wild", 80, "*.example.com")
        .listener(&shop, "http", 80, "*")
        .route(ingress_route(
            &shop,
            &["http"],
            &["shop.example.com"],
            vec![rule(vec![prefix("/")], to("default/shop:80"))],
        ));
    let effective = mesh.resolve(&redirect());
    let host = host(&effective, TABLE, "shop.example.com");
    assert_eq!(first_backend(&host.routes), "default/shop:80");
}

#[test]
fn a_wildcard_of_an_ingress_covers_one_label_and_deeper_hosts_go_to_the_next_wider_host() {
    let shop = ingress("default/shop", 1);
    let mesh = Mesh::default()
        .assign(&shop, &["203.0.113.1"])
        .listener(&shop, "http", 80, "*")
        .route(ingress_route(
            &shop,
            &["http"],
            &["*.a.test"],
            vec![rule(vec![prefix("/w")], to("default/wild:80"))],
        ))
        .route(ingress_route(&shop, &["http"], &[], vec![rule(vec![prefix("/")], to("default/any:80"))]));
    let effective = mesh.resolve(&redirect());
    let wild = host(&effective, TABLE, "*.a.test");
    assert_eq!(paths(&wild.routes), ["^/w"]);
    assert_eq!(first_backend(wild.deeper.as_deref().expect("one label only")), "default/any:80");
    assert_eq!(host(&effective, TABLE, "*").deeper, None);
}

#[test]
fn a_wildcard_of_gateway_api_covers_any_number_of_labels() {
    let web = gateway("default/web");
    let mesh = one_gateway().route(route(
        &http_route("default/a", 1),
        &[on(&web, "http")],
        &["*.a.test"],
        vec![rule(vec![prefix("/")], to("default/a:80"))],
    ));
    assert_eq!(host(&mesh.resolve(&redirect()), TABLE, "*.a.test").deeper, None);
}

#[test]
fn a_wildcard_of_an_ingress_does_not_meet_an_exact_host_two_labels_down() {
    let shop = ingress("default/shop", 1);
    let mesh = Mesh::default()
        .assign(&shop, &["203.0.113.1"])
        .tls(&shop, "https-x", 443, "x.a.test", "default/cert")
        .tls(&shop, "https-y", 443, "y.x.a.test", "default/cert")
        .route(ingress_route(
            &shop,
            &["https-x", "https-y"],
            &["*.a.test"],
            vec![rule(vec![prefix("/")], to("default/a:80"))],
        ));
    let effective = mesh.resolve(&redirect());
    assert_eq!(host(&effective, "203.0.113.1:443/https", "x.a.test").routes.len(), 1);
    assert!(host(&effective, "203.0.113.1:443/https", "y.x.a.test").routes.is_empty());
}

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

#[test]
fn redirects_name_the_port_that_gateway_api_asks_for() {
    // Listener port, scheme of the redirect, its port, host of the route -> port, host that is written.
    let check = |port: u16,
                 scheme: Option<&str>,
                 to_port: Option<u16>,
                 hostname: &str,
                 expected: (Option<u16>, Option<&str>)| {
        let web = gateway("default/web");
        let mesh =
            Mesh::default().assign(&web, &["203.0.113.1"]).listener(&web, "l", port, "*").route(route(
                &http_route("default/r", 1),
                &[on(&web, "l")],
                &[hostname],
                vec![rule(vec![prefix("/")], Action::Redirect(redirect_to(scheme, to_port)))],
            ));
        let effective = mesh.resolve(&redirect());
        let table = format!("203.0.113.1:{port}/http");
        let Action::Redirect(Redirect { port: found, hostname: found_host, .. }) =
            &host(&effective, &table, hostname).routes[0].rule.action
        else {
            panic!("no redirect")
        };
        assert_eq!((*found, found_host.as_deref()), expected, "{port} {scheme:?} {to_port:?} {hostname}");
    };
    let exact = Some("a.test");
    check(80, None, None, "a.test", (None, exact));
    check(80, None, None, "*", (None, None));
    check(8080, None, None, "*", (Some(8080), None));
    check(80, Some("https"), None, "a.test", (None, exact));
    check(80, Some("https"), None, "*", (None, None));
    // The Host of a request to 8080 carries that port; only a written port replaces it.
    check(8080, Some("https"), None, "*", (Some(443), None));
    check(8080, Some("https"), None, "a.test", (None, exact));
    check(8080, Some("http"), None, "a.test", (None, exact));
    check(80, None, Some(8081), "a.test", (Some(8081), None));
    check(80, None, Some(80), "a.test", (None, exact));
    check(80, Some("https"), Some(80), "a.test", (Some(80), None));
}

#[test]
fn in_plain_mode_redirects_to_https_go_where_https_is_served() {
    let shop = ingress("default/shop", 1);
    let mesh = Mesh::default().listener(&shop, "http", 80, "*").route(ingress_route(
        &shop,
        &["http"],
        &["a.test"],
        vec![rule(vec![prefix("/")], Action::Redirect(redirect_to(Some("https"), None)))],
    ));
    let effective = mesh.resolve(&plain());
    let Action::Redirect(found) = &host(&effective, "http/http", "a.test").routes[0].rule.action else {
        panic!("no redirect")
    };
    assert_eq!(found.port, Some(8443));
}

#[test]
fn what_a_proxy_would_refuse_is_left_out_with_a_condition() {
    let web = gateway("default/web");
    let mut bad = rule(vec![prefix("/a?b"), prefix("/good/"), prefix("no-slash")], to("default/a:80"));
    bad.request_headers = HeaderMutation {
        set: vec![
            ("host".into(), "b.test".into()),
            ("x bad".into(), "1".into()),
            ("x-ok".into(), "1".into()),
        ],
        add: vec![("x-line".into(), "a\r\nb".into()), ("x-gone".into(), "1".into())],
        remove: vec![":path".into(), "x-gone".into()],
    };
    let effective = one_gateway()
        .route(route(&http_route("default/r", 1), &[on(&web, "http")], &[], vec![bad]))
        .resolve(&redirect());
    let routes = &host(&effective, TABLE, "*").routes;
    assert_eq!(paths(routes), ["^/good"]);
    let rule = &routes[0].rule;
    assert_eq!(rule.request_headers.set, [("x-ok".to_owned(), "1".to_owned())]);
    assert!(rule.request_headers.add.is_empty(), "what is removed in the end is never added");
    assert_eq!(rule.request_headers.remove, ["x-gone"]);
    let Action::Forward(forward) = &rule.action else { panic!("no forward") };
    assert_eq!(forward.rewrite.hostname.as_deref(), Some("b.test"));
    let [condition] = effective.conditions.as_slice() else { panic!("{:?}", effective.conditions) };
    assert_eq!(
        (condition.kind.as_str(), condition.reason.as_str()),
        ("PartiallyInvalid", "UnsupportedValue")
    );
    assert!(condition.message.ends_with("and 2 more"), "{}", condition.message);
}

#[test]
fn clusters_are_the_ports_that_routes_use_with_what_their_service_says() {
    let web = gateway("default/web");
    let mesh = one_gateway()
        .service("default/unused", 80, &["10.96.0.9"])
        .service_with("default/grpc", 9000, &["10.96.0.2"], h2c)
        .route(route(
            &http_route("default/r", 1),
            &[on(&web, "http")],
            &[],
            vec![rule(
                vec![prefix("/")],
                split(vec![backend("default/grpc:9000", 1), backend("default/missing:80", 1)]),
            )],
        ));
    let clusters = mesh.resolve(&redirect()).clusters;
    let found: Vec<(String, AppProtocol)> =
        clusters.iter().map(|cluster| (cluster.key.to_string(), cluster.app_protocol)).collect();
    assert_eq!(
        found,
        [("default/grpc:9000".into(), AppProtocol::H2c), ("default/missing:80".into(), AppProtocol::Http)]
    );
}
