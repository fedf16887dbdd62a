//! What is known about one request, counted and logged when the record is dropped.

mod line;

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version};
use mesh_l7proxy_config::access_log::{LogFormat, Piece, Subject};
use mesh_l7proxy_config::http_manager::HttpManager;

use crate::connection::Connection;
use crate::failure::{Failure, Flags};
use crate::metrics::class;
use crate::upstream::CoreCluster;

/// The story of one request. Dropping it tells the story: however a request ends, it is counted once.
pub(crate) struct Record {
    pub(crate) connection: Rc<Connection>,
    started: Instant,
    pub(crate) version: Version,
    /// Whether the client speaks gRPC, which has its own way of saying that a call failed.
    pub(crate) grpc: bool,
    status: Option<StatusCode>,
    pub(crate) flags: Flags,
    details: &'static str,
    pub(crate) received: Rc<Cell<u64>>,
    pub(crate) sent: u64,
    /// Whether the last byte of the response was handed over.
    pub(crate) complete: bool,
    cluster: Option<Rc<CoreCluster>>,
    pub(crate) upstream_host: Option<SocketAddr>,
    logged: Option<Box<Logged>>,
}

/// What only the access log needs; absent when nobody logs.
struct Logged {
    wall: SystemTime,
    method: Method,
    uri: Uri,
    authority: Option<HeaderValue>,
    client: Option<SocketAddr>,
    route: Option<Arc<str>>,
    request: Vec<(HeaderName, HeaderValue)>,
    response: Vec<(HeaderName, HeaderValue)>,
}

impl Record {
    pub(crate) fn new(connection: &Rc<Connection>, method: &Method, uri: &Uri, version: Version) -> Self {
        connection.http.requests.add(1);
        let logged = (!connection.manager.access_logs.is_empty()).then(|| {
            Box::new(Logged {
                wall: SystemTime::now(),
                method: method.clone(),
                uri: uri.clone(),
                authority: None,
                client: None,
                route: None,
                request: Vec::new(),
                response: Vec::new(),
            })
        });
        Self {
            connection: connection.clone(),
            started: Instant::now(),
            version,
            grpc: false,
            status: None,
            flags: Flags::NONE,
            details: "",
            received: Rc::default(),
            sent: 0,
            complete: false,
            cluster: None,
            upstream_host: None,
            logged,
        }
    }

    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// Keeps the request headers that a format asks for, as they are once forwarding headers are set.
    pub(crate) fn request_headers(
        &mut self,
        authority: &HeaderValue,
        client: SocketAddr,
        headers: &HeaderMap,
    ) {
        let Some(logged) = &mut self.logged else { return };
        logged.authority = Some(authority.clone());
        logged.client = Some(client);
        let manager = &self.connection.manager;
        for name in named(manager, |piece| match piece {
            Piece::Request(subjects, _) => subjects.as_slice(),
            _ => &[],
        }) {
            if let Some(value) = headers.get(name) {
                logged.request.push((name.clone(), value.clone()));
            }
        }
    }

    pub(crate) fn route(&mut self, name: &Arc<str>) {
        if let Some(logged) = &mut self.logged {
            logged.route = Some(name.clone());
        }
    }

    pub(crate) fn cluster(&mut self, cluster: &Rc<CoreCluster>) {
        cluster.counters().requests.add(1);
        self.cluster = Some(cluster.clone());
    }

    pub(crate) fn failed(&mut self, failure: Failure) {
        let meaning = failure.meaning();
        self.flags.add(meaning.flags);
        self.details = meaning.details;
    }

    /// The response begins.
    pub(crate) fn responding(&mut self, status: StatusCode, headers: &HeaderMap, details: &'static str) {
        self.status = Some(status);
        if self.details.is_empty() {
            self.details = details;
        }
        let Some(logged) = &mut self.logged else { return };
        for format in &self.connection.manager.access_logs {
            for piece in pieces(format) {
                if let Piece::Response(name, _) = piece
                    && let Some(value) = headers.get(name)
                {
                    logged.response.push((name.clone(), value.clone()));
                }
            }
        }
    }
}

fn pieces(format: &LogFormat) -> Box<dyn Iterator<Item = &Piece> + '_> {
    match format {
        LogFormat::Text(pieces) => Box::new(pieces.iter()),
        LogFormat::Json(members) => Box::new(members.iter().flat_map(|(_, pieces)| pieces)),
    }
}

fn named(
    manager: &HttpManager,
    subjects: impl Fn(&Piece) -> &[Subject] + Copy,
) -> impl Iterator<Item = &HeaderName> {
    manager.access_logs.iter().flat_map(pieces).flat_map(subjects).filter_map(|subject| match subject {
        Subject::Header(name) => Some(name),
        _ => None,
    })
}

impl Drop for Record {
    fn drop(&mut self) {
        let now = Instant::now();
        let duration = now - self.started;
        self.connection.idle_since.set(now);
        if !self.complete {
            self.flags.add(Flags::DOWNSTREAM_CLOSED);
            self.connection.http.downstream_resets.add(1);
            if self.details.is_empty() {
                self.details = "downstream_remote_disconnect";
            }
        }
        let http = &self.connection.http;
        http.requests_done.add(1);
        http.bytes_received.add(self.received.get());
        http.bytes_sent.add(self.sent);
        http.durations.add(duration);
        if let Some(status) = self.status {
            http.status[class(status)].add(1);
        }
        if let Some(cluster) = &self.cluster {
            let counters = cluster.counters();
            counters.requests_done.add(1);
            counters.bytes_sent.add(self.received.get());
            counters.bytes_received.add(self.sent);
            counters.durations.add(duration);
            if let Some(status) = self.status {
                counters.status[class(status)].add(1);
            }
        }
        if let Some(logged) = self.logged.take() {
            for format in &self.connection.manager.access_logs {
                let line = self.line(&logged, format, duration);
                if !self.connection.core.log.send(line) {
                    self.connection.core.counters().log_lines_dropped.add(1);
                }
            }
        }
    }
}
