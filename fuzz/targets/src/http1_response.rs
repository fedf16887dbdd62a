//! An endpoint's answer by HTTP/1, read by our client and by hyper's.
//!
//! Holds: both take it or both refuse it; status, headers, body, trailers and the decision whether another
//! request may follow are the same, in however many pieces it comes. Where ours refuses what hyper takes, it is
//! for one of the reasons in [`may_refuse`], [`may_break`] and [`may_close`].

use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use mesh_l7proxy_proxy::{EndpointAnswer, EndpointConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::{Builder, Runtime};
use tokio::task::{LocalSet, yield_now};

/// Who has not answered within this hangs.
const PATIENCE: Duration = Duration::from_secs(15);

/// Turns of the runtime that everybody who can do something needs at most.
const TURNS: usize = 8;

/// What a client made of an answer.
#[derive(Debug)]
struct Outcome {
    /// None: refused.
    answer: Option<EndpointAnswer>,
    /// Whether another request could follow while the endpoint kept the connection open.
    is_ready: bool,
}

thread_local! {
    static RUNTIME: Runtime =
        Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
}

/// A byte chooses the method, two the places of cuts; the rest is what the endpoint answers.
pub fn run(data: &[u8]) {
    let [choice, cuts @ .., _] = data else { return };
    let ([first, second, ..], Some(bytes)) = (cuts, data.get(3..)) else { return };
    let method = if choice & 1 == 0 { Method::GET } else { Method::HEAD };
    let mut places = [first, second].map(|place| usize::from(*place) * bytes.len() / 256);
    places.sort_unstable();
    let whole = [bytes];
    let pieces = [&bytes[..places[0]], &bytes[places[0]..places[1]], &bytes[places[1]..]];
    RUNTIME.with(|runtime| {
        let theirs = converse(runtime, &whole, |stream, progress| hyper(stream, &method, progress));
        let ours = converse(runtime, &whole, |stream, progress| ours(stream, &method, progress));
        let cut = converse(runtime, &pieces, |stream, progress| self::ours(stream, &method, progress));
        agree(&ours, &cut, bytes, &method, false);
        agree(&theirs, &ours, bytes, &method, true);
    });
}

/// Panics unless both read the same. Where `second_is_stricter`, it may refuse more.
fn agree(first: &Outcome, second: &Outcome, bytes: &[u8], method: &Method, second_is_stricter: bool) {
    let shown = || format!("{method} {:?}\n{first:?}\n{second:?}", String::from_utf8_lossy(bytes));
    let (one, other) = match (&first.answer, &second.answer) {
        (None, None) => return,
        (Some(answer), None) if second_is_stricter && may_refuse(answer, method) => return,
        (Some(one), Some(other)) => (one, other),
        _ => panic!("one takes it, the other does not: {}", shown()),
    };
    assert_eq!(one.status, other.status, "{}", shown());
    assert_eq!(one.headers, other.headers, "{}", shown());
    match (one.is_whole, other.is_whole) {
        (true, true) => {
            assert_eq!(one.body, other.body, "{}", shown());
            assert_eq!(one.trailers, other.trailers, "{}", shown());
        }
        (false, false) => {}
        (true, false) if second_is_stricter && may_break(&one.headers, bytes) => return,
        _ => panic!("one has all of the body, the other has not: {}", shown()),
    }
    match (first.is_ready, second.is_ready) {
        (true, false) if second_is_stricter && may_close(&one.headers, bytes) => {}
        (one, other) => assert_eq!(one, other, "only one is ready: {}", shown()),
    }
}

/// Answers that different readers may read differently, or that have to be decoded before they pass on: more
/// than one length, a length beside a coding, any coding but `chunked` alone.
fn may_refuse(answer: &EndpointAnswer, method: &Method) -> bool {
    if *method == Method::HEAD
        || [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED, StatusCode::SWITCHING_PROTOCOLS]
            .contains(&answer.status)
    {
        return false;
    }
    let all = |name| answer.headers.get_all(name).iter().map(http::HeaderValue::as_bytes).collect::<Vec<_>>();
    let (lengths, codings) = (all(header::CONTENT_LENGTH), all(header::TRANSFER_ENCODING));
    let many_lengths = lengths.len() > 1 || lengths.iter().any(|length| length.contains(&b','));
    let other_coding = match codings[..] {
        [] => false,
        [coding] => !coding.eq_ignore_ascii_case(b"chunked"),
        _ => true,
    };
    many_lengths || other_coding || (!lengths.is_empty() && !codings.is_empty())
}

/// A chunked body with more digits for a size than any size needs, or with a line feed alone, which not
/// everybody takes for the end of a trailer.
fn may_break(headers: &HeaderMap, bytes: &[u8]) -> bool {
    let has_long_size = || bytes.windows(17).any(|run| run.iter().all(u8::is_ascii_hexdigit));
    let has_bare_feed = || bytes.windows(2).any(|two| two[0] != b'\r' && two[1] == b'\n');
    headers.contains_key(header::TRANSFER_ENCODING) && (has_long_size() || has_bare_feed())
}

/// A server of HTTP/1.0, which would have to be asked to keep the connection; a list of options with bytes that
/// no option has.
fn may_close(headers: &HeaderMap, bytes: &[u8]) -> bool {
    let is_old = bytes.windows(9).any(|window| window == b"HTTP/1.0 ")
        || bytes.windows(9).any(|window| window == b"HTTP/1.0\r" || window == b"HTTP/1.0\n");
    is_old || headers.get_all(header::CONNECTION).iter().any(|value| value.to_str().is_err())
}

/// How far the endpoint and its client have come.
#[derive(Default)]
struct Progress {
    /// The endpoint has written all it has.
    written: Cell<bool>,
    /// The client has read an answer and said whether it is ready for another.
    told: Cell<bool>,
}

/// Runs a client against an endpoint that answers with these pieces, and ends its side when the client has told
/// what it makes of them, or waits for more.
fn converse<C>(
    runtime: &Runtime,
    pieces: &[&[u8]],
    client: impl FnOnce(StdUnixStream, std::rc::Rc<Progress>) -> C,
) -> Outcome
where
    C: Future<Output = Outcome>,
{
    let (ours, theirs) = StdUnixStream::pair().expect("a pair of sockets can be made");
    ours.set_nonblocking(true).and_then(|()| theirs.set_nonblocking(true)).expect("sockets can be set");
    let progress = std::rc::Rc::new(Progress::default());
    LocalSet::new().block_on(runtime, async {
        let both =
            async { tokio::join!(endpoint(theirs, pieces, &progress), client(ours, progress.clone())).1 };
        tokio::time::timeout(PATIENCE, both).await.expect("the client hangs")
    })
}

async fn endpoint(stream: StdUnixStream, pieces: &[&[u8]], progress: &Progress) {
    let mut stream = UnixStream::from_std(stream).expect("the runtime takes the socket");
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        match stream.read_buf(&mut seen).await {
            Ok(1..) => {}
            _ => break,
        }
    }
    for piece in pieces {
        // Who does not want more has closed its side.
        let _: io::Result<()> = stream.write_all(piece).await;
        for _ in 0..TURNS {
            yield_now().await;
        }
    }
    progress.written.set(true);
    for _ in 0..3 * TURNS {
        if progress.told.get() {
            break;
        }
        yield_now().await;
    }
    let _ = stream.shutdown().await;
    // What comes now is for nobody.
    let _ = stream.read_to_end(&mut seen).await;
}

