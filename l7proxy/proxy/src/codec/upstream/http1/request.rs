//! A request on its way out (RFC 9112, 3 to 7).
//!
//! What is written at a time is one piece: text, then perhaps data as it came, then a tail. The head and the
//! first bytes of the body that are there go out in one call.

use std::io::{self, IoSlice, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use http_body::{Body, Frame};
use tokio::io::AsyncWrite;

use super::head::says;
use crate::body::RequestBody;
use crate::codec::upstream::RequestHead;
use crate::io::Outbound;

/// Memory for text that is kept from one request to the next.
const KEPT_TEXT: usize = 8 * 1024;

/// How the end of the body is known to the endpoint (RFC 9112, 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// So many bytes are still to come.
    Length(u64),
    Chunked,
}

/// What is still to be sent.
pub(super) struct Outgoing {
    /// Head, sizes of chunks, trailers. Its memory is used again.
    text: Vec<u8>,
    data: Bytes,
    tail: &'static [u8],
    /// How much of the three is out.
    sent: usize,
    /// None: nothing more will come of it.
    body: Option<RequestBody>,
    framing: Framing,
    /// The trailers that the head names (RFC 9110, 6.6.2); others do not go out.
    announced: Vec<HeaderName>,
    /// Neither was a byte of the request written nor one of its body taken.
    untouched: bool,
}

/// Why a request cannot be sent to its end.
pub(super) enum Interrupted {
    Io(io::Error),
    /// The body broke off, or is not what the head said.
    Body,
}

impl Default for Outgoing {
    fn default() -> Self {
        Self {
            text: Vec::new(),
            data: Bytes::new(),
            tail: b"",
            sent: 0,
            body: None,
            framing: Framing::Length(0),
            announced: Vec::new(),
            untouched: true,
        }
    }
}

impl Outgoing {
    /// Writes the head. Framing is ours alone to say: neither a length nor a coding in the headers goes out.
    /// Whether the connection may serve again afterwards.
    pub(super) fn begin(&mut self, head: &RequestHead<'_>, body: RequestBody) -> bool {
        self.abandon();
        self.untouched = true;
        let text = &mut self.text;
        let target = head.path_and_query.as_str();
        // The form of an absolute target without a path is a query alone.
        let root = if target.starts_with('/') { "" } else { "/" };
        for part in [head.method.as_str(), " ", root, target, " HTTP/1.1\r\nhost: "] {
            text.extend_from_slice(part.as_bytes());
        }
        text.extend_from_slice(head.authority.as_bytes());
        text.extend_from_slice(b"\r\n");
        let mut persists = true;
        let mut had_length = false;
        for (name, value) in head.headers.iter() {
            match *name {
                header::HOST | header::TRANSFER_ENCODING => continue,
                header::CONTENT_LENGTH => {
                    had_length = true;
                    continue;
                }
                header::CONNECTION if says(value, b"close") => persists = false,
                header::TRAILER => self.announced.extend(names(value)),
                _ => {}
            }
            field(text, name.as_str(), value);
        }
        if body.is_end_stream() {
            if had_length {
                text.extend_from_slice(b"content-length: 0\r\n");
            }
        } else {
            self.framing = match body.size_hint().exact() {
                Some(length) => {
                    number(text, format_args!("content-length: {length}\r\n"));
                    Framing::Length(length)
                }
                None => {
                    text.extend_from_slice(b"transfer-encoding: chunked\r\n");
                    Framing::Chunked
                }
            };
            self.body = Some(body);
        }
        text.extend_from_slice(b"\r\n");
        persists
    }

