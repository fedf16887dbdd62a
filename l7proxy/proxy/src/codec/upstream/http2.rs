//! HTTP/2 with prior knowledge, which is hyper's.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use http::uri::{self, Authority};
use http::{HeaderMap, Request, Response, Uri, Version};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;

use super::{Keep, NotSent, RESPONSE_HEAD, RequestHead, SendError, Sender};
use crate::body::RequestBody;
use crate::codec::{Incoming, LocalExecutor};
use crate::io::Outbound;

/// Streams on one HTTP/2 connection before another is opened.
const STREAMS: u32 = 100;

/// The sending end of one connection; clones share it.
pub(crate) struct Http2Sender {
    sender: http2::SendRequest<RequestBody>,
    streams: Rc<Cell<u32>>,
}

/// A place for one request on a connection.
pub(crate) struct Http2Stream {
    sender: http2::SendRequest<RequestBody>,
    #[expect(dead_code, reason = "held for what its drop does")]
    counted: Counted,
}

/// Counts a stream until dropped.
struct Counted(Rc<Cell<u32>>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Http2Sender {
    /// A place on this connection, if it has one.
    pub(crate) fn stream(&self) -> Option<Sender> {
        if self.streams.get() >= STREAMS || !self.sender.is_ready() {
            return None;
        }
        self.streams.set(self.streams.get() + 1);
        let counted = Counted(self.streams.clone());
        Some(Sender::Http2(Http2Stream { sender: self.sender.clone(), counted }))
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    pub(crate) fn is_unused(&self) -> bool {
        self.streams.get() == 0
    }
}

impl Http2Stream {
    pub(super) fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    pub(super) async fn exchange(
        &mut self,
        head: RequestHead<'_>,
        body: RequestBody,
    ) -> Result<Response<Incoming>, SendError> {
        let target = target(&head).ok_or(SendError::InvalidTarget)?;
        let taken = head.keep == Keep::Never;
        let headers: HeaderMap = if taken { std::mem::take(head.headers) } else { head.headers.clone() };
        let mut request = Request::new(body);
        *request.method_mut() = head.method.clone();
        *request.uri_mut() = target;
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = headers;
        match self.sender.try_send_request(request).await {
            Ok(response) => Ok(response.map(Incoming::Hyper)),
            Err(mut error) => Err(match error.take_message() {
                Some(request) => {
                    let (head, body) = request.into_parts();
                    SendError::NotSent(Box::new(NotSent {
                        body: Some(body),
                        headers: taken.then_some(head.headers),
                    }))
                }
                None => describe(&error.into_error()),
            }),
        }
    }
}

fn target(head: &RequestHead<'_>) -> Option<Uri> {
    let mut target = uri::Parts::default();
    target.path_and_query = Some(head.path_and_query.clone());
    // What the client spoke, which is what applications ask about; the transport is plain here.
    target.scheme = Some(head.scheme.clone());
    target.authority = Some(head.authority.to_str().ok()?.parse::<Authority>().ok()?);
    Uri::from_parts(target).ok()
}

fn describe(error: &hyper::Error) -> SendError {
    if error.is_parse() {
        return SendError::Malformed;
    }
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(h2) = cause.downcast_ref::<h2::Error>() {
            return if h2.is_reset() { SendError::Reset } else { SendError::Closed };
        }
        source = cause.source();
    }
    SendError::Closed
}

/// Speaks HTTP/2 with prior knowledge on a connected socket. `gone` is dropped when the connection ends.
pub(crate) async fn handshake(stream: TcpStream, gone: impl Sized + 'static) -> Option<Http2Sender> {
    let mut builder = http2::Builder::new(LocalExecutor);
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(256 * 1024)
        .initial_connection_window_size(4 * 1024 * 1024)
        .max_header_list_size(RESPONSE_HEAD)
        // A dead peer is noticed even while requests wait for it.
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10));
    let (sender, connection) = builder.handshake(TokioIo::new(Outbound::new(stream))).await.ok()?;
    tokio::task::spawn_local(async move {
        let _gone = gone;
        if let Err(error) = connection.await {
            tracing::debug!(%error, "upstream connection broke");
        }
    });
    Some(Http2Sender { sender, streams: Rc::default() })
}
