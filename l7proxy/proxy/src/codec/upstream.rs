//! hyper as a client, on connections that the pool opens.

mod driver;

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use http_body::Body;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;

use self::driver::Driver;
use super::{Incoming, LocalExecutor};
use crate::body::RequestBody;
use crate::io::Outbound;

/// Streams on one HTTP/2 connection before another is opened.
const STREAMS: u32 = 100;

/// The head list that a backend may send, in HTTP/2's counting; HTTP/1 takes the same number of bytes.
const RESPONSE_HEAD: u32 = 64 * 1024;

/// One HTTP/1 connection.
pub(crate) struct Http1 {
    sender: http1::SendRequest<RequestBody>,
    driver: Driver,
}

/// The sending end of one HTTP/2 connection; clones share it.
pub(crate) struct Http2Sender {
    sender: http2::SendRequest<RequestBody>,
    streams: Rc<Cell<u32>>,
}

/// A connection to an endpoint, for one request.
pub(crate) enum Sender {
    Http1(Http1),
    Http2(
        http2::SendRequest<RequestBody>,
        #[expect(dead_code, reason = "held for what its drop does")] Stream,
    ),
}

/// Counts a stream until dropped.
pub(crate) struct Stream(Rc<Cell<u32>>);

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Why there is no response.
pub(crate) enum SendError {
    /// Not a byte was written; the request comes back.
    NotSent(Box<Request<RequestBody>>),
    /// The connection ended, or could not be written to any more.
    Closed,
    /// The peer reset the stream.
    Reset,
    /// The response is malformed.
    Malformed,
}

/// What comes back.
pub(crate) type Exchange = Result<Response<Incoming>, SendError>;

impl Http2Sender {
    /// A place on this connection, if it has one.
    pub(crate) fn stream(&self) -> Option<Sender> {
        if self.streams.get() >= STREAMS || !self.sender.is_ready() {
            return None;
        }
        self.streams.set(self.streams.get() + 1);
        Some(Sender::Http2(self.sender.clone(), Stream(self.streams.clone())))
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    pub(crate) fn is_unused(&self) -> bool {
        self.streams.get() == 0
    }
}

impl Sender {
    /// Sends a request and waits for the head of the response. Dropping the future gives the request up:
    /// HTTP/1 closes the connection, HTTP/2 resets the stream.
    pub(crate) async fn exchange(&mut self, request: Request<RequestBody>) -> Exchange {
        let (error, message) = match self {
            Self::Http1(connection) => match connection.exchange(request).await {
                Ok(response) => return Ok(response),
                Err(mut error) => (error.take_message(), error.into_error()),
            },
            Self::Http2(sender, _) => match sender.try_send_request(request).await {
                Ok(response) => return Ok(response),
                Err(mut error) => (error.take_message(), error.into_error()),
            },
        };
        match (error, message) {
            (Some(request), _) => Err(SendError::NotSent(Box::new(request))),
            (None, error) => Err(describe(&error)),
        }
    }

    /// Polls what comes in on this connection, and the connection itself where nobody else does.
    pub(crate) fn poll_incoming<T>(
        &self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        match self {
            Self::Http1(connection) => connection.driver.poll_with(cx, poll),
            Self::Http2(..) => poll(cx),
        }
    }

    /// Whether an HTTP/1 connection that waits in the pool can take the next request at once.
    pub(crate) fn is_ready(&self) -> bool {
        match self {
            Self::Http1(connection) => {
                connection.driver.settle();
                let is_ready = connection.sender.is_ready();
                if is_ready {
                    connection.driver.rest();
                }
                is_ready
            }
            Self::Http2(sender, _) => sender.is_ready(),
        }
    }

    /// Leaves an HTTP/1 connection alone after a response. What is still to be done on it is done.
    pub(crate) fn release(&self) {
        if let Self::Http1(connection) = self
            && !self.is_ready()
            && !self.is_closed()
        {
            connection.driver.pump();
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.driver.has_ended() || connection.sender.is_closed(),
            Self::Http2(sender, _) => sender.is_closed(),
        }
    }
}

impl Http1 {
    async fn exchange(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, hyper::client::conn::TrySendError<Request<RequestBody>>> {
        // A body goes on while nobody wants the response, or both ends could wait for each other to read.
        if !request.body().is_end_stream() {
            self.driver.pump();
        }
        let mut response = pin!(self.sender.try_send_request(request));
        let response = poll_fn(|cx| self.driver.poll_with(cx, |cx| response.as_mut().poll(cx))).await?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            // The bytes behind it are handed over by the connection, which nobody polls for them.
            self.driver.pump();
        }
        Ok(response)
    }
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

/// Speaks HTTP/1 on a connected socket. `gone` is dropped when the connection ends.
pub(crate) async fn handshake_http1(stream: TcpStream, gone: impl Sized + 'static) -> Option<Sender> {
    let mut builder = http1::Builder::new();
    builder.max_header_size(RESPONSE_HEAD as usize);
    let (sender, connection) = builder.handshake(TokioIo::new(Outbound::new(stream))).await.ok()?;
    let driver = Driver::new(async move {
        let _gone = gone;
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "upstream connection broke");
        }
    });
    Some(Sender::Http1(Http1 { sender, driver }))
}

/// Speaks HTTP/2 with prior knowledge on a connected socket.
pub(crate) async fn handshake_http2(stream: TcpStream, gone: impl Sized + 'static) -> Option<Http2Sender> {
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
