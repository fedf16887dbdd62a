//! Tables that are made of earlier ones.

use http::{HeaderMap, HeaderValue, Method};
use mesh_xds_proto::json;
use mesh_xds_proto::route as messages;
use mesh_xds_proto::route::route_match::PathSpecifier;
use mesh_xds_proto::{Message, matcher};
use proptest::prelude::*;

use super::super::routes::PATCHED_FROM;
use super::super::*;
use crate::check::At;

fn nth(table: &RouteTable, host: usize, route: usize) -> &Arc<Route> {
    table.virtual_hosts[host].routes.iter().nth(route).unwrap()
}

/// Two hosts with two routes each; `status` is what the second route of the second host answers.
fn two_hosts(status: u16, retry_on: &str, largest_body: u32) -> Vec<u8> {
    let text = format!(
        r#"{{ "@type": type.googleapis.com/envoy.config.route.v3.RouteConfiguration, name: t,
            max_direct_response_body_size_bytes: {largest_body}, virtual_hosts: [
            {{ name: a, domains: [ a ], routes: [ {{ match: {{ prefix: /x }}, route: {{ cluster: one }} }},
                {{ match: {{ prefix: / }}, direct_response: {{ status: 204 }} }} ] }},
            {{ name: b, domains: [ b ], retry_policy: {{ retry_on: "{retry_on}" }}, routes: [
                {{ match: {{ prefix: /x }}, route: {{ cluster: one }} }},
                {{ match: {{ prefix: / }}, direct_response: {{ status: {status} }} }} ] }} ] }}"#
    );
    json::decode_any_yaml(&text).unwrap().value
}

#[test]
fn a_changed_route_is_all_that_is_compiled_again() {
    let old = two_hosts(200, "5xx", 9);
    let before = compile_encoded(&old, None, At::ROOT).unwrap();
    let after = |new: &[u8]| {
        let known = Before::new(&old, &before).unwrap();
        compile_encoded(new, Some(&known), At::ROOT).unwrap()
    };
    let host = |table: &RouteTable, index: usize| table.virtual_hosts[index].clone();
    let same = after(&old);
    assert!(
        Arc::ptr_eq(&host(&same, 0), &host(&before, 0)) && Arc::ptr_eq(&host(&same, 1), &host(&before, 1))
    );

    assert!(Arc::ptr_eq(&same.hosts, &before.hosts));

    let changed = after(&two_hosts(503, "5xx", 9));
    assert!(Arc::ptr_eq(&changed.hosts, &before.hosts));
    assert!(Arc::ptr_eq(&host(&changed, 0), &host(&before, 0)));
    assert!(Arc::ptr_eq(nth(&changed, 1, 0), nth(&before, 1, 0)));
    assert!(!Arc::ptr_eq(nth(&changed, 1, 1), nth(&before, 1, 1)));
    let headers = HeaderMap::new();
    let head = RequestHead {
        authority: "b",
        path: "/y",
        query: None,
        method: &Method::GET,
        scheme: "http",
        headers: &headers,
    };
    let matched = changed.find(&head).unwrap();
    assert!(matches!(&matched.route.action, Action::Respond(response) if response.status == 503));
}

/// A table of hosts `(domain, paths)`; the route of each path answers with a status of its own.
fn hosts_of(hosts: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let hosts = hosts.iter().enumerate().map(|(number, (domain, paths))| {
        let routes = paths.iter().map(|path| {
            let status = 200 + u16::from(*path);
            serde_json::json!({ "match": { "path": format!("/{path}") }, "direct_response": { "status": status } })
        });
        serde_json::json!({
            "name": format!("host-{domain}"),
            "domains": [format!("{domain}.{number}.example"), format!("{number}.example")],
            "routes": routes.collect::<Vec<_>>(),
        })
    });
    let table = serde_json::json!({
        "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        "name": "t",
        "virtual_hosts": hosts.collect::<Vec<_>>(),
    });
    json::decode_any(&table.to_string()).unwrap().value
}

