//! Clocks.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::{Request, Response, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{
    Backend, Client, PATIENCE, Proxy, cluster, empty, endpoints, exchange_raw, http_listener, read_to_end,
    routes, send_raw,
};

/// An endpoint that takes requests and never answers.
async fn silent() -> std::net::SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            held.push(socket.accept().await.unwrap());
        }
    });
    address
}

async fn with_route(endpoint: std::net::SocketAddr, options: &str) -> (Proxy, std::net::SocketAddr) {
    let mut proxy = Proxy::start();
    proxy.apply(&[
        cluster("backend", ""),
        endpoints("backend", &[endpoint]),
        http_listener("web", ""),
        routes(
            "web",
            &format!("[{{ match: {{ prefix: \"/\" }}, route: {{ cluster: backend, {options} }} }}]"),
        ),
    ]);
    let address = proxy.listen("web");
    (proxy, address)
}

#[tokio::test]
async fn route_timeout_is_504() {
    let (proxy, address) = with_route(silent().await, "timeout: 0.1s").await;
    let reply = Client::connect(address).await.get("/").await;
    assert_eq!((reply.status, reply.text()), (StatusCode::GATEWAY_TIMEOUT, "upstream request timeout"));
    let timeouts = "envoy_cluster_upstream_rq_timeout{envoy_cluster_name=\"backend\"}";
    assert_eq!(proxy.metric(timeouts, 1.0).await, 1.0);
}

#[tokio::test]
async fn route_timeout_begins_when_the_request_is_complete() {
    let (_proxy, address) = with_route(silent().await, "timeout: 0.2s").await;
    let mut stream = send_raw(address, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n1").await;
    // Three times the timeout, while the body is still on its way: nothing comes.
    let early = tokio::time::timeout(Duration::from_millis(600), stream.read_u8()).await;
    assert!(early.is_err(), "{early:?}");
    let complete = Instant::now();
    stream.write_all(b"2").await.unwrap();
    let mut reply = [0; 12];
    stream.read_exact(&mut reply).await.unwrap();
    assert_eq!(&reply, b"HTTP/1.1 504");
    assert!(complete.elapsed() >= Duration::from_millis(190));
}

#[tokio::test]
async fn route_timeout_also_ends_a_body_that_has_begun() {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = socket.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\npart").await.unwrap();
        std::future::pending::<()>().await;
    });
    let (_proxy, address) = with_route(endpoint, "timeout: 0.2s").await;
    let request = Request::get("/").header("host", "a").body(empty()).unwrap();
    let reply = Client::connect(address).await.send(request).await;
    assert!(reply.is_err(), "{reply:?}");
}

#[tokio::test]
async fn per_try_timeout_leads_to_another_try() {
    let good = Backend::saying("good").await;
    let mut proxy = Proxy::start();
    proxy.apply(&[
        cluster("backend", ""),
        endpoints("backend", &[silent().await, good.address]),
        http_listener("web", ""),
        routes(
            "web",
            r#"[{ match: { prefix: "/" }, route: { cluster: backend,
                retry_policy: { retry_on: 5xx, num_retries: 1, per_try_timeout: 0.1s } } }]"#,
        ),
    ]);
    let mut client = Client::connect(proxy.listen("web")).await;
    for _ in 0..4 {
        assert_eq!(client.get("/").await.text(), "good");
    }
}

#[tokio::test]
async fn a_try_is_told_what_is_left_of_the_time() {
    const DELAY: Duration = Duration::from_millis(50);
    let told = Arc::new(Mutex::new(Vec::<Option<u64>>::new()));
    let seen = told.clone();
    let backend = Backend::http1(move |request| {
        let expected = request.header("x-envoy-expected-rq-timeout-ms").map(|value| value.parse::<u64>());
        let mut told = seen.lock().unwrap();
        told.push(expected.map(Result::unwrap));
        std::thread::sleep(DELAY);
        Response::builder()
            .status(if told.len().is_multiple_of(3) { 200 } else { 503 })
            .body(empty())
            .unwrap()
    })
    .await;
    let mut proxy = Proxy::start();
    let route = |path: &str, timeout: &str, per_try: &str| {
        format!(
            "{{ match: {{ prefix: {path} }}, route: {{ cluster: backend, timeout: {timeout},
                retry_policy: {{ retry_on: 5xx, num_retries: 2{per_try} }} }} }}"
        )
    };
    let all =
        [route("/all", "10s", ""), route("/try", "10s", ", per_try_timeout: 9s"), route("/none", "0s", "")];
    proxy.apply(&[
        cluster("backend", ""),
        endpoints("backend", &[backend.address]),
        http_listener("web", ""),
        routes("web", &format!("[{}]", all.join(", "))),
    ]);
    let mut client = Client::connect(proxy.listen("web")).await;
    let mut tries = async |path: &str| {
        assert_eq!(client.get(path).await.status, StatusCode::OK);
        let told = std::mem::take(&mut *told.lock().unwrap());
        <[Option<u64>; 3]>::try_from(told).expect("three tries")
    };
    let [Some(first), Some(second), Some(third)] = tries("/all").await else { panic!("no time was told") };
    assert_eq!(first, 10_000);
    assert!((1..=9_950).contains(&second) && (1..=second - 50).contains(&third), "{second}, {third}");
    assert_eq!(tries("/try").await, [Some(9_000); 3]);
    assert_eq!(tries("/none").await, [None; 3]);
}

