//! The state of one connection: what is read, what is written, and whether it may serve again.

use std::any::Any;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Method};
use tokio::io::AsyncReadExt;

use super::head::{Head, Parser};
use super::request::{Interrupted, Outgoing};
use super::{RequestHead, SendError};
use crate::body::RequestBody;
use crate::codec::upstream::{Keep, NotSent};
use crate::io::{Io, Outbound};

/// Room for one read: enough for most answers, and what a connection keeps while it waits.
const ROOM: usize = 8 * 1024;

/// Room for one read of a long body, reached by doubling while reads fill what they are given.
const MOST_ROOM: usize = 128 * 1024;

/// How far the answer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nobody has asked anything: whatever comes is none.
    Idle,
    /// Its head has not come.
    Waiting,
    Body,
    Complete,
    /// It was 101: what follows is not HTTP.
    Switched,
}

pub(super) struct Connection {
    /// None: it has ended, or was handed on.
    stream: Option<Outbound>,
    /// What was read and not used.
    input: BytesMut,
    /// Bytes that the next read has room for.
    room: usize,
    parser: Parser,
    request: Outgoing,
    phase: Phase,
    /// Whether another request may follow the present one.
    persists: bool,
    /// Whether the present request is a HEAD.
    head_only: bool,
    /// Whether the present request broke off while its answer came.
    broken: bool,
    gone: Option<Box<dyn Any>>,
}

impl Connection {
    pub(super) fn new(stream: Outbound, gone: Box<dyn Any>) -> Self {
        Self {
            stream: Some(stream),
            input: BytesMut::new(),
            room: ROOM,
            parser: Parser::default(),
            request: Outgoing::default(),
            phase: Phase::Idle,
            persists: true,
            head_only: false,
            broken: false,
            gone: Some(gone),
        }
    }

    /// Takes a request to send. Nothing is written before it is polled.
    pub(super) fn begin(&mut self, head: &RequestHead<'_>, body: RequestBody) {
        // With another one under way, this one would get its answer.
        if self.phase != Phase::Idle {
            self.close();
        }
        self.persists = self.request.begin(head, body);
        self.head_only = *head.method == Method::HEAD;
        self.phase = Phase::Waiting;
    }

    /// Sends the request and reads up to the head of its answer. On an error the connection has ended.
    pub(super) fn poll_exchange(
        &mut self,
        cx: &mut Context<'_>,
        head: &mut RequestHead<'_>,
    ) -> Poll<Result<Head, SendError>> {
        if let Err(error) = self.send(cx) {
            self.close();
            return Poll::Ready(Err(error));
        }
        let outcome = ready!(self.poll_head(cx, head));
        match &outcome {
            Err(_) => self.close(),
            Ok(answer) if answer.is_switch() => {
                self.persists = false;
                self.phase = Phase::Switched;
                // A server that switches has read the request to its end (RFC 9110, 7.8).
                if self.is_sending() {
                    self.close();
                    return Poll::Ready(Err(SendError::Malformed));
                }
            }
            Ok(answer) => {
                self.persists &= answer.persists;
                self.phase = Phase::Body;
                if answer.is_complete() {
                    self.answered();
                }
            }
        }
        Poll::Ready(outcome)
    }

    /// Sends what can be sent now.
    fn send(&mut self, cx: &mut Context<'_>) -> Result<(), SendError> {
        if self.request.is_done() {
            return Ok(());
        }
        let Some(stream) = &mut self.stream else { return Err(not_sent(&mut self.request)) };
        match self.request.poll(stream, cx) {
            Poll::Pending | Poll::Ready(Ok(())) => Ok(()),
            Poll::Ready(Err(Interrupted::Body)) => Err(SendError::Closed),
            Poll::Ready(Err(Interrupted::Io(error))) => {
                tracing::debug!(%error, "an upstream connection takes no more");
                if self.request.is_untouched() {
                    return Err(not_sent(&mut self.request));
                }
                // The endpoint may have answered before it stopped reading.
                self.request.abandon();
                self.persists = false;
                Ok(())
            }
        }
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        request: &mut RequestHead<'_>,
    ) -> Poll<Result<Head, SendError>> {
        loop {
            if !self.input.is_empty() {
                let headers = || match request.keep {
                    Keep::Always => HeaderMap::new(),
                    Keep::Never | Keep::UntilAnswered => {
                        let mut headers = std::mem::take(request.headers);
                        headers.clear();
                        headers
                    }
                };
                match self.parser.parse(&mut self.input, self.head_only, headers) {
                    Ok(Some(head)) => return Poll::Ready(Ok(head)),
                    Ok(None) => {}
                    Err(error) => {
                        tracing::debug!(%error, "an endpoint's answer is malformed");
                        return Poll::Ready(Err(SendError::Malformed));
                    }
                }
            }
            match ready!(self.poll_fill(cx)) {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Poll::Ready(Err(SendError::Closed)),
            }
        }
    }

