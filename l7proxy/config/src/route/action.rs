//! What a route does with a request.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};

use crate::headers::HeaderMutations;
use crate::pattern::Substitution;

/// What to do with a matched request.
#[derive(Debug)]
pub enum Action {
    /// Send it to a cluster.
    Forward(Box<Forward>),
    /// Answer with a redirect.
    Redirect(Box<Redirect>),
    /// Answer with a fixed response.
    Respond(DirectResponse),
}

/// How to forward.
#[derive(Debug)]
pub struct Forward {
    /// Where to.
    pub clusters: ClusterChoice,
    /// The answer when the chosen cluster does not exist.
    pub cluster_not_found: StatusCode,
    /// From the end of the request to the end of the response. None: no limit.
    pub timeout: Option<Duration>,
    /// Overrides the listener's stream idle timeout: `Some(None)` is no limit.
    pub idle_timeout: Option<Option<Duration>>,
    /// From the start of the request to the end of the response.
    pub max_stream_duration: Option<Duration>,
    /// What the backend is told about its time, in milliseconds: the limit of a try or of all tries,
    /// whichever is shorter. None: no limit.
    pub expected_timeout: Option<HeaderValue>,
    /// What happens to the path.
    pub path: PathChange,
    /// What `host` becomes.
    pub host: Option<HeaderValue>,
    /// Whether the endpoint's hostname becomes the host.
    pub auto_host: bool,
    /// When to try again.
    pub retry: Option<RetryPolicy>,
}

/// Where a request goes.
#[derive(Debug)]
pub enum ClusterChoice {
    /// Always the same cluster.
    One(Arc<str>),
    /// Drawn by weight.
    Weighted {
        /// Never empty.
        clusters: Vec<WeightedCluster>,
        /// The sum of all weights; never zero.
        total: u32,
    },
}

/// One of several clusters.
#[derive(Debug)]
pub struct WeightedCluster {
    /// The cluster's name.
    pub name: Arc<str>,
    /// Its share of the total.
    pub weight: u32,
    /// Applied to requests that go there.
    pub request_headers: HeaderMutations,
    /// Applied to responses from there.
    pub response_headers: HeaderMutations,
    /// What `host` becomes.
    pub host: Option<HeaderValue>,
}

impl ClusterChoice {
    pub(crate) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        let (one, several) = match self {
            Self::One(name) => (Some(name), [].as_slice()),
            Self::Weighted { clusters, .. } => (None, clusters.as_slice()),
        };
        one.into_iter().chain(several.iter().map(|cluster| &cluster.name))
    }

    /// The cluster for one request, with its mutations if it is one of several. Linear in the number of
    /// clusters of this route, which is small.
    pub fn choose(&self) -> (&Arc<str>, Option<&WeightedCluster>) {
        match self {
            Self::One(name) => (name, None),
            Self::Weighted { clusters, total } => {
                let mut ticket = crate::random::below(*total);
                for cluster in clusters {
                    if ticket < cluster.weight {
                        return (&cluster.name, Some(cluster));
                    }
                    ticket -= cluster.weight;
                }
                // The weights add up to `total`, so one was found; the last is as good as any.
                let last = clusters.last().expect("a weighted choice has clusters");
                (&last.name, Some(last))
            }
        }
    }
}

/// What happens to a path. The query always stays.
#[derive(Debug, Clone)]
pub enum PathChange {
    /// Nothing.
    Keep,
    /// The first `matched` bytes are replaced.
    Prefix {
        /// The length of the prefix that the route matched.
        matched: usize,
        /// What comes in its place.
        replacement: Box<str>,
    },
    /// All of it is replaced.
    Whole(Box<str>),
    /// An expression is replaced.
    Pattern(Substitution),
}

impl PathChange {
    /// Whether it leaves every path as it is.
    #[must_use]
    pub fn keeps(&self) -> bool {
        matches!(self, Self::Keep)
    }

    /// The new path. Borrowed when nothing changes. Always begins with a slash.
    pub fn apply<'p>(&self, path: &'p str) -> Cow<'p, str> {
        let changed = match self {
            Self::Keep => return Cow::Borrowed(path),
            Self::Prefix { matched, replacement } => {
                format!("{replacement}{}", path.get(*matched..).unwrap_or_default())
            }
            Self::Whole(replacement) => replacement.to_string(),
            Self::Pattern(substitution) => substitution.apply(path),
        };
        if changed.starts_with('/') { Cow::Owned(changed) } else { Cow::Owned(format!("/{changed}")) }
    }
}

/// A redirect. Unset parts come from the request.
#[derive(Debug)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
    /// The new scheme.
    pub scheme: Option<Box<str>>,
    /// The new host.
    pub host: Option<Box<str>>,
    /// The new port.
    pub port: Option<u16>,
    /// The new path.
    pub path: PathChange,
    /// Whether the query is left out.
    pub strip_query: bool,
}

impl Redirect {
    /// The `location` for a request. The default port of the scheme is left out.
    pub fn location(&self, scheme: &str, authority: &str, path: &str, query: Option<&str>) -> String {
        let new_scheme = self.scheme.as_deref().unwrap_or(scheme);
        let bare = super::hosts::without_port(authority);
        let old_port = authority.get(bare.len() + 1..).filter(|port| !port.is_empty());
        let mut location = format!("{new_scheme}://{}", self.host.as_deref().unwrap_or(bare));
        let default_port = if new_scheme == "https" { "443" } else { "80" };
        match self.port {
            Some(port) if port.to_string() != default_port => location.push_str(&format!(":{port}")),
            Some(_) => {}
            // A port that was the other scheme's default, or belonged to the other host, makes no sense now.
            None => {
                let keeps =
                    self.host.is_none() && (new_scheme == scheme || !matches!(old_port, Some("80" | "443")));
                if let Some(port) = old_port.filter(|port| keeps && *port != default_port) {
                    location.push_str(&format!(":{port}"));
                }
            }
        }
        let new_path = self.path.apply(path);
        location.push_str(&new_path);
        let own_query = new_path.contains('?');
        if let Some(query) = query.filter(|_| !self.strip_query && !own_query) {
            location.push('?');
            location.push_str(query);
        }
        location
    }
}

/// A fixed response.
#[derive(Debug)]
pub struct DirectResponse {
    /// The status.
    pub status: StatusCode,
    /// The body. May be empty.
    pub body: Bytes,
}

/// When and how often to try again. A request is only sent again if nothing of its body was.
#[derive(Debug, Clone)]
pub struct RetryPolicy {
    /// The causes.
    pub on: RetryOn,
    /// Attempts after the first.
    pub retries: u32,
    /// The limit of one attempt.
    pub per_try_timeout: Option<Duration>,
}

/// Causes for another attempt, with the meaning Envoy's `retry_on` gives them.
#[derive(Debug, Clone, Default)]
pub struct RetryOn {
    /// No connection.
    pub connect_failure: bool,
    /// The connection broke before the response began.
    pub reset: bool,
    /// Any 5xx, or no response.
    pub server_error: bool,
    /// 502, 503 or 504.
    pub gateway_error: bool,
    /// These.
    pub statuses: Vec<StatusCode>,
}

impl RetryOn {
    /// Whether a response with this status is to be tried again.
    pub fn status(&self, status: StatusCode) -> bool {
        (self.server_error && status.is_server_error())
            || (self.gateway_error && matches!(status.as_u16(), 502..=504))
            || self.statuses.contains(&status)
    }
}
