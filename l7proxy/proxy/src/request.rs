//! The path of one request, from its head to the head of the response.
//!
//! Read [`serve`] from top to bottom. Whatever goes wrong on the way is a [`Failure`], which becomes a local
//! response in one place.

mod attempt;
mod deadline;
mod upgrade;

use std::rc::Rc;
use std::time::Instant;

use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, request};
use http_body::Body;
use mesh_l7proxy_config::cluster::{Cluster, UpstreamProtocol};
use mesh_l7proxy_config::route::{Action, Forward, Matched, RequestHead, WeightedCluster};

use self::attempt::{Answer, Outgoing};
use self::deadline::Deadlines;
use crate::body::{BodyLimits, Progress, RequestBody, ResponseBody, UpstreamBody};
use crate::codec::{Incoming, Promise, Protocol};
use crate::connection::{Active, Connection};
use crate::failure::Failure;
use crate::forwarded::{self, Client};
use crate::head::{self, Checked, Target};
use crate::headers::{
    self, HopByHop, X_ENVOY_EXPECTED_TIMEOUT, X_ENVOY_ORIGINAL_HOST, X_ENVOY_ORIGINAL_PATH,
    X_ENVOY_UPSTREAM_SERVICE_TIME, X_REQUEST_ID,
};
use crate::record::Record;
use crate::reply::{Local, finish_headers};

/// Serves one request. Dropping the future, which the codec does when the client leaves, gives the request
/// up; the record tells so.
pub(crate) async fn serve(
    connection: Rc<Connection>,
    mut request: Request<Incoming>,
) -> Response<ResponseBody> {
    let active = Active::new(&connection);
    let mut record = Box::new(Record::new(&connection, request.method(), request.uri(), request.version()));

    // The configuration of this moment holds for the whole request.
    let snapshot = connection.core.snapshot();
    connection.follow(&snapshot);
    if connection
        .manager
        .limits
        .max_requests_per_connection
        .is_some_and(|most| connection.served.get() >= most)
    {
        connection.close_after_requests();
    }

    // Before the parts are taken: the promise travels in the request's extensions.
    let upgrade = Promise::of_request(&mut request);
    let (mut head, body) = request.into_parts();
    record.grpc = headers::is_grpc(&head.headers);
    let asked = match admit(&mut head, &connection) {
        Ok(Admission::Forward(asked)) => asked,
        Ok(Admission::RedirectTo(location)) => {
            return Local::redirect(StatusCode::TEMPORARY_REDIRECT, &location, None).respond(record, active);
        }
        Err(failure) => return refuse(failure, None, record, active),
    };
    let Asked { target, hop, client } = &asked;
    record.request_headers(&target.authority, client.address, &head.headers);

    let found = connection.routes(&snapshot).and_then(|table| {
        table.find(&RequestHead {
            authority: target.authority(),
            path: target.path(),
            query: target.query(),
            method: &head.method,
            scheme: client.scheme,
            headers: &head.headers,
        })
    });
    let Some(matched) = found else { return refuse(Failure::NoRoute, None, record, active) };
    record.route(&matched.route.name);

    let forward = match &matched.route.action {
        Action::Redirect(redirect) => {
            let location =
                redirect.location(client.scheme, target.authority(), target.path(), target.query());
            return Local::redirect(redirect.status, &location, Some(matched)).respond(record, active);
        }
        Action::Respond(response) => return Local::direct(response, matched).respond(record, active),
        Action::Forward(forward) => forward,
    };

    let (cluster_name, chosen) = forward.clusters.choose();
    let Some(cluster) = snapshot.cluster(cluster_name) else {
        return refuse(Failure::NoCluster(forward.cluster_not_found), Some(matched), record, active);
    };
    let routed = Routed { matched, chosen, forward, cluster };
    let request_id =
        connection.manager.request_id_in_response.then(|| head.headers.get(X_REQUEST_ID).cloned());
    let empty = body.is_end_stream();
    let progress = Progress::new(record.received.clone(), record.started(), empty);
    let made = outgoing(&connection, &routed, &asked, head, &progress);
    let Some(outgoing) = made else {
        return refuse(Failure::BadRequest("http.invalid_rewrite"), Some(matched), record, active);
    };
    let body = if empty { None } else { Some(RequestBody::new(body, progress.clone())) };
    let deadlines = Deadlines::new(&connection.manager.limits, forward, record.started(), progress);

    let sent = Instant::now();
    let answer = match outgoing.send(&connection, cluster, forward, body, &deadlines, &mut record).await {
        Ok(answer) => answer,
        Err(failure) => return refuse(failure, Some(matched), record, active),
    };
    let to_client = ToClient { matched, chosen, hop: *hop, request_id: request_id.flatten(), sent };
    if answer.response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return upgrade::connect(answer, upgrade, to_client, &deadlines, record, active);
    }
    respond(answer, &to_client, &deadlines, record, active)
}

/// What is made of a request's head before routing.
enum Admission {
    Forward(Asked),
    RedirectTo(String),
}

/// What a client asks for, checked.
struct Asked {
    target: Target,
    hop: HopByHop,
    client: Client,
}

/// Where a request goes.
struct Routed<'a> {
    matched: Matched<'a>,
    chosen: Option<&'a WeightedCluster>,
    forward: &'a Forward,
    cluster: &'a Cluster,
}

