//! Bytes of our own in place of what an HTTP library would send, while it reads the answer.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream on which the first write sends other bytes, and later ones nothing.
pub(super) struct Replacing<S> {
    inner: S,
    /// What is still to be sent; none when nothing is replaced.
    bytes: Option<Vec<u8>>,
    sent: usize,
}

impl<S> Replacing<S> {
    pub(super) fn new(inner: S, bytes: Option<String>) -> Self {
        Self { inner, bytes: bytes.map(String::into_bytes), sent: 0 }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Replacing<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Replacing<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let Some(own) = &this.bytes else { return Pin::new(&mut this.inner).poll_write(context, bytes) };
        while this.sent < own.len() {
            match ready!(Pin::new(&mut this.inner).poll_write(context, &own[this.sent..])) {
                Ok(written) => this.sent += written,
                // A proxy that has heard enough closes its side; its answer is still to be read.
                Err(_) => this.sent = own.len(),
            }
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