impl Progress {
    /// Waits until the client has seen everything, and lets the endpoint go on when it is told.
    async fn tell(&self, is_ready: impl FnOnce() -> bool) -> bool {
        while !self.written.get() {
            yield_now().await;
        }
        for _ in 0..TURNS {
            yield_now().await;
        }
        let is_ready = is_ready();
        self.told.set(true);
        is_ready
    }
}

async fn ours(stream: StdUnixStream, method: &Method, progress: std::rc::Rc<Progress>) -> Outcome {
    let stream = std::net::TcpStream::from(OwnedFd::from(stream));
    let stream = TcpStream::from_std(stream).expect("the runtime takes the socket");
    let mut connection = EndpointConnection::new(stream);
    let answer = connection.ask(method).await;
    let is_ready = progress.tell(|| connection.is_ready()).await;
    Outcome { answer, is_ready }
}

async fn hyper(stream: StdUnixStream, method: &Method, progress: std::rc::Rc<Progress>) -> Outcome {
    let stream = UnixStream::from_std(stream).expect("the runtime takes the socket");
    let mut builder = http1::Builder::new();
    builder.max_header_size(64 * 1024);
    let (mut sender, connection) =
        builder.handshake(TokioIo::new(stream)).await.expect("nothing is sent yet");
    let connection = tokio::task::spawn_local(connection);
    let request = Request::builder().method(method).uri("/").header(header::HOST, "endpoint.test");
    let request = request.body(Empty::<Bytes>::new()).expect("the request is well formed");
    let answer = match sender.send_request(request).await {
        Ok(response) => Some(read(response).await),
        Err(_) => None,
    };
    let is_ready = progress.tell(|| sender.is_ready()).await;
    drop(sender);
    let _ = connection.await;
    Outcome { answer, is_ready }
}

async fn read(response: http::Response<hyper::body::Incoming>) -> EndpointAnswer {
    let (head, mut incoming) = response.into_parts();
    let (mut body, mut trailers, mut is_whole) = (Vec::new(), None, true);
    while let Some(frame) = incoming.frame().await {
        let Ok(frame) = frame else {
            is_whole = false;
            break;
        };
        match frame.into_data() {
            Ok(data) => body.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    EndpointAnswer { status: head.status, headers: head.headers, body, trailers, is_whole }
}
