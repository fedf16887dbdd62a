//! The cases.

use std::time::Duration;

use mesh_model::l7::{Action, HeaderMutation, PathRewrite, Redirect, RouteMatch};
use mesh_model::service::{BackendState, ClientAddress, L7Balance};
use mesh_xds::resolve::ResolveConfig;

use crate::mesh::{
    Mesh, backend, exact, gateway, h2c, header, http_route, ingress, ingress_route, invalid_backend, on,
    on_service, plain, prefix, query, redirect, redirect_to, regex, rewrite, route, rule, split, to,
};

/// Name, input and configuration of each case, by name.
pub(crate) fn all() -> Vec<(&'static str, Mesh, ResolveConfig)> {
    vec![
        ("certificate-missing", certificate_missing(), redirect()),
        ("conflict-host-and-path", conflict(), redirect()),
        ("empty", Mesh::default(), redirect()),
        ("endpoints-terminating", endpoints_terminating(), redirect()),
        ("gateway-headers", gateway_headers(), redirect()),
        ("gateway-listener-isolation", gateway_listener_isolation(), redirect()),
        ("gateway-matches-and-timeouts", gateway_matches(), redirect()),
        ("gateway-redirects", gateway_redirects(), redirect()),
        ("gateway-rewrites", gateway_rewrites(), redirect()),
        ("gateway-unusable-backends", gateway_unusable_backends(), redirect()),
        ("ingress-force-https", ingress_force_https(), redirect()),
        ("ingress-path-types", ingress_path_types(), redirect()),
        ("ingress-shared-addresses", ingress_shared_addresses(), redirect()),
        ("ingress-wildcard-one-label", ingress_wildcard(), redirect()),
        ("plain-listeners", plain_listeners(), plain()),
        ("service-client-address-kept", service_parent(ClientAddress::Keep), redirect()),
        ("service-client-address-of-node", service_parent(ClientAddress::Node), redirect()),
    ]
}

const TABLE_PARENT: &str = "http";

/// A Gateway on port 80, with one backend.
fn web() -> Mesh {
    let web = gateway("default/web");
    Mesh::default()
        .listener(&web, TABLE_PARENT, 80, "*")
        .assign(&web, &["203.0.113.1", "2001:db8::1"])
        .service("default/echo", 80, &["10.96.0.1"])
        .backends("default/echo", 80, &[("10.0.0.1:8080", BackendState::Active)])
}

/// A route of [`web`].
fn web_route(rules: Vec<mesh_model::l7::Rule>) -> Mesh {
    web().route(route(
        &http_route("default/echo", 1),
        &[on(&gateway("default/web"), TABLE_PARENT)],
        &["echo.test"],
        rules,
    ))
}

fn certificate_missing() -> Mesh {
    let web = gateway("default/web");
    Mesh::default()
        .assign(&web, &["203.0.113.1"])
        .listener(&web, "http", 443, "*")
        .tls(&web, "good", 443, "good.test", "default/good")
        .tls(&web, "bad", 443, "bad.test", "default/bad")
        .tls(&web, "missing", 443, "*.missing.test", "default/missing")
        .certificate("default/good")
        .bad_certificate("default/bad")
}

fn conflict() -> Mesh {
    let (a, b) = (http_route("default/younger", 20), http_route("other/older", 10));
    let parent = [on(&gateway("default/web"), TABLE_PARENT)];
    web()
        .route(route(
            &a,
            &parent,
            &["echo.test"],
            vec![rule(vec![prefix("/"), exact("/own")], to("default/echo:80"))],
        ))
        .route(route(&b, &parent, &["echo.test"], vec![rule(vec![prefix("/")], to("other/echo:80"))]))
}

fn endpoints_terminating() -> Mesh {
    web_route(vec![rule(
        vec![prefix("/")],
        split(vec![
            backend("default/echo:80", 1),
            backend("default/last:80", 1),
            backend("default/none:80", 1),
        ]),
    )])
    .service("default/last", 80, &["10.96.0.2"])
    .service("default/none", 80, &["10.96.0.3"])
    .backends(
        "default/echo",
        80,
        &[
            ("10.0.0.1:8080", BackendState::Active),
            ("10.0.0.2:8080", BackendState::Terminating),
            ("[fd00::1]:8080", BackendState::Active),
        ],
    )
    .backends("default/last", 80, &[("10.0.0.3:8080", BackendState::Terminating)])
    .backends("default/none", 80, &[])
}

