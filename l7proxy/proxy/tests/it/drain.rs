//! The end of a data plane.

use std::time::{Duration, Instant};

use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Backend, Client, Proxy, Reply, empty, eventually, http2_client, read_to_end, send_raw};

#[tokio::test]
async fn requests_under_way_finish_and_idle_connections_close() {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = socket.local_addr().unwrap();
    let (proxy, address) = Proxy::forwarding(endpoint);
    let mut busy = send_raw(address, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let (mut upstream, _) = socket.accept().await.unwrap();
    let _ = upstream.read(&mut [0; 4096]).await.unwrap();
    let mut idle = TcpStream::connect(address).await.unwrap();
    let drained = tokio::spawn(proxy.plane.drain(Duration::from_secs(20)));
    assert_eq!(read_to_end(&mut idle).await, "");
    eventually("the socket closes", || std::net::TcpStream::connect(address).is_err().then_some(())).await;
    assert!(!drained.is_finished());
    upstream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone").await.unwrap();
    let reply = read_to_end(&mut busy).await;
    assert!(reply.ends_with("done") && reply.contains("connection: close"), "{reply}");
    drained.await.unwrap();
}

#[tokio::test]
async fn http2_connection_gets_goaway_and_finishes() {
    let backend = Backend::saying("hello").await;
    let (proxy, address) = Proxy::forwarding(backend.address);
    let mut client = http2_client(TcpStream::connect(address).await.unwrap()).await;
    let request = || Request::get("http://a/").body(empty()).unwrap();
    assert_eq!(Reply::of(client.send_request(request()).await.unwrap()).await.unwrap().text(), "hello");
    let started = Instant::now();
    proxy.plane.drain(Duration::from_secs(20)).await;
    assert!(started.elapsed() < Duration::from_secs(10), "waited for the deadline");
    assert!(client.send_request(request()).await.is_err());
}

#[tokio::test]
async fn what_is_left_at_the_deadline_is_cut() {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (proxy, address) = Proxy::forwarding(socket.local_addr().unwrap());
    let mut busy = send_raw(address, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let _upstream = socket.accept().await.unwrap();
    proxy.plane.drain(Duration::from_millis(200)).await;
    assert_eq!(read_to_end(&mut busy).await, "");
}

#[tokio::test]
async fn drained_plane_takes_no_more_connections_and_drops_cleanly() {
    let backend = Backend::saying("hello").await;
    let (proxy, address) = Proxy::forwarding(backend.address);
    assert_eq!(Client::connect(address).await.get("/").await.text(), "hello");
    proxy.plane.drain(Duration::from_secs(20)).await;
    assert!(TcpStream::connect(address).await.is_err());
    proxy.plane.publish(proxy.store.snapshot());
    proxy.plane.drain(Duration::from_secs(20)).await;
    drop(proxy);
}
