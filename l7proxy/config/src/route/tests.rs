//! The compiled table against a plain reading of the same routes.

mod shared;

use http::{HeaderMap, HeaderValue, Method};
use mesh_xds_proto::json;
use mesh_xds_proto::route::RouteConfiguration;
use proptest::prelude::*;

use super::hosts::{HostIndex, without_port};
use super::paths::{PathIndex, PathMatch};
use super::*;
use crate::check::At;

fn table(yaml: &str) -> Result<RouteTable, String> {
    let any = json::decode_any_yaml(yaml).unwrap();
    let message: RouteConfiguration = mesh_xds_proto::decode(&any).unwrap();
    compile(&message, At::ROOT).map_err(|refusal| format!("{}: {}", refusal.field, refusal.reason))
}

fn one_host(routes: &str) -> Result<RouteTable, String> {
    table(&format!(
        r#"{{ "@type": type.googleapis.com/envoy.config.route.v3.RouteConfiguration, name: t,
            virtual_hosts: [ {{ name: all, domains: ["*"], routes: {routes} }} ] }}"#
    ))
}

/// One route of each kind on a small alphabet, so that prefixes overlap often.
fn path_match() -> impl Strategy<Value = PathMatch> {
    let path = "(/[ab]{0,2}){1,3}";
    prop_oneof![
        path.prop_map(|path| PathMatch::Exact(path.into())),
        path.prop_map(|path| PathMatch::Prefix(path.into())),
        Just(PathMatch::Prefix("".into())),
        "(/[ab]{1,2}){1,2}".prop_map(|path| PathMatch::SeparatedPrefix(path.into())),
        "/[ab]\\*"
            .prop_map(|path| PathMatch::Regex(regex::bytes::Regex::new(&format!("^(?:{path})$")).unwrap())),
        path.prop_map(|path| PathMatch::IgnoreCase(Box::new(PathMatch::Prefix(path.into())))),
        path.prop_map(|path| PathMatch::IgnoreCase(Box::new(PathMatch::Exact(path.into())))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn compiled_paths_find_what_a_linear_scan_finds(
        matches in prop::collection::vec((path_match(), any::<bool>()), 0..40),
        paths in prop::collection::vec("(/[abA]{0,3}){1,4}", 1..20),
    ) {
        let holds: Vec<bool> = matches.iter().map(|(_, holds)| *holds).collect();
        let index = PathIndex::build(matches.iter().map(|(path, _)| path));
        for path in &paths {
            let oracle = matches
                .iter()
                .position(|(pattern, holds)| *holds && pattern.matches(path))
                .map(|position| position as u32);
            prop_assert_eq!(index.find(path, u32::MAX, |order| holds[order as usize]), oracle, "{}", path);
        }
    }

    #[test]
    fn compiled_hosts_find_what_envoys_rules_find(
        domains in prop::collection::btree_set(r"(\*\.)?[ab](\.[ab]){0,2}|\*", 1..12),
        hosts in prop::collection::vec(r"[abAB](\.[abAB]){0,3}(:80)?", 1..20),
        ignore_port in any::<bool>(),
    ) {
        let domains: Vec<String> = domains.into_iter().collect();
        let mut index = HostIndex::new(ignore_port);
        for (position, domain) in domains.iter().enumerate() {
            index.insert(domain, position as u32, At::ROOT).unwrap();
        }
        for host in &hosts {
            let plain = if ignore_port { without_port(host) } else { host };
            let plain = plain.to_ascii_lowercase();
            let exact = domains.iter().position(|domain| *domain == plain);
            let longest = || {
                domains
                    .iter()
                    .enumerate()
                    .filter(|(_, domain)| {
                        domain.strip_prefix('*').is_some_and(|suffix| {
                            !suffix.is_empty() && plain.len() > suffix.len() && plain.ends_with(suffix)
                        })
                    })
                    .max_by_key(|(_, domain)| domain.len())
                    .map(|(position, _)| position)
            };
            let any = || domains.iter().position(|domain| domain == "*");
            let oracle = exact.or_else(longest).or_else(any).map(|position| position as u32);
            prop_assert_eq!(index.find(host), oracle, "{} in {:?}", host, domains);
        }
    }
}

#[test]
fn headers_hold_as_envoy_says() {
    let holds = |matcher: &str, headers: &[(&str, &str)]| {
        let table = one_host(&format!(
            "[ {{ match: {{ prefix: \"/\", headers: [ {matcher} ] }}, direct_response: {{ status: 200 }} }} ]"
        ))
        .unwrap();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(
                http::HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        let head = RequestHead {
            authority: "a.example",
            path: "/p",
            query: Some("q"),
            method: &Method::POST,
            scheme: "https",
            headers: &map,
        };
        table.find(&head).is_some()
    };
    let x = [("x", "value")];
    for (matcher, headers, expected) in [
        ("{ name: x, string_match: { exact: value } }", &x[..], true),
        ("{ name: X, string_match: { exact: VALUE, ignore_case: true } }", &x[..], true),
        ("{ name: x, string_match: { exact: VALUE } }", &x[..], false),
        ("{ name: x, string_match: { prefix: val } }", &x[..], true),
        ("{ name: x, string_match: { suffix: lue } }", &x[..], true),
        ("{ name: x, string_match: { contains: alu } }", &x[..], true),
        ("{ name: x, string_match: { safe_regex: { regex: \"v.*\" } } }", &x[..], true),
        ("{ name: x, string_match: { safe_regex: { regex: \"alu\" } } }", &x[..], false),
        ("{ name: x, present_match: true }", &x[..], true),
        ("{ name: x, present_match: true, invert_match: true }", &x[..], false),
        ("{ name: x, present_match: false }", &[], true),
        ("{ name: x }", &x[..], true),
        ("{ name: z, string_match: { exact: value }, invert_match: true }", &x[..], false),
        (
            "{ name: z, string_match: { exact: value }, invert_match: true, treat_missing_header_as_empty: true }",
            &x[..],
            true,
        ),
        ("{ name: x, string_match: { exact: \"2\" } }", &[("x", "1"), ("x", "2")], true),
        ("{ name: x, string_match: { exact: \"1,2\" } }", &[("x", "1"), ("x", "2")], false),
        ("{ name: x, string_match: { safe_regex: { regex: \"\\\\w{1,200}\" } } }", &x[..], true),
        ("{ name: x, range_match: { start: 1, end: 10 } }", &[("x", "9")], true),
        ("{ name: x, range_match: { start: 1, end: 10 } }", &[("x", "10")], false),
        ("{ name: \":method\", string_match: { exact: POST } }", &[], true),
        ("{ name: \":authority\", string_match: { suffix: .example } }", &[], true),
        ("{ name: \":path\", string_match: { exact: \"/p?q\" } }", &[], true),
        ("{ name: \":scheme\", string_match: { exact: https } }", &[], true),
    ] {
        assert_eq!(holds(matcher, headers), expected, "{matcher} on {headers:?}");
    }
    // Bytes that are no text match nothing, so that no inverted condition opens to them.
    let mut binary = HeaderMap::new();
    binary.insert("x", HeaderValue::from_bytes(b"\xff").unwrap());
    let table = one_host(
        "[ { match: { prefix: \"/\", headers: [ { name: x, string_match: { exact: a }, invert_match: true } ] }, \
         direct_response: { status: 200 } } ]",
    )
    .unwrap();
    let head = RequestHead {
        authority: "a",
        path: "/",
        query: None,
        method: &Method::GET,
        scheme: "http",
        headers: &binary,
    };
    assert!(table.find(&head).is_none());
}

#[test]
fn each_value_of_a_header_is_matched_by_itself() {
    let holds = |invert: bool, values: &[&[u8]]| {
        let table = one_host(&format!(
            "[ {{ match: {{ prefix: \"/\", headers: [ {{ name: x-a, string_match: {{ exact: one }}, \
             invert_match: {invert} }} ] }}, direct_response: {{ status: 200 }} }} ]"
        ))
        .unwrap();
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("x-a", HeaderValue::from_bytes(value).unwrap());
        }
        let head = RequestHead {
            authority: "a",
            path: "/",
            query: None,
            method: &Method::GET,
            scheme: "http",
            headers: &headers,
        };
        table.find(&head).is_some()
    };
    assert!(holds(false, &[b"two", b"one"]) && !holds(false, &[b"one,two"]));
    assert!(!holds(true, &[b"two", b"one"]) && holds(true, &[b"two", b"three"]));
    assert!(!holds(true, &[]) && !holds(false, &[]));
    assert!(!holds(true, &[b"two", b"\xff"]), "bytes that are no text must not open a route");
}

#[test]
fn query_parameters_are_taken_as_sent_and_the_first_counts() {
    let holds = |matcher: &str, query: Option<&str>| {
        let table = one_host(&format!(
            "[ {{ match: {{ prefix: \"/\", query_parameters: [ {matcher} ] }}, direct_response: {{ status: 200 }} }} ]"
        ))
        .unwrap();
        let headers = HeaderMap::new();
        let head = RequestHead {
            authority: "a",
            path: "/",
            query,
            method: &Method::GET,
            scheme: "http",
            headers: &headers,
        };
        table.find(&head).is_some()
    };
    let exact = "{ name: \"a%20b\", string_match: { exact: \"c%26d\" } }";
    assert!(holds(exact, Some("x=1&a%20b=c%26d")));
    assert!(!holds(exact, Some("a%20b=no&a%20b=c%26d")));
    assert!(!holds("{ name: ab, string_match: { exact: c } }", Some("a%62=c")));
    assert!(!holds("{ name: a, string_match: { exact: b } }", Some("a=%62")));
    assert!(!holds(exact, None));
    assert!(holds("{ name: a, present_match: true }", Some("a")));
    assert!(holds("{ name: a, present_match: false }", Some("b=a")));
    assert!(holds("{ name: a, string_match: { exact: \"%+1\" } }", Some("a=%+1")));
}

#[test]
fn what_is_not_supported_is_refused_with_its_place() {
    for (routes, place) in [
        (
            r#"[ { match: { prefix: "/" }, route: { cluster_header: x } } ]"#,
            "virtual_hosts[0].routes[0].route.cluster_header",
        ),
        (
            r#"[ { match: { prefix: "/" }, direct_response: { status: 200 } },
                 { match: { safe_regex: { regex: "(" } }, direct_response: { status: 200 } } ]"#,
            "virtual_hosts[0].routes[1].match.safe_regex.regex",
        ),
        (
            r#"[ { match: { safe_regex: { regex: ")|(" } }, direct_response: { status: 200 } } ]"#,
            "virtual_hosts[0].routes[0].match.safe_regex.regex",
        ),
        (
            r#"[ { match: { safe_regex: { regex: "(a{1000}){1000}" } }, direct_response: { status: 200 } } ]"#,
            "virtual_hosts[0].routes[0].match.safe_regex.regex",
        ),
        (
            r#"[ { match: { prefix: "/", cookies: [ { name: a, string_match: { exact: b } } ] }, direct_response: { status: 200 } } ]"#,
            "virtual_hosts[0].routes[0].match.cookies",
        ),
        (
            r#"[ { match: { prefix: "/" }, route: { cluster: a, request_mirror_policies: [ { cluster: b } ] } } ]"#,
            "virtual_hosts[0].routes[0].route.request_mirror_policies",
        ),
        (
            r#"[ { match: { prefix: "/" }, direct_response: { status: 200 }, request_headers_to_add: [ { header: { key: Host, value: b } } ] } ]"#,
            "virtual_hosts[0].routes[0].request_headers_to_add[0].header.key",
        ),
        (
            r#"[ { match: { prefix: "/" }, direct_response: { status: 200 }, response_headers_to_add: [ { header: { key: a, value: "%PEER%" } } ] } ]"#,
            "virtual_hosts[0].routes[0].response_headers_to_add[0].header.value",
        ),
        (
            r#"[ { match: { prefix: "/" }, route: { weighted_clusters: { clusters: [ { name: a } ] } } } ]"#,
            "virtual_hosts[0].routes[0].route.weighted_clusters.clusters",
        ),
        (
            r#"[ { match: { safe_regex: { regex: a } }, route: { cluster: a, prefix_rewrite: "/" } } ]"#,
            "virtual_hosts[0].routes[0].route.prefix_rewrite",
        ),
        (
            r#"[ { match: { prefix: "/" }, route: { cluster: a, timeout: -1s } } ]"#,
            "virtual_hosts[0].routes[0].route.timeout",
        ),
        (
            r#"[ { match: { prefix: "/" }, route: { cluster: a, retry_policy: { retry_on: "5xx,envoy-ratelimited" } } } ]"#,
            "virtual_hosts[0].routes[0].route.retry_policy.retry_on",
        ),
    ] {
        let refused = one_host(routes).unwrap_err();
        assert!(refused.starts_with(&format!("{place}: ")), "{refused}, expected at {place}");
    }
    let twice = table(
        r#"{ "@type": type.googleapis.com/envoy.config.route.v3.RouteConfiguration, name: t, virtual_hosts: [
            { name: a, domains: [ a ] }, { name: b, domains: [ b, A ] } ] }"#,
    );
    assert!(twice.unwrap_err().starts_with("virtual_hosts[1].domains[1]: "));
}

