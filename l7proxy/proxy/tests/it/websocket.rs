//! WebSockets.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::harness::{Backend, Proxy, exchange_raw, send_raw};

const ASK: &str = "GET /chat HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n";

/// An endpoint that accepts an upgrade and echoes bytes.
async fn echo() -> std::net::SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = socket.accept().await.unwrap();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap().to_lowercase();
                assert!(head.contains("upgrade: websocket") && head.contains("sec-websocket-key"), "{head}");
                let answer = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                              sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
                stream.write_all(answer.as_bytes()).await.unwrap();
                let (mut reader, mut writer) = stream.split();
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn bytes_pass_both_ways_after_the_upgrade() {
    let (proxy, address) = Proxy::forwarding_with(
        echo().await,
        "upgrade_configs: [ { upgrade_type: websocket } ], access_log: [ { name: log, typed_config: { \
         \"@type\": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog } } ],",
        "",
    );
    let mut stream = send_raw(address, ASK).await;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    assert!(head.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    for round in 0..10_u8 {
        let message = vec![round; 1000];
        stream.write_all(&message).await.unwrap();
        let mut echoed = vec![0; 1000];
        stream.read_exact(&mut echoed).await.unwrap();
        assert_eq!(echoed, message);
    }
    drop(stream);
    let line = &proxy.log(1).await[0];
    assert_eq!(line["response_code"], 101);
    assert_eq!((&line["bytes_received"], &line["bytes_sent"]), (&10_000.into(), &10_000.into()));
}

#[tokio::test]
async fn upgrade_that_is_not_configured_is_refused() {
    let backend = Backend::saying("never").await;
    let (_proxy, address) = Proxy::forwarding(backend.address);
    let reply = exchange_raw(address, &ASK.replace("Upgrade", "upgrade, close")).await;
    assert!(reply.starts_with("HTTP/1.1 403"), "{reply}");
    assert_eq!(backend.connections(), 0);
}

#[tokio::test]
async fn offer_of_h2c_is_ignored() {
    let backend = Backend::saying("plain").await;
    let (_proxy, address) = Proxy::forwarding(backend.address);
    let ask = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade, http2-settings, close\r\nupgrade: h2c\r\n\
               http2-settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n";
    let reply = exchange_raw(address, ask).await;
    assert!(reply.starts_with("HTTP/1.1 200") && reply.ends_with("plain"), "{reply}");
}

#[tokio::test]
async fn refused_upgrade_is_passed_on() {
    let backend = Backend::saying("no sockets here").await;
    let (_proxy, address) =
        Proxy::forwarding_with(backend.address, "upgrade_configs: [ { upgrade_type: websocket } ],", "");
    let reply = exchange_raw(address, &ASK.replace("Upgrade", "upgrade, close")).await;
    assert!(reply.starts_with("HTTP/1.1 200") && reply.ends_with("no sockets here"), "{reply}");
}
