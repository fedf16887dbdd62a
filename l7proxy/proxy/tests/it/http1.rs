//! HTTP/1 from end to end.

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};

use crate::harness::{Backend, Client, Proxy, cluster, endpoints, eventually, full, routes, trailing};

#[tokio::test]
async fn request_and_response_pass_with_their_bodies() {
    let backend = Backend::http1(|seen| {
        assert_eq!(seen.method, "POST");
        assert_eq!(seen.uri, "/a/b?c=d");
        assert_eq!(seen.header("host"), Some("shop.example:8080"));
        assert_eq!(seen.header("x-mine"), Some("yes"));
        Response::builder().status(201).header("x-theirs", "too").body(full(seen.body)).unwrap()
    })
    .await;
    let (_proxy, address) = Proxy::forwarding(backend.address);
    let request = Request::post("/a/b?c=d")
        .header("host", "shop.example:8080")
        .header("x-mine", "yes")
        .body(full("hello"))
        .unwrap();
    let reply = Client::connect(address).await.send(request).await.unwrap();
    assert_eq!((reply.status, reply.text()), (StatusCode::CREATED, "hello"));
    assert_eq!(reply.header("x-theirs"), Some("too"));
    assert_eq!(reply.header("server"), Some("envoy"));
    assert!(reply.header("x-envoy-upstream-service-time").is_some());
}

#[tokio::test]
async fn downstream_and_upstream_connections_are_kept() {
    let backend = Backend::saying("hello").await;
    let (proxy, address) = Proxy::forwarding(backend.address);
    let mut client = Client::connect(address).await;
    for _ in 0..20 {
        assert_eq!(client.get("/").await.text(), "hello");
    }
    assert_eq!(backend.connections(), 1);
    assert_eq!(
        proxy.metric("envoy_cluster_upstream_cx_total{envoy_cluster_name=\"backend\"}", 1.0).await,
        1.0
    );
    assert_eq!(
        proxy.metric("envoy_cluster_upstream_rq_total{envoy_cluster_name=\"backend\"}", 20.0).await,
        20.0
    );
}

#[tokio::test]
async fn connection_outlives_new_routes_and_follows_them() {
    let (old, new) = (Backend::saying("old").await, Backend::saying("new").await);
    let (mut proxy, address) = Proxy::forwarding(old.address);
    let mut client = Client::connect(address).await;
    assert_eq!(client.get("/").await.text(), "old");
    proxy.apply(&[
        cluster("other", ""),
        endpoints("other", &[new.address]),
        routes("web", r#"[{ match: { prefix: "/" }, route: { cluster: other } }]"#),
    ]);
    // The thread takes the snapshot at its next turn; from then on every request follows it.
    let mut replies = Vec::new();
    while replies.last().is_none_or(|reply| reply != "new") {
        replies.push(client.get("/").await.text().to_owned());
        assert!(replies.len() < 1000, "the new routes were never used");
    }
    assert_eq!(client.get("/").await.text(), "new");
    assert!(!client.is_closed());
}

#[tokio::test]
async fn announced_trailers_pass_when_the_client_takes_them() {
    let backend = Backend::http1(|seen| {
        assert_eq!(seen.header("te"), Some("trailers"));
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("42"));
        trailers.insert("x-unannounced", HeaderValue::from_static("1"));
        Response::builder().header("trailer", "x-sum").body(trailing("body", trailers)).unwrap()
    })
    .await;
    let (_proxy, address) = Proxy::forwarding(backend.address);
    let request = Request::get("/")
        .header("host", "example.com")
        .header("te", "trailers")
        .header("connection", "te")
        .body(full(""))
        .unwrap();
    let reply = Client::connect(address).await.send(request).await.unwrap();
    assert_eq!(reply.text(), "body");
    assert_eq!(reply.trailers.unwrap().get("x-sum").unwrap(), "42");
}

#[tokio::test]
async fn request_trailers_pass() {
    let backend = Backend::http1(|seen| {
        assert_eq!(seen.body, "body");
        let sum = seen.trailers.unwrap().get("x-sum").unwrap().clone();
        Response::builder().header("x-got", sum).body(full("")).unwrap()
    })
    .await;
    let (_proxy, address) = Proxy::forwarding(backend.address);
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("42"));
    let request = Request::post("/")
        .header("host", "example.com")
        .header("trailer", "x-sum")
        .body(trailing("body", trailers))
        .unwrap();
    let reply = Client::connect(address).await.send(request).await.unwrap();
    assert_eq!(reply.header("x-got"), Some("42"));
}

#[tokio::test]
async fn hop_by_hop_headers_end_at_the_proxy() {
    let backend = Backend::http1(|seen| {
        for name in ["connection", "keep-alive", "proxy-connection", "x-private", "te"] {
            assert_eq!(seen.header(name), None, "{name}");
        }
        // Nominating what the proxy adds takes nothing away.
        assert!(seen.header("x-forwarded-for").is_some());
        Response::builder().header("connection", "x-secret").header("x-secret", "1").body(full("ok")).unwrap()
    })
    .await;
    let (_proxy, address) = Proxy::forwarding_with(backend.address, "use_remote_address: true,", "");
    let request = Request::get("/")
        .header("host", "example.com")
        .header("connection", "X-Private, X-Forwarded-For")
        .header("x-private", "1")
        .header("keep-alive", "timeout=5")
        .header("proxy-connection", "keep-alive")
        .body(full(""))
        .unwrap();
    let reply = Client::connect(address).await.send(request).await.unwrap();
    assert_eq!(reply.text(), "ok");
    assert_eq!(reply.header("x-secret"), None);
}

