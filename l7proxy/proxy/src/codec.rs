//! The seam to the HTTP codecs, which are hyper's.
//!
//! Nothing outside this file and its children knows hyper. Downstream, a codec reads a head, hands it with a
//! stream of body frames to [`request::serve`], and writes back the head and body that this returns.
//! Upstream, it is a [`Sender`] that takes a head and a body and returns a head and a body. A faster codec
//! replaces these two ends and nothing else.

mod downstream;
mod upstream;

pub(crate) use self::downstream::{LAST_REQUEST_WITHIN, serve};
pub(crate) use self::upstream::{Exchange, Http2Sender, SendError, Sender, handshake_http1, handshake_http2};

/// The body of a message that comes in, from either side.
pub(crate) type Incoming = hyper::body::Incoming;

/// The bytes of a connection after it stopped being HTTP.
pub(crate) type Upgraded = hyper_util::rt::TokioIo<hyper::upgrade::Upgraded>;

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

/// Why a message broke off.
pub(crate) type Broken = hyper::Error;

/// A promise of [`Upgraded`], kept after 101 was sent or received.
pub(crate) struct Promise(hyper::upgrade::OnUpgrade);

impl Promise {
    /// Must be taken before the request is taken apart.
    pub(crate) fn of_request<B>(request: &mut http::Request<B>) -> Self {
        Self(hyper::upgrade::on(request))
    }

    /// Must be taken before the response is taken apart.
    pub(crate) fn of_response<B>(response: &mut http::Response<B>) -> Self {
        Self(hyper::upgrade::on(response))
    }

    /// Waits until the codec has let go of the connection. Fails when no upgrade comes.
    pub(crate) async fn kept(self) -> Result<Upgraded, Broken> {
        self.0.await.map(hyper_util::rt::TokioIo::new)
    }
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
