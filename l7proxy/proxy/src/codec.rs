//! The seam to the HTTP codecs.
//!
//! Nothing outside this file and its children knows hyper, or that HTTP/1 to endpoints is spoken by a codec of
//! our own. Downstream, a codec reads a head, hands it with a stream of body frames to
//! [`request::serve`](crate::request::serve), and writes back the head and body that this returns. Upstream, it
//! is a [`Sender`] that takes a head and a body and returns a head and a body.

mod downstream;
mod incoming;
mod upstream;

pub(crate) use self::downstream::{LAST_REQUEST_WITHIN, serve};
pub(crate) use self::incoming::{Broken, Incoming, Promise, Upgraded};
pub(crate) use self::upstream::{
    Http2Sender, Keep, RequestHead, SendError, Sender, handshake_http1, handshake_http2,
};

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

/// Runs hyper's tasks on this thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalExecutor;

impl<F> hyper::rt::Executor<F> for LocalExecutor
where
    F: Future + 'static,
{
    fn execute(&self, task: F) {
        tokio::task::spawn_local(async move {
            task.await;
        });
    }
}