/// Checks and cleans the head, and says who the client is. The order matters: first what the client says
/// about the connection goes, so that nothing it nominates takes away what is added afterwards.
fn admit(head: &mut request::Parts, connection: &Connection) -> Result<Admission, Failure> {
    let manager = &connection.manager;
    let target = match head::check(head, manager, connection.local.port())? {
        Checked::Target(target) => target,
        Checked::RedirectTo(location) => return Ok(Admission::RedirectTo(location)),
    };
    let hop = headers::take_hop_by_hop(&mut head.headers);
    if hop.other_upgrade || (hop.websocket && !manager.websocket) {
        return Err(Failure::UpgradeRefused);
    }
    headers::admit(&mut head.headers, manager)?;
    let client = forwarded::identify(&mut head.headers, connection);
    if let Some(via) = &manager.via {
        head.headers.append(http::header::VIA, via.clone());
    }
    Ok(Admission::Forward(Asked { target, hop, client }))
}

/// The request as the endpoint will see it. None: the route made something that is no path.
fn outgoing(
    connection: &Connection,
    routed: &Routed<'_>,
    asked: &Asked,
    head: request::Parts,
    progress: &Rc<Progress>,
) -> Option<Outgoing> {
    let Routed { matched, chosen, forward, cluster } = *routed;
    let Asked { target, hop, client } = asked;
    let mut headers = head.headers;
    matched.change_request(chosen.map(|chosen| &chosen.request_headers), &mut headers);
    let path = forward.path.apply(target.path());
    let path_and_query = target.with_path(&path)?;
    let host = chosen.and_then(|chosen| chosen.host.clone()).or_else(|| forward.host.clone());
    if !connection.manager.suppress_envoy_headers {
        if !forward.path.keeps()
            && let Some(original) = target.with_path(target.path())
            && let Ok(original) = HeaderValue::from_str(original.as_str())
        {
            headers.insert(X_ENVOY_ORIGINAL_PATH, original);
        }
        if host.is_some() {
            headers.insert(X_ENVOY_ORIGINAL_HOST, target.authority.clone());
        }
        if let Some(timeout) = &forward.expected_timeout {
            headers.insert(X_ENVOY_EXPECTED_TIMEOUT, timeout.clone());
        }
    }
    let protocol = match cluster.settings.protocol {
        // There is no byte stream to be had from HTTP/2 here.
        _ if hop.websocket => Protocol::Http1,
        UpstreamProtocol::Http1 => Protocol::Http1,
        UpstreamProtocol::Http2 => Protocol::Http2,
        UpstreamProtocol::Downstream if head.version == Version::HTTP_2 => Protocol::Http2,
        UpstreamProtocol::Downstream => Protocol::Http1,
    };
    headers::for_upstream(&mut headers, *hop, protocol == Protocol::Http2, hop.websocket);
    // Some servers refuse a request that has neither a length nor a coding (RFC 9110, 8.6).
    if protocol == Protocol::Http1
        && progress.ended().is_some()
        && matches!(head.method, Method::POST | Method::PUT | Method::PATCH)
    {
        headers.insert(http::header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    // A pod's own address or loopback may not be used as the source of a connection to somebody else; the
    // starter's sockets are for clients that are pods.
    let source = connection.peer.ip();
    let keep_source =
        connection.listener.original_src && !source.is_loopback() && source != connection.local.ip();
    Some(Outgoing {
        idempotent: is_idempotent(&head.method),
        method: head.method,
        scheme: if client.scheme == "https" { Scheme::HTTPS } else { Scheme::HTTP },
        authority: host.unwrap_or_else(|| target.authority.clone()),
        path_and_query,
        headers,
        protocol,
        source: keep_source.then_some(source),
        progress: progress.clone(),
    })
}

/// RFC 9110, 9.2.2.
fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE | Method::TRACE
    )
}

/// What a response needs to know of its request.
pub(crate) struct ToClient<'a> {
    matched: Matched<'a>,
    chosen: Option<&'a WeightedCluster>,
    hop: HopByHop,
    request_id: Option<HeaderValue>,
    sent: Instant,
}

impl ToClient<'_> {
    /// Turns the endpoint's headers, which came at `now`, into the client's.
    fn change(&self, headers: &mut HeaderMap, record: &Record, now: Instant) {
        let manager = &record.connection.manager;
        // The time of a conversation is not that of an answer.
        if !manager.suppress_envoy_headers && !self.hop.websocket {
            let milliseconds = u64::try_from((now - self.sent).as_millis()).unwrap_or(u64::MAX);
            headers.insert(X_ENVOY_UPSTREAM_SERVICE_TIME, HeaderValue::from(milliseconds));
        }
        self.matched.change_response(self.chosen.map(|chosen| &chosen.response_headers), headers);
        if let Some(id) = &self.request_id {
            headers.insert(X_REQUEST_ID, id.clone());
        }
        headers::announce_trailers(headers, self.hop, record.version);
        finish_headers(headers, &record.connection, record.version);
    }
}

fn respond(
    answer: Answer,
    to_client: &ToClient<'_>,
    deadlines: &Deadlines,
    mut record: Box<Record>,
    active: Active,
) -> Response<ResponseBody> {
    let (mut head, incoming) = answer.response.into_parts();
    let now = Instant::now();
    headers::take_hop_by_hop(&mut head.headers);
    to_client.change(&mut head.headers, &record, now);
    record.responding(head.status, &head.headers, "via_upstream");
    let body = UpstreamBody {
        remaining: incoming.size_hint().exact(),
        incoming,
        lease: Some(answer.lease),
        admitted: Some(answer.admitted),
    };
    let limits = BodyLimits::new(deadlines.of_body(), deadlines.idle(), now);
    let mut response = Response::new(ResponseBody::upstream(body, limits, record, active));
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    response
}

fn refuse(
    failure: Failure,
    matched: Option<Matched<'_>>,
    mut record: Box<Record>,
    active: Active,
) -> Response<ResponseBody> {
    record.failed(failure);
    Local::failure(failure, matched).respond(record, active)
}
