//! The body of a response on its way to the client.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
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
pub(crate) enum ResponseBody {
    /// At its end from the start: only the head goes out.
    #[expect(dead_code, reason = "held for what its drop does")]
    Empty(Box<Record>, Active),
    /// Shared with the connection, which ends it when the client does not take it.
    Sending(Rc<Sending>),
    /// For a response after which the connection is no longer HTTP; its record lives elsewhere.
    Switched,
}

/// A body under way.
pub(crate) struct Sending {
    /// `None` once it was given up.
    state: RefCell<Option<State>>,
}

struct State {
    kind: Kind,
    limits: BodyLimits,
    /// Written when the body ends or is dropped.
    record: Box<Record>,
    active: Active,
}

enum Kind {
    /// Made here. Taken when it was sent.
    Local(Option<Bytes>),
    Upstream(UpstreamBody),
}

/// A body that an endpoint sends.
pub(crate) struct UpstreamBody {
    pub(crate) incoming: Incoming,
    /// Goes back to the pool at the end of the body. Dropped before that, it closes the connection.
    pub(crate) lease: Option<Lease>,
    /// What content-length still promises.
    pub(crate) remaining: Option<u64>,
    pub(crate) admitted: Option<Admitted>,
}

/// The clocks of a response body.
pub(crate) struct BodyLimits {
    /// The end of the route's time, or of the stream's.
    deadline: Option<Instant>,
    /// Between two frames.
    idle: Option<Duration>,
    last: Instant,
    /// Whether the next frame was asked for and has not come: who is late then is the endpoint.
    asked: bool,
    /// Made only when a frame has to be waited for.
    clock: Option<Pin<Box<Sleep>>>,
}

impl BodyLimits {
    /// The head came at `now`.
    pub(crate) fn new(deadline: Option<Instant>, idle: Option<Duration>, now: Instant) -> Self {
        Self { deadline, idle, last: now, asked: false, clock: None }
    }

    fn next(&self) -> Option<Instant> {
        let idle = self.idle.map(|idle| self.last + idle);
        [self.deadline, idle].into_iter().flatten().min()
    }

    /// Ready when one of the clocks has run out.
    fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let Some(next) = self.next() else { return Poll::Pending };
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
        let kind = Kind::Local((!bytes.is_empty()).then_some(bytes));
        let limits = BodyLimits::new(None, record.connection.manager.limits.stream_idle, Instant::now());
        Self::new(State { kind, limits, record, active })
    }

    pub(crate) fn upstream(
        body: UpstreamBody,
        limits: BodyLimits,
        record: Box<Record>,
        active: Active,
    ) -> Self {
        Self::new(State { kind: Kind::Upstream(body), limits, record, active })
    }

    /// A body that is at its end from the start is never polled; it ends here.
    fn new(mut state: State) -> Self {
        if state.is_at_end() {
            state.end();
            return Self::Empty(state.record, state.active);
        }
        let connection = state.record.connection.clone();
        let sending = Rc::new(Sending { state: RefCell::new(Some(state)) });
        connection.unread.add(&sending);
        Self::Sending(sending)
    }
}

impl Sending {
    /// When its clocks run out if nothing of it is taken.
    pub(super) fn over_at(&self) -> Option<Instant> {
        self.state.borrow().as_ref()?.limits.next()
    }

    /// When it may have to be ended for want of a client that reads, `now` being the present. Not before the
    /// endpoint has sent what was asked for: until then the body looks at its clocks itself.
    pub(super) fn stalls_at(&self, now: Instant) -> Option<Instant> {
        let state = self.state.borrow();
        let limits = &state.as_ref()?.limits;
        if !limits.asked {
            return limits.next();
        }
        let later = limits.deadline.filter(|deadline| *deadline > now);
        [later, limits.idle.map(|idle| now + idle)].into_iter().flatten().min()
    }

