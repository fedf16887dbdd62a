//! Backends that do what a case says and remember what they saw.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use crate::case::{Backend, Reply};
use crate::observed::{Headers, Seen, headers};

/// A body, or its end before its time.
pub(crate) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// The largest head that a backend of raw bytes reads.
const MAX_HEAD: usize = 64 * 1024;

/// What all backends behind one proxy saw.
#[derive(Debug, Clone, Default)]
pub(crate) struct Record(Arc<Mutex<Vec<Entry>>>);

#[derive(Debug)]
struct Entry {
    seen: Seen,
    /// The body has ended, well or not.
    ended: bool,
}

impl Record {
    /// Notes a request when its head is there.
    fn begin(&self, seen: Seen) -> usize {
        let mut entries = self.lock();
        entries.push(Entry { seen, ended: false });
        entries.len() - 1
    }

    fn end(&self, index: usize, body: &[u8], trailers: Headers, complete: bool) {
        if let Some(entry) = self.lock().get_mut(index) {
            entry.seen.body = body.escape_ascii().to_string();
            entry.seen.trailers = trailers;
            entry.seen.complete = complete;
            entry.ended = true;
        }
    }

    /// What was seen since the last time, once each body has ended or the patience with it.
    pub(crate) async fn take(&self, patience: Duration) -> Vec<Seen> {
        let deadline = tokio::time::Instant::now() + patience;
        while self.lock().iter().any(|entry| !entry.ended) && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        self.lock().drain(..).map(|entry| entry.seen).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Running backends, ended when dropped.
#[derive(Debug)]
pub(crate) struct Backends {
    /// Where each is.
    pub(crate) addresses: BTreeMap<String, SocketAddr>,
    /// What they saw.
    pub(crate) record: Record,
    tasks: Vec<AbortHandle>,
    /// Bound and never listening, so that connections to it are refused.
    _refusing: socket2::Socket,
}

impl Drop for Backends {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Backends {
    /// Starts all backends that are named, each doing what the case says of it.
    pub(crate) async fn start(
        names: impl Iterator<Item = &str>,
        scripts: &BTreeMap<String, Backend>,
    ) -> anyhow::Result<Self> {
        let refusing = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        refusing.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
        let refused = refusing.local_addr()?.as_socket().context("an IPv4 socket has an address")?;
        let mut backends = Self {
            addresses: BTreeMap::from([("refused".to_owned(), refused)]),
            record: Record::default(),
            tasks: Vec::new(),
            _refusing: refusing,
        };
        for name in names {
            if backends.addresses.contains_key(name) {
                continue;
            }
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            backends.addresses.insert(name.to_owned(), listener.local_addr()?);
            let state = Arc::new(State {
                name: name.to_owned(),
                script: scripts.get(name).cloned().unwrap_or_default(),
                answered: Mutex::default(),
                record: backends.record.clone(),
            });
            backends.tasks.push(tokio::spawn(serve(listener, state)).abort_handle());
        }
        Ok(backends)
    }
}

struct State {
    name: String,
    script: Backend,
    /// Answers given by path.
    answered: Mutex<BTreeMap<String, usize>>,
    record: Record,
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let state = state.clone();
        tokio::spawn(async move {
            if let Some(raw) = state.script.raw.clone() {
                return serve_raw(stream, &raw, &state).await;
            }
            let service = service_fn(move |request| answer(request, state.clone()));
            let server = auto::Builder::new(TokioExecutor::new());
            // A connection that the proxy breaks off is no news.
            let _ = server.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
        });
    }
}

/// Answers a request's head with bytes, whatever its body.
async fn serve_raw(mut stream: TcpStream, raw: &str, state: &State) {
    let mut bytes = Vec::new();
    while let Ok(1..) = stream.read_buf(&mut bytes).await {
        let mut parsed = [httparse::EMPTY_HEADER; 128];
        let mut request = httparse::Request::new(&mut parsed);
        match request.parse(&bytes) {
            Ok(status) if status.is_partial() && bytes.len() < MAX_HEAD => continue,
            Ok(status) if status.is_complete() => {}
            _ => return,
        }
        let pairs = request.headers.iter().filter_map(|header| {
            let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
            Some((name, HeaderValue::from_bytes(header.value).ok()?))
        });
        let seen = Seen {
            backend: state.name.clone(),
            version: "HTTP/1.1".to_owned(),
            method: request.method.unwrap_or_default().to_owned(),
            target: request.path.unwrap_or_default().to_owned(),
            headers: headers(&pairs.collect()),
            ..Seen::default()
        };
        let index = state.record.begin(seen);
        state.record.end(index, b"", Headers::new(), true);
        // The proxy may be gone already.
        let _ = stream.write_all(with_line_ends(raw).as_bytes()).await;
        let _ = stream.shutdown().await;
        return;
    }
}

/// Text with the line ends of HTTP, unless it has some already.
pub(crate) fn with_line_ends(text: &str) -> String {
    if text.contains('\r') { text.to_owned() } else { text.replace('\n', "\r\n") }
}

async fn answer(mut request: Request<Incoming>, state: Arc<State>) -> std::io::Result<Response<Body>> {
    let version = format!("{:?}", request.version());
    // HTTP/2 has the host in the target; shown as HTTP/1 does.
    let mut map = request.headers().clone();
    if let Some(authority) = request.uri().authority() {
        let value = HeaderValue::from_str(authority.as_str()).map_err(std::io::Error::other)?;
        map.entry(http::header::HOST).or_insert(value);
    }
    let target = request.uri().path_and_query().map_or("*", |target| target.as_str()).to_owned();
    let reply = next_reply(&state, request.uri().path());
    let seen = Seen {
        backend: state.name.clone(),
        version,
        method: request.method().to_string(),
        target,
        headers: headers(&map),
        ..Seen::default()
    };
    let index = state.record.begin(seen);
    let upgrade = reply.upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
    let (body, trailers, complete) = read(request.into_body()).await;
    state.record.end(index, &body, trailers, complete);
    tokio::time::sleep(Duration::from_millis(reply.delay_ms)).await;
    if let Some(upgrade) = upgrade {
        tokio::spawn(async move {
            if let Ok(stream) = upgrade.await {
                let (mut read, mut write) = tokio::io::split(TokioIo::new(stream));
                let _ = tokio::io::copy(&mut read, &mut write).await;
                let _ = write.shutdown().await;
            }
        });
    }
    respond(&reply).map_err(std::io::Error::other)
}

/// The whole body, as far as it came.
async fn read(mut body: Incoming) -> (Vec<u8>, Headers, bool) {
    let (mut bytes, mut trailers) = (Vec::new(), Headers::new());
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return (bytes, trailers, false) };
        match frame.into_data() {
            Ok(data) => bytes.extend_from_slice(&data),
            Err(frame) => trailers = frame.trailers_ref().map(headers).unwrap_or_default(),
        }
    }
    (bytes, trailers, true)
}

