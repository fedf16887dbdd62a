//! What goes out to the proxy, beyond what the golden files show.

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_model::l7::{Action, HeaderMutation, PathRewrite, RouteMatch, Rule};
use mesh_model::service::{BackendState, L7Balance};
use mesh_xds::lower::{EscapedSlashes, LowerConfig};
use mesh_xds::server::ResourceSet;
use mesh_xds_proto::cluster::{Cluster, cluster::LbPolicy};
use mesh_xds_proto::endpoint::{ClusterLoadAssignment, lb_endpoint::HostIdentifier};
use mesh_xds_proto::hcm::HttpConnectionManager;
use mesh_xds_proto::hcm::http_connection_manager::PathWithEscapedSlashesAction;
use mesh_xds_proto::listener::{Listener, filter::ConfigType};
use mesh_xds_proto::route::route_action::ClusterSpecifier;
use mesh_xds_proto::route::route_match::PathSpecifier;
use mesh_xds_proto::route::{Route, RouteConfiguration, route};
use mesh_xds_proto::tls::Secret;
use mesh_xds_proto::{TypeUrl, canonical, core, decode};

use crate::mesh::{
    Mesh, backend, exact, gateway, http_route, invalid_backend, on, prefix, redirect, rewrite, route as row,
    rule, split, to,
};

/// All resources of one type.
fn all<M: TypeUrl>(set: &ResourceSet) -> BTreeMap<String, M> {
    set.iter()
        .filter(|(url, ..)| *url == M::type_url_of())
        .map(|(_, name, body)| (name.to_owned(), decode(body).expect("decodes")))
        .collect()
}

/// The routes of one rule on a Gateway.
fn routes_of(rule: Rule) -> Vec<Route> {
    let web = gateway("default/web");
    let set = Mesh::default()
        .listener(&web, "http", 80, "*")
        .assign(&web, &["203.0.113.1"])
        .route(row(&http_route("default/r", 1), &[on(&web, "http")], &[], vec![rule]))
        .lower(&redirect());
    let mut tables: BTreeMap<String, RouteConfiguration> = all(&set);
    let (_, table) = tables.pop_first().expect("a table");
    table.virtual_hosts.into_iter().next().expect("a host").routes
}

/// Says what Envoy makes of a path that the route matched.
fn rewritten(route: &Route, path: &str) -> String {
    let Some(route::Action::Route(action)) = &route.action else { panic!("no forward") };
    if let Some(rewrite) = &action.regex_rewrite {
        let pattern =
            regex::Regex::new(&rewrite.pattern.as_ref().expect("a pattern").regex).expect("compiles");
        let literal = rewrite.substitution.replace("\\\\", "\\");
        return pattern.replace_all(path, regex::NoExpand(&literal)).into_owned();
    }
    let matched = match route.r#match.as_ref().and_then(|m| m.path_specifier.as_ref()).expect("a path") {
        PathSpecifier::Prefix(prefix) | PathSpecifier::PathSeparatedPrefix(prefix) => prefix,
        other => panic!("prefix_rewrite on {other:?}"),
    };
    let rest = path.strip_prefix(matched.as_str()).expect("the prefix was matched");
    format!("{}{rest}", action.prefix_rewrite)
}

#[test]
fn prefixes_are_replaced_by_whole_elements_as_the_table_of_gateway_api_has_it() {
    // Path of the request, prefix of the match, replacement, path that the backend sees.
    for (path, from, replacement, expected) in [
        ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
        ("/foo", "/foo", "/xyz", "/xyz"),
        ("/foo/", "/foo", "/xyz", "/xyz/"),
        ("/foo/bar", "/foo", "", "/bar"),
        ("/foo/", "/foo", "", "/"),
        ("/foo", "/foo", "", "/"),
        ("/foo/", "/foo", "/", "/"),
        ("/foo", "/foo", "/", "/"),
        ("/foo/bar", "/foo", "/", "/bar"),
        ("/a.b/c", "/a.b", "/", "/c"),
        ("/x", "/", "/bar", "/bar/x"),
        ("/", "/", "/bar", "/bar/"),
        ("/x", "/", "/", "/x"),
        ("/foo/x", "/foo", "/tail\\1/", "/tail\\1/x"),
    ] {
        let routes = routes_of(rule(
            vec![prefix(from)],
            rewrite("default/a:80", PathRewrite::Prefix(replacement.into())),
        ));
        assert_eq!(rewritten(&routes[0], path), expected, "{from} -> {replacement} on {path}");
    }
}

#[test]
fn a_full_path_replaces_whatever_was_matched() {
    for matched in [prefix("/foo"), exact("/foo/bar")] {
        let routes =
            routes_of(rule(vec![matched], rewrite("default/a:80", PathRewrite::Full("/one/x".into()))));
        assert_eq!(rewritten(&routes[0], "/foo/bar"), "/one/x");
    }
}