    /// Ends it if the client has not taken any of it for too long, or it takes longer than it may. A codec asks
    /// for the next part only once it has room for it, so this cannot wait until the body is asked.
    pub(super) fn end_if_stalled(&self, now: Instant) -> bool {
        let mut slot = self.state.borrow_mut();
        let over = |limits: &BodyLimits| !limits.asked && limits.next().is_some_and(|next| next <= now);
        let Some(mut state) = slot.take_if(|state| over(&state.limits)) else { return false };
        drop(slot);
        let late = state.limits.deadline.is_some_and(|deadline| deadline <= now);
        state.failed(if late { Flags::UPSTREAM_TIMEOUT } else { Flags::STREAM_IDLE });
        true
    }
}

impl State {
    fn is_at_end(&self) -> bool {
        match &self.kind {
            Kind::Local(bytes) => bytes.is_none(),
            Kind::Upstream(body) => {
                body.incoming.is_end_stream() && body.remaining.is_none_or(|left| left == 0)
            }
        }
    }

    /// All was handed over: the connection may serve again, and the record is complete.
    fn end(&mut self) {
        if let Kind::Upstream(body) = &mut self.kind {
            if let Some(lease) = body.lease.take() {
                lease.finish();
            }
            body.admitted = None;
        }
        self.record.complete = true;
    }

    fn failed(&mut self, flags: Flags) {
        self.record.flags.add(flags);
        // The client sees a reset; it did not leave by itself.
        self.record.complete = true;
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let body = match &mut self.kind {
            Kind::Local(bytes) => {
                let bytes = bytes.take();
                self.record.sent += bytes.as_ref().map_or(0, |bytes| bytes.len() as u64);
                self.end();
                return Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))));
            }
            Kind::Upstream(body) => body,
        };
        let polled = Pin::new(&mut body.incoming).poll_frame(cx);
        self.limits.asked = polled.is_pending();
        let frame = match polled {
            Poll::Pending => {
                ready!(self.limits.poll_expired(cx));
                self.failed(Flags::UPSTREAM_TIMEOUT);
                return Poll::Ready(Some(Err(BodyError::TimedOut)));
            }
            Poll::Ready(None) => {
                return match body.remaining {
                    // hyper ends an HTTP/2 body quietly on RST_STREAM(NO_ERROR); a part must not pass for
                    // the whole.
                    Some(missing) if missing > 0 => {
                        self.failed(Flags::UPSTREAM_REMOTE_RESET);
                        Poll::Ready(Some(Err(BodyError::Short { missing })))
                    }
                    _ => {
                        self.end();
                        Poll::Ready(None)
                    }
                };
            }
            Poll::Ready(Some(Err(error))) => {
                self.failed(Flags::UPSTREAM_CONNECTION_TERMINATION);
                return Poll::Ready(Some(Err(BodyError::Broken(error))));
            }
            Poll::Ready(Some(Ok(frame))) => frame,
        };
        let ends = body.incoming.is_end_stream();
        if !ends {
            self.limits.last = Instant::now();
        }
        let frame = match frame.into_data() {
            Ok(data) => {
                let size = data.len() as u64;
                if let Some(remaining) = &mut body.remaining {
                    *remaining = remaining.saturating_sub(size);
                }
                self.record.sent += size;
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
        if self.is_at_end() {
            self.end();
        }
        Poll::Ready(Some(Ok(frame)))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty(..) | Self::Switched => Poll::Ready(None),
            Self::Sending(sending) => match &mut *sending.state.borrow_mut() {
                Some(state) => state.poll_frame(cx),
                None => Poll::Ready(Some(Err(BodyError::TimedOut))),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty(..) | Self::Switched => true,
            Self::Sending(sending) => sending.state.borrow().as_ref().is_some_and(State::is_at_end),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let Self::Sending(sending) = self else { return SizeHint::with_exact(0) };
        match sending.state.borrow().as_ref().map(|state| &state.kind) {
            Some(Kind::Local(bytes)) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Some(Kind::Upstream(body)) => body.incoming.size_hint(),
            None => SizeHint::default(),
        }
    }
}
