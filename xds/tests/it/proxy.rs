//! The same resources in our own proxy's configuration.

use std::collections::BTreeSet;

use fastrand::Rng;
use http::{HeaderMap, HeaderValue, Method};
use mesh_l7proxy_config::route::{Action, RequestHead};
use mesh_l7proxy_config::{ConfigStore, NamedResource, Rejected};
use mesh_model::Hostname;
use mesh_model::l7::{PathMatch, RouteMatch, ValueMatch};
use mesh_xds::resolve::{EffectiveHost, EffectiveRoute, RouteTable};
use mesh_xds::server::ResourceSet;
use mesh_xds_proto::{any, core, tls, type_urls};

use crate::golden;
use crate::mesh::{plain, redirect};
use crate::properties::for_each_mesh;

/// A proxy that was given all resources in the order of the stream, and what it refused.
pub(crate) fn proxy(set: &ResourceSet) -> (ConfigStore, Vec<Rejected>) {
    let mut store = ConfigStore::new();
    let mut rejected = Vec::new();
    for wanted in type_urls::IN_ORDER {
        let resources = set.iter().filter(|(url, ..)| *url == wanted).map(|(_, name, body)| NamedResource {
            name: name.to_owned(),
            version: "1".to_owned(),
            body: body.clone(),
        });
        rejected.extend(store.apply(wanted, resources.collect(), &[]));
    }
    (store, rejected)
}

/// Goes from one set to another as the server does: additions of all types, then removals.
fn change(store: &mut ConfigStore, from: &ResourceSet, to: &ResourceSet) -> Vec<Rejected> {
    let mut rejected = Vec::new();
    for wanted in type_urls::IN_ORDER {
        let of_type = to.iter().filter(|(url, ..)| *url == wanted);
        let upserts = of_type.map(|(_, name, body)| NamedResource {
            name: name.to_owned(),
            version: "2".to_owned(),
            body: body.clone(),
        });
        rejected.extend(store.apply(wanted, upserts.collect(), &[]));
    }
    let kept: BTreeSet<(&str, &str)> = to.iter().map(|(url, name, _)| (url, name)).collect();
    for wanted in type_urls::IN_ORDER.into_iter().rev() {
        let gone = from.iter().filter(|(url, name, _)| *url == wanted && !kept.contains(&(*url, *name)));
        let gone: Vec<String> = gone.map(|(_, name, _)| name.to_owned()).collect();
        rejected.extend(store.apply(wanted, Vec::new(), &gone));
    }
    rejected
}

/// Puts a real certificate in place of the words of the golden cases.
fn with_real_certificates(set: &ResourceSet) -> ResourceSet {
    let real = rcgen::generate_simple_self_signed(["test".to_owned()]).expect("a certificate");
    let inline = |text: String| {
        Some(core::DataSource {
            specifier: Some(core::data_source::Specifier::InlineString(text)),
            ..Default::default()
        })
    };
    let mut changed = ResourceSet::default();
    for (url, name, body) in set.iter() {
        if url != type_urls::SECRET {
            changed.insert(name, body.clone());
            continue;
        }
        let certificate = tls::TlsCertificate {
            certificate_chain: inline(real.cert.pem()),
            private_key: inline(real.signing_key.serialize_pem()),
            ..Default::default()
        };
        let secret = tls::Secret {
            name: name.to_owned(),
            r#type: Some(tls::secret::Type::TlsCertificate(certificate)),
        };
        changed.insert(name, any(&secret));
    }
    changed
}

#[test]
fn our_proxy_takes_every_golden_case() {
    for (name, mesh, config) in golden::cases::all() {
        let set = with_real_certificates(&golden::resources(name, &mesh, &config));
        let (store, rejected) = proxy(&set);
        assert_eq!(rejected, [], "{name}");
        assert_eq!(
            store.snapshot().listeners().count(),
            set.iter().filter(|(u, ..)| *u == type_urls::LISTENER).count()
        );
    }
}

/// A request as the reference sees it.
struct Request {
    host: &'static str,
    path: &'static str,
    method: Method,
    x: Option<&'static str>,
}

fn random_request(rng: &mut Rng) -> Request {
    let hosts =
        ["a.test", "b.test", "x.a.test", "y.x.a.test", "z.y.x.a.test", "other.test", "q.a.test", "org"];
    let paths = ["/", "/a", "/a/", "/ab", "/a/b", "/a/b/c", "/c", "/d"];
    Request {
        host: hosts[rng.usize(..hosts.len())],
        path: paths[rng.usize(..paths.len())],
        method: if rng.bool() { Method::GET } else { Method::POST },
        x: [None, Some("1"), Some("2")][rng.usize(..3)],
    }
}