#[test]
fn a_hundred_thousand_routes_cost_no_scan() {
    let matches =
        (0..100_000).map(|index| PathMatch::SeparatedPrefix(format!("/service-{index}/api").into()));
    let matches: Vec<PathMatch> = matches.collect();
    let index = PathIndex::build(matches.iter());
    // The number of conditions asked is the number of candidates, not of routes.
    let asked = std::cell::Cell::new(0);
    let ask = |_| {
        asked.set(asked.get() + 1);
        true
    };
    assert_eq!(index.find("/service-99999/api/x", u32::MAX, ask), Some(99_999));
    assert_eq!(index.find("/service-99999/apix", u32::MAX, ask), None);
    assert_eq!(asked.get(), 1);
}

#[test]
fn weighted_choice_follows_the_weights() {
    let table = one_host(
        r#"[ { match: { prefix: "/" }, route: { weighted_clusters: { clusters: [
            { name: a, weight: 3 }, { name: b, weight: 0 }, { name: c, weight: 1 } ] } } } ]"#,
    )
    .unwrap();
    assert_eq!(table.clusters().len(), 3);
    let headers = HeaderMap::new();
    let head = RequestHead {
        authority: "a",
        path: "/",
        query: None,
        method: &Method::GET,
        scheme: "http",
        headers: &headers,
    };
    let matched = table.find(&head).unwrap();
    let Action::Forward(forward) = &matched.route.action else { panic!("not forwarded") };
    let mut counts = std::collections::BTreeMap::new();
    for _ in 0..10_000 {
        *counts.entry(forward.clusters.choose().0.to_string()).or_insert(0) += 1;
    }
    assert_eq!(counts.get("b"), None);
    // Ten standard deviations around 2500.
    assert!((2067..=2933).contains(&counts["c"]), "{counts:?}");
}

#[test]
fn substitutions_keep_dollars_and_refuse_missing_groups() {
    let change = |pattern: &str, text: &str| {
        let message = mesh_xds_proto::matcher::RegexMatchAndSubstitute {
            pattern: Some(mesh_xds_proto::matcher::RegexMatcher {
                regex: pattern.to_owned(),
                engine_type: None,
            }),
            substitution: text.to_owned(),
        };
        crate::Substitution::compile(&message, At::ROOT)
    };
    assert_eq!(change("/a(/.*)?$", "/$1\\1x").unwrap().apply("/a/b"), "/$1/bx");
    assert_eq!(change("^/", "\\\\").unwrap().apply("/b"), "\\b");
    assert!(change("/a", "\\1").is_err());
    assert!(change("/a", "\\x").is_err());
}
