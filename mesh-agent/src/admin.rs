//! Asking the proxy's own admin socket, for those who ask the agent.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// How long the proxy may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(8);
/// Largest answer that is read.
const LARGEST: usize = 256 << 20;

/// What can be asked, and where.
pub(crate) fn path_of(what: &str) -> Option<&'static str> {
    match what {
        "config-dump" => Some("/config_dump"),
        "clusters" => Some("/clusters"),
        "listeners" => Some("/listeners"),
        "stats" => Some("/stats?format=json"),
        "info" => Some("/server_info"),
        _ => None,
    }
}

/// The proxy's answer to `GET path`, not looked into: a dump of a large mesh is large. May be dropped at any time.
///
/// # Errors
/// Nobody answers, or not with 200.
pub(crate) async fn ask(socket: &Path, path: &str) -> anyhow::Result<Bytes> {
    tokio::time::timeout(ANSWER_WITHIN, ask_socket(socket, path))
        .await
        .with_context(|| format!("the proxy at {} does not answer in time", socket.display()))?
}

async fn ask_socket(socket: &Path, path: &str) -> anyhow::Result<Bytes> {
    let stream = UnixStream::connect(socket)
        .await
        .with_context(|| format!("no proxy answers at {}: see proxy.log beside it", socket.display()))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::get(path).header(hyper::header::HOST, "proxy").body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await.context("the proxy closed the connection")?;
    let status = response.status();
    let body = Limited::new(response.into_body(), LARGEST).collect().await;
    connection.abort();
    let body = body.map_err(|error| anyhow::anyhow!("the proxy's answer broke off: {error}"))?.to_bytes();
    if status != StatusCode::OK {
        bail!("the proxy answers {status}: {}", String::from_utf8_lossy(&body).trim_end());
    }
    Ok(body)
}
