//! A backend that answers what it saw.

mod download;

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;

use self::download::Download;
use crate::ledger::{Ledger, NUMBER};

pub use self::download::byte_at;

/// A running backend (HTTP/1 and HTTP/2 in clear text), stopped when dropped. `/bytes/N` and `/chunks/N`,
/// followed by `/over/MS` or not, are answered with N bytes of [`byte_at`].
#[derive(Debug)]
pub struct Echo {
    address: SocketAddr,
    requests: Arc<AtomicU64>,
    _stop: oneshot::Sender<()>,
}

impl Echo {
    /// Serves on a listener, which may lie in another network namespace. `name` is what it answers as `pod`.
    pub fn start(name: &str, listener: TcpListener) -> anyhow::Result<Self> {
        Self::start_noting(name, listener, Ledger::default())
    }

    /// The same, noting the numbers of requests that have one in a ledger that several may share.
    pub fn start_noting(name: &str, listener: TcpListener, ledger: Ledger) -> anyhow::Result<Self> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let requests = Arc::new(AtomicU64::new(0));
        let (stop, stopped) = oneshot::channel();
        let (name, counter) = (name.to_owned(), requests.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new().name(format!("echo-{name}")).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve(name, listener, counter, ledger) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { address, requests, _stop: stop })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests it has answered.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

async fn serve(name: String, listener: TcpListener, requests: Arc<AtomicU64>, ledger: Ledger) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let name: Arc<str> = name.into();
    while let Ok((stream, peer)) = listener.accept().await {
        let Ok(local) = stream.local_addr() else { continue };
        let (name, requests, ledger) = (name.clone(), requests.clone(), ledger.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let (name, requests, ledger) = (name.clone(), requests.clone(), ledger.clone());
                async move {
                    requests.fetch_add(1, Ordering::Relaxed);
                    let number = request.headers().get(NUMBER).and_then(|number| number.to_str().ok());
                    if let Some(number) = number.and_then(|number| number.parse().ok()) {
                        ledger.enter(number);
                    }
                    if let Some(download) = Download::asked_for(request.uri().path()) {
                        return Ok(download.response());
                    }
                    answer(&name, peer, local, request).await
                }
            });
            let _ = auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    name: &str,
    peer: SocketAddr,
    local: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, hyper::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let mut headers = Map::new();
    for header in head.headers.keys() {
        let values =
            head.headers.get_all(header).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
        headers.insert(header.to_string(), Value::Array(values.map(Value::from).collect()));
    }
    let host = head.uri.authority().map(ToString::to_string).or_else(|| {
        head.headers.get(hyper::header::HOST).and_then(|host| host.to_str().ok()).map(str::to_owned)
    });
    let seen = json!({
        "pod": name,
        // On a socket of both families an IPv4 peer is a mapped address.
        "client": peer.ip().to_canonical(),
        "clientPort": peer.port(),
        "address": local,
        "method": head.method.as_str(),
        "path": head.uri.path_and_query().map_or("/", |path| path.as_str()),
        "host": host,
        "proto": format!("{:?}", head.version),
        "headers": headers,
        "bodyBytes": body.len(),
    });
    let mut response = Response::new(Full::from(seen.to_string()).boxed());
    let json = hyper::header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, json);
    Ok(response)
}