/// Status of a direct response.
fn status(route: &Route) -> Option<u32> {
    match &route.action {
        Some(route::Action::DirectResponse(response)) => Some(response.status),
        _ => None,
    }
}

fn fraction(route: &Route) -> Option<u32> {
    let fraction = route.r#match.as_ref()?.runtime_fraction.as_ref()?;
    Some(fraction.default_value.as_ref()?.numerator)
}

#[test]
fn the_share_of_an_unusable_backend_is_answered_with_500() {
    let action = split(vec![backend("default/a:80", 3), invalid_backend(1)]);
    let routes = routes_of(rule(vec![prefix("/")], action));
    assert_eq!((status(&routes[0]), fraction(&routes[0])), (Some(500), Some(250_000)));
    let Some(route::Action::Route(forward)) = &routes[1].action else { panic!("{routes:?}") };
    assert_eq!(forward.cluster_specifier, Some(ClusterSpecifier::Cluster("default:a:80".into())));
    assert_eq!(fraction(&routes[1]), None);
}

#[test]
fn a_rule_without_any_usable_backend_answers_500_to_all() {
    for backends in [
        vec![],
        vec![invalid_backend(1)],
        vec![backend("default/a:80", 0)],
        vec![invalid_backend(1), backend("default/a:80", 0)],
    ] {
        let routes = routes_of(rule(vec![prefix("/")], split(backends)));
        let [only] = routes.as_slice() else { panic!("{routes:?}") };
        assert_eq!((status(only), fraction(only)), (Some(500), None));
    }
}

#[test]
fn an_unusable_backend_of_weight_zero_costs_no_request() {
    let routes =
        routes_of(rule(vec![prefix("/")], split(vec![backend("default/a:80", 1), invalid_backend(0)])));
    assert_eq!(routes.len(), 1);
    assert_eq!(status(&routes[0]), None);
}

#[test]
fn the_shorter_timeout_counts_and_zero_is_none() {
    let seconds = |rule: Rule| {
        let routes = routes_of(rule);
        let Some(route::Action::Route(forward)) = &routes[0].action else { panic!("no forward") };
        forward.timeout.expect("always written, because Envoy's default is 15 s").seconds
    };
    let with = |request: Option<u64>, backend: Option<u64>| {
        let mut rule = rule(vec![prefix("/")], to("default/a:80"));
        rule.timeouts.request = request.map(Duration::from_secs);
        rule.timeouts.backend_request = backend.map(Duration::from_secs);
        seconds(rule)
    };
    assert_eq!(with(None, None), 0);
    assert_eq!(with(Some(0), None), 0);
    assert_eq!(with(Some(10), Some(3)), 3);
    assert_eq!(with(Some(0), Some(3)), 3);
    assert_eq!(with(Some(2), None), 2);
}

#[test]
fn header_values_are_no_command_operators() {
    let mut rule = rule(vec![prefix("/")], to("default/a:80"));
    rule.request_headers = HeaderMutation {
        set: vec![("x-rate".into(), "100%".into())],
        add: vec![("x-empty".into(), String::new())],
        remove: vec![],
    };
    let routes = routes_of(rule);
    let [set, add] = routes[0].request_headers_to_add.as_slice() else { panic!("{routes:?}") };
    assert_eq!(set.header.as_ref().map(|h| h.value.as_str()), Some("100%%"));
    assert!(add.keep_empty_value);
}

/// A mesh with one route to `default/a:80`.
fn one_backend() -> Mesh {
    let web = gateway("default/web");
    Mesh::default().listener(&web, "http", 80, "*").assign(&web, &["203.0.113.1"]).route(row(
        &http_route("default/r", 1),
        &[on(&web, "http")],
        &[],
        vec![rule(vec![RouteMatch::default()], to("default/a:80"))],
    ))
}

/// Addresses of the only load assignment.
fn endpoints(mesh: &Mesh) -> Vec<String> {
    let assignments: BTreeMap<String, ClusterLoadAssignment> = all(&mesh.lower(&redirect()));
    let assignment = assignments.get("default/a:80").expect("always there, even without endpoints");
    assert_eq!(assignment.cluster_name, "default/a:80");
    assignment
        .endpoints
        .iter()
        .flat_map(|locality| &locality.lb_endpoints)
        .map(|endpoint| {
            assert_eq!(endpoint.health_status, core::HealthStatus::Healthy as i32);
            let Some(HostIdentifier::Endpoint(endpoint)) = &endpoint.host_identifier else {
                panic!("no host")
            };
            let Some(core::address::Address::SocketAddress(address)) =
                endpoint.address.as_ref().and_then(|a| a.address.as_ref())
            else {
                panic!("no address")
            };
            address.address.clone()
        })
        .collect()
}

