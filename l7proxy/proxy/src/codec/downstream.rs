//! hyper as a server, with the clocks that it lacks.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::Request;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::watch;

use super::{Incoming, LocalExecutor, Protocol};
use crate::connection::Connection;
use crate::io::{Io, Signs};
use crate::request;

/// hyper's own default for header fields; setting it explicitly costs an allocation a request.
const HYPER_DEFAULT_FIELDS: usize = 100;

/// Serves a connection until it ends, is drained, or a clock runs out.
pub(crate) async fn serve(
    io: Io,
    protocol: Protocol,
    connection: Rc<Connection>,
    draining: watch::Receiver<bool>,
) {
    let signs = io.signs();
    let limits = &connection.manager.limits;
    let service = {
        let (connection, signs) = (connection.clone(), signs.clone());
        service_fn(move |request: Request<hyper::body::Incoming>| {
            // Whoever asks on and on and reads no answer would have them all kept in memory. In HTTP/2 there are
            // only so many streams.
            let unread = (protocol == Protocol::Http1 && signs.is_blocked()).then(|| signs.clone());
            let connection = connection.clone();
            let request = request.map(Incoming::Hyper);
            async move {
                if let Some(unread) = unread {
                    unread.unblocked().await;
                }
                Ok::<_, Infallible>(request::serve(connection, request).await)
            }
        })
    };
    match protocol {
        Protocol::Http1 => {
            let mut builder = http1::Builder::new();
            builder.max_header_size(limits.head_bytes).max_buf_size(limits.head_bytes.max(64 * 1024));
            if limits.header_fields != HYPER_DEFAULT_FIELDS {
                builder.max_headers(limits.header_fields);
            }
            let served = builder.serve_connection(TokioIo::new(io), service).with_upgrades();
            drive(served, protocol, &connection, &signs, draining).await;
        }
        Protocol::Http2 => {
            let mut builder = http2::Builder::new(LocalExecutor);
            builder
                .timer(TokioTimer::new())
                .max_concurrent_streams(limits.http2_streams)
                .initial_stream_window_size(limits.http2_stream_window)
                .initial_connection_window_size(limits.http2_connection_window)
                .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
                // Resets that the client provokes, received and sent (CVE-2023-44487, CVE-2025-8671).
                .max_pending_accept_reset_streams(100)
                .max_local_error_reset_streams(100);
            if let Some((interval, timeout)) = limits.http2_keepalive {
                builder.keep_alive_interval(interval).keep_alive_timeout(timeout);
            }
            let served = builder.serve_connection(TokioIo::new(io), service);
            drive(served, protocol, &connection, &signs, draining).await;
        }
    }
}

/// A hyper connection that can be told to finish.
trait Served: Future<Output = Result<(), hyper::Error>> {
    fn finish(self: Pin<&mut Self>);
}

impl<I, S> Served for http1::UpgradeableConnection<I, S>
where
    S: hyper::service::HttpService<hyper::body::Incoming>,
    Self: Future<Output = Result<(), hyper::Error>>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    S::ResBody: 'static,
    <S::ResBody as http_body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, S> Served for http2::Connection<I, S, LocalExecutor>
where
    S: hyper::service::HttpService<hyper::body::Incoming>,
    Self: Future<Output = Result<(), hyper::Error>>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    S::ResBody: 'static,
    <S::ResBody as http_body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    LocalExecutor: hyper::rt::bounds::Http2ServerConnExec<S::Future, S::ResBody>,
{
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// The clocks of one connection.
struct Clocks<'c> {
    connection: &'c Connection,
    signs: &'c Signs,
    /// When the first byte of a head came that is not complete yet.
    head_since: Option<Instant>,
    served: u32,
    was_active: bool,
    /// Whether the connection was told to end for its age: there is nothing more to wake up for then.
    aged: bool,
    /// Whether bytes between requests mean that a head has begun. In HTTP/2 they may be anything; its heads
    /// come in one frame or a bounded number of them.
    heads_are_bytes: bool,
}

/// What a clock says.
enum Expired {
    Nothing,
    Head,
    /// All answers were given, and the last of them not read.
    Unread,
    Idle,
    Age,
}

impl Clocks<'_> {
    /// Called after each turn of the codec. Whether a head has begun since the last call.
    fn head_began(&mut self) -> bool {
        let served = self.connection.served.get();
        // A whole head waits as well as long as answers before it are not read.
        let active = self.connection.active.get() > 0 || self.signs.is_blocked();
        if active || std::mem::replace(&mut self.was_active, active) || served != self.served {
            // What arrived belonged to a request that was complete or is being read.
            self.was_active = active;
            self.served = served;
            self.head_since = None;
            self.signs.take_arrived();
            return false;
        }
        if self.heads_are_bytes && self.head_since.is_none() && self.signs.take_arrived() {
            self.head_since = Some(Instant::now());
            return true;
        }
        false
    }

    fn deadlines(&self) -> [(Expired, Option<Instant>); 4] {
        let limits = &self.connection.manager.limits;
        let after = |start: Instant, limit: Option<Duration>| limit.map(|limit| start + limit);
        // A busy connection cannot be idle before the limit has passed once more.
        let idle_since =
            if self.connection.active.get() > 0 { Instant::now() } else { self.connection.idle_since.get() };
        [
            (Expired::Head, self.head_since.and_then(|since| after(since, limits.request_headers))),
            (Expired::Unread, after(idle_since, limits.stream_idle.filter(|_| self.signs.is_blocked()))),
            (Expired::Idle, after(idle_since, limits.connection_idle)),
            (
                Expired::Age,
                after(self.connection.opened, limits.max_connection_duration.filter(|_| !self.aged)),
            ),
        ]
    }

    fn next(&self) -> Option<Instant> {
        let unread = self.connection.unread.plan(Instant::now(), self.connection.manager.limits.stream_idle);
        self.deadlines().into_iter().filter_map(|(_, deadline)| deadline).chain(unread).min()
    }

    fn expired(&self) -> Expired {
        let now = Instant::now();
        let over = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        self.deadlines()
            .into_iter()
            .find(|(_, deadline)| over(*deadline))
            .map_or(Expired::Nothing, |(what, _)| what)
    }
}