fn gateway_headers() -> Mesh {
    let mut changing = rule(vec![prefix("/")], to("default/echo:80"));
    changing.request_headers = HeaderMutation {
        set: vec![("x-set".into(), "100%".into())],
        add: vec![("x-add".into(), "1".into()), ("x-set".into(), "2".into())],
        remove: vec!["x-gone".into()],
    };
    changing.response_headers = HeaderMutation {
        set: vec![("x-empty".into(), String::new())],
        add: vec![],
        remove: vec!["server".into()],
    };
    let mut one = backend("default/echo:80", 9);
    one.request_headers.set.push(("x-backend".into(), "stable".into()));
    let mut two = backend("default/canary:80", 1);
    two.request_headers.set.push(("x-backend".into(), "canary".into()));
    two.response_headers.remove.push("x-powered-by".into());
    web_route(vec![changing, rule(vec![prefix("/split")], split(vec![one, two]))])
}

fn gateway_listener_isolation() -> Mesh {
    let web = gateway("default/web");
    let at = |name: &str, section: &str, hosts: &[&str]| {
        route(
            &http_route(&format!("default/{name}"), 1),
            &[on(&web, section)],
            hosts,
            vec![rule(vec![prefix("/")], to(&format!("default/{name}:80")))],
        )
    };
    Mesh::default()
        .assign(&web, &["203.0.113.1"])
        .listener(&web, "any", 80, "*")
        .listener(&web, "wild", 80, "*.example.com")
        .listener(&web, "exact", 80, "foo.example.com")
        .listener(&web, "empty", 80, "empty.example.com")
        .route(at("any", "any", &[]))
        .route(at("hidden", "any", &["bar.example.com"]))
        .route(at("wild", "wild", &[]))
        .route(at("exact", "exact", &[]))
}

fn gateway_matches() -> Mesh {
    let full = RouteMatch {
        method: Some("POST".to_owned()),
        headers: vec![header("x-version", "2"), header("accept", "a/b")],
        query: vec![query("debug", "1")],
        ..prefix("/api")
    };
    let mut slow = rule(vec![full, regex("/v[0-9]+/.*")], to("default/echo:80"));
    slow.timeouts.request = Some(Duration::from_millis(2500));
    slow.timeouts.backend_request = Some(Duration::from_secs(5));
    web_route(vec![slow, rule(vec![exact("/health"), prefix("/")], to("default/echo:80"))])
}

fn gateway_redirects() -> Mesh {
    let moved = |change: fn(&mut Redirect)| {
        let mut to = redirect_to(None, None);
        change(&mut to);
        Action::Redirect(to)
    };
    web_route(vec![
        rule(vec![prefix("/https")], moved(|to| to.scheme = Some("https".into()))),
        rule(vec![prefix("/port")], moved(|to| to.port = Some(8443))),
        rule(vec![prefix("/host")], moved(|to| to.hostname = Some("other.test".into()))),
        rule(
            vec![prefix("/full")],
            moved(|to| {
                to.path = Some(PathRewrite::Full("/new".into()));
                to.status = 308;
            }),
        ),
        rule(
            vec![prefix("/old")],
            moved(|to| {
                to.path = Some(PathRewrite::Prefix("/new".into()));
                to.status = 302;
            }),
        ),
        rule(vec![prefix("/strip")], moved(|to| to.path = Some(PathRewrite::Prefix("/".into())))),
    ])
}

fn gateway_rewrites() -> Mesh {
    let mut host = to("default/echo:80");
    if let Action::Forward(forward) = &mut host {
        forward.rewrite.hostname = Some("inner.test".into());
    }
    web_route(vec![
        rule(vec![prefix("/prefix")], rewrite("default/echo:80", PathRewrite::Prefix("/to".into()))),
        rule(vec![prefix("/strip.me")], rewrite("default/echo:80", PathRewrite::Prefix("/".into()))),
        rule(vec![prefix("/")], rewrite("default/echo:80", PathRewrite::Prefix("/below".into()))),
        rule(vec![exact("/full")], rewrite("default/echo:80", PathRewrite::Full("/all".into()))),
        rule(vec![prefix("/host")], host),
    ])
}

fn gateway_unusable_backends() -> Mesh {
    web_route(vec![
        rule(vec![prefix("/some")], split(vec![backend("default/echo:80", 2), invalid_backend(1)])),
        rule(vec![prefix("/all")], split(vec![invalid_backend(1)])),
        rule(vec![prefix("/zero")], split(vec![backend("default/echo:80", 0)])),
    ])
}

fn ingress_force_https() -> Mesh {
    let shop = ingress("default/shop", 1);
    Mesh::default()
        .assign(&shop, &["203.0.113.1"])
        .listener(&shop, "http", 80, "*")
        .tls(&shop, "https-shop.test", 443, "shop.test", "default/shop")
        .certificate("default/shop")
        .service("default/shop", 80, &["10.96.0.1"])
        .route(ingress_route(
            &shop,
            &["http"],
            &["shop.test"],
            vec![rule(vec![prefix("/")], Action::Redirect(redirect_to(Some("https"), None)))],
        ))
        .route(ingress_route(
            &shop,
            &["https-shop.test"],
            &["shop.test"],
            vec![rule(vec![prefix("/")], to("default/shop:80"))],
        ))
}

