//! The byte streams under connections, from clients and to endpoints.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use rustix::net::{SendAncillaryBuffer, SendFlags, Shutdown, send, sendmsg, shutdown};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// Several buffers in one call that goes to the socket at once: `writev`, which the standard library uses, goes
/// through what files have and sockets have not (positions, notification, access checks).
fn poll_send(stream: &TcpStream, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_write_ready(cx))?;
        let sent = stream.try_io(Interest::WRITABLE, || {
            Ok(match bufs {
                [only] => send(stream, only, SendFlags::NOSIGNAL)?,
                _ => sendmsg(stream, bufs, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL)?,
            })
        });
        match sent {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            sent => return Poll::Ready(sent),
        }
    }
}

/// A connection to an endpoint.
pub(crate) struct Outbound(TcpStream);

impl Outbound {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self(stream)
    }

    /// Whether nothing has come, not even the end. Costs no system call where the runtime knows.
    pub(crate) fn is_silent(&self) -> bool {
        let read = self.0.try_read(&mut [0]);
        read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Ends both directions and wakes who waits for either.
    pub(crate) fn abort(&self) {
        // One that has ended already is what is wanted.
        let _ = shutdown(&self.0, Shutdown::Both);
    }

    pub(crate) fn into_io(self) -> Io {
        Io::new(Stream::Plain(self.0))
    }
}

impl AsyncRead for Outbound {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Outbound {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        poll_send(&self.0, cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// TCP, with or without TLS, with the bytes that were read to find out the protocol in front.
pub(crate) struct Io {
    stream: Stream,
    replay: Bytes,
    signs: Arc<Signs>,
}

/// What a stream tells whoever watches the connection on it.
#[derive(Default)]
pub(crate) struct Signs {
    arrived: AtomicBool,
    blocked: AtomicBool,
}

impl Signs {
    /// Whether a byte has arrived since this was asked last.
    pub(crate) fn take_arrived(&self) -> bool {
        self.arrived.swap(false, Ordering::Relaxed)
    }

    /// Whether something waits to be written for which the other side has no room.
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Relaxed)
    }

    /// Waits until that was written, or some of it. For a future that is polled by the task that writes.
    pub(crate) async fn unblocked(&self) {
        poll_fn(|_| if self.is_blocked() { Poll::Pending } else { Poll::Ready(()) }).await;
    }

    fn written<T>(&self, polled: Poll<T>, cx: &Context<'_>) -> Poll<T> {
        // Looked at before it is changed: it hardly ever does.
        if self.is_blocked() != polled.is_pending() {
            self.blocked.store(polled.is_pending(), Ordering::Relaxed);
            if polled.is_ready() {
                cx.waker().wake_by_ref();
            }
        }
        polled
    }
}

pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<HelloLimit>>),
}

impl Io {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream, replay: Bytes::new(), signs: Arc::default() }
    }

    /// Puts bytes in front of what is still to be read.
    pub(crate) fn replaying(mut self, bytes: Bytes) -> Self {
        self.signs.arrived.store(!bytes.is_empty() || !self.replay.is_empty(), Ordering::Relaxed);
        self.replay = match self.replay.is_empty() {
            true => bytes,
            false => [bytes, self.replay].concat().into(),
        };
        self
    }

    pub(crate) fn signs(&self) -> Arc<Signs> {
        self.signs.clone()
    }
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.replay.is_empty() {
            let size = this.replay.len().min(buf.remaining());
            buf.put_slice(&this.replay[..size]);
            this.replay.advance(size);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let polled = match &mut this.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        };
        if buf.filled().len() > before {
            this.signs.arrived.store(true, Ordering::Relaxed);
        }
        polled
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = match &mut this.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        };
        this.signs.written(polled, cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = match &mut this.stream {
            Stream::Plain(stream) => poll_send(stream, cx, bufs),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        };
        this.signs.written(polled, cx)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match &mut this.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            // What was written may wait here.
            Stream::Tls(stream) => this.signs.written(Pin::new(stream).poll_flush(cx), cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// Fails reads after so many bytes, until lifted: a ClientHello may be long, but not endless.
pub(crate) struct HelloLimit {
    stream: TcpStream,
    /// What was read already.
    start: Bytes,
    left: Option<usize>,
}

impl HelloLimit {
    pub(crate) fn new(stream: TcpStream, start: Bytes, limit: usize) -> Self {
        Self { stream, start, left: Some(limit) }
    }

    pub(crate) fn lift(&mut self) {
        self.left = None;
    }
}

impl AsyncRead for HelloLimit {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.start.is_empty() {
            let size = self.start.len().min(buf.remaining());
            buf.put_slice(&self.start[..size]);
            self.start.advance(size);
            self.left = self.left.map(|left| left.saturating_sub(size));
            return Poll::Ready(Ok(()));
        }
        let Some(left) = self.left else { return Pin::new(&mut self.stream).poll_read(cx, buf) };
        if left == 0 {
            return Poll::Ready(Err(io::Error::other("the TLS hello is too long")));
        }
        // A buffer of its own: `ReadBuf` lends out a part of itself only by way of unsafe code. This runs for
        // the few reads of a hello.
        let mut part = [0_u8; 4096];
        let mut part = ReadBuf::new(&mut part[..left.min(buf.remaining()).min(4096)]);
        let polled = Pin::new(&mut self.stream).poll_read(cx, &mut part);
        let size = part.filled().len();
        buf.put_slice(part.filled());
        self.left = Some(left - size);
        polled
    }
}

impl AsyncWrite for HelloLimit {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