#[test]
fn backends_that_go_away_are_used_only_when_no_other_is_left() {
    let (active, leaving) = (BackendState::Active, BackendState::Terminating);
    let mesh = one_backend();
    assert!(endpoints(&mesh).is_empty());
    let both =
        mesh.clone().backends("default/a", 80, &[("10.0.0.1:8080", active), ("10.0.0.2:8080", leaving)]);
    assert_eq!(endpoints(&both), ["10.0.0.1"]);
    let last = mesh.backends("default/a", 80, &[("10.0.0.2:8080", leaving), ("10.0.0.3:8080", leaving)]);
    assert_eq!(endpoints(&last), ["10.0.0.2", "10.0.0.3"]);
}

#[test]
fn a_service_may_ask_for_the_less_busy_endpoint() {
    let mesh = one_backend().service_with("default/a", 80, &["10.96.0.1"], |service| {
        service.l7_balance = L7Balance::LeastRequest
    });
    let clusters: BTreeMap<String, Cluster> = all(&mesh.lower(&redirect()));
    assert_eq!(clusters["default:a:80"].lb_policy, LbPolicy::LeastRequest as i32);
}

/// A Gateway with clear text, one host with a good certificate and one with a bad one.
fn two_certificates() -> Mesh {
    let web = gateway("default/web");
    Mesh::default()
        .assign(&web, &["203.0.113.1"])
        .tls(&web, "good", 443, "good.test", "default/good")
        .tls(&web, "bad", 443, "bad.test", "default/bad")
        .certificate("default/good")
        .bad_certificate("default/bad")
        .certificate("default/unused")
}

#[test]
fn a_bad_certificate_takes_down_its_own_host_only() {
    let listeners: BTreeMap<String, Listener> = all(&two_certificates().lower(&redirect()));
    let chains = &listeners["203.0.113.1:443"].filter_chains;
    let [good] = chains.as_slice() else { panic!("{chains:?}") };
    assert_eq!(
        good.filter_chain_match.as_ref().map(|m| m.server_names.clone()),
        Some(vec!["good.test".into()])
    );

    let mut none = two_certificates();
    none.certificates.clear();
    let listeners: BTreeMap<String, Listener> = all(&none.lower(&redirect()));
    assert_eq!(listeners.keys().collect::<Vec<_>>(), ["redirect"], "a listener without chains is refused");
}

#[test]
fn only_certificates_that_a_listener_uses_go_out() {
    let secrets: BTreeMap<String, Secret> = all(&two_certificates().lower(&redirect()));
    assert_eq!(secrets.keys().collect::<Vec<_>>(), ["default/good"]);
}

#[test]
fn resources_are_canonical_so_equal_input_is_never_sent_again() {
    let mesh = two_certificates().backends("default/a", 80, &[("10.0.0.1:8080", BackendState::Active)]);
    let (one, two) = (mesh.lower(&redirect()), mesh.lower(&redirect()));
    assert!(one == two, "equal input, different bytes");
    for (_, name, body) in one_backend().lower(&redirect()).iter().chain(one.iter()) {
        assert!(canonical(body) == *body, "{name} is not canonical");
    }
}

#[test]
fn escaped_slashes_are_kept_unless_the_configuration_says_otherwise() {
    for (choice, expected) in [
        (EscapedSlashes::Keep, PathWithEscapedSlashesAction::KeepUnchanged),
        (EscapedSlashes::Reject, PathWithEscapedSlashesAction::RejectRequest),
        (EscapedSlashes::Redirect, PathWithEscapedSlashesAction::UnescapeAndRedirect),
    ] {
        let mesh = one_backend();
        let config = LowerConfig { escaped_slashes: choice, access_log: false, ..Default::default() };
        let set = mesh.lower_with(&redirect(), &config);
        let listeners: BTreeMap<String, Listener> = all(&set);
        let chain = &listeners["203.0.113.1:80"].filter_chains[0];
        let Some(ConfigType::TypedConfig(manager)) = &chain.filters[0].config_type else {
            panic!("no filter")
        };
        let manager: HttpConnectionManager = decode(manager).expect("decodes");
        assert_eq!(manager.path_with_escaped_slashes_action, expected as i32);
        assert!(manager.access_log.is_empty());
        assert_eq!(manager.server_name, "millrace");
    }
}

#[test]
fn redirects_and_answers_change_response_headers_too() {
    let mut rule = rule(
        vec![prefix("/")],
        Action::Respond(mesh_model::l7::Respond { status: 418, body: "teapot".into() }),
    );
    rule.response_headers.set.push(("x-kind".into(), "teapot".into()));
    let routes = routes_of(rule);
    assert_eq!(status(&routes[0]), Some(418));
    assert_eq!(routes[0].response_headers_to_add.len(), 1);
}
