//! Everything that can go wrong with a request, and what is answered, counted and logged for it.

use http::StatusCode;

/// Envoy's response flags, as its access log prints them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Flags(u16);

impl Flags {
    pub(crate) const NONE: Self = Self(0);
    pub(crate) const NO_ROUTE: Self = Self(1);
    pub(crate) const NO_CLUSTER: Self = Self(1 << 1);
    pub(crate) const NO_HEALTHY_UPSTREAM: Self = Self(1 << 2);
    pub(crate) const UPSTREAM_CONNECTION_FAILURE: Self = Self(1 << 3);
    pub(crate) const UPSTREAM_CONNECTION_TERMINATION: Self = Self(1 << 4);
    pub(crate) const UPSTREAM_REMOTE_RESET: Self = Self(1 << 5);
    pub(crate) const UPSTREAM_TIMEOUT: Self = Self(1 << 6);
    pub(crate) const UPSTREAM_OVERFLOW: Self = Self(1 << 7);
    pub(crate) const UPSTREAM_PROTOCOL_ERROR: Self = Self(1 << 8);
    pub(crate) const UPSTREAM_RETRY_LIMIT: Self = Self(1 << 9);
    pub(crate) const DOWNSTREAM_CLOSED: Self = Self(1 << 10);
    pub(crate) const DOWNSTREAM_PROTOCOL_ERROR: Self = Self(1 << 11);
    pub(crate) const STREAM_IDLE: Self = Self(1 << 12);
    pub(crate) const DURATION_TIMEOUT: Self = Self(1 << 13);

    const NAMES: [&'static str; 14] =
        ["NR", "NC", "UH", "UF", "UC", "UR", "UT", "UO", "UPE", "URX", "DC", "DPE", "SI", "DT"];

    pub(crate) fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Their short names with commas; a hyphen for none.
    pub(crate) fn write(self, out: &mut String) {
        if self.0 == 0 {
            out.push('-');
        }
        let mut first = true;
        for (_, name) in Self::NAMES.into_iter().enumerate().filter(|(bit, _)| self.0 & (1 << bit) != 0) {
            if !std::mem::take(&mut first) {
                out.push(',');
            }
            out.push_str(name);
        }
    }
}

/// Why a request gets no answer from a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The request breaks the protocol; what, in Envoy's words where it has some.
    BadRequest(&'static str),
    /// More or longer header fields than allowed.
    HeadersTooLarge,
    /// An upgrade that the listener does not carry.
    UpgradeRefused,
    /// Whatever configuration names is not there.
    NoRoute,
    /// With the status that the route asks for.
    NoCluster(StatusCode),
    NoHealthyUpstream,
    Overflow,
    ConnectFailed,
    ConnectTimeout,
    /// The connection ended before the response began.
    UpstreamClosed,
    /// The stream was reset before the response began.
    UpstreamReset,
    UpstreamProtocol,
    RouteTimeout,
    PerTryTimeout,
    /// Nothing moved on the stream.
    StreamIdle(RequestState),
    RequestTimeout,
    /// The stream took longer than any may.
    MaxDuration(RequestState),
    /// A transfer coding that is none of HTTP/1.1's.
    UnknownCoding,
    /// The client's body broke off while it was being forwarded.
    DownstreamBody,
}

/// How far a request had come when its time was over: who is late, the backend or the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestState {
    /// All of it was read.
    Complete,
    /// Some of it is still to come.
    Arriving,
}

/// What a failure means to each who looks.
pub(crate) struct Meaning {
    pub(crate) status: StatusCode,
    pub(crate) flags: Flags,
    pub(crate) body: &'static str,
    /// Envoy's `%RESPONSE_CODE_DETAILS%`.
    pub(crate) details: &'static str,
    /// Whether the connection is still in step with the client afterwards.
    pub(crate) close: bool,
}

