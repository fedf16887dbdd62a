//! The agent's own socket: what `millrace` asks. Read only; JSON over HTTP/1 on a unix socket (0600).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use serde_json::Value;
use tokio::net::UnixListener;

/// What the socket answers from. Every call gives the state of that moment.
pub(crate) trait Inspect: Send + Sync + 'static {
    /// Objects of a kind with their status; `None` for a kind that is not known.
    fn objects(&self, kind: &str) -> Option<Vec<Value>>;
    /// Health of the parts, and problems.
    fn status(&self) -> Value;
    /// A part of the agent's state; `None` when this agent has no such part.
    fn dump(&self, part: &str) -> Option<Value>;
}

/// Binds the socket, in the place of one that a dead agent left, and serves it until the task is dropped.
pub(crate) fn serve(socket: &Path, inspect: Arc<dyn Inspect>) -> anyhow::Result<()> {
    match fs::remove_file(socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot replace {}", socket.display()));
        }
        _ => {}
    }
    let listener =
        UnixListener::bind(socket).with_context(|| format!("cannot listen on {}", socket.display()))?;
    fs::set_permissions(socket, fs::Permissions::from_mode(0o600))
        .with_context(|| format!("cannot protect {}", socket.display()))?;
    let router = Router::new()
        .route("/v1/get/{kind}", get(objects))
        .route("/v1/status", get(status))
        .route("/v1/dump/{part}", get(dump))
        .with_state(inspect);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the agent's socket is no longer served");
        }
    });
    Ok(())
}

async fn objects(State(inspect): State<Arc<dyn Inspect>>, UrlPath(kind): UrlPath<String>) -> Response {
    found(inspect.objects(&kind).map(Value::Array))
}

async fn status(State(inspect): State<Arc<dyn Inspect>>) -> Json<Value> {
    Json(inspect.status())
}

async fn dump(State(inspect): State<Arc<dyn Inspect>>, UrlPath(part): UrlPath<String>) -> Response {
    found(inspect.dump(&part))
}

fn found(answer: Option<Value>) -> Response {
    match answer {
        Some(value) => Json(value).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
