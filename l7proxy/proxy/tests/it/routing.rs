//! What route configurations do to requests.

use http::{Request, Response, StatusCode};

use crate::harness::{Backend, Client, Proxy, cluster, empty, endpoints, full, http_listener, routes};

/// A proxy with two clusters, `one` and `two`, whose endpoints say their names and echo what they got.
async fn proxy_with(table: &str) -> (Proxy, std::net::SocketAddr, Backend, Backend) {
    proxy_with_manager(table, "").await
}

async fn proxy_with_manager(table: &str, manager: &str) -> (Proxy, std::net::SocketAddr, Backend, Backend) {
    let echo = |name: &'static str| {
        move |seen: crate::harness::Seen| {
            let mut response = Response::builder().header("x-backend", name).header("x-path", &seen.uri);
            for (name, value) in &seen.headers {
                response = response.header(format!("got-{name}"), value);
            }
            response.header("x-remove-me", "1").body(full(name)).unwrap()
        }
    };
    let (one, two) = (Backend::http1(echo("one")).await, Backend::http1(echo("two")).await);
    let mut proxy = Proxy::start();
    proxy.apply(&[
        cluster("one", ""),
        endpoints("one", &[one.address]),
        cluster("two", ""),
        endpoints("two", &[two.address]),
        http_listener("web", manager),
        routes("web", table),
    ]);
    let address = proxy.listen("web");
    (proxy, address, one, two)
}

#[tokio::test]
async fn first_route_that_matches_wins() {
    let (_proxy, address, ..) = proxy_with(
        r#"[
            { match: { path: "/exact" }, route: { cluster: two } },
            { match: { prefix: "/", headers: [ { name: x-pick, string_match: { exact: two } } ] }, route: { cluster: two } },
            { match: { path_separated_prefix: "/app" }, route: { cluster: one } },
            { match: { safe_regex: { regex: "/r[0-9]+" } }, route: { cluster: two } },
            { match: { prefix: "/q", query_parameters: [ { name: v, string_match: { exact: "2" } } ] }, route: { cluster: two } },
            { match: { prefix: "/", headers: [ { name: ":method", string_match: { exact: DELETE } } ] }, route: { cluster: two } },
            { match: { prefix: "/appendix" }, direct_response: { status: 410 } },
            { match: { prefix: "/" }, route: { cluster: one } }
        ]"#,
    )
    .await;
    let mut client = Client::connect(address).await;
    for (path, expected) in [
        ("/exact", "two"),
        ("/exact/not", "one"),
        ("/app", "one"),
        ("/app/x", "one"),
        ("/r12", "two"),
        ("/r12x", "one"),
        ("/q?v=2", "two"),
        ("/q?v=22", "one"),
        ("/q?w=1&v=2", "two"),
    ] {
        assert_eq!(client.get(path).await.text(), expected, "{path}");
    }
    assert_eq!(client.get("/appendix").await.status, StatusCode::GONE);
    let request = Request::delete("/").header("host", "a").body(empty()).unwrap();
    assert_eq!(client.send(request).await.unwrap().text(), "two");
    let request = Request::get("/").header("host", "a").header("x-pick", "two").body(empty()).unwrap();
    assert_eq!(client.send(request).await.unwrap().text(), "two");
}

#[tokio::test]
async fn hosts_choose_the_virtual_host() {
    let (mut proxy, address, ..) = proxy_with("[]").await;
    proxy.apply(&[r#"{ "@type": type.googleapis.com/envoy.config.route.v3.RouteConfiguration, name: web,
        ignore_port_in_host_matching: true, virtual_hosts: [
        { name: a, domains: ["a.example"], routes: [ { match: { prefix: "/" }, direct_response: { status: 201 } } ] },
        { name: w, domains: ["*.example"], routes: [ { match: { prefix: "/" }, direct_response: { status: 202 } } ] },
        { name: nested, domains: ["*.b.example"], routes: [ { match: { prefix: "/" }, direct_response: { status: 203 } } ] } ] }"#
        .to_owned()]);
    let mut client = Client::connect(address).await;
    for (host, status) in [
        ("a.example", 201),
        ("A.Example:8080", 201),
        ("c.example", 202),
        ("x.a.example", 202),
        ("x.b.example", 203),
        ("b.example", 202),
        ("example", 404),
        ("other", 404),
    ] {
        // The routes may take a moment to arrive.
        let mut found = 0;
        for _ in 0..1000 {
            let request = Request::get("/").header("host", host).body(empty()).unwrap();
            found = client.send(request).await.unwrap().status.as_u16();
            if found == status {
                break;
            }
        }
        assert_eq!(found, status, "{host}");
    }
}