/// How long an idle HTTP/1 connection that is to end waits for a request that may be under way.
pub(crate) const LAST_REQUEST_WITHIN: Duration = Duration::from_secs(5);

/// What one turn of the loop saw.
enum Turn {
    Ended(Result<(), hyper::Error>),
    /// A head or a response has begun, and with it a clock that runs out before the others.
    Begun,
    /// The request that an ending connection waited for.
    LastRequest,
    Finish,
    Clock,
}

async fn drive(
    served: impl Served,
    protocol: Protocol,
    connection: &Rc<Connection>,
    signs: &Signs,
    mut draining: watch::Receiver<bool>,
) {
    let mut served = pin!(served);
    let mut clocks = Clocks {
        connection,
        signs,
        head_since: None,
        served: 0,
        was_active: false,
        aged: false,
        heads_are_bytes: protocol == Protocol::Http1,
    };
    let mut finishing = false;
    let mut last_request: Option<Instant> = None;
    loop {
        // Polled only when one of them is woken: the codec is, several times a request.
        let mut beside = FuturesUnordered::<Pin<Box<dyn Future<Output = Turn> + '_>>>::new();
        if !finishing && last_request.is_none() {
            beside.push(Box::pin(async {
                // Also when the sender is gone: its listener is.
                let _ = draining.wait_for(|draining| *draining).await;
                Turn::Finish
            }));
            beside.push(Box::pin(async {
                connection.wake.notified().await;
                Turn::Finish
            }));
        }
        if let Some(next) = clocks.next().into_iter().chain(last_request).min() {
            beside.push(Box::pin(async move {
                tokio::time::sleep_until(next.into()).await;
                Turn::Clock
            }));
        }
        let turn = poll_fn(|cx| {
            if let Poll::Ready(ended) = served.as_mut().poll(cx) {
                return Poll::Ready(Turn::Ended(ended));
            }
            if last_request.is_some() && connection.active.get() > 0 {
                return Poll::Ready(Turn::LastRequest);
            }
            if clocks.head_began() || connection.unread.has_sooner() {
                return Poll::Ready(Turn::Begun);
            }
            match beside.poll_next_unpin(cx) {
                Poll::Ready(Some(turn)) => Poll::Ready(turn),
                // Without any there is nothing to wait for but the codec.
                Poll::Ready(None) | Poll::Pending => Poll::Pending,
            }
        });
        let turn = turn.await;
        drop(beside);
        match turn {
            Turn::Ended(ended) => {
                if let Err(error) = ended {
                    connection.http.protocol_errors.add(u64::from(error.is_parse()));
                    tracing::debug!(src.addr = %connection.peer, %error, "downstream connection broke");
                }
                return;
            }
            Turn::Begun => {}
            // Closing an idle HTTP/1 connection now would lose a request that its client has just sent: it
            // has no way to know that nobody read it. One more answer tells it, by `connection: close`.
            // HTTP/2 says in its GOAWAY which streams were read.
            Turn::Finish if protocol == Protocol::Http1 && connection.active.get() == 0 => {
                connection.close_after_requests();
                last_request = Some(Instant::now() + LAST_REQUEST_WITHIN);
            }
            Turn::LastRequest => {
                last_request = None;
                finishing = true;
                served.as_mut().finish();
            }
            Turn::Clock if last_request.is_some_and(|until| until <= Instant::now()) => {
                last_request = None;
                finishing = true;
                served.as_mut().finish();
            }
            Turn::Finish => {
                finishing = true;
                connection.close_after_requests();
                served.as_mut().finish();
            }
            // A client that does not read what it asked for. In HTTP/1 there is no other way to tell it; in
            // HTTP/2 it may read other streams.
            Turn::Clock
                if connection.unread.end_stalled(Instant::now())
                    && (protocol == Protocol::Http1 || connection.active.get() == 0) =>
            {
                return;
            }
            Turn::Clock => match clocks.expired() {
                Expired::Nothing => {}
                Expired::Head => {
                    connection.http.header_timeouts.add(1);
                    return;
                }
                Expired::Unread => return,
                Expired::Idle if finishing => return,
                Expired::Idle => {
                    connection.http.idle_timeouts.add(1);
                    finishing = true;
                    connection.close_after_requests();
                    served.as_mut().finish();
                }
                Expired::Age => {
                    clocks.aged = true;
                    if !std::mem::replace(&mut finishing, true) {
                        connection.close_after_requests();
                        served.as_mut().finish();
                    }
                }
            },
        }
    }
}