    /// Reads more. 0 at the end of the stream.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(stream) = self.stream.as_mut().filter(|_| !self.broken) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        };
        if self.input.capacity() - self.input.len() < self.room {
            // Takes the same memory again if nobody holds a part of it any more.
            self.input.reserve(self.room);
        }
        let mut space = (&mut self.input).limit(self.room);
        let size = ready!(pin!(stream.read_buf(&mut space)).poll(cx))?;
        self.room = match size {
            _ if size == self.room => (self.room * 2).min(MOST_ROOM),
            _ if size < self.room / 4 => (self.room / 2).max(ROOM),
            _ => self.room,
        };
        Poll::Ready(Ok(size))
    }

    /// What was read and not used.
    pub(super) fn input(&mut self) -> &mut BytesMut {
        &mut self.input
    }

    /// The answer was read to its end.
    pub(super) fn answered(&mut self) {
        self.phase = Phase::Complete;
        // Nobody asked for what is behind it.
        self.persists &= self.input.is_empty();
        self.settle();
    }

    /// Sends the rest of the request while somebody else reads the answer.
    pub(super) fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(()) };
        match ready!(self.request.poll(stream, cx)) {
            Ok(()) => {}
            Err(Interrupted::Io(_)) => {
                self.request.abandon();
                self.persists = false;
            }
            // The endpoint must see that it broke off, and whoever reads its answer must not take this for its end.
            Err(Interrupted::Body) => {
                self.request.abandon();
                self.persists = false;
                self.broken = true;
                stream.abort();
            }
        }
        self.settle();
        Poll::Ready(())
    }

    /// Decides what becomes of the connection once both messages are complete (RFC 9112, 9.3).
    fn settle(&mut self) {
        if self.phase != Phase::Complete || self.is_sending() {
            return;
        }
        if !self.persists {
            self.close();
            return;
        }
        self.phase = Phase::Idle;
        if self.room > ROOM || self.input.capacity() > 2 * ROOM {
            self.room = ROOM;
            self.input = BytesMut::new();
        }
    }

    pub(super) fn is_sending(&self) -> bool {
        !self.request.is_done()
    }

    /// Whether another request can begin now. Notices what came meanwhile: an end, or bytes for nobody.
    pub(super) fn is_ready(&mut self) -> bool {
        let Some(stream) = &self.stream else { return false };
        if self.phase != Phase::Idle {
            return false;
        }
        let is_silent = stream.is_silent();
        if !is_silent {
            self.close();
        }
        is_silent
    }

    pub(super) fn is_closed(&self) -> bool {
        self.stream.is_none() || (self.phase == Phase::Complete && !self.persists)
    }

    /// Whether the end of the request is all that is still to come; then the connection ends with it.
    pub(super) fn close_after_request(&mut self) -> bool {
        let only_request = self.phase == Phase::Complete && self.stream.is_some() && self.is_sending();
        if only_request {
            self.persists = false;
        }
        only_request
    }

    pub(super) fn close(&mut self) {
        self.stream = None;
        self.gone = None;
        self.request.abandon();
    }

    /// The stream after 101, with what was read of it already.
    pub(super) fn hand_on(&mut self) -> Option<Io> {
        if self.phase != Phase::Switched {
            return None;
        }
        let start: Bytes = self.input.split().freeze();
        self.stream.take().map(|stream| stream.into_io().replaying(start))
    }
}

fn not_sent(request: &mut Outgoing) -> SendError {
    SendError::NotSent(Box::new(NotSent { body: request.take_body(), headers: None }))
}