#[tokio::test]
async fn stale_pooled_connection_is_replaced_without_the_client_noticing() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    // Answers one request a connection and closes it without saying so beforehand.
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = socket.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = socket.accept().await.unwrap();
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                let _ = stream.read(&mut buffer).await.unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
                // The next request is read and dropped: the connection was closed as it was on its way.
                let _ = stream.read(&mut buffer).await;
            });
        }
    });
    let (proxy, address) = Proxy::forwarding(endpoint);
    let mut client = Client::connect(address).await;
    for _ in 0..10 {
        assert_eq!(client.get("/").await.text(), "ok");
    }
    let opened = "envoy_cluster_upstream_cx_total{envoy_cluster_name=\"backend\"}";
    assert!(proxy.metric(opened, 2.0).await >= 2.0);
}

#[tokio::test]
async fn client_that_leaves_is_counted_and_its_upstream_connection_closed() {
    use tokio::io::AsyncReadExt;
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = socket.local_addr().unwrap();
    let (proxy, address) = Proxy::forwarding(endpoint);
    let stream = crate::harness::send_raw(address, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let (mut upstream, _) = socket.accept().await.unwrap();
    let mut buffer = [0; 4096];
    assert!(upstream.read(&mut buffer).await.unwrap() > 0);
    drop(stream);
    assert_eq!(upstream.read(&mut buffer).await.unwrap_or(0), 0);
    let left = "envoy_http_downstream_rq_rx_reset{envoy_http_conn_manager_prefix=\"web\"}";
    assert_eq!(proxy.metric(left, 1.0).await, 1.0);
    eventually("no request is active", || {
        let mut text = String::new();
        proxy.plane.metrics(&mut text);
        text.contains("envoy_cluster_upstream_rq_active{envoy_cluster_name=\"backend\"} 0").then_some(())
    })
    .await;
}

#[tokio::test]
async fn responses_without_a_body_keep_their_headers_and_the_connection() {
    let backend = Backend::http1(|seen| match seen.uri.as_str() {
        "/204" => Response::builder().status(204).body(full("")).unwrap(),
        "/304" => Response::builder().status(304).header("etag", "1").body(full("")).unwrap(),
        _ => Response::builder().header("content-length", "5").body(full("hello")).unwrap(),
    })
    .await;
    let (_proxy, address) = Proxy::forwarding(backend.address);
    let mut client = Client::connect(address).await;
    for _ in 0..3 {
        let head = Request::head("/").header("host", "a").body(full("")).unwrap();
        let reply = client.send(head).await.unwrap();
        assert_eq!((reply.header("content-length"), reply.text()), (Some("5"), ""));
        assert_eq!(client.get("/204").await.status, StatusCode::NO_CONTENT);
        assert_eq!(client.get("/304").await.header("etag"), Some("1"));
        assert_eq!(client.get("/").await.text(), "hello");
    }
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn a_body_of_unknown_length_passes_whatever_the_method() {
    let backend = Backend::http1(|seen| Response::new(full(seen.body))).await;
    let (_proxy, address) = Proxy::forwarding(backend.address);
    let mut client = Client::connect(address).await;
    for method in ["GET", "POST", "PUT", "DELETE"] {
        let request = Request::builder()
            .method(method)
            .uri("/")
            .header("host", "a")
            .header("transfer-encoding", "chunked")
            .body(trailing("body", HeaderMap::new()))
            .unwrap();
        assert_eq!(client.send(request).await.unwrap().text(), "body", "{method}");
    }
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn large_bodies_stream_in_both_directions() {
    let backend = Backend::http1(|seen| Response::new(full(seen.body))).await;
    let (_proxy, address) = Proxy::forwarding(backend.address);
    let body: Vec<u8> = (0..5_000_000_u32).map(|index| index.to_le_bytes()[0]).collect();
    let request = Request::post("/").header("host", "a").body(full(body.clone())).unwrap();
    let reply = Client::connect(address).await.send(request).await.unwrap();
    assert!(reply.body == body, "{} bytes", reply.body.len());
}

#[tokio::test]
async fn idle_connections_to_endpoints_that_are_gone_are_closed() {
    let (old, new) = (Backend::saying("old").await, Backend::saying("new").await);
    let (mut proxy, address) = Proxy::forwarding(old.address);
    assert_eq!(Client::connect(address).await.get("/").await.text(), "old");
    proxy.apply(&[endpoints("backend", &[new.address])]);
    let closed = "envoy_cluster_upstream_cx_destroy{envoy_cluster_name=\"backend\"}";
    assert_eq!(proxy.metric(closed, 1.0).await, 1.0);
    assert_eq!(Client::connect(address).await.get("/").await.text(), "new");
}
