//! The clocks of one request.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use mesh_l7proxy_config::http_manager::HttpLimits;
use mesh_l7proxy_config::route::Forward;

use crate::body::Progress;
use crate::clock::Clock;
use crate::failure::{Failure, RequestState};

/// When a request has taken too long, and which of its limits says so.
pub(crate) struct Deadlines {
    /// From the end of the request to the end of the response.
    route: Option<Duration>,
    /// Without a byte in either direction.
    idle: Option<Duration>,
    /// The end of the request's body.
    request: Option<Instant>,
    /// The end of the response.
    stream: Option<Instant>,
    progress: Rc<Progress>,
}

impl Deadlines {
    pub(crate) fn new(
        limits: &HttpLimits,
        forward: &Forward,
        started: Instant,
        progress: Rc<Progress>,
    ) -> Self {
        let stream = [limits.max_stream_duration, forward.max_stream_duration].into_iter().flatten().min();
        Self {
            route: forward.timeout,
            idle: forward.idle_timeout.unwrap_or(limits.stream_idle),
            request: limits.request.map(|limit| started + limit),
            stream: stream.map(|limit| started + limit),
            progress,
        }
    }

    /// How long a body may pause.
    pub(crate) fn idle(&self) -> Option<Duration> {
        self.idle
    }

    /// When the response must be complete. A request whose body is still on its way when the response
    /// begins has no limit from the route: it is a conversation.
    pub(crate) fn of_body(&self) -> Option<Instant> {
        let route = self.route.zip(self.progress.ended()).map(|(limit, ended)| ended + limit);
        [route, self.stream].into_iter().flatten().min()
    }

    /// How long a try that begins now may take by the route: its own limit, or what is left of that of all
    /// tries, whichever is shorter.
    pub(crate) fn of_a_try(&self, per_try: Option<Duration>) -> Option<Duration> {
        let used = self.progress.ended().map(|ended| ended.elapsed()).unwrap_or_default();
        let left = self.route.map(|limit| limit.saturating_sub(used));
        [left, per_try].into_iter().flatten().min()
    }

    /// Does the work unless a clock runs out first. Dropping it gives the work up. `clock` belongs to the
    /// connection: another request of it that waits at the same time makes one of its own.
    pub(crate) async fn guard<T>(
        &self,
        clock: &RefCell<Clock>,
        per_try: Option<Duration>,
        work: impl Future<Output = T>,
    ) -> Result<T, Failure> {
        let started = Instant::now();
        let mut work = pin!(work);
        let mut timer = clock.take();
        let done = poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Ok(done));
            }
            // The route's time begins when the body ends, which this task would not notice by itself.
            self.progress.watch(cx.waker());
            loop {
                let Some((next, failure)) = self.next(started, per_try) else { return Poll::Pending };
                if next <= Instant::now() {
                    return Poll::Ready(Err(failure));
                }
                // Bytes may have moved the deadline on meanwhile.
                ready!(timer.poll(tokio::time::Instant::from_std(next), cx));
            }
        })
        .await;
        clock.replace(timer);
        done
    }

    fn next(&self, started: Instant, per_try: Option<Duration>) -> Option<(Instant, Failure)> {
        let ended = self.progress.ended();
        let last = self.progress.last().max(started);
        let state = if ended.is_some() { RequestState::Complete } else { RequestState::Arriving };
        [
            (self.route.zip(ended).map(|(limit, ended)| ended + limit), Failure::RouteTimeout),
            (per_try.map(|limit| started + limit), Failure::PerTryTimeout),
            (self.request.filter(|_| ended.is_none()), Failure::RequestTimeout),
            (self.stream, Failure::MaxDuration(state)),
            (self.idle.map(|limit| last + limit), Failure::StreamIdle(state)),
        ]
        .into_iter()
        .filter_map(|(deadline, failure)| Some((deadline?, failure)))
        .min_by_key(|(deadline, _)| *deadline)
    }
}
