//! Who polls an HTTP/1 connection to an endpoint.
//!
//! Whoever waits for an answer does: a task for each connection would be woken to write the request, and would
//! wake the other to hand it the answer, for each request. Only while a request's body is on its way, or after
//! the connection stopped being HTTP, a task of its own does.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use tokio::task::AbortHandle;

type Connection = Pin<Box<dyn Future<Output = ()>>>;

/// The reading and writing half of a connection. Dropped, it closes the connection, unless a task has it.
pub(super) struct Driver {
    /// None: it has ended.
    connection: Rc<RefCell<Option<Connection>>>,
    /// The task that polls it.
    pump: RefCell<Option<AbortHandle>>,
}

impl Driver {
    pub(super) fn new(connection: impl Future<Output = ()> + 'static) -> Self {
        let connection: Connection = Box::pin(connection);
        Self { connection: Rc::new(RefCell::new(Some(connection))), pump: RefCell::default() }
    }

    /// From now on a task polls it, until it is at rest or ends.
    pub(super) fn pump(&self) {
        let mut pump = self.pump.borrow_mut();
        if pump.is_none() {
            let connection = self.connection.clone();
            let task = tokio::task::spawn_local(std::future::poll_fn(move |cx| poll(&connection, cx)));
            *pump = Some(task.abort_handle());
        }
    }

    /// Polls the connection, and then what comes in on it. That needs no waking of its own then: the
    /// connection is woken for it.
    pub(super) fn poll_with<T>(
        &self,
        cx: &mut Context<'_>,
        incoming: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        if self.pump.borrow().is_some() {
            return incoming(cx);
        }
        match poll(&self.connection, cx) {
            // Nobody will be woken for what it left.
            Poll::Ready(()) => incoming(cx),
            Poll::Pending => incoming(&mut Context::from_waker(Waker::noop())),
        }
    }

    /// Takes note of what has happened to the connection, and leaves it with nobody to wake.
    pub(super) fn settle(&self) {
        if self.pump.borrow().is_none() {
            let _ = poll(&self.connection, &mut Context::from_waker(Waker::noop()));
        }
    }

    /// Ends its task, as the connection waits for nothing any more.
    pub(super) fn rest(&self) {
        let pump = self.pump.borrow_mut().take();
        if let Some(pump) = pump {
            pump.abort();
            self.settle();
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.connection.borrow().is_none()
    }
}

fn poll(connection: &RefCell<Option<Connection>>, cx: &mut Context<'_>) -> Poll<()> {
    let mut held = connection.borrow_mut();
    let Some(connection) = &mut *held else { return Poll::Ready(()) };
    let polled = connection.as_mut().poll(cx);
    if polled.is_ready() {
        *held = None;
    }
    polled
}