#[tokio::test]
async fn silent_stream_is_ended() {
    let mut proxy = Proxy::start();
    proxy.apply(&[
        cluster("backend", ""),
        endpoints("backend", &[silent().await]),
        http_listener("web", "stream_idle_timeout: 0.1s,"),
        routes("web", r#"[{ match: { prefix: "/" }, route: { cluster: backend, timeout: 0s } }]"#),
    ]);
    let reply = Client::connect(proxy.listen("web")).await.get("/").await;
    assert_eq!((reply.status, reply.text()), (StatusCode::GATEWAY_TIMEOUT, "stream timeout"));
}

/// An endpoint whose response never ends, and what becomes of its connection: `true` once that is closed.
async fn endless() -> (std::net::SocketAddr, tokio::sync::oneshot::Receiver<bool>) {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let (closed, closes) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let (mut stream, _) = socket.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
        let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
        while stream.write_all(chunk.as_bytes()).await.is_ok() {}
        let _ = closed.send(true);
    });
    (address, closes)
}

const STREAM_IDLE: &str = "stream_idle_timeout: 0.2s, common_http_protocol_options: { idle_timeout: 3600s },
    access_log: [ { name: stdout, typed_config: {
        \"@type\": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog,
        log_format: { text_format_source: { inline_string: \"%RESPONSE_CODE% %RESPONSE_FLAGS%\\n\" } } } } ],";

#[tokio::test]
async fn client_that_reads_nothing_more_is_closed_and_so_is_its_endpoint() {
    let (endpoint, closes) = endless().await;
    let (proxy, address) = Proxy::forwarding_with(endpoint, STREAM_IDLE, "");
    let mut stream = send_raw(address, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let mut head = [0; 15];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    // Nobody reads from here on.
    assert!(tokio::time::timeout(PATIENCE, closes).await.expect("the endpoint is let go").unwrap());
    assert_eq!(proxy.log(1).await[0], "200 SI");
    // What was on its way still comes, and then the end.
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("the client as well");
    assert_eq!(proxy.metric("envoy_listener_downstream_cx_destroy", 1.0).await, 1.0);
}

#[tokio::test]
async fn http2_stream_that_nobody_reads_is_ended_and_the_last_one_closes_the_connection() {
    let (endpoint, closes) = endless().await;
    let (mut proxy, address) = Proxy::forwarding_with(endpoint, STREAM_IDLE, "");
    let other = Backend::saying("hello").await;
    proxy.apply(&[
        cluster("other", ""),
        endpoints("other", &[other.address]),
        routes(
            "web",
            r#"[{ match: { prefix: "/other" }, route: { cluster: other } },
                { match: { prefix: "/made-here" }, direct_response: { status: 200, body: { inline_string: hello } } },
                { match: { prefix: "/" }, route: { cluster: backend } }]"#,
        ),
    ]);
    let stream = TcpStream::connect(address).await.unwrap();
    let mut client = crate::harness::http2_client(stream).await;
    let request = |path: &str| Request::get(format!("http://a{path}")).body(empty()).unwrap();
    let unread = client.send_request(request("/")).await.unwrap();
    // Other streams are served meanwhile.
    let mut closes = std::pin::pin!(closes);
    let begun = Instant::now();
    let mut lines = 1;
    loop {
        lines += 1;
        assert!(begun.elapsed() < PATIENCE, "the endpoint is not let go");
        let reply = match client.send_request(request("/other")).await {
            Ok(reply) => crate::harness::Reply::of(reply).await,
            // The stream that nobody reads was alone when its time had come.
            Err(_) if lines > 2 => {
                lines -= 1;
                let closed = tokio::time::timeout(PATIENCE, &mut closes).await;
                break assert!(closed.expect("the endpoint is let go").unwrap());
            }
            Err(error) => panic!("another stream is not served: {error}"),
        };
        assert_eq!(reply.unwrap().text(), "hello");
        match tokio::time::timeout(Duration::from_millis(20), &mut closes).await {
            Ok(closed) => break assert!(closed.unwrap()),
            Err(_) => continue,
        }
    }
    assert!(proxy.log(lines).await.iter().any(|line| line == "200 SI"));
    drop(unread);
}

#[tokio::test]
async fn http2_client_without_a_window_is_closed() {
    let (endpoint, closes) = endless().await;
    let (mut proxy, address) = Proxy::forwarding_with(endpoint, STREAM_IDLE, "");
    proxy.apply(&[routes(
        "web",
        r#"[{ match: { prefix: "/made-here" }, direct_response: { status: 200, body: { inline_string: hello } } },
            { match: { prefix: "/" }, route: { cluster: backend } }]"#,
    )]);
    for path in ["/", "/made-here"] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&windowless_request(path)).await.unwrap();
        // Frames come, and then the end.
        let mut frames = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut frames)).await.expect("it is closed");
        assert!(frames.len() > 9, "the settings at least");
    }
    assert!(tokio::time::timeout(PATIENCE, closes).await.expect("the endpoint is let go").unwrap());
}