#[tokio::test]
async fn weights_split_requests() {
    let (_proxy, address, ..) = proxy_with(
        r#"[ { match: { prefix: "/" }, route: { weighted_clusters: { clusters: [
            { name: one, weight: 90, request_headers_to_add: [ { header: { key: x-chosen, value: first } } ] },
            { name: two, weight: 10, response_headers_to_add: [ { header: { key: x-chosen, value: second } } ] } ] } } } ]"#,
    )
    .await;
    let mut client = Client::connect(address).await;
    let mut two = 0;
    for _ in 0..1000 {
        let reply = client.get("/").await;
        match reply.text() {
            "one" => assert_eq!(reply.header("got-x-chosen"), Some("first")),
            _ => {
                assert_eq!(reply.header("x-chosen"), Some("second"));
                two += 1;
            }
        }
    }
    // Ten standard deviations of a binomial distribution around 100: fails once in 10^23.
    assert!((6..=195).contains(&two), "{two} of 1000 with a weight of 10 in 100");
}

#[tokio::test]
async fn paths_are_rewritten_and_the_query_stays() {
    let (_proxy, address, ..) = proxy_with(
        r#"[
            { match: { path_separated_prefix: "/old" }, route: { cluster: one, prefix_rewrite: "/new" } },
            { match: { prefix: "/strip/" }, route: { cluster: one, prefix_rewrite: "/" } },
            { match: { prefix: "/re/" }, route: { cluster: one,
                regex_rewrite: { pattern: { regex: "^/re/([a-z]+)/(.*)$" }, substitution: "/\\2/\\1" } } },
            { match: { prefix: "/host" }, route: { cluster: one, host_rewrite_literal: inner.example } },
            { match: { prefix: "/" }, route: { cluster: one } }
        ]"#,
    )
    .await;
    let mut client = Client::connect(address).await;
    for (path, expected) in [
        ("/old/a?x=1", "/new/a?x=1"),
        ("/old", "/new"),
        ("/older", "/older"),
        ("/strip/a", "/a"),
        ("/re/abc/d/e", "/d/e/abc"),
    ] {
        let reply = client.get(path).await;
        assert_eq!(reply.header("x-path"), Some(expected), "{path}");
        let original = (path != expected).then_some(path);
        assert_eq!(reply.header("got-x-envoy-original-path"), original, "{path}");
    }
    assert_eq!(client.get("/host").await.header("got-host"), Some("inner.example"));
}

#[tokio::test]
async fn redirects_point_to_where_they_should() {
    let (_proxy, address, ..) = proxy_with(
        r#"[
            { match: { path: "/https" }, redirect: { https_redirect: true } },
            { match: { path: "/host" }, redirect: { host_redirect: other.example, response_code: FOUND } },
            { match: { path: "/port" }, redirect: { port_redirect: 8443, scheme_redirect: https } },
            { match: { path: "/path" }, redirect: { path_redirect: "/there", response_code: PERMANENT_REDIRECT } },
            { match: { path_separated_prefix: "/pre" }, redirect: { prefix_rewrite: "/post", strip_query: true } }
        ]"#,
    )
    .await;
    let mut client = Client::connect(address).await;
    for (path, status, location) in [
        ("/https?a=b", 301, "https://example.com/https?a=b"),
        ("/host", 302, "http://other.example/host"),
        ("/port", 301, "https://example.com:8443/port"),
        ("/path?a", 308, "http://example.com/there?a"),
        ("/pre/x?a=b", 301, "http://example.com/post/x"),
    ] {
        let reply = client.get(path).await;
        assert_eq!(reply.status.as_u16(), status, "{path}");
        assert_eq!(reply.header("location"), Some(location), "{path}");
    }
}

#[tokio::test]
async fn headers_are_added_and_removed_on_both_ways() {
    let (_proxy, address, ..) = proxy_with(
        r#"[ { match: { prefix: "/" }, route: { cluster: one },
            request_headers_to_add: [
                { header: { key: x-add, value: new } },
                { header: { key: x-over, value: new }, append_action: OVERWRITE_IF_EXISTS_OR_ADD },
                { header: { key: x-absent, value: new }, append_action: ADD_IF_ABSENT } ],
            request_headers_to_remove: [ x-gone ],
            response_headers_to_add: [ { header: { key: x-new, value: "100%%" } } ],
            response_headers_to_remove: [ x-remove-me ] } ]"#,
    )
    .await;
    let request = Request::get("/")
        .header("host", "a")
        .header("x-over", "old")
        .header("x-absent", "old")
        .header("x-gone", "old")
        .body(empty())
        .unwrap();
    let reply = Client::connect(address).await.send(request).await.unwrap();
    assert_eq!(reply.header("got-x-add"), Some("new"));
    assert_eq!(reply.header("got-x-over"), Some("new"));
    assert_eq!(reply.header("got-x-absent"), Some("old"));
    assert_eq!(reply.header("got-x-gone"), None);
    assert_eq!(reply.header("x-new"), Some("100%"));
    assert_eq!(reply.header("x-remove-me"), None);
}