fn next_reply(state: &State, path: &str) -> Reply {
    let usual = Reply {
        status: 200,
        headers: vec![("content-type".to_owned(), "text/plain".to_owned())],
        body: state.name.clone(),
        chunked: false,
        trailers: Vec::new(),
        delay_ms: 0,
        pause_ms: 0,
        break_off: false,
        upgrade: None,
    };
    let Some(replies) = state.script.replies.get(path).filter(|replies| !replies.is_empty()) else {
        return usual;
    };
    let mut answered = state.answered.lock().unwrap_or_else(PoisonError::into_inner);
    let count = answered.entry(path.to_owned()).or_default();
    *count += 1;
    replies[(*count).min(replies.len()) - 1].clone()
}

fn respond(reply: &Reply) -> anyhow::Result<Response<Body>> {
    let mut response = Response::new(body(reply)?);
    *response.status_mut() = StatusCode::from_u16(reply.status)?;
    *response.headers_mut() = header_map(&reply.headers)?;
    if let Some(protocol) = &reply.upgrade {
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert("connection", HeaderValue::from_static("upgrade"));
        response.headers_mut().insert("upgrade", HeaderValue::from_str(protocol)?);
    }
    Ok(response)
}

fn body(reply: &Reply) -> anyhow::Result<Body> {
    let text = Bytes::from(reply.body.clone());
    if !reply.chunked && reply.pause_ms == 0 && !reply.break_off {
        return Ok(Full::new(text).map_err(|never| match never {}).boxed_unsync());
    }
    let middle = text.len() / 2;
    let mut frames = vec![Ok(Frame::data(text.slice(..middle))), Ok(Frame::data(text.slice(middle..)))];
    if reply.break_off {
        frames.truncate(1);
        frames.push(Err(std::io::Error::other("the case says so")));
    } else if !reply.trailers.is_empty() {
        frames.push(Ok(Frame::trailers(header_map(&reply.trailers)?)));
    }
    let pause = Duration::from_millis(reply.pause_ms);
    let paused = stream::iter(frames.into_iter().enumerate()).then(move |(index, frame)| async move {
        if index == 1 {
            tokio::time::sleep(pause).await;
        }
        frame
    });
    Ok(BodyExt::boxed_unsync(StreamBody::new(paused)))
}

/// What a case writes as pairs.
pub(crate) fn header_map(pairs: &[(String, String)]) -> anyhow::Result<HeaderMap> {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.append(HeaderName::from_bytes(name.as_bytes())?, HeaderValue::from_str(value)?);
    }
    Ok(map)
}
