//! Conflicts, host names, orders, redirects.

mod addresses;

use mesh_model::l7::{Action, HeaderMutation, MatchPrecedence, PathMatch, Redirect, RouteMatch};
use mesh_model::service::AppProtocol;
use mesh_model::{ConditionStatus, Hostname};
use mesh_xds::resolve::{Effective, EffectiveHost, EffectiveRoute};

use crate::mesh::{
    Mesh, backend, exact, gateway, h2c, header, http_route, ingress, ingress_route, on, plain, prefix, query,
    redirect, redirect_to, regex, route, rule, split, to,
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
