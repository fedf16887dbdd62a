//! HTTP/1 clients.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::LazyLock;

use anyhow::{Context, bail};
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Request, Shared, Turns};
use crate::backend;

/// What every answer must be.
pub(super) static BODY: LazyLock<Vec<u8>> = LazyLock::new(backend::body);

/// The head of an answer.
#[derive(Debug, Default)]
pub(crate) struct Head {
    pub(crate) status: u16,
    /// Names in lower case, as they came.
    pub(crate) headers: Vec<(String, String)>,
}

/// A request on the wire.
pub(super) fn encode(request: &Request, keep_alive: bool) -> Vec<u8> {
    let mut text = format!(
        "GET {} HTTP/1.1\r\nhost: {}\r\nuser-agent: bench\r\naccept: */*\r\n",
        request.path, request.host
    );
    for (name, value) in &request.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !keep_alive {
        text.push_str("connection: close\r\n");
    }
    text.push_str("\r\n");
    text.into_bytes()
}

pub(super) async fn keep_alive(target: SocketAddr, heads: Rc<[Vec<u8>]>, mut turns: Turns, tally: Shared) {
    let mut connection: Option<TcpStream> = connect(target).await.ok();
    let mut read = BytesMut::with_capacity(8192);
    while let Some(turn) = turns.recv().await {
        let answer = async {
            let stream = match &mut connection {
                Some(stream) => stream,
                none => {
                    read.clear();
                    none.insert(connect(target).await?)
                }
            };
            exchange(stream, &heads[turn.request], &mut read).await
        };
        let answer = answer.await;
        if answer.is_err() {
            connection = None;
        }
        tally.borrow_mut().answered(turn, answer);
    }
}

pub(super) async fn new_connections(
    target: SocketAddr,
    heads: Rc<[Vec<u8>]>,
    mut turns: Turns,
    tally: Shared,
) {
    let mut read = BytesMut::with_capacity(8192);
    while let Some(turn) = turns.recv().await {
        read.clear();
        let answer = async {
            let mut stream = connect(target).await?;
            exchange(&mut stream, &heads[turn.request], &mut read).await
        };
        let answer = answer.await;
        tally.borrow_mut().answered(turn, answer);
    }
}

async fn connect(target: SocketAddr) -> Result<TcpStream, String> {
    let stream = TcpStream::connect(target).await.map_err(|error| format!("connect: {error}"))?;
    stream.set_nodelay(true).map_err(|error| format!("connect: {error}"))?;
    Ok(stream)
}

/// One request and its answer, compared byte by byte with what the backend sends.
async fn exchange(stream: &mut TcpStream, request: &[u8], read: &mut BytesMut) -> Result<(), String> {
    stream.write_all(request).await.map_err(|error| format!("write: {error}"))?;
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = response.parse(read).map_err(|error| format!("answer: {error}"))?;
        if let httparse::Status::Complete(head) = parsed {
            let status = response.code.unwrap_or_default();
            let length = response
                .headers
                .iter()
                .find(|header| header.name.eq_ignore_ascii_case("content-length"))
                .and_then(|header| std::str::from_utf8(header.value).ok()?.parse::<usize>().ok())
                .ok_or_else(|| format!("status {status} without content-length"))?;
            while read.len() < head + length {
                more(stream, read).await?;
            }
            let body_is_right = read[head..head + length] == BODY[..];
            read.advance(head + length);
            return match status {
                200 if body_is_right => Ok(()),
                200 => Err("another body".to_owned()),
                status => Err(format!("status {status}")),
            };
        }
        more(stream, read).await?;
    }
}

async fn more(stream: &mut TcpStream, read: &mut BytesMut) -> Result<(), String> {
    match stream.read_buf(read).await {
        Ok(0) => Err("closed".to_owned()),
        Ok(_) => Ok(()),
        Err(error) => Err(format!("read: {error}")),
    }
}

/// A connection that stays, for a close look at one answer after the other.
pub(crate) struct Connection {
    stream: TcpStream,
    read: BytesMut,
}

impl Connection {
    /// # Errors
    /// Nobody listens.
    pub(crate) async fn open(target: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(target).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, read: BytesMut::with_capacity(8192) })
    }

    /// One request and its answer.
    ///
    /// # Errors
    /// There is no whole answer.
    pub(crate) async fn ask(&mut self, request: &Request) -> anyhow::Result<(Head, Vec<u8>)> {
        self.stream.write_all(&encode(request, true)).await?;
        loop {
            if self.stream.read_buf(&mut self.read).await? == 0 {
                bail!("the connection ended before the answer did");
            }
            let mut headers = [httparse::EMPTY_HEADER; 64];
            let mut response = httparse::Response::new(&mut headers);
            let httparse::Status::Complete(size) = response.parse(&self.read)? else { continue };
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let head = Head {
                status: response.code.unwrap_or_default(),
                headers: response
                    .headers
                    .iter()
                    .map(|header| (header.name.to_ascii_lowercase(), text(header.value)))
                    .collect(),
            };
            let length = head.headers.iter().find(|(name, _)| name == "content-length");
            let length: usize = length.context("the answer has no content-length")?.1.parse()?;
            while self.read.len() < size + length {
                if self.stream.read_buf(&mut self.read).await? == 0 {
                    bail!("the connection ended before the answer did");
                }
            }
            self.read.advance(size);
            return Ok((head, self.read.split_to(length).to_vec()));
        }
    }
}

/// One request on a connection of its own.
///
/// # Errors
/// There is no whole answer.
pub(crate) async fn ask(target: SocketAddr, request: &Request) -> anyhow::Result<(Head, Vec<u8>)> {
    Connection::open(target).await?.ask(request).await
}
