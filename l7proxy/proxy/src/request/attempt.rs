//! Sending a request to endpoints until one answers or there is no use in trying again.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Response, header};
use mesh_l7proxy_config::cluster::{Cluster, Endpoint};
use mesh_l7proxy_config::route::{Forward, RetryPolicy};

use super::deadline::Deadlines;
use crate::body::{Progress, RequestBody};
use crate::codec::{Incoming, Keep, Protocol, RequestHead, SendError};
use crate::connection::Connection;
use crate::failure::{Failure, Flags};
use crate::headers::X_ENVOY_EXPECTED_TIMEOUT;
use crate::record::Record;
use crate::upstream::{Admitted, CoreCluster, Lease, PoolKey};

/// A request as endpoints see it, still without its body.
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    pub(crate) idempotent: bool,
    pub(crate) authority: HeaderValue,
    pub(crate) scheme: Scheme,
    pub(crate) path_and_query: PathAndQuery,
    pub(crate) headers: HeaderMap,
    pub(crate) protocol: Protocol,
    pub(crate) source: Option<IpAddr>,
    pub(crate) progress: Rc<Progress>,
}

/// The head of a response with what its body needs.
pub(crate) struct Answer {
    pub(crate) response: Response<Incoming>,
    pub(crate) lease: Lease,
    pub(crate) admitted: Admitted,
}

/// What is left over from an attempt that failed.
struct Failed {
    failure: Failure,
    /// Nothing of it can have reached an application: it may go out again whatever the method is.
    untouched: bool,
    /// The connection came from the pool, so its end says nothing about the endpoint.
    stale: bool,
}

impl Failed {
    fn before_sending(failure: Failure) -> Self {
        Self { failure, untouched: true, stale: false }
    }
}

impl Outgoing {
    /// The answer of the first endpoint that gives one.
    pub(crate) async fn send(
        mut self,
        connection: &Connection,
        cluster: &Arc<Cluster>,
        forward: &Forward,
        mut body: Option<RequestBody>,
        deadlines: &Deadlines,
        record: &mut Record,
    ) -> Result<Answer, Failure> {
        let here = connection.core.cluster(&cluster.settings.name);
        record.cluster(&here);
        let has_body = body.is_some();
        // Answered here: the client's codec sends 100 when the body is first asked for, which is soon.
        self.headers.remove(header::EXPECT);
        let mut retries = Retries::new(forward.retry.as_ref(), &here);
        let mut fresh = false;
        let mut is_first = true;
        loop {
            if !std::mem::replace(&mut is_first, false)
                && !connection.manager.suppress_envoy_headers
                && let Some(left) = deadlines.of_a_try(retries.per_try())
            {
                // Not 0, which would mean no limit.
                let milliseconds = u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1);
                self.headers.insert(X_ENVOY_EXPECTED_TIMEOUT, HeaderValue::from(milliseconds));
            }
            let Some(endpoint) = cluster.pick(&here.turn, self.source) else {
                here.counters().none_healthy.add(1);
                return Err(Failure::NoHealthyUpstream);
            };
            record.upstream_host = Some(endpoint.address);
            let again_possible = !has_body && retries.left > 0;
            let attempt = self.once(
                connection,
                &here,
                cluster,
                endpoint,
                &mut body,
                Attempt { has_body, fresh, again_possible, auto_host: forward.auto_host },
            );
            let outcome = match deadlines.guard(&connection.clock, retries.per_try(), attempt).await {
                Ok(outcome) => outcome,
                Err(failure) => {
                    here.counters().timeouts.add(1);
                    Err(Failed { failure, untouched: false, stale: false })
                }
            };
            let failed = match outcome {
                Ok(answer) => {
                    if again_possible && retries.after_status(answer.response.status()) {
                        continue;
                    }
                    return Ok(answer);
                }
                Err(failed) => failed,
            };
            if self.progress.failed() {
                return Err(Failure::DownstreamBody);
            }
            // Once, and at no cost to anybody's retry budget: the endpoint closed an idle connection just as we
            // took it.
            let repeatable = failed.untouched || (!has_body && self.idempotent);
            if failed.stale && repeatable && !std::mem::replace(&mut fresh, true) {
                continue;
            }
            let still_whole = (failed.untouched && !self.progress.touched()) || !has_body;
            if still_whole && retries.after_failure(failed.failure) {
                continue;
            }
            if matches!(failed.failure, Failure::UpstreamReset | Failure::UpstreamClosed) {
                here.counters().resets.add(1);
            }
            if retries.used_up() {
                record.flags.add(Flags::UPSTREAM_RETRY_LIMIT);
            }
            return Err(failed.failure);
        }
    }

    async fn once(
        &mut self,
        connection: &Connection,
        here: &Rc<CoreCluster>,
        cluster: &Cluster,
        endpoint: &Arc<Endpoint>,
        body: &mut Option<RequestBody>,
        attempt: Attempt,
    ) -> Result<Answer, Failed> {
        let settings = &cluster.settings;
        let admitted = here.admit(settings.limits, endpoint).map_err(Failed::before_sending)?;
        // A client of the other family cannot be the source. Nor can one that is the endpoint itself: a pod drops
        // packets that come from outside with its own address.
        let source = self.source.filter(|source| {
            source.is_ipv4() == endpoint.address.is_ipv4() && *source != endpoint.address.ip()
        });
        let key = PoolKey { endpoint: endpoint.address, protocol: self.protocol, source };
        let mut lease = here
            .lease(&connection.core, settings, key, attempt.fresh)
            .await
            .map_err(Failed::before_sending)?;
        let keep = match attempt {
            Attempt { again_possible: true, .. } => Keep::Always,
            Attempt { has_body: false, .. } if lease.reused && self.idempotent => Keep::UntilAnswered,
            _ => Keep::Never,
        };
        let authority = match attempt.auto_host && !endpoint.hostname.is_empty() {
            true => HeaderValue::from_str(&endpoint.hostname).unwrap_or_else(|_| self.authority.clone()),
            false => self.authority.clone(),
        };
        let head = RequestHead {
            method: &self.method,
            scheme: &self.scheme,
            authority,
            path_and_query: &self.path_and_query,
            headers: &mut self.headers,
            keep,
        };
        let request_body = body.take().unwrap_or_else(|| RequestBody::empty(self.progress.clone()));
        let stale = lease.reused;
        match lease.exchange(head, request_body).await {
            Ok(response) => Ok(Answer { response, lease, admitted }),
            Err(SendError::NotSent(request)) => {
                if let Some(headers) = request.headers {
                    self.headers = headers;
                }
                *body = request.body.filter(|_| attempt.has_body);
                Err(Failed { failure: Failure::UpstreamClosed, untouched: true, stale })
            }
            Err(SendError::Closed) => {
                Err(Failed { failure: Failure::UpstreamClosed, untouched: false, stale })
            }
            Err(SendError::Reset) => {
                Err(Failed { failure: Failure::UpstreamReset, untouched: false, stale: false })
            }
            Err(SendError::Malformed) => {
                Err(Failed { failure: Failure::UpstreamProtocol, untouched: false, stale: false })
            }
            Err(SendError::InvalidTarget) => {
                Err(Failed::before_sending(Failure::BadRequest("http.invalid_target")))
            }
        }
    }
}

