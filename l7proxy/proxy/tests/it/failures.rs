//! What clients get when there is no answer.

use std::time::Duration;

use http::{Request, Response, StatusCode};
use mesh_xds_proto::type_urls;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::harness::{Backend, Client, Proxy, cluster, empty, endpoints, full, http_listener, routes};

async fn unused_address() -> std::net::SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn no_route_is_404() {
    let mut proxy = Proxy::start();
    proxy.apply(&[http_listener("web", ""), routes("web", "[]")]);
    let address = proxy.listen("web");
    let reply = Client::connect(address).await.get("/").await;
    assert_eq!((reply.status, reply.text()), (StatusCode::NOT_FOUND, ""));
}

#[tokio::test]
async fn missing_route_table_is_404() {
    let mut proxy = Proxy::start();
    proxy.apply(&[http_listener("web", "")]);
    let address = proxy.listen("web");
    assert_eq!(Client::connect(address).await.get("/").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn no_endpoint_is_503() {
    let (mut proxy, address) = Proxy::forwarding(unused_address().await);
    proxy.apply(&[endpoints("backend", &[])]);
    let mut client = Client::connect(address).await;
    loop {
        let reply = client.get("/").await;
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
        // Until the thread has taken the empty assignment, connecting fails instead.
        if reply.text() == "no healthy upstream" {
            break;
        }
    }
}

#[tokio::test]
async fn missing_cluster_has_the_status_that_the_route_says() {
    let mut proxy = Proxy::start();
    let table = r#"[ { match: { path: "/500" }, route: { cluster: missing, cluster_not_found_response_code: INTERNAL_SERVER_ERROR } },
        { match: { prefix: "/" }, route: { cluster: missing } } ]"#;
    proxy.apply(&[http_listener("web", ""), routes("web", table)]);
    let mut client = Client::connect(proxy.listen("web")).await;
    assert_eq!(client.get("/500").await.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(client.get("/").await.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn refused_connection_is_503() {
    let (proxy, address) = Proxy::forwarding(unused_address().await);
    let reply = Client::connect(address).await.get("/").await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(reply.text().contains("remote connection failure"), "{}", reply.text());
    let failures = "envoy_cluster_upstream_cx_connect_fail{envoy_cluster_name=\"backend\"}";
    assert_eq!(proxy.metric(failures, 1.0).await, 1.0);
}

#[tokio::test]
async fn retry_policy_finds_the_endpoint_that_works() {
    let good = Backend::saying("good").await;
    let mut proxy = Proxy::start();
    proxy.apply(&[
        cluster("backend", ""),
        endpoints("backend", &[unused_address().await, good.address]),
        http_listener("web", ""),
        routes(
            "web",
            r#"[{ match: { prefix: "/" }, route: { cluster: backend,
                retry_policy: { retry_on: connect-failure, num_retries: 1 } } }]"#,
        ),
    ]);
    let mut client = Client::connect(proxy.listen("web")).await;
    for _ in 0..10 {
        assert_eq!(client.get("/").await.text(), "good");
    }
    // Nothing of the request was sent, so its body can still go elsewhere.
    for _ in 0..4 {
        let request = Request::post("/").header("host", "a").body(full("body")).unwrap();
        assert_eq!(client.send(request).await.unwrap().text(), "good");
    }
}

#[tokio::test]
async fn retry_policy_tries_statuses_again() {
    let calls = std::sync::atomic::AtomicUsize::new(0);
    let backend = Backend::http1(move |_| {
        let first = calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0;
        Response::builder().status(if first { 502 } else { 200 }).body(full("x")).unwrap()
    })
    .await;
    let (mut proxy, address) = Proxy::forwarding(backend.address);
    proxy.apply(&[routes(
        "web",
        r#"[{ match: { prefix: "/new" }, route: { cluster: backend,
            retry_policy: { retry_on: gateway-error, num_retries: 2 } } }]"#,
    )]);
    let mut client = Client::connect(address).await;
    while client.get("/new").await.status != StatusCode::OK {}
    let retries = "envoy_cluster_upstream_rq_retry{envoy_cluster_name=\"backend\"}";
    assert_eq!(proxy.metric(retries, 1.0).await, 1.0);
}

