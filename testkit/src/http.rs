//! A small HTTP client whose connections may start in any network namespace.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper::{HeaderMap, Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};

/// How long one exchange may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// What is spoken.
#[derive(Clone, Debug, Default)]
pub enum Speak {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 in clear text by prior knowledge.
    Http2,
    /// HTTP over TLS with this server name, trusting this certificate (PEM); the version is negotiated.
    Tls {
        /// SNI.
        server_name: String,
        /// Trusted certificate.
        trusted_pem: String,
        /// Protocols offered by ALPN.
        alpn: Vec<&'static str>,
    },
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON; null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// A header's first value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// A connection that takes one request after the other.
pub struct Connection {
    runtime: tokio::runtime::Runtime,
    sender: Sender,
}

enum Sender {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

impl Connection {
    /// Begins to speak on a connected socket.
    pub fn open(stream: TcpStream, speak: &Speak) -> anyhow::Result<Self> {
        // One worker thread drives the connection while the caller is elsewhere.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        stream.set_nonblocking(true)?;
        let sender = runtime.block_on(async {
            tokio::time::timeout(ANSWER_WITHIN, open(stream, speak)).await.context("no handshake in time")?
        })?;
        Ok(Self { runtime, sender })
    }

    /// Sends a request and reads the whole answer.
    pub fn send(&mut self, request: Request<Full<Bytes>>) -> anyhow::Result<Answer> {
        let Self { runtime, sender } = self;
        runtime.block_on(async {
            let exchange = async {
                let response = match sender {
                    Sender::One(sender) => {
                        sender.ready().await?;
                        sender.send_request(request).await?
                    }
                    Sender::Two(sender) => {
                        sender.ready().await?;
                        sender.send_request(request).await?
                    }
                };
                let (head, body) = response.into_parts();
                let body = body.collect().await?.to_bytes();
                anyhow::Ok(Answer { status: head.status, headers: head.headers, body })
            };
            tokio::time::timeout(ANSWER_WITHIN, exchange).await.context("no answer in time")?
        })
    }

    /// `GET` of a path with a Host.
    pub fn get(&mut self, host: &str, path: &str) -> anyhow::Result<Answer> {
        self.send(request(&self.sender, "GET", host, path, &[])?)
    }

    /// A request without a body.
    pub fn call(
        &mut self,
        method: &str,
        host: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> anyhow::Result<Answer> {
        self.send(request(&self.sender, method, host, path, headers)?)
    }
}

fn request(
    sender: &Sender,
    method: &str,
    host: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> anyhow::Result<Request<Full<Bytes>>> {
    let mut builder = Request::builder().method(method);
    builder = match sender {
        Sender::One(_) => builder.uri(path).header(hyper::header::HOST, host),
        Sender::Two(_) => builder.uri(format!("http://{host}{path}")),
    };
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    Ok(builder.body(Full::default())?)
}

async fn open(stream: TcpStream, speak: &Speak) -> anyhow::Result<Sender> {
    let stream = tokio::net::TcpStream::from_std(stream)?;
    match speak {
        Speak::Http1 => one(stream).await,
        Speak::Http2 => two(stream).await,
        Speak::Tls { server_name, trusted_pem, alpn } => {
            let mut roots = rustls::RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(trusted_pem.as_bytes()) {
                roots.add(certificate?)?;
            }
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let mut config = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()?
                .with_root_certificates(roots)
                .with_no_client_auth();
            config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
            let name = ServerName::try_from(server_name.clone())?;
            let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
            match stream.get_ref().1.alpn_protocol() {
                Some(b"h2") => two(stream).await,
                _ => one(stream).await,
            }
        }
    }
}

async fn one<S>(stream: S) -> anyhow::Result<Sender>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(Sender::One(sender))
}

async fn two<S>(stream: S) -> anyhow::Result<Sender>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(Sender::Two(sender))
}

/// One `GET` over a unix socket, the body read as JSON; an error unless the status is 200.
pub fn get_unix(socket: &std::path::Path, path: &str) -> anyhow::Result<Value> {
    ask_unix(socket, Request::get(path), Full::default())
}

/// One `POST` of a JSON value, as [`get_unix`].
pub fn post_unix(socket: &std::path::Path, path: &str, body: &Value) -> anyhow::Result<Value> {
    ask_unix(socket, Request::post(path), Full::from(body.to_string()))
}

fn ask_unix(
    socket: &std::path::Path,
    request: hyper::http::request::Builder,
    body: Full<Bytes>,
) -> anyhow::Result<Value> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let stream = tokio::net::UnixStream::connect(socket).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let request = request.header(hyper::header::HOST, "local").body(body)?;
        let path = request.uri().path().to_owned();
        let response = tokio::time::timeout(ANSWER_WITHIN, sender.send_request(request)).await??;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        connection.abort();
        if status != StatusCode::OK {
            bail!("{path} is answered with {status}");
        }
        Ok(serde_json::from_slice(&body)?)
    })
}