proptest! {
    /// Whatever changes, moves, comes or goes: what is shared with the table before changes no answer.
    #[test]
    fn a_table_made_of_an_earlier_one_is_as_one_made_afresh(
        old in prop::collection::vec((0..3_u8, prop::collection::vec(0..5_u8, 0..5)), 0..5),
        new in prop::collection::vec((0..3_u8, prop::collection::vec(0..5_u8, 0..5)), 0..5),
    ) {
        let (old, bytes) = (hosts_of(&old), hosts_of(&new));
        let before = compile_encoded(&old, None, At::ROOT).unwrap();
        let known = Before::new(&old, &before).unwrap();
        let table = compile_encoded(&bytes, Some(&known), At::ROOT).unwrap();
        let headers = HeaderMap::new();
        for (number, (domain, paths)) in new.iter().enumerate() {
            for path in 0..5_u8 {
                let authority = format!("{domain}.{number}.example");
                let text = format!("/{path}");
                let head = RequestHead {
                    authority: &authority,
                    path: &text,
                    query: None,
                    method: &Method::GET,
                    scheme: "http",
                    headers: &headers,
                };
                let status = table.find(&head).map(|matched| match &matched.route.action {
                    Action::Respond(response) => response.status.as_u16(),
                    other => panic!("{other:?}"),
                });
                prop_assert_eq!(status, paths.contains(&path).then_some(200 + u16::from(path)));
            }
        }
    }
}

#[test]
fn what_routes_depend_on_compiles_them_again() {
    let old = two_hosts(200, "5xx", 9);
    let before = compile_encoded(&old, None, At::ROOT).unwrap();
    let after = |new: &[u8]| {
        let known = Before::new(&old, &before).unwrap();
        compile_encoded(new, Some(&known), At::ROOT).unwrap()
    };
    let retries = after(&two_hosts(200, "reset", 9));
    assert!(Arc::ptr_eq(&retries.virtual_hosts[0], &before.virtual_hosts[0]));
    let Action::Forward(forward) = &nth(&retries, 1, 0).action else { panic!("not forwarded") };
    assert!(forward.retry.as_ref().is_some_and(|retry| !retry.on.server_error));
    let bodies = after(&two_hosts(200, "5xx", 8));
    assert!(!Arc::ptr_eq(nth(&bodies, 0, 1), nth(&before, 0, 1)));
}

/// A route of a path that others have as well, named by its number.
fn numbered(number: usize) -> messages::Route {
    let path = format!("/{}/{}", number % 7, number % 5);
    let path = match number % 51 {
        0 => PathSpecifier::Prefix(path),
        1 => PathSpecifier::PathSeparatedPrefix(path),
        2 => PathSpecifier::SafeRegex(matcher::RegexMatcher { regex: path, ..Default::default() }),
        _ => PathSpecifier::Path(path),
    };
    let only = matcher::StringMatcher {
        match_pattern: Some(matcher::string_matcher::MatchPattern::Exact((number % 13).to_string())),
        ..Default::default()
    };
    let header = messages::HeaderMatcher {
        name: "x".to_owned(),
        header_match_specifier: Some(messages::header_matcher::HeaderMatchSpecifier::StringMatch(only)),
        ..Default::default()
    };
    // One in a hundred has no condition, and hides those behind it.
    let headers = if number.is_multiple_of(100) { Vec::new() } else { vec![header] };
    messages::Route {
        name: number.to_string(),
        r#match: Some(messages::RouteMatch { path_specifier: Some(path), headers, ..Default::default() }),
        action: Some(messages::route::Action::DirectResponse(messages::DirectResponseAction {
            status: 200,
            ..Default::default()
        })),
        ..Default::default()
    }
}