fn ingress_path_types() -> Mesh {
    let shop = ingress("default/shop", 1);
    Mesh::default()
        .assign(&shop, &["203.0.113.1"])
        .listener(&shop, "http", 80, "*")
        .service("default/shop", 80, &["10.96.0.1"])
        .route(ingress_route(
            &shop,
            &["http"],
            &["shop.test"],
            vec![
                rule(vec![prefix("/")], to("default/shop:80")),
                rule(vec![prefix("/foo"), prefix("/foo/bar")], to("default/shop:80")),
                rule(vec![regex("/impl.+")], to("default/shop:80")),
                rule(vec![exact("/foo")], to("default/shop:80")),
            ],
        ))
        .route(ingress_route(&shop, &["http"], &[], vec![rule(vec![prefix("/")], to("default/fallback:80"))]))
}

fn ingress_shared_addresses() -> Mesh {
    let (one, two) = (ingress("default/one", 1), ingress("shop/two", 2));
    Mesh::default()
        .share(&one, "ingress")
        .share(&two, "ingress")
        .assign(&one, &["203.0.113.1", "2001:db8::1"])
        .assign(&two, &["203.0.113.1", "2001:db8::1"])
        .listener(&one, "http", 80, "*")
        .listener(&two, "http", 80, "*")
        .tls(&one, "https-one.test", 443, "one.test", "default/one")
        .tls(&two, "https-two.test", 443, "two.test", "shop/two")
        .tls(&two, "https-*.two.test", 443, "*.two.test", "shop/two")
        .certificate("default/one")
        .certificate("shop/two")
        .route(ingress_route(
            &one,
            &["http", "https-one.test"],
            &["one.test"],
            vec![rule(vec![prefix("/")], to("default/one:80"))],
        ))
        .route(ingress_route(
            &two,
            &["http", "https-two.test", "https-*.two.test"],
            &["two.test", "*.two.test"],
            vec![rule(vec![prefix("/")], to("shop/two:8080"))],
        ))
}

fn ingress_wildcard() -> Mesh {
    let shop = ingress("default/shop", 1);
    Mesh::default()
        .assign(&shop, &["203.0.113.1"])
        .listener(&shop, "http", 80, "*")
        .route(ingress_route(
            &shop,
            &["http"],
            &["*.shop.test"],
            vec![rule(vec![prefix("/cart"), prefix("/")], to("default/shop:80"))],
        ))
        .route(ingress_route(&shop, &["http"], &[], vec![rule(vec![prefix("/")], to("default/fallback:80"))]))
}

fn plain_listeners() -> Mesh {
    let (web, shop) = (gateway("default/web"), ingress("default/shop", 2));
    Mesh::default()
        .listener(&web, "http", 80, "*")
        .tls(&web, "https", 443, "*", "default/web")
        .listener(&web, "high", 9000, "*")
        .listener(&web, "low", 81, "*")
        .listener(&shop, "http", 80, "*")
        .certificate("default/web")
        .service("default/echo", 80, &["10.96.0.1"])
        .route(route(
            &http_route("default/echo", 1),
            &[
                on(&web, "http"),
                on(&web, "https"),
                on(&web, "high"),
                on(&web, "low"),
                on_service("default/echo", 80),
            ],
            &[],
            vec![rule(vec![prefix("/")], to("default/echo:80"))],
        ))
        .route(ingress_route(
            &shop,
            &["http"],
            &["shop.test"],
            vec![rule(vec![prefix("/")], Action::Redirect(redirect_to(Some("https"), None)))],
        ))
}

fn service_parent(client_address: ClientAddress) -> Mesh {
    let parent = [on_service("default/echo", 80)];
    Mesh::default()
        .service_with("default/echo", 80, &["10.96.0.1", "fd00::1"], |service| {
            service.client_address = client_address;
        })
        .service_with("default/canary", 9000, &["10.96.0.2"], |service| {
            h2c(service);
            service.l7_balance = L7Balance::LeastRequest;
        })
        .backends("default/echo", 80, &[("10.0.0.1:8080", BackendState::Active)])
        .backends("default/canary", 9000, &[("10.0.0.2:9000", BackendState::Active)])
        .route(route(
            &http_route("default/split", 1),
            &parent,
            &["ignored.test"],
            vec![rule(
                vec![prefix("/split")],
                split(vec![backend("default/echo:80", 90), backend("default/canary:9000", 10)]),
            )],
        ))
        .route(route(
            &http_route("default/moved", 2),
            &parent,
            &[],
            vec![rule(vec![exact("/moved")], Action::Redirect(redirect_to(None, None)))],
        ))
}
