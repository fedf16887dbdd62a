//! The backend: answers every request with the same kilobyte, as cheaply as it can.

use std::io::Write;
use std::net::Ipv4Addr;

use anyhow::Context;
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Bytes of a body.
pub(crate) const BODY: usize = 1024;

/// Headers of each answer besides `content-length`.
pub(crate) const HEADERS: [(&str, &str); 3] =
    [("content-type", "application/octet-stream"), ("cache-control", "no-store"), ("x-backend", "bench")];

/// The body of each answer: printable, so that a wrong one can be looked at.
pub(crate) fn body() -> Vec<u8> {
    (0..BODY).map(|index| b'a' + (index % 26) as u8).collect()
}

/// Serves until killed; prints its port first.
///
/// # Errors
/// There is no port.
pub(crate) fn run() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("cannot listen")?;
        println!("{}", listener.local_addr()?.port());
        std::io::stdout().flush()?;
        let answer: &'static [u8] = answer().leak();
        loop {
            if let Ok((stream, _)) = listener.accept().await {
                tokio::task::spawn_local(serve(stream, answer));
            }
        }
    })
}

fn answer() -> Vec<u8> {
    let mut answer = b"HTTP/1.1 200 OK\r\n".to_vec();
    for (name, value) in HEADERS {
        answer.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    answer.extend_from_slice(format!("content-length: {BODY}\r\n\r\n").as_bytes());
    answer.extend_from_slice(&body());
    answer
}

/// Requests have no body.
async fn serve(mut stream: TcpStream, answer: &[u8]) {
    let mut read = BytesMut::with_capacity(4096);
    if stream.set_nodelay(true).is_err() {
        return;
    }
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(&read) {
            Ok(httparse::Status::Complete(size)) => {
                let last = request.headers.iter().any(|header| {
                    header.name.eq_ignore_ascii_case("connection")
                        && header.value.eq_ignore_ascii_case(b"close")
                });
                read.advance(size);
                if stream.write_all(answer).await.is_err() || last {
                    return;
                }
            }
            Ok(httparse::Status::Partial) => match stream.read_buf(&mut read).await {
                Ok(1..) => {}
                _ => return,
            },
            Err(_) => return,
        }
    }
}