#[tokio::test]
async fn client_that_asks_on_and_on_and_reads_nothing_is_asked_to_wait_and_then_closed() {
    const REQUESTS: usize = 20_000;
    let mut proxy = Proxy::start();
    // What a socket buffers is a few MiB; of these answers it holds some hundreds.
    let filler = "x".repeat(16 * 1024);
    proxy.apply(&[
        http_listener("web", STREAM_IDLE),
        routes(
            "web",
            &format!(
                r#"[{{ match: {{ prefix: "/" }}, direct_response: {{ status: 204 }},
                    response_headers_to_add: [ {{ header: {{ key: x-filler, value: {filler} }} }} ] }}]"#
            ),
        ),
    ]);
    let address = proxy.listen("web");
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut reads, mut writes) = stream.into_split();
    let asking = tokio::spawn(async move {
        // Fails when the proxy closes, which it may do before all was taken.
        let _ = writes.write_all("GET / HTTP/1.1\r\nhost: a\r\n\r\n".repeat(REQUESTS).as_bytes()).await;
        writes
    });
    assert_eq!(proxy.metric("envoy_listener_downstream_cx_destroy", 1.0).await, 1.0);
    let served = "envoy_http_downstream_rq_total{envoy_http_conn_manager_prefix=\"web\"}";
    let served = proxy.metric(served, 1.0).await;
    assert!(served < REQUESTS as f64 / 2.0, "{served} answers of 16 KiB were kept for it");
    let _writes = asking.await.unwrap();
    // What was on its way comes, and the end.
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, reads.read_to_end(&mut rest)).await.expect("the end");
}

#[tokio::test]
async fn client_that_reads_late_gets_every_answer() {
    const REQUESTS: usize = 3_000;
    let mut proxy = Proxy::start();
    let filler = "x".repeat(8 * 1024);
    proxy.apply(&[
        http_listener("web", ""),
        routes(
            "web",
            &format!(
                r#"[{{ match: {{ prefix: "/" }}, direct_response: {{ status: 204 }},
                    response_headers_to_add: [ {{ header: {{ key: x-filler, value: {filler} }} }} ] }}]"#
            ),
        ),
    ]);
    let stream = TcpStream::connect(proxy.listen("web")).await.unwrap();
    let (mut reads, mut writes) = stream.into_split();
    let asking = tokio::spawn(async move {
        let last = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        let requests = "GET / HTTP/1.1\r\nhost: a\r\n\r\n".repeat(REQUESTS - 1) + last;
        writes.write_all(requests.as_bytes()).await.unwrap();
        writes
    });
    let _writes = asking.await.unwrap();
    let mut answers = Vec::new();
    tokio::time::timeout(PATIENCE, reads.read_to_end(&mut answers)).await.expect("the end").unwrap();
    assert_eq!(String::from_utf8(answers).unwrap().matches("HTTP/1.1 204").count(), REQUESTS);
}

