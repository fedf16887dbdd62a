//! One connection, and one request on it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper::header::{CONNECTION, HOST};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Target;
use crate::echo::byte_at;
use crate::ledger::NUMBER;

/// How long a connection may take: four tries of the kernel.
pub(super) const CONNECT_WITHIN: Duration = Duration::from_secs(8);
/// How long an answer may take, beyond what the backend was asked to take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Numbers of requests, unique in this process.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wish {
    /// What the backend saw.
    Echo,
    /// A body of so many bytes over such a time.
    Download(u64, Duration),
}

/// How a request ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Answered with what was asked for.
    Answered,
    /// Answered with a status of 500 or more.
    Failed(String),
    /// Answered with something else.
    Wrong(String),
    /// Not processed for certain; may be sent again.
    Refused(String),
    /// The connection had ended before the request could be written.
    NotSent,
    /// No whole answer.
    Lost(String),
}

/// An open connection.
pub(super) struct Connection {
    sender: Sender,
    /// The server has said that it will end.
    pub(super) announced: bool,
    /// It broke, or ended without a word.
    broken: Arc<AtomicBool>,
}

enum Sender {
    One(http1::SendRequest<Empty<Bytes>>),
    Two(http2::SendRequest<Empty<Bytes>>),
}

impl Connection {
    /// Opens one; the error says why there is none.
    pub(super) async fn open(to: SocketAddr, http2: bool) -> Result<Self, String> {
        let stream = timeout(CONNECT_WITHIN, TcpStream::connect(to)).await;
        let stream = stream.map_err(|_| "no connection in time".to_owned())?;
        let stream = stream.map_err(|error| format!("no connection: {error}"))?;
        let _ = stream.set_nodelay(true);
        let broken = Arc::new(AtomicBool::new(false));
        let told = broken.clone();
        let sender = if http2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .map_err(|error| format!("no HTTP/2: {error}"))?;
            tokio::spawn(async move {
                // Ended by GOAWAY it ends well.
                let ended = connection.await;
                told.store(ended.is_err(), Ordering::Relaxed);
            });
            Sender::Two(sender)
        } else {
            let (sender, connection) = http1::handshake(TokioIo::new(stream))
                .await
                .map_err(|error| format!("no HTTP/1: {error}"))?;
            tokio::spawn(async move {
                let _ = connection.await;
                // Whether it was announced is known by whoever read the last answer.
                told.store(true, Ordering::Relaxed);
            });
            Sender::One(sender)
        };
        Ok(Self { sender, announced: false, broken })
    }

    /// Whether it takes another request.
    pub(super) fn is_open(&self) -> bool {
        let closed = match &self.sender {
            Sender::One(sender) => sender.is_closed(),
            Sender::Two(sender) => sender.is_closed(),
        };
        !closed && !self.announced
    }

    /// Whether it ended although nobody had said so.
    pub(super) fn was_cut(&self) -> bool {
        !self.announced && self.broken.load(Ordering::Relaxed)
    }

    /// Sends one request and reads the answer to its end.
    pub(super) async fn ask(&mut self, target: &Target, wish: Wish) -> Outcome {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let (path, takes) = match wish {
            Wish::Echo => ("/".to_owned(), Duration::ZERO),
            Wish::Download(bytes, over) => (format!("/bytes/{bytes}/over/{}", over.as_millis()), over),
        };
        let mut request = Request::get(path.as_str());
        request = match &self.sender {
            Sender::One(_) => request.header(HOST, &target.host),
            Sender::Two(_) => request.uri(format!("http://{}{path}", target.host)),
        };
        let request = request.header(NUMBER, number).body(Empty::new());
        let request = request.expect("a path, a host and a number make a request");
        match timeout(ANSWER_WITHIN + takes, self.exchange(request, target, wish, number)).await {
            Ok(outcome) => outcome,
            Err(_) => Outcome::Lost(format!("request {number}: no answer in time")),
        }
    }

    async fn exchange(
        &mut self,
        request: Request<Empty<Bytes>>,
        target: &Target,
        wish: Wish,
        number: u64,
    ) -> Outcome {
        let sent = match &mut self.sender {
            Sender::One(sender) => match sender.ready().await {
                Ok(()) => sender.try_send_request(request).await,
                Err(_) => return Outcome::NotSent,
            },
            Sender::Two(sender) => match sender.ready().await {
                Ok(()) => sender.try_send_request(request).await,
                Err(_) => return Outcome::NotSent,
            },
        };
        let response = match sent {
            Ok(response) => response,
            Err(error) => return unanswered(error, number),
        };
        if response.headers().get(CONNECTION).is_some_and(|value| value.as_bytes() == b"close") {
            self.announced = true;
        }
        let status = response.status();
        if status.is_server_error() {
            let body = response.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            return Outcome::Failed(format!("request {number}: {status} {}", String::from_utf8_lossy(&body)));
        }
        if !status.is_success() {
            return Outcome::Wrong(format!("request {number}: {status}"));
        }
        match wish {
            Wish::Echo => check_echo(response, target, number).await,
            Wish::Download(bytes, _) => check_download(response, bytes, number).await,
        }
    }
}

fn unanswered<B>(error: TrySendError<B>, number: u64) -> Outcome {
    if error.message().is_some() {
        return Outcome::NotSent;
    }
    let error = error.into_error();
    let h2 = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<h2::Error>());
    // RFC 9113, 8.7: a refused stream, and one above the last of a GOAWAY, were not processed.
    let not_processed = h2.is_some_and(|h2| {
        h2.is_remote() && (h2.is_go_away() || h2.reason() == Some(h2::Reason::REFUSED_STREAM))
    });
    let told = format!("request {number}: {}", with_causes(&error));
    if not_processed { Outcome::Refused(told) } else { Outcome::Lost(told) }
}

async fn check_echo(response: Response<Incoming>, target: &Target, number: u64) -> Outcome {
    let body = match response.into_body().collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return Outcome::Lost(format!("request {number}: cut body: {}", with_causes(&error))),
    };
    let Ok(seen) = serde_json::from_slice::<Value>(&body) else {
        return Outcome::Wrong(format!("request {number}: no echo: {}", String::from_utf8_lossy(&body)));
    };
    if seen["headers"][NUMBER][0].as_str() != Some(number.to_string().as_str()) {
        return Outcome::Wrong(format!("request {number} got the answer of another: {seen}"));
    }
    if let Some(mark) = target.mark
        && seen["headers"][mark].is_null()
    {
        return Outcome::Wrong(format!("request {number} passed the proxy by"));
    }
    Outcome::Answered
}

async fn check_download(response: Response<Incoming>, bytes: u64, number: u64) -> Outcome {
    let mut body = response.into_body();
    let mut offset = 0;
    while let Some(frame) = body.frame().await {
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => {
                let why = with_causes(&error);
                return Outcome::Lost(format!("download {number} cut at byte {offset}: {why}"));
            }
        };
        for byte in frame.data_ref().into_iter().flatten() {
            if *byte != byte_at(offset) {
                return Outcome::Wrong(format!("download {number} differs at byte {offset}"));
            }
            offset += 1;
        }
    }
    if offset == bytes {
        Outcome::Answered
    } else {
        Outcome::Wrong(format!("download {number} ended well after {offset} of {bytes} bytes"))
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        told.push_str(": ");
        told.push_str(&error.to_string());
        cause = error.source();
    }
    told
}
