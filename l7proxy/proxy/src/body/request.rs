//! The body of a request on its way to an endpoint.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::{BodyError, clean_trailers};
use crate::codec::Incoming;

/// How far a request's body has come, for whoever waits for the response meanwhile.
pub(crate) struct Progress {
    pub(crate) bytes: Rc<Cell<u64>>,
    last: Cell<Instant>,
    ended: Cell<Option<Instant>>,
    /// Whether any of it was taken, so that it cannot be sent again.
    touched: Cell<bool>,
    failed: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Progress {
    pub(crate) fn new(bytes: Rc<Cell<u64>>, started: Instant, empty: bool) -> Rc<Self> {
        Rc::new(Self {
            bytes,
            last: Cell::new(started),
            ended: Cell::new(empty.then_some(started)),
            touched: Cell::new(false),
            failed: Cell::new(false),
            waker: RefCell::default(),
        })
    }

    /// The last time a byte passed.
    pub(crate) fn last(&self) -> Instant {
        self.last.get()
    }

    /// When the last byte passed, if it has.
    pub(crate) fn ended(&self) -> Option<Instant> {
        self.ended.get()
    }

    pub(crate) fn touched(&self) -> bool {
        self.touched.get()
    }

    /// Whether the client broke off.
    pub(crate) fn failed(&self) -> bool {
        self.failed.get()
    }

    /// Wakes the task when the body ends.
    pub(crate) fn watch(&self, waker: &Waker) {
        if self.ended.get().is_none() {
            *self.waker.borrow_mut() = Some(waker.clone());
        }
    }

    fn end(&self) {
        if self.ended.get().is_none() {
            self.ended.set(Some(Instant::now()));
            if let Some(waker) = self.waker.borrow_mut().take() {
                waker.wake();
            }
        }
    }
}

/// The body of a request on its way to an endpoint.
pub(crate) struct RequestBody {
    incoming: Option<Incoming>,
    progress: Rc<Progress>,
}

impl RequestBody {
    pub(crate) fn new(incoming: Incoming, progress: Rc<Progress>) -> Self {
        Self { incoming: Some(incoming), progress }
    }

    /// For requests without a body, and for sending such a request again.
    pub(crate) fn empty(progress: Rc<Progress>) -> Self {
        Self { incoming: None, progress }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
        let polled = Pin::new(incoming).poll_frame(cx);
        let progress = &self.progress;
        match polled {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => {
                progress.end();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                progress.failed.set(true);
                progress.end();
                Poll::Ready(Some(Err(BodyError::Broken(error))))
            }
            Poll::Ready(Some(Ok(frame))) => {
                progress.touched.set(true);
                progress.last.set(Instant::now());
                let frame = match frame.into_data() {
                    Ok(data) => {
                        progress.bytes.set(progress.bytes.get() + data.len() as u64);
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
                if self.incoming.as_ref().is_none_or(Body::is_end_stream) {
                    self.progress.end();
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
