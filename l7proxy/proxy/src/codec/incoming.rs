//! What comes in, from either side and whichever codec.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::upstream::http1;
use crate::io::Io;

/// The body of a message that comes in.
pub(crate) enum Incoming {
    /// From a client, or from an endpoint by HTTP/2.
    Hyper(hyper::body::Incoming),
    /// From an endpoint by HTTP/1.
    Http1(http1::Answer),
}

/// Why a message broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error(transparent)]
    Hyper(#[from] hyper::Error),
    #[error(transparent)]
    Http1(#[from] http1::Broken),
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Self::Hyper(body) => Pin::new(body).poll_frame(cx).map_err(Broken::Hyper),
            Self::Http1(body) => Pin::new(body).poll_frame(cx).map_err(Broken::Http1),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Hyper(body) => body.is_end_stream(),
            Self::Http1(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Hyper(body) => body.size_hint(),
            Self::Http1(body) => body.size_hint(),
        }
    }
}

/// The bytes of a connection after it stopped being HTTP.
pub(crate) enum Upgraded {
    Hyper(TokioIo<hyper::upgrade::Upgraded>),
    Http1(Io),
}

/// A promise of [`Upgraded`], kept after 101 was sent or received.
pub(crate) enum Promise {
    Hyper(hyper::upgrade::OnUpgrade),
    Http1(http1::Switched),
}

impl Promise {
    /// Must be taken before the request is taken apart.
    pub(crate) fn of_request<B>(request: &mut Request<B>) -> Self {
        Self::Hyper(hyper::upgrade::on(request))
    }

    /// Must be taken before the response is taken apart.
    pub(crate) fn of_response(response: &mut Response<Incoming>) -> Self {
        match response.body_mut() {
            Incoming::Http1(answer) => Self::Http1(answer.switched()),
            Incoming::Hyper(_) => Self::Hyper(hyper::upgrade::on(response)),
        }
    }

    /// Waits until the codec has let go of the connection. Fails when no upgrade comes.
    pub(crate) async fn kept(self) -> Result<Upgraded, Broken> {
        match self {
            Self::Hyper(promise) => Ok(Upgraded::Hyper(TokioIo::new(promise.await?))),
            Self::Http1(promise) => Ok(Upgraded::Http1(promise.kept()?)),
        }
    }
}

impl AsyncRead for Upgraded {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Hyper(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Http1(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Hyper(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Http1(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Hyper(stream) => Pin::new(stream).poll_flush(cx),
            Self::Http1(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Hyper(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Http1(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