fn one_host_of(routes: &[messages::Route]) -> Vec<u8> {
    let host = messages::VirtualHost {
        name: "all".to_owned(),
        domains: vec!["*".to_owned()],
        routes: routes.to_vec(),
        ..Default::default()
    };
    let table = messages::RouteConfiguration {
        name: "t".to_owned(),
        virtual_hosts: vec![host],
        ..Default::default()
    };
    table.encode_to_vec()
}

fn changed(bytes: &[u8], before: (&[u8], &RouteTable)) -> RouteTable {
    let before = Before::new(before.0, before.1).unwrap();
    compile_encoded(bytes, Some(&before), At::ROOT).unwrap()
}

fn names(table: &RouteTable) -> Vec<&str> {
    table.virtual_hosts[0].routes.iter().map(|route| &*route.name).collect()
}

/// The names of the routes that requests meet, for each path and header that any route asks for.
fn met(table: &RouteTable) -> Vec<Option<&str>> {
    let mut met = Vec::new();
    for path in 0..7 * 5 {
        for header in 0..13_u16 {
            for end in ["", "/more", "more"] {
                let path = format!("/{}/{}{end}", path % 7, path % 5);
                let headers =
                    HeaderMap::from_iter([(http::HeaderName::from_static("x"), HeaderValue::from(header))]);
                let head = RequestHead {
                    authority: "a",
                    path: &path,
                    query: None,
                    method: &Method::GET,
                    scheme: "http",
                    headers: &headers,
                };
                met.push(table.find(&head).map(|matched| &*matched.route.name));
            }
        }
    }
    met
}

#[derive(Debug, Clone)]
struct Edit {
    at: prop::sample::Index,
    taken: usize,
    /// Numbers of routes, of which some are there already.
    put: Vec<usize>,
}

fn edit() -> impl Strategy<Value = Edit> {
    let most = PATCHED_FROM / 40;
    (any::<prop::sample::Index>(), 0..most, prop::collection::vec(0..PATCHED_FROM * 2, 0..most))
        .prop_map(|(at, taken, put)| Edit { at, taken, put })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Change after change, as long as the index is shared and when it is made again.
    #[test]
    fn a_large_host_changed_many_times_is_as_one_made_afresh(
        length in PATCHED_FROM..PATCHED_FROM * 2,
        edits in prop::collection::vec(edit(), 1..9),
    ) {
        let mut routes: Vec<messages::Route> = (0..length).map(numbered).collect();
        let mut bytes = one_host_of(&routes);
        let mut table = compile_encoded(&bytes, None, At::ROOT).unwrap();
        for Edit { at, taken, put } in edits {
            let start = at.index(routes.len() + 1);
            let end = routes.len().min(start + taken);
            routes.splice(start..end, put.into_iter().map(numbered));
            let new = one_host_of(&routes);
            table = changed(&new, (&bytes, &table));
            bytes = new;
            let afresh = compile_encoded(&bytes, None, At::ROOT).unwrap();
            prop_assert_eq!(names(&table), names(&afresh));
            prop_assert_eq!(met(&table), met(&afresh));
            prop_assert_eq!(table.route_count(), routes.len());
        }
    }
}

#[test]
fn a_change_of_a_large_host_makes_no_index_of_all_until_much_of_it_has_changed() {
    let mut routes: Vec<messages::Route> = (0..PATCHED_FROM).map(numbered).collect();
    let mut bytes = one_host_of(&routes);
    let first = compile_encoded(&bytes, None, At::ROOT).unwrap();
    let mut table = changed(&bytes, (&bytes, &first));
    let mut indexed = 0;
    for change in 0..PATCHED_FROM {
        routes[change % 100 * 5] = numbered(PATCHED_FROM + change);
        let new = one_host_of(&routes);
        let next = changed(&new, (&bytes, &table));
        indexed += usize::from(!next.virtual_hosts[0].routes.shares_index_of(&table.virtual_hosts[0].routes));
        (bytes, table) = (new, next);
    }
    // Each change leaves one route out and puts one in, until there are 32 of both together.
    assert!((1..=PATCHED_FROM / 15).contains(&indexed), "{indexed} times");
}