#[tokio::test]
async fn endpoint_that_closes_before_the_head_is_503() {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = socket.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = socket.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
        }
    });
    let (_proxy, address) = Proxy::forwarding(endpoint);
    let reply = Client::connect(address).await.get("/").await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(reply.text().contains("connection termination"), "{}", reply.text());
}

#[tokio::test]
async fn malformed_response_is_502() {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = socket.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await;
        stream.write_all(b"SSH-2.0-nothing for you\r\n\r\n").await.unwrap();
    });
    let (_proxy, address) = Proxy::forwarding(endpoint);
    assert_eq!(Client::connect(address).await.get("/").await.status, StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn responses_that_others_may_read_otherwise_are_502() {
    for head in [
        "content-length: 2\r\ntransfer-encoding: chunked",
        "content-length: 2\r\ncontent-length: 3",
        "content-length: 2, 2",
        "transfer-encoding: gzip, chunked",
        "x: a\r\n folded",
    ] {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = socket.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let answer = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n0\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            // The proxy wants nothing more of this connection.
            assert_eq!(stream.read(&mut [0]).await.unwrap_or_default(), 0);
        });
        let (_proxy, address) = Proxy::forwarding(endpoint);
        let reply = Client::connect(address).await.get("/").await;
        assert_eq!(reply.status, StatusCode::BAD_GATEWAY, "{head}");
    }
}

#[tokio::test]
async fn endpoint_that_dies_in_the_body_breaks_the_response() {
    for head in ["content-length: 10", "transfer-encoding: chunked"] {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = socket.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let part = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n4\r\npart\r\n");
            stream.write_all(part.as_bytes()).await.unwrap();
        });
        let (_proxy, address) = Proxy::forwarding(endpoint);
        let request = Request::get("/").header("host", "a").body(empty()).unwrap();
        let reply = Client::connect(address).await.send(request).await;
        assert!(reply.is_err(), "{head}: {reply:?}");
    }
}

#[tokio::test]
async fn requests_beyond_the_limit_are_refused() {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = socket.local_addr().unwrap();
    let options = "circuit_breakers: { thresholds: [ { max_requests: 1 } ] },";
    let (proxy, address) = Proxy::forwarding_with(endpoint, "", options);
    let _waiting = crate::harness::send_raw(address, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let _held = socket.accept().await.unwrap();
    let reply = Client::connect(address).await.get("/").await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(reply.text().contains("overflow"), "{}", reply.text());
    let overflow = "envoy_cluster_upstream_rq_pending_overflow{envoy_cluster_name=\"backend\"}";
    assert_eq!(proxy.metric(overflow, 1.0).await, 1.0);
}

#[tokio::test]
async fn unhealthy_endpoint_gets_nothing() {
    let (good, bad) = (Backend::saying("good").await, Backend::saying("bad").await);
    let (mut proxy, address) = Proxy::forwarding(good.address);
    let list = endpoints("backend", &[good.address, bad.address]).replacen(
        "{ endpoint:",
        "{ health_status: HEALTHY, endpoint:",
        1,
    );
    let (first, second) = list.rsplit_once("{ endpoint:").unwrap();
    proxy.apply(&[format!("{first}{{ health_status: UNHEALTHY, endpoint:{second}")]);
    let mut client = Client::connect(address).await;
    for _ in 0..20 {
        assert_eq!(client.get("/").await.text(), "good");
    }
    assert_eq!(bad.connections(), 0);
}

#[tokio::test]
async fn connections_to_a_cluster_that_is_removed_are_closed() {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = socket.local_addr().unwrap();
    let served = tokio::spawn(async move {
        let (mut stream, _) = socket.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        stream.read(&mut [0; 4096]).await
    });
    let (mut proxy, address) = Proxy::forwarding(endpoint);
    assert_eq!(Client::connect(address).await.get("/").await.text(), "ok");
    assert!(!served.is_finished(), "the connection waits for the next request");
    proxy.remove(type_urls::CLUSTER, "backend");
    let end = tokio::time::timeout(Duration::from_secs(10), served).await;
    assert_eq!(end.expect("it is closed").unwrap().unwrap(), 0);
}