impl Failure {
    /// The one place that gives failures their meaning. No catch-all arm: a new failure has to be decided.
    pub(crate) fn meaning(self) -> Meaning {
        let meaning = |status, flags, body, details| Meaning { status, flags, body, details, close: false };
        let closing = |status, flags, body, details| Meaning { status, flags, body, details, close: true };
        match self {
            Self::BadRequest(details) => {
                closing(StatusCode::BAD_REQUEST, Flags::DOWNSTREAM_PROTOCOL_ERROR, "", details)
            }
            Self::HeadersTooLarge => closing(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                Flags::DOWNSTREAM_PROTOCOL_ERROR,
                "",
                "request_headers_too_large",
            ),
            Self::UpgradeRefused => meaning(StatusCode::FORBIDDEN, Flags::NONE, "", "upgrade_failed"),
            Self::NoRoute => meaning(StatusCode::NOT_FOUND, Flags::NO_ROUTE, "", "route_not_found"),
            Self::NoCluster(status) => meaning(status, Flags::NO_CLUSTER, "", "cluster_not_found"),
            Self::NoHealthyUpstream => meaning(
                StatusCode::SERVICE_UNAVAILABLE,
                Flags::NO_HEALTHY_UPSTREAM,
                "no healthy upstream",
                "no_healthy_upstream",
            ),
            Self::Overflow => meaning(
                StatusCode::SERVICE_UNAVAILABLE,
                Flags::UPSTREAM_OVERFLOW,
                "upstream connect error or disconnect/reset before headers. reset reason: overflow",
                "upstream_reset_before_response_started{overflow}",
            ),
            Self::ConnectFailed => meaning(
                StatusCode::SERVICE_UNAVAILABLE,
                Flags::UPSTREAM_CONNECTION_FAILURE,
                "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure",
                "upstream_reset_before_response_started{remote_connection_failure}",
            ),
            Self::ConnectTimeout => meaning(
                StatusCode::SERVICE_UNAVAILABLE,
                Flags::UPSTREAM_CONNECTION_FAILURE,
                "upstream connect error or disconnect/reset before headers. reset reason: connection timeout",
                "upstream_reset_before_response_started{connection_timeout}",
            ),
            Self::UpstreamClosed => meaning(
                StatusCode::SERVICE_UNAVAILABLE,
                Flags::UPSTREAM_CONNECTION_TERMINATION,
                "upstream connect error or disconnect/reset before headers. reset reason: connection termination",
                "upstream_reset_before_response_started{connection_termination}",
            ),
            Self::UpstreamReset => meaning(
                StatusCode::SERVICE_UNAVAILABLE,
                Flags::UPSTREAM_REMOTE_RESET,
                "upstream connect error or disconnect/reset before headers. reset reason: remote reset",
                "upstream_reset_before_response_started{remote_reset}",
            ),
            Self::UpstreamProtocol => meaning(
                StatusCode::BAD_GATEWAY,
                Flags::UPSTREAM_PROTOCOL_ERROR,
                "upstream connect error or disconnect/reset before headers. reset reason: protocol error",
                "upstream_reset_before_response_started{protocol_error}",
            ),
            Self::RouteTimeout => meaning(
                StatusCode::GATEWAY_TIMEOUT,
                Flags::UPSTREAM_TIMEOUT,
                "upstream request timeout",
                "upstream_response_timeout",
            ),
            Self::PerTryTimeout => meaning(
                StatusCode::GATEWAY_TIMEOUT,
                Flags::UPSTREAM_TIMEOUT,
                "upstream request timeout",
                "upstream_per_try_timeout",
            ),
            Self::StreamIdle(RequestState::Complete) => meaning(
                StatusCode::GATEWAY_TIMEOUT,
                Flags::STREAM_IDLE,
                "stream timeout",
                "stream_idle_timeout",
            ),
            Self::StreamIdle(RequestState::Arriving) => closing(
                StatusCode::REQUEST_TIMEOUT,
                Flags::STREAM_IDLE,
                "stream timeout",
                "stream_idle_timeout",
            ),
            Self::RequestTimeout => closing(
                StatusCode::REQUEST_TIMEOUT,
                Flags::DOWNSTREAM_PROTOCOL_ERROR,
                "request timeout",
                "request_overall_timeout",
            ),
            Self::MaxDuration(RequestState::Complete) => meaning(
                StatusCode::GATEWAY_TIMEOUT,
                Flags::DURATION_TIMEOUT,
                "downstream duration timeout",
                "max_duration_timeout",
            ),
            Self::MaxDuration(RequestState::Arriving) => closing(
                StatusCode::REQUEST_TIMEOUT,
                Flags::DURATION_TIMEOUT,
                "downstream duration timeout",
                "max_duration_timeout",
            ),
            Self::UnknownCoding => closing(
                StatusCode::NOT_IMPLEMENTED,
                Flags::DOWNSTREAM_PROTOCOL_ERROR,
                "Not Implemented",
                "http1.invalid_transfer_encoding",
            ),
            Self::DownstreamBody => {
                closing(StatusCode::BAD_REQUEST, Flags::DOWNSTREAM_CLOSED, "", "downstream_remote_disconnect")
            }
        }
    }
}
