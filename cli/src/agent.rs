//! Asking the agent over its socket.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

/// How long the agent may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Largest answer that is read.
const LARGEST: usize = 256 << 20;

/// `GET path`; `None` when the agent says that there is no such thing.
pub(crate) async fn ask(run_dir: &Path, path: &str) -> anyhow::Result<Option<Value>> {
    let socket = run_dir.join("agent.sock");
    tokio::time::timeout(ANSWER_WITHIN, ask_socket(&socket, path))
        .await
        .with_context(|| format!("the agent at {} does not answer in time", socket.display()))?
}

async fn ask_socket(socket: &Path, path: &str) -> anyhow::Result<Option<Value>> {
    let stream = UnixStream::connect(socket).await.with_context(|| {
        format!(
            "no agent answers at {}: is mesh-agent running, and is --run-dir the one it was started with?",
            socket.display()
        )
    })?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::get(path).header(hyper::header::HOST, "agent").body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await.context("the agent closed the connection")?;
    let status = response.status();
    let body = Limited::new(response.into_body(), LARGEST).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("the agent's answer broke off: {error}"))?.to_bytes();
    connection.abort();
    match status {
        StatusCode::OK => Ok(Some(serde_json::from_slice(&body).context("the agent's answer is no JSON")?)),
        StatusCode::NOT_FOUND => Ok(None),
        other => bail!("the agent answers {other}: {}", String::from_utf8_lossy(&body)),
    }
}
