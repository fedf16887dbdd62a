//! The body of a response on its way to the client.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

use super::{BodyError, clean_trailers};
use crate::codec::Incoming;
use crate::connection::Active;
use crate::failure::Flags;
use crate::record::Record;
use crate::upstream::{Admitted, Lease};

/// What a client gets, with everything that has to live until its last byte.
pub(crate) struct ResponseBody {
    kind: Kind,
    /// Written when the body ends or is dropped.
    record: Option<Box<Record>>,
    #[expect(dead_code, reason = "held for what its drop does")]
    active: Option<Active>,
}

enum Kind {
    /// Made here. Taken when it was sent.
    Local(Option<Bytes>),
    Upstream(Box<UpstreamBody>),
}

/// A body that an endpoint sends.
pub(crate) struct UpstreamBody {
    pub(crate) incoming: Incoming,
    /// Goes back to the pool at the end of the body. Dropped before that, it closes the connection.
    pub(crate) lease: Option<Lease>,
    /// What content-length still promises.
    pub(crate) remaining: Option<u64>,
    pub(crate) limits: BodyLimits,
    pub(crate) admitted: Option<Admitted>,
}

/// The clocks of a response body.
pub(crate) struct BodyLimits {
    /// The end of the route's time, or of the stream's.
    pub(crate) deadline: Option<Instant>,
    /// Between two frames.
    pub(crate) idle: Option<Duration>,
    last: Instant,
    /// Made only when a frame has to be waited for.
    clock: Option<Pin<Box<Sleep>>>,
}

impl BodyLimits {
    /// The head came at `now`.
    pub(crate) fn new(deadline: Option<Instant>, idle: Option<Duration>, now: Instant) -> Self {
        Self { deadline, idle, last: now, clock: None }
    }

    /// Ready when one of the clocks has run out.
    fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let idle = self.idle.map(|idle| self.last + idle);
            let Some(next) = [self.deadline, idle].into_iter().flatten().min() else { return Poll::Pending };
            let next = tokio::time::Instant::from_std(next);
            let clock = self.clock.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(next)));
            if clock.deadline() > next {
                clock.as_mut().reset(next);
            }
            ready!(clock.as_mut().poll(cx));
            if tokio::time::Instant::now() >= next {
                return Poll::Ready(());
            }
            // Frames have passed since the clock was set: only the idle time has moved on.
            clock.as_mut().reset(next);
        }
    }
}

impl ResponseBody {
    pub(crate) fn local(bytes: Bytes, record: Box<Record>, active: Active) -> Self {
        Self {
            kind: Kind::Local((!bytes.is_empty()).then_some(bytes)),
            record: Some(record),
            active: Some(active),
        }
        .settled()
    }

    pub(crate) fn upstream(body: UpstreamBody, record: Box<Record>, active: Active) -> Self {
        Self { kind: Kind::Upstream(Box::new(body)), record: Some(record), active: Some(active) }.settled()
    }

    /// For a response after which the connection is no longer HTTP; its record lives elsewhere.
    pub(crate) fn switched() -> Self {
        Self { kind: Kind::Local(None), record: None, active: None }
    }

    /// A body that is at its end from the start is never polled; it ends here.
    fn settled(mut self) -> Self {
        if self.is_end_stream() {
            self.end();
        }
        self
    }

    /// All was handed over: the connection may serve again, and the record is complete.
    fn end(&mut self) {
        if let Kind::Upstream(body) = &mut self.kind {
            if let Some(lease) = body.lease.take() {
                lease.finish();
            }
            body.admitted = None;
        }
        if let Some(record) = &mut self.record {
            record.complete = true;
        }
    }

    fn failed(&mut self, flags: Flags) {
        if let Some(record) = &mut self.record {
            record.flags.add(flags);
            // The client sees a reset; it did not leave by itself.
            record.complete = true;
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let body = match &mut this.kind {
            Kind::Local(bytes) => {
                let bytes = bytes.take();
                if let (Some(bytes), Some(record)) = (&bytes, &mut this.record) {
                    record.sent += bytes.len() as u64;
                }
                this.end();
                return Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))));
            }
            Kind::Upstream(body) => body,
        };
        let frame = match Pin::new(&mut body.incoming).poll_frame(cx) {
            Poll::Pending => {
                ready!(body.limits.poll_expired(cx));
                this.failed(Flags::UPSTREAM_TIMEOUT);
                return Poll::Ready(Some(Err(BodyError::TimedOut)));
            }
            Poll::Ready(None) => {
                return match body.remaining {
                    // hyper ends an HTTP/2 body quietly on RST_STREAM(NO_ERROR); a part must not pass for
                    // the whole.
                    Some(missing) if missing > 0 => {
                        this.failed(Flags::UPSTREAM_REMOTE_RESET);
                        Poll::Ready(Some(Err(BodyError::Short { missing })))
                    }
                    _ => {
                        this.end();
                        Poll::Ready(None)
                    }
                };
            }
            Poll::Ready(Some(Err(error))) => {
                this.failed(Flags::UPSTREAM_CONNECTION_TERMINATION);
                return Poll::Ready(Some(Err(BodyError::Broken(error))));
            }
            Poll::Ready(Some(Ok(frame))) => frame,
        };
        let ends = body.incoming.is_end_stream();
        if !ends {
            body.limits.last = Instant::now();
        }
        let frame = match frame.into_data() {
            Ok(data) => {
                let size = data.len() as u64;
                if let Some(remaining) = &mut body.remaining {
                    *remaining = remaining.saturating_sub(size);
                }
                if let Some(record) = &mut this.record {
                    record.sent += size;
                }
                Frame::data(data)
            }
            Err(frame) => match frame.into_trailers() {
                Ok(mut trailers) => {
                    clean_trailers(&mut trailers);
                    Frame::trailers(trailers)
                }
                Err(frame) => frame,
            },
        };
        if self.is_end_stream() {
            self.end();
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Local(bytes) => bytes.is_none(),
            Kind::Upstream(body) => {
                body.incoming.is_end_stream() && body.remaining.is_none_or(|left| left == 0)
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Local(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Kind::Upstream(body) => body.incoming.size_hint(),
        }
    }
}