    /// Ready when all of it was sent.
    pub(super) fn poll(
        &mut self,
        stream: &mut Outbound,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Interrupted>> {
        loop {
            let mut waits = false;
            if self.data.is_empty()
                && let Some(body) = &mut self.body
            {
                match Pin::new(body).poll_frame(cx) {
                    Poll::Pending => waits = true,
                    Poll::Ready(frame) => {
                        self.untouched = false;
                        self.take(frame.transpose().map_err(|_| Interrupted::Body)?)?;
                    }
                }
            }
            ready!(self.poll_flush(stream, cx)).map_err(Interrupted::Io)?;
            match self.body {
                None => return Poll::Ready(Ok(())),
                Some(_) if waits => return Poll::Pending,
                Some(_) => {}
            }
        }
    }

    /// Takes what comes next of the body; None is its end.
    fn take(&mut self, frame: Option<Frame<Bytes>>) -> Result<(), Interrupted> {
        let Some(frame) = frame else { return self.end(None) };
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => return self.end(frame.into_trailers().ok()),
        };
        if data.is_empty() {
            // An empty chunk would be the last.
            return Ok(());
        }
        let is_last = self.body.as_ref().is_none_or(Body::is_end_stream);
        match &mut self.framing {
            Framing::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(Interrupted::Body)?;
                self.data = data;
                if is_last {
                    self.end(None)?;
                }
            }
            Framing::Chunked => {
                number(&mut self.text, format_args!("{:x}\r\n", data.len()));
                self.data = data;
                self.tail = if is_last { b"\r\n0\r\n\r\n" } else { b"\r\n" };
                if is_last {
                    self.body = None;
                }
            }
        }
        Ok(())
    }

    fn end(&mut self, trailers: Option<HeaderMap>) -> Result<(), Interrupted> {
        self.body = None;
        match self.framing {
            Framing::Length(0) => Ok(()),
            Framing::Length(_) => Err(Interrupted::Body),
            Framing::Chunked => {
                self.text.extend_from_slice(b"0\r\n");
                for (name, value) in trailers.iter().flatten() {
                    if self.announced.contains(name) {
                        field(&mut self.text, name.as_str(), value);
                    }
                }
                self.text.extend_from_slice(b"\r\n");
                Ok(())
            }
        }
    }

    fn poll_flush(&mut self, stream: &mut Outbound, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let whole = self.text.len() + self.data.len() + self.tail.len();
        while self.sent < whole {
            let mut skip = self.sent;
            let rest = [&self.text[..], &self.data[..], self.tail].map(|part| {
                let skipped = skip.min(part.len());
                skip -= skipped;
                IoSlice::new(&part[skipped..])
            });
            let first = rest.iter().position(|part| !part.is_empty()).unwrap_or_default();
            let end = rest.iter().rposition(|part| !part.is_empty()).map_or(rest.len(), |last| last + 1);
            let written = ready!(Pin::new(&mut *stream).poll_write_vectored(cx, &rest[first..end]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.untouched = false;
            self.sent += written;
        }
        self.clear();
        Poll::Ready(Ok(()))
    }

    fn clear(&mut self) {
        self.text.clear();
        self.text.shrink_to(KEPT_TEXT);
        self.data = Bytes::new();
        self.tail = b"";
        self.sent = 0;
    }

    /// Whether all of it was sent, or never will be.
    pub(super) fn is_done(&self) -> bool {
        self.body.is_none() && self.text.is_empty() && self.data.is_empty()
    }

    /// Whether it can go out by another connection as if it had never been here.
    pub(super) fn is_untouched(&self) -> bool {
        self.untouched
    }

    pub(super) fn take_body(&mut self) -> Option<RequestBody> {
        self.body.take()
    }

    /// Forgets what is left of it.
    pub(super) fn abandon(&mut self) {
        self.body = None;
        self.announced.clear();
        self.clear();
    }
}

fn names(value: &HeaderValue) -> impl Iterator<Item = HeaderName> {
    value
        .as_bytes()
        .split(|byte| *byte == b',')
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
}

fn field(text: &mut Vec<u8>, name: &str, value: &HeaderValue) {
    text.extend_from_slice(name.as_bytes());
    text.extend_from_slice(b": ");
    text.extend_from_slice(value.as_bytes());
    text.extend_from_slice(b"\r\n");
}

fn number(text: &mut Vec<u8>, arguments: std::fmt::Arguments<'_>) {
    // Memory takes whatever is written to it.
    let _ = text.write_fmt(arguments);
}
