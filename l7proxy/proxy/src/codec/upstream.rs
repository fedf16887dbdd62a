//! Requests to endpoints, on connections that the pool opens.

pub(super) mod http1;
mod http2;

use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Response};

use self::http1::Http1;
pub(crate) use self::http1::handshake as handshake_http1;
use self::http2::Http2Stream;
pub(crate) use self::http2::{Http2Sender, handshake as handshake_http2};
use super::Incoming;
use crate::body::RequestBody;

/// The head list that an endpoint may send, in HTTP/2's counting; HTTP/1 takes the same number of bytes.
const RESPONSE_HEAD: u32 = 64 * 1024;

/// A connection to an endpoint, for one request.
pub(crate) enum Sender {
    Http1(Http1),
    Http2(Http2Stream),
}

/// A request's head as an endpoint sees it. Lent for one attempt, so that another one needs no copy.
pub(crate) struct RequestHead<'a> {
    pub(crate) method: &'a Method,
    /// What the client spoke.
    pub(crate) scheme: &'a Scheme,
    /// For `host`, which is none of the headers, or `:authority`.
    pub(crate) authority: HeaderValue,
    pub(crate) path_and_query: &'a PathAndQuery,
    pub(crate) headers: &'a mut HeaderMap,
    pub(crate) keep: Keep,
}

/// How long the sender of a request may still need its headers. After that their memory serves others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// They go out once.
    Never,
    /// They go out again if no answer comes.
    UntilAnswered,
    /// They may go out again after any answer.
    Always,
}

/// Why there is no response.
pub(crate) enum SendError {
    /// Not a byte was written; the request comes back.
    NotSent(Box<NotSent>),
    /// The connection ended, or could not be written to any more.
    Closed,
    /// The peer reset the stream.
    Reset,
    /// The response is malformed.
    Malformed,
    /// The protocol has no form for this target.
    InvalidTarget,
}

/// A request that was not sent.
pub(crate) struct NotSent {
    /// None, if it had none.
    pub(crate) body: Option<RequestBody>,
    /// Only if they were taken.
    pub(crate) headers: Option<HeaderMap>,
}

impl Sender {
    /// Sends a request and waits for the head of the response. Dropping the future and the sender gives the
    /// request up: HTTP/1 closes the connection, HTTP/2 resets the stream.
    pub(crate) async fn exchange(
        &mut self,
        head: RequestHead<'_>,
        body: RequestBody,
    ) -> Result<Response<Incoming>, SendError> {
        match self {
            Self::Http1(connection) => connection.exchange(head, body).await,
            Self::Http2(stream) => stream.exchange(head, body).await,
        }
    }

    /// Whether an HTTP/1 connection that waits in the pool can take the next request at once.
    pub(crate) fn is_ready(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.is_ready(),
            Self::Http2(stream) => stream.is_ready(),
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.is_closed(),
            Self::Http2(stream) => stream.is_closed(),
        }
    }
}
