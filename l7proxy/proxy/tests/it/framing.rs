//! Messages that different readers may read differently.

use http::Response;

use crate::harness::{Backend, Proxy, exchange_raw, full};

/// Sends bytes to a proxy in front of an endpoint that echoes method and path. Returns everything that came
/// back, and the number of requests that reached the endpoint.
async fn through(bytes: &str) -> (String, usize) {
    let calls = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = calls.clone();
    let backend = Backend::http1(move |seen| {
        counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        assert!(seen.header("content-length").is_none() || seen.header("transfer-encoding").is_none());
        Response::new(full(format!("[{} {} {:?}]", seen.method, seen.uri, seen.body)))
    })
    .await;
    let (_proxy, address) = Proxy::forwarding(backend.address);
    let reply = exchange_raw(address, bytes).await;
    (reply, calls.load(std::sync::atomic::Ordering::SeqCst))
}

#[tokio::test]
async fn ambiguous_framing_is_refused() {
    for (what, bytes) in [
        ("two lengths", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab"),
        ("list of lengths", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1, 2\r\n\r\nab"),
        ("signed length", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +1\r\n\r\na"),
        ("huge length", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999\r\n\r\na"),
        ("coding that is not chunked", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\na"),
        (
            "chunked not last",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        ),
        ("chunked in 1.0", "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("space before colon", "GET / HTTP/1.1\r\nhost : a\r\n\r\n"),
        ("folded line", "GET / HTTP/1.1\r\nhost: a\r\nx: 1\r\n 2\r\n\r\n"),
        ("two hosts", "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n"),
        ("no host", "GET / HTTP/1.1\r\n\r\n"),
        ("host with user", "GET / HTTP/1.1\r\nhost: a@b\r\n\r\n"),
        ("host with path", "GET / HTTP/1.1\r\nhost: a/b\r\n\r\n"),
        ("NUL in a value", "GET / HTTP/1.1\r\nhost: a\r\nx: \0\r\n\r\n"),
        ("bare CR in a value", "GET / HTTP/1.1\r\nhost: a\r\nx: a\rb: c\r\n\r\n"),
        ("unknown version", "GET / HTTP/3.7\r\nhost: a\r\n\r\n"),
    ] {
        let (reply, calls) = through(bytes).await;
        assert!(reply.starts_with("HTTP/1.1 400") || reply.is_empty(), "{what}: {reply}");
        assert_eq!(calls, 0, "{what}");
    }
}

#[tokio::test]
async fn codings_besides_chunked_are_refused_with_501() {
    for coding in ["chunked, chunked", "gzip, chunked", "chunked\r\ntransfer-encoding: chunked"] {
        let head = format!("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: {coding}\r\n\r\n");
        let (reply, calls) = through(&format!("{head}0\r\n\r\n")).await;
        assert!(
            reply.starts_with("HTTP/1.1 501") && reply.contains("connection: close"),
            "{coding}: {reply}"
        );
        assert_eq!(calls, 0, "{coding}");
    }
}

#[tokio::test]
async fn bad_chunks_never_make_a_second_request() {
    for (what, body) in [
        ("no number", "x\r\nabc\r\n0\r\n\r\n"),
        ("overflow", "ffffffffffffffff1\r\nabc\r\n0\r\n\r\n"),
        ("data longer than said", "1\r\nabc\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"),
    ] {
        let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
        let (reply, calls) = through(&format!("{head}{body}")).await;
        assert!(!reply.contains("smuggled") && !reply.contains("200 OK"), "{what}: {reply}");
        assert_eq!(calls, 0, "{what}");
    }
}

#[tokio::test]
async fn length_beside_chunked_is_dropped_and_the_connection_closed() {
    // RFC 9112, 6.3: the coding wins, the length must not be forwarded, and the connection ends, so that
    // nothing behind the body is read as a request.
    for heads in
        ["content-length: 3\r\ntransfer-encoding: chunked", "transfer-encoding: chunked\r\ncontent-length: 3"]
    {
        let bytes = format!(
            "POST /first HTTP/1.1\r\nhost: a\r\n{heads}\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"
        );
        let (reply, calls) = through(&bytes).await;
        assert!(reply.contains("[POST /first b\"\"]"), "{reply}");
        assert!(reply.contains("connection: close") && !reply.contains("smuggled"), "{reply}");
        assert_eq!(calls, 1);
    }
}

#[tokio::test]
async fn absolute_target_replaces_host() {
    let (reply, _) = through("GET http://b/x?y HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(reply.contains("[GET /x?y b\"\"]"), "{reply}");
}

#[tokio::test]
async fn an_absolute_target_without_a_path_asks_for_the_root() {
    for (target, expected) in [
        ("http://b", "[GET / b"),
        ("http://b#c", "[GET / b"),
        ("http://b?c#d", "[GET /?c b"),
        ("/#c", "[GET / b"),
    ] {
        let (reply, _) =
            through(&format!("GET {target} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")).await;
        assert!(reply.contains(expected), "{target}: {reply}");
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let (reply, calls) = through(
        "GET /1 HTTP/1.1\r\nhost: a\r\n\r\nPOST /2 HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nab\
         GET /3 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    )
    .await;
    let first = reply.find("[GET /1 b\"\"]").unwrap();
    let second = reply.find("[POST /2 b\"ab\"]").unwrap();
    let third = reply.find("[GET /3 b\"\"]").unwrap();
    assert!(first < second && second < third, "{reply}");
    assert_eq!(calls, 3);
}

#[tokio::test]
async fn long_heads_are_refused() {
    let (reply, calls) =
        through(&format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "a".repeat(40 * 1024))).await;
    assert!(reply.starts_with("HTTP/1.1 431"), "{}", &reply[..reply.len().min(200)]);
    let many: String = (0..150).map(|index| format!("x-{index}: 1\r\n")).collect();
    let (second, more) = through(&format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n")).await;
    assert!(second.starts_with("HTTP/1.1 431"), "{second}");
    assert_eq!((calls, more), (0, 0));
}

#[tokio::test]
async fn connect_and_asterisk_are_for_nobody() {
    for bytes in [
        "CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\nconnection: close\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    ] {
        let (reply, calls) = through(bytes).await;
        assert!(reply.starts_with("HTTP/1.1 404"), "{reply}");
        assert_eq!(calls, 0);
    }
}

#[tokio::test]
async fn expectation_is_met_by_the_proxy() {
    let (reply, calls) = through(
        "POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\nconnection: close\r\n\r\nab",
    )
    .await;
    assert!(reply.contains("[POST / b\"ab\"]"), "{reply}");
    assert_eq!(calls, 1);
}
