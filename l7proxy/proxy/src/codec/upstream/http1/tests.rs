//! The codec against a scripted endpoint on loopback.

mod answers;
mod pieces;
mod requests;

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Response};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

use super::super::{Keep, RequestHead, SendError, Sender};
use super::handshake;
use crate::body::{Progress, RequestBody};
use crate::codec::{Broken, Incoming};

const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a test on one thread with tasks.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(PATIENCE, test).await.expect("the test ends");
    });
}

/// A connection and the endpoint's side of it.
async fn connected() -> (Sender, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (theirs, _) = listener.accept().await.unwrap();
    ours.set_nodelay(true).unwrap();
    theirs.set_nodelay(true).unwrap();
    (handshake(ours, ()), theirs)
}

fn progress() -> Rc<Progress> {
    Progress::new(Rc::new(Cell::new(0)), Instant::now(), false)
}

fn no_body() -> RequestBody {
    RequestBody::empty(progress())
}

/// Sends a request for `/path`.
async fn send(
    sender: &mut Sender,
    method: Method,
    headers: &mut HeaderMap,
    body: RequestBody,
) -> Result<Response<Incoming>, SendError> {
    let head = RequestHead {
        method: &method,
        scheme: &Scheme::HTTP,
        authority: HeaderValue::from_static("a.test"),
        path_and_query: &PathAndQuery::from_static("/path?query"),
        headers,
        keep: Keep::UntilAnswered,
    };
    sender.exchange(head, body).await
}

async fn get(sender: &mut Sender) -> Result<Response<Incoming>, SendError> {
    send(sender, Method::GET, &mut HeaderMap::new(), no_body()).await
}

/// Reads a body to its end.
async fn collect(body: Incoming) -> Result<(Bytes, Option<HeaderMap>), Broken> {
    let collected = body.collect().await?;
    let trailers = collected.trailers().cloned();
    Ok((collected.to_bytes(), trailers))
}

/// Reads what has the endpoint until its end is `end`.
async fn read_until(endpoint: &mut TcpStream, end: &str) -> String {
    let mut seen = Vec::new();
    while !seen.ends_with(end.as_bytes()) {
        seen.push(endpoint.read_u8().await.expect("more comes"));
    }
    String::from_utf8(seen).unwrap()
}

/// Waits until something is so.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE / 2;
    while !is_so() {
        assert!(Instant::now() < end, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// An endpoint that answers the next request with these bytes.
async fn answer(endpoint: &mut TcpStream, bytes: &[u8]) {
    read_until(endpoint, "\r\n\r\n").await;
    endpoint.write_all(bytes).await.unwrap();
}

/// A request's body of these bytes, which are what an endpoint answers to somebody else.
async fn body_of(bytes: &[u8]) -> (RequestBody, Sender, TcpStream) {
    let (mut sender, mut endpoint) = connected().await;
    let (response, ()) = tokio::join!(get(&mut sender), answer(&mut endpoint, bytes));
    let body = response.map_err(|_| "no answer").unwrap().into_body();
    (RequestBody::new(body, progress()), sender, endpoint)
}
