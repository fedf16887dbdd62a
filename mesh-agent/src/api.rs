//! The agent's own socket: what `millrace` asks. Read only; JSON over HTTP/1 on a unix socket (0600).
//!
//! An answer other than 200 is `{"error": "..."}`: 404 for what is not there, 503 for a part that this agent
//! does not have or that does not answer, 400 for a question that is none.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path as UrlPath, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use futures_util::{StreamExt, stream};
use mesh_xds::server::{SocketFile, bind};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::events::Event;
use crate::view::{Refusal, View};

type Shared = State<Arc<View>>;

/// Binds the socket, in the place of one that a dead agent left, and serves it for as long as the runtime lives.
/// The file goes when what is returned is dropped.
pub(crate) fn serve(socket: &Path, view: Arc<View>) -> anyhow::Result<SocketFile> {
    let (listener, file) = bind(socket, None).context("cannot serve the command line")?;
    let router = Router::new()
        .route("/v1/version", get(version))
        .route("/v1/status", get(status))
        .route("/v1/get/{kind}", get(objects))
        .route("/v1/describe/{kind}/{name}", get(describe))
        .route("/v1/services", get(services))
        .route("/v1/endpoints", get(endpoints))
        .route("/v1/bpf", get(maps))
        .route("/v1/bpf/{map}", get(map))
        .route("/v1/proxy/{what}", get(proxy))
        .route("/v1/events", get(events))
        .route("/v1/tables", get(tables))
        .route("/v1/xds/resources", get(resources))
        .route("/v1/xds/clients", get(clients))
        .with_state(view);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the agent's socket is no longer served");
        }
    });
    Ok(file)
}

async fn version() -> Json<Value> {
    Json(View::version())
}

#[derive(Deserialize)]
struct StatusQuery {
    #[serde(default)]
    verbose: bool,
}

async fn status(State(view): Shared, Query(query): Query<StatusQuery>) -> Response {
    match query.verbose {
        false => Json(view.status()).into_response(),
        true => blocking(move || Ok(view.status_in_full())).await,
    }
}

async fn objects(State(view): Shared, UrlPath(kind): UrlPath<String>) -> Response {
    blocking(move || view.objects(&kind).map(Value::Array)).await
}

#[derive(Deserialize)]
struct DescribeQuery {
    namespace: Option<String>,
}

async fn describe(
    State(view): Shared,
    UrlPath((kind, name)): UrlPath<(String, String)>,
    Query(query): Query<DescribeQuery>,
) -> Response {
    blocking(move || view.describe(&kind, query.namespace.as_deref(), &name)).await
}

async fn services(State(view): Shared) -> Response {
    blocking(move || Ok(json!(view.services()))).await
}

async fn endpoints(State(view): Shared) -> Response {
    blocking(move || view.endpoints()).await
}

async fn maps(State(view): Shared) -> Response {
    blocking(move || view.map(None).map(Value::Array)).await
}

async fn map(State(view): Shared, UrlPath(map): UrlPath<String>) -> Response {
    blocking(move || view.map(Some(&map)).map(Value::Array)).await
}

async fn proxy(State(view): Shared, UrlPath(what): UrlPath<String>) -> Response {
    match view.proxy(&what).await {
        Ok(json) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
        Err(refusal) => answer(Err(refusal)),
    }
}

async fn tables(State(view): Shared) -> Response {
    blocking(move || Ok(view.tables())).await
}

async fn resources(State(view): Shared) -> Response {
    blocking(move || Ok(view.resources())).await
}

async fn clients(State(view): Shared) -> Response {
    blocking(move || Ok(view.clients())).await
}

#[derive(Deserialize)]
struct EventsQuery {
    last: Option<usize>,
    #[serde(default)]
    follow: bool,
}

/// Events as JSON, one a line: the last ones, and with `follow` the next ones for as long as the asker reads.
async fn events(State(view): Shared, Query(query): Query<EventsQuery>) -> Response {
    let last = query.last.unwrap_or(usize::MAX);
    let body = if query.follow {
        let (before, follower) = view.events.follow(last);
        let next = stream::unfold(follower, |mut follower| async {
            let event = follower.next().await?;
            Some((event, follower))
        });
        // What is read slowly is made slowly: the next event is taken when this one has left.
        let lines = stream::iter(before).chain(next).map(|event| line(&event));
        Body::from_stream(lines)
    } else {
        Body::from_stream(stream::iter(view.events.last(last)).map(|event| line(&event)))
    };
    ([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}

fn line(event: &Event) -> Result<Bytes, serde_json::Error> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    Ok(line.into())
}

/// Answers that walk over much, or make system calls, are made where they hold up nobody.
async fn blocking(make: impl FnOnce() -> Result<Value, Refusal> + Send + 'static) -> Response {
    match tokio::task::spawn_blocking(make).await {
        Ok(made) => answer(made),
        Err(error) => refused(StatusCode::INTERNAL_SERVER_ERROR, &format!("the answer failed: {error}")),
    }
}

fn answer(made: Result<Value, Refusal>) -> Response {
    match made {
        Ok(value) => Json(value).into_response(),
        Err(Refusal::NotFound(why)) => refused(StatusCode::NOT_FOUND, &why),
        Err(Refusal::Ambiguous(why)) => refused(StatusCode::BAD_REQUEST, &why),
        Err(Refusal::Unavailable(why)) => refused(StatusCode::SERVICE_UNAVAILABLE, &why),
    }
}

fn refused(status: StatusCode, why: &str) -> Response {
    (status, Json(json!({"error": why}))).into_response()
}
