//! HTTP/2 on either side.

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};
use tokio::net::TcpStream;

use crate::harness::{Backend, Client, Proxy, Reply, empty, full, http2_client, trailing};

const HTTP2: &str = r#"typed_extension_protocol_options: {
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions,
        explicit_http_config: { http2_protocol_options: {} } } },"#;

fn grpc_answer() -> Response<crate::harness::Body> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    Response::builder()
        .header("content-type", "application/grpc")
        .body(trailing("message", trailers))
        .unwrap()
}

#[tokio::test]
async fn http2_client_reaches_http1_endpoint() {
    let backend = Backend::http1(|seen| {
        assert_eq!(seen.version, Version::HTTP_11);
        assert_eq!(seen.header("host"), Some("shop.example"));
        assert_eq!(seen.body, "question");
        Response::new(full("answer"))
    })
    .await;
    let (_proxy, address) = Proxy::forwarding(backend.address);
    let mut client = http2_client(TcpStream::connect(address).await.unwrap()).await;
    let request = Request::post("http://shop.example/a").body(full("question")).unwrap();
    let reply = Reply::of(client.send_request(request).await.unwrap()).await.unwrap();
    assert_eq!((reply.status, reply.text()), (StatusCode::OK, "answer"));
}

#[tokio::test]
async fn http1_client_reaches_http2_endpoint_and_gets_grpc_trailers() {
    let backend = Backend::http2(|seen| {
        assert_eq!(seen.version, Version::HTTP_2);
        assert_eq!(seen.uri, "http://example.com/a?b");
        assert_eq!(seen.header("host"), None);
        grpc_answer()
    })
    .await;
    let (_proxy, address) = Proxy::forwarding_with(backend.address, "", HTTP2);
    let request =
        Request::get("/a?b").header("host", "example.com").header("te", "trailers").body(empty()).unwrap();
    let reply = Client::connect(address).await.send(request).await.unwrap();
    assert_eq!(reply.text(), "message");
    assert_eq!(reply.trailers.unwrap().get("grpc-status").unwrap(), "0");
}

#[tokio::test]
async fn http2_both_sides_pass_trailers_and_share_one_connection() {
    let backend = Backend::http2(|seen| {
        assert_eq!(seen.header("te"), Some("trailers"));
        grpc_answer()
    })
    .await;
    let (_proxy, address) = Proxy::forwarding_with(backend.address, "", HTTP2);
    let client = http2_client(TcpStream::connect(address).await.unwrap()).await;
    let calls = (0..30).map(|_| {
        let mut client = client.clone();
        async move {
            let request = Request::post("http://a/s.S/M").header("te", "trailers").body(full("m")).unwrap();
            Reply::of(client.send_request(request).await.unwrap()).await.unwrap()
        }
    });
    for reply in futures_util::future::join_all(calls).await {
        assert_eq!(reply.trailers.unwrap().get("grpc-status").unwrap(), "0");
    }
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn downstream_protocol_is_used_upstream_when_asked_for() {
    let options = HTTP2.replace(
        "explicit_http_config: { http2_protocol_options: {} }",
        "use_downstream_protocol_config: { http_protocol_options: {}, http2_protocol_options: {} }",
    );
    let backend = Backend::http2(|_| Response::new(full("two"))).await;
    let (_proxy, address) = Proxy::forwarding_with(backend.address, "", &options);
    let mut client = http2_client(TcpStream::connect(address).await.unwrap()).await;
    let request = Request::get("http://a/").body(empty()).unwrap();
    assert_eq!(Reply::of(client.send_request(request).await.unwrap()).await.unwrap().text(), "two");
}

#[tokio::test]
async fn host_that_differs_from_authority_is_refused() {
    let backend = Backend::saying("never").await;
    let (_proxy, address) = Proxy::forwarding(backend.address);
    let mut client = http2_client(TcpStream::connect(address).await.unwrap()).await;
    let request = Request::get("http://a.example/").header("host", "b.example").body(empty()).unwrap();
    let reply = Reply::of(client.send_request(request).await.unwrap()).await.unwrap();
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    assert_eq!(backend.connections(), 0);
}

#[tokio::test]
async fn too_many_header_fields_are_refused() {
    let backend = Backend::saying("never").await;
    let (_proxy, address) = Proxy::forwarding(backend.address);
    let mut client = http2_client(TcpStream::connect(address).await.unwrap()).await;
    let mut request = Request::get("http://a.example/").body(empty()).unwrap();
    for index in 0..150 {
        request.headers_mut().append("x-many", HeaderValue::from(index));
    }
    let reply = Reply::of(client.send_request(request).await.unwrap()).await.unwrap();
    assert_eq!(reply.status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    assert_eq!(backend.connections(), 0);
}

#[tokio::test]
async fn short_http2_response_is_a_reset_not_a_success() {
    // An endpoint that announces ten bytes, sends four, and resets the stream with NO_ERROR, which codecs
    // take for an end.
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = socket.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            let response = Response::builder().header("content-length", "10").body(()).unwrap();
            let mut body = respond.send_response(response, false).unwrap();
            body.send_data("part".into(), false).unwrap();
            tokio::spawn(async move {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                body.send_reset(h2::Reason::NO_ERROR);
            });
        }
    });
    let (_proxy, address) = Proxy::forwarding_with(endpoint, "", HTTP2);
    let request = Request::get("/").header("host", "a").body(empty()).unwrap();
    let reply = Client::connect(address).await.send(request).await;
    assert!(reply.is_err(), "{reply:?}");
}

#[tokio::test]
async fn failure_of_a_grpc_call_is_a_grpc_status() {
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (_proxy, address) = Proxy::forwarding_with(gone, "", HTTP2);
    let mut client = http2_client(TcpStream::connect(address).await.unwrap()).await;
    let request =
        Request::post("http://a/s.S/M").header("content-type", "application/grpc").body(full("m")).unwrap();
    let reply = Reply::of(client.send_request(request).await.unwrap()).await.unwrap();
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(reply.header("grpc-status"), Some("14"));
    assert!(reply.header("grpc-message").unwrap().contains("connection failure"));
}