/// The preface of a client whose streams have no window, and one GET.
fn windowless_request(path: &str) -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let mut frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        bytes.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes()[1..]);
        bytes.extend_from_slice(&[kind, flags]);
        bytes.extend_from_slice(&stream.to_be_bytes());
        bytes.extend_from_slice(payload);
    };
    // SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113, 6.5.2).
    frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]);
    // `:method GET` and `:scheme http` by their index, the others as literals (RFC 7541, 6).
    let mut fields = vec![0x82, 0x86, 0x04, u8::try_from(path.len()).unwrap()];
    fields.extend_from_slice(path.as_bytes());
    fields.extend_from_slice(b"\x01\x01a");
    frame(1, 0x05, 1, &fields);
    bytes
}

#[tokio::test]
async fn slow_head_closes_the_connection() {
    let (_proxy, address) = Proxy::forwarding_with(
        silent().await,
        "request_headers_timeout: 0.2s, common_http_protocol_options: { idle_timeout: 30s },",
        "",
    );
    let started = Instant::now();
    assert_eq!(exchange_raw(address, "GET / HTTP/1.1\r\nhost:").await, "");
    assert!(started.elapsed() >= Duration::from_millis(190));
    assert!(started.elapsed() < Duration::from_secs(15));
}

#[tokio::test]
async fn idle_connection_is_closed() {
    let backend = Backend::saying("hello").await;
    let (proxy, address) =
        Proxy::forwarding_with(backend.address, "common_http_protocol_options: { idle_timeout: 0.2s },", "");
    let mut stream = send_raw(address, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(read_to_end(&mut stream).await.ends_with("hello"));
    let idle = "envoy_http_downstream_cx_idle_timeout{envoy_http_conn_manager_prefix=\"web\"}";
    assert_eq!(proxy.metric(idle, 1.0).await, 1.0);
}

#[tokio::test]
async fn slow_request_body_is_408_when_limited() {
    let (_proxy, address) = Proxy::forwarding_with(silent().await, "request_timeout: 0.2s,", "");
    let reply = exchange_raw(address, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\npart").await;
    assert!(reply.starts_with("HTTP/1.1 408"), "{reply}");
    assert!(reply.contains("connection: close"), "{reply}");
}

#[tokio::test]
async fn upstream_connection_idle_for_too_long_is_closed() {
    let backend = Backend::saying("hello").await;
    let options = r#"typed_extension_protocol_options: { "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions,
        common_http_protocol_options: { idle_timeout: 0.1s },
        explicit_http_config: { http_protocol_options: {} } } },"#;
    let (proxy, address) = Proxy::forwarding_with(backend.address, "", options);
    Client::connect(address).await.get("/").await;
    let closed = "envoy_cluster_upstream_cx_destroy{envoy_cluster_name=\"backend\"}";
    assert_eq!(proxy.metric(closed, 1.0).await, 1.0);
}

#[tokio::test]
async fn idle_connection_after_an_upload_is_not_taken_for_a_slow_head() {
    let backend = Backend::saying("hello").await;
    let (_proxy, address) = Proxy::forwarding_with(backend.address, "request_headers_timeout: 0.1s,", "");
    let mut stream = send_raw(address, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\n12").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    stream.write_all(b"34").await.unwrap();
    let mut reply = vec![0; 12];
    stream.read_exact(&mut reply).await.unwrap();
    assert_eq!(reply, b"HTTP/1.1 200");
    // Longer than a head may take. The rest of the reply comes, and no end.
    let rest = tokio::time::timeout(Duration::from_millis(500), stream.read_to_end(&mut reply)).await;
    assert!(rest.is_err(), "closed after {}", String::from_utf8_lossy(&reply));
}

#[tokio::test]
async fn idle_http2_connection_is_not_taken_for_a_slow_head() {
    let backend = Backend::saying("hello").await;
    let (_proxy, address) = Proxy::forwarding_with(backend.address, "request_headers_timeout: 0.1s,", "");
    let stream = TcpStream::connect(address).await.unwrap();
    let mut client = crate::harness::http2_client(stream).await;
    for _ in 0..2 {
        let request = Request::get("http://a/").body(empty()).unwrap();
        let reply = crate::harness::Reply::of(client.send_request(request).await.unwrap()).await.unwrap();
        assert_eq!(reply.text(), "hello");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}