#[tokio::test]
async fn the_same_path_is_matched_and_forwarded() {
    let (_proxy, address, ..) = proxy_with_manager(
        r#"[ { match: { prefix: "/admin" }, direct_response: { status: 403 } },
             { match: { prefix: "/" }, route: { cluster: one } } ]"#,
        "normalize_path: true, merge_slashes: true, path_with_escaped_slashes_action: REJECT_REQUEST,",
    )
    .await;
    for path in [
        "/x/../admin",
        "/%61dmin",
        "//admin",
        "/x/%2e%2e/admin",
        "/./admin",
        "/x/..;a=b/admin",
        "/x\\..\\admin",
    ] {
        let reply = crate::harness::exchange_raw(
            address,
            &format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"),
        )
        .await;
        assert!(reply.starts_with("HTTP/1.1 403") || reply.starts_with("HTTP/1.1 400"), "{path}: {reply}");
    }
    let mut client = Client::connect(address).await;
    assert_eq!(client.get("/a//b/./c%7e?x=//").await.header("x-path"), Some("/a/b/c~?x=//"));
    assert_eq!(client.get("/a%2fb").await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn escaped_slashes_are_sent_back_when_asked_for() {
    let (_proxy, address, ..) = proxy_with_manager(
        r#"[ { match: { prefix: "/" }, route: { cluster: one } } ]"#,
        "normalize_path: true, path_with_escaped_slashes_action: UNESCAPE_AND_REDIRECT,",
    )
    .await;
    let reply = Client::connect(address).await.get("/a%2Fb?c=%2F").await;
    assert_eq!(reply.status, StatusCode::TEMPORARY_REDIRECT);
    assert_eq!(reply.header("location"), Some("/a/b?c=%2F"));
}

#[tokio::test]
async fn clients_cannot_say_what_the_proxy_says() {
    let (_proxy, address, ..) = proxy_with_manager(
        r#"[ { match: { prefix: "/" }, route: { cluster: one } } ]"#,
        "use_remote_address: true,",
    )
    .await;
    let request = Request::get("/")
        .header("host", "a")
        .header("x-forwarded-for", "203.0.113.9")
        .header("x-forwarded-proto", "https")
        .header("x-envoy-original-path", "/forged")
        .header("x-envoy-external-address", "203.0.113.9")
        .header("x-forwarded-client-cert", "forged")
        .body(empty())
        .unwrap();
    let reply = Client::connect(address).await.send(request).await.unwrap();
    assert_eq!(reply.header("got-x-forwarded-for"), Some("203.0.113.9,127.0.0.1"));
    assert_eq!(reply.header("got-x-forwarded-proto"), Some("http"));
    assert_eq!(reply.header("got-x-envoy-original-path"), None);
    assert_eq!(reply.header("got-x-envoy-external-address"), Some("127.0.0.1"));
    assert_eq!(reply.header("got-x-forwarded-client-cert"), None);
    assert_eq!(reply.header("got-x-request-id").unwrap().len(), 36);
}

#[tokio::test]
async fn trusted_hops_are_believed_as_far_as_they_go() {
    let (_proxy, address, ..) = proxy_with_manager(
        r#"[ { match: { prefix: "/" }, route: { cluster: one } } ]"#,
        "use_remote_address: true, xff_num_trusted_hops: 1,",
    )
    .await;
    let request = Request::get("/")
        .header("host", "a")
        .header("x-forwarded-for", "198.51.100.1, 203.0.113.9")
        .header("x-forwarded-proto", "https")
        .body(empty())
        .unwrap();
    let reply = Client::connect(address).await.send(request).await.unwrap();
    assert_eq!(reply.header("got-x-envoy-external-address"), Some("203.0.113.9"));
    assert_eq!(reply.header("got-x-forwarded-proto"), Some("https"));
    assert_eq!(reply.header("got-x-forwarded-for"), Some("198.51.100.1, 203.0.113.9,127.0.0.1"));
}
