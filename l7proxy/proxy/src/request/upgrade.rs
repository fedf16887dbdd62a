//! A connection that stops being HTTP: bytes are carried both ways until one side ends.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{HeaderValue, Response, StatusCode, header};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};

use super::attempt::Answer;
use super::deadline::Deadlines;
use super::{ToClient, refuse};
use crate::body::ResponseBody;
use crate::codec::{Promise, Upgraded};
use crate::connection::Active;
use crate::failure::Failure;
use crate::headers;
use crate::record::Record;

/// Answers 101 and carries bytes in a task of its own, which holds the connection, its record and its
/// place among the requests until the end.
pub(super) fn connect(
    mut answer: Answer,
    downstream: Promise,
    to_client: ToClient<'_>,
    deadlines: &Deadlines,
    mut record: Box<Record>,
    active: Active,
) -> Response<ResponseBody> {
    if !to_client.hop.websocket {
        // Nobody asked for it; what follows on that connection cannot be understood.
        return refuse(Failure::UpstreamProtocol, None, record, active);
    }
    let upstream = Promise::of_response(&mut answer.response);
    let Answer { response, lease, admitted } = answer;
    let (mut head, _) = response.into_parts();
    headers::take_hop_by_hop(&mut head.headers);
    to_client.change(&mut head.headers, &record, Instant::now());
    head.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    head.headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    record.responding(StatusCode::SWITCHING_PROTOCOLS, &head.headers, "via_upstream");
    let idle = deadlines.idle();
    tokio::task::spawn_local(async move {
        // All three end with the tunnel.
        let (_lease, _admitted, _active) = (lease, admitted, active);
        if let (Ok(downstream), Ok(upstream)) = tokio::join!(downstream.kept(), upstream.kept()) {
            let (received, sent) = carry(downstream, upstream, idle).await;
            record.received.set(received);
            record.sent = sent;
            record.complete = true;
        }
    });
    let mut response = Response::new(ResponseBody::Switched);
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = head.headers;
    response
}

/// Bytes from the client and to the client.
async fn carry(downstream: Upgraded, mut upstream: Upgraded, idle: Option<Duration>) -> (u64, u64) {
    let traffic =
        Rc::new(Traffic { last: Cell::new(Instant::now()), read: Cell::new(0), written: Cell::new(0) });
    let mut downstream = Watched { stream: downstream, traffic: traffic.clone() };
    let both_ways = copy_bidirectional(&mut downstream, &mut upstream);
    let silence = async {
        let Some(idle) = idle else { return std::future::pending().await };
        loop {
            let end = traffic.last.get() + idle;
            if end <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(end.into()).await;
        }
    };
    tokio::select! {
        // How it ended makes no difference to what is done now: both connections are closed.
        _ = both_ways => {}
        () = silence => {}
    }
    (traffic.read.get(), traffic.written.get())
}

struct Traffic {
    last: Cell<Instant>,
    read: Cell<u64>,
    written: Cell<u64>,
}

/// A stream whose bytes are counted.
struct Watched {
    stream: Upgraded,
    traffic: Rc<Traffic>,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        let size = buf.filled().len() - before;
        if size > 0 {
            self.traffic.read.set(self.traffic.read.get() + size as u64);
            self.traffic.last.set(Instant::now());
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        if let Poll::Ready(Ok(size)) = &polled {
            self.traffic.written.set(self.traffic.written.get() + *size as u64);
            self.traffic.last.set(Instant::now());
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