/// The circumstances of one attempt.
#[derive(Clone, Copy)]
struct Attempt {
    has_body: bool,
    /// No pooled connection.
    fresh: bool,
    again_possible: bool,
    auto_host: bool,
}

/// What the route allows besides the first attempt.
struct Retries<'a> {
    policy: Option<&'a RetryPolicy>,
    cluster: &'a Rc<CoreCluster>,
    left: u32,
    /// Whether a retry of this request is counted among those under way.
    counted: bool,
}

impl<'a> Retries<'a> {
    fn new(policy: Option<&'a RetryPolicy>, cluster: &'a Rc<CoreCluster>) -> Self {
        Self { policy, cluster, left: policy.map_or(0, |policy| policy.retries), counted: false }
    }

    fn per_try(&self) -> Option<std::time::Duration> {
        self.policy.and_then(|policy| policy.per_try_timeout)
    }

    fn after_status(&mut self, status: http::StatusCode) -> bool {
        self.policy.is_some_and(|policy| policy.on.status(status)) && self.take()
    }

    fn after_failure(&mut self, failure: Failure) -> bool {
        let Some(RetryPolicy { on, .. }) = self.policy else { return false };
        let wanted = match failure {
            Failure::ConnectFailed | Failure::ConnectTimeout => on.connect_failure,
            Failure::UpstreamClosed | Failure::UpstreamReset | Failure::UpstreamProtocol => on.reset,
            Failure::PerTryTimeout => on.server_error || on.gateway_error,
            Failure::BadRequest(_)
            | Failure::HeadersTooLarge
            | Failure::UpgradeRefused
            | Failure::NoRoute
            | Failure::NoCluster(_)
            | Failure::NoHealthyUpstream
            | Failure::Overflow
            | Failure::RouteTimeout
            | Failure::StreamIdle(_)
            | Failure::RequestTimeout
            | Failure::MaxDuration(_)
            | Failure::UnknownCoding
            | Failure::DownstreamBody => false,
        };
        wanted && self.take()
    }

    fn used_up(&self) -> bool {
        self.counted && self.left == 0
    }

    fn take(&mut self) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        if !std::mem::replace(&mut self.counted, true) {
            self.cluster.stats.retries.fetch_add(1, Ordering::Relaxed);
        }
        self.cluster.counters().retries.add(1);
        true
    }
}

impl Drop for Retries<'_> {
    fn drop(&mut self) {
        if self.counted {
            self.cluster.stats.retries.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
