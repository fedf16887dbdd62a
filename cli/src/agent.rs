//! Asking the agent over its socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use crate::exit::{Failure, Outcome};

/// How long the agent may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Largest answer that is read.
const LARGEST: usize = 256 << 20;
/// Longest line of a stream.
const LONGEST_LINE: usize = 4 << 20;

/// The agent of a run directory.
#[derive(Clone, Debug)]
pub(crate) struct Agent {
    socket: PathBuf,
}

impl Agent {
    /// The agent with its socket in this folder; nothing is asked yet.
    pub(crate) fn of(run_dir: &Path) -> Self {
        Self { socket: run_dir.join("agent.sock") }
    }

    /// `GET path`, the answer as JSON.
    pub(crate) async fn ask(&self, path: &str) -> Outcome<Value> {
        self.ask_within(path, ANSWER_WITHIN).await
    }

    /// The same for those who have a time of their own; ten seconds at most.
    pub(crate) async fn ask_within(&self, path: &str, within: Duration) -> Outcome<Value> {
        let within = within.min(ANSWER_WITHIN);
        let asked = async {
            let response = self.send(path).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), LARGEST).collect().await;
            let body = body.map_err(|error| match error.is::<LengthLimitError>() {
                true => anyhow!("the agent's answer is larger than {LARGEST} bytes").into(),
                false => self.ended(),
            });
            let body = body?.to_bytes();
            judge(status, &body)?;
            Ok(serde_json::from_slice(&body).context("the agent's answer is no JSON")?)
        };
        tokio::time::timeout(within, asked).await.map_err(|_| self.slow(within))?
    }

    /// `GET path`, a stream of JSON documents, one a line; `each` is called for every one of them until the
    /// stream ends.
    pub(crate) async fn stream(&self, path: &str, mut each: impl FnMut(Value) -> Outcome<()>) -> Outcome<()> {
        let sent = tokio::time::timeout(ANSWER_WITHIN, self.send(path)).await;
        let sent = sent.map_err(|_| self.slow(ANSWER_WITHIN))?;
        let mut response = sent?;
        if response.status() != StatusCode::OK {
            let status = response.status();
            let body = Limited::new(response.into_body(), LARGEST).collect().await;
            return judge(status, &body.map(|body| body.to_bytes()).unwrap_or_default());
        }
        let mut pending = Vec::new();
        while let Some(frame) = response.body_mut().frame().await {
            let frame = frame.map_err(|_| self.ended())?;
            let Some(data) = frame.data_ref() else { continue };
            pending.extend_from_slice(data);
            while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = pending.drain(..=end).collect();
                each(serde_json::from_slice(&line).context("the agent's stream is no JSON")?)?;
            }
            if pending.len() > LONGEST_LINE {
                return Err(anyhow!("a line of the agent's stream does not end").into());
            }
        }
        Ok(())
    }

    async fn send(&self, path: &str) -> Outcome<Response<Incoming>> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.unreachable(&error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .context("the agent does not speak HTTP")?;
        // It ends with the runtime, or when the agent closes.
        tokio::spawn(connection);
        let request = Request::get(path)
            .header(hyper::header::HOST, "agent")
            .body(Empty::<Bytes>::new())
            .context("a name that cannot be asked for")?;
        sender.send_request(request).await.map_err(|error| {
            let why = format!("it closed the connection: {error}");
            Failure::Unreachable { socket: self.socket.clone(), why }
        })
    }

    fn unreachable(&self, error: &std::io::Error) -> Failure {
        let why = match error.kind() {
            std::io::ErrorKind::NotFound => "there is no such socket".to_owned(),
            std::io::ErrorKind::ConnectionRefused => {
                "the socket is there and nobody listens: the agent has died".to_owned()
            }
            std::io::ErrorKind::PermissionDenied => {
                "it belongs to another user: ask as the user that runs the agent (root, mostly)".to_owned()
            }
            _ => error.to_string(),
        };
        Failure::Unreachable { socket: self.socket.clone(), why }
    }

    /// The agent went away while it was read.
    pub(crate) fn ended(&self) -> Failure {
        let why = "it ended, and its answer with it".to_owned();
        Failure::Unreachable { socket: self.socket.clone(), why }
    }

    fn slow(&self, within: Duration) -> Failure {
        let why = format!("it did not answer within {within:?}");
        Failure::Unreachable { socket: self.socket.clone(), why }
    }
}

/// Whether the answer is one; otherwise why not, in the agent's words.
fn judge(status: StatusCode, body: &[u8]) -> Outcome<()> {
    let document: Value = serde_json::from_slice(body).unwrap_or_default();
    let why = || match document["error"].as_str() {
        Some(error) => error.to_owned(),
        None => format!("the agent answers {status}; is it as new as this program?"),
    };
    match status {
        StatusCode::OK => Ok(()),
        StatusCode::NOT_FOUND => Err(Failure::NotFound(why())),
        StatusCode::SERVICE_UNAVAILABLE => Err(Failure::Unavailable(why())),
        StatusCode::BAD_REQUEST => Err(Failure::Usage(why())),
        _ => Err(anyhow!(why()).into()),
    }
}