/// What a resolved table says about a request, in the plainest way: no index, no proxy.
fn expected<'a>(table: &'a RouteTable, request: &Request) -> Option<&'a EffectiveRoute> {
    let host = most_specific(table, request.host)?;
    let routes = match (&host.deeper, &host.host) {
        (Some(deeper), Hostname::Wildcard(suffix)) => {
            let below = request.host.strip_suffix(suffix.as_str()).expect("the host covers it");
            if below.trim_end_matches('.').contains('.') { deeper } else { &host.routes }
        }
        _ => &host.routes,
    };
    routes.iter().find(|route| holds(&route.matches, request))
}

fn most_specific<'a>(table: &'a RouteTable, host: &str) -> Option<&'a EffectiveHost> {
    let exact = Hostname::Exact(host.to_owned());
    let covering = table.hosts.iter().filter(|h| h.host.intersect(&exact).as_ref() == Some(&exact));
    covering.max_by_key(|h| match &h.host {
        Hostname::Any => 0,
        Hostname::Wildcard(suffix) => suffix.len(),
        Hostname::Exact(_) => usize::MAX,
    })
}

fn holds(matches: &RouteMatch, request: &Request) -> bool {
    let path = match &matches.path {
        PathMatch::Exact(path) => request.path == path,
        PathMatch::Prefix(prefix) if prefix == "/" => true,
        PathMatch::Prefix(prefix) => request
            .path
            .strip_prefix(prefix.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        // The random expressions are plain text.
        PathMatch::Regex(expression) => request.path == expression,
    };
    let headers = matches.headers.iter().all(|header| {
        header.name == "x"
            && matches!(&header.value, ValueMatch::Exact(value) if request.x == Some(value.as_str()))
    });
    path && headers && matches.method.as_deref().is_none_or(|method| method == request.method.as_str())
}

#[test]
fn our_proxy_picks_the_route_that_the_resolved_mesh_says() {
    let mut found_some = 0;
    for_each_mesh(|rng, mesh, seed| {
        let effective = mesh.resolve(&redirect());
        let (store, rejected) = proxy(&with_real_certificates(&mesh.lower(&redirect())));
        assert_eq!(rejected, [], "seed {seed}");
        let snapshot = store.snapshot();
        for table in &effective.route_tables {
            let compiled = snapshot.routes(&table.name).expect("every table is taken");
            for _ in 0..50 {
                let request = random_request(rng);
                let mut headers = HeaderMap::new();
                if let Some(x) = request.x {
                    headers.insert("x", HeaderValue::from_static(x));
                }
                let head = RequestHead {
                    authority: &format!("{}:8080", request.host),
                    path: request.path,
                    query: None,
                    method: &request.method,
                    scheme: "http",
                    headers: &headers,
                };
                let found = compiled.find(&head).map(|matched| matched.route);
                // The route that settles deeper hosts with 404 has no name.
                let found = found.map(|route| route.name.to_string()).filter(|name| !name.is_empty());
                let expected = expected(table, &request).map(|route| {
                    let origin = &route.rule.origin;
                    format!("{}/{}/{}", origin.object.kind.to_lowercase(), origin.object.name, origin.field)
                });
                found_some += usize::from(found.is_some());
                assert_eq!(found, expected, "seed {seed}, {}, {}{}", table.name, request.host, request.path);
            }
        }
    });
    assert!(found_some > 1000, "the random requests match too little to say anything: {found_some}");
}

#[test]
fn our_proxy_answers_an_unusable_backends_share_with_500() {
    let (_, mesh, config) = golden::cases::all()
        .into_iter()
        .find(|(name, ..)| *name == "gateway-unusable-backends")
        .expect("the case is there");
    let (store, _) = proxy(&mesh.lower(&config));
    let snapshot = store.snapshot();
    let table = snapshot.routes("203.0.113.1:80/http").expect("the table is taken");
    let headers = HeaderMap::new();
    let head = RequestHead {
        authority: "echo.test",
        path: "/some",
        query: None,
        method: &Method::GET,
        scheme: "http",
        headers: &headers,
    };
    let mut refused = 0;
    for _ in 0..3000 {
        let matched = table.find(&head).expect("a route");
        refused += u32::from(matches!(&matched.route.action, Action::Respond(r) if r.status == 500));
    }
    // A third of 3000; six standard deviations are 155.
    assert!((845..=1155).contains(&refused), "{refused}");
}

#[test]
fn our_proxy_refuses_nothing_on_the_way_from_any_mesh_to_any_other() {
    for config in [redirect(), plain()] {
        let mut last = ResourceSet::default();
        let mut store = ConfigStore::new();
        for_each_mesh(|_, mesh, seed| {
            let next = with_real_certificates(&mesh.lower(&config));
            assert_eq!(
                change(&mut store, &last, &next),
                [],
                "seed {seed}, after the mesh of the seed before"
            );
            last = next;
        });
    }
}
