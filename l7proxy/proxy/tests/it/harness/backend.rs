//! Endpoints made of hyper.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Version};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

pub(crate) type Body = BoxBody<Bytes, std::io::Error>;

/// A request as an endpoint got it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) uri: String,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
    pub(crate) peer: SocketAddr,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

pub(crate) fn full(body: impl Into<Bytes>) -> Body {
    Full::new(body.into()).map_err(|never| match never {}).boxed()
}

pub(crate) fn empty() -> Body {
    full(Bytes::new())
}

/// A body of unknown length with trailers.
pub(crate) fn trailing(body: &'static str, trailers: HeaderMap) -> Body {
    let frames = [Ok(Frame::data(Bytes::from_static(body.as_bytes()))), Ok(Frame::trailers(trailers))];
    BodyExt::boxed(StreamBody::new(futures_util::stream::iter(frames)))
}

/// An endpoint on loopback; its tasks end with the test's runtime.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Backend {
    /// HTTP/1.1.
    pub(crate) async fn http1(answer: impl Fn(Seen) -> Response<Body> + Send + Sync + 'static) -> Self {
        Self::serve(false, answer).await
    }

    /// HTTP/2 with prior knowledge.
    pub(crate) async fn http2(answer: impl Fn(Seen) -> Response<Body> + Send + Sync + 'static) -> Self {
        Self::serve(true, answer).await
    }

    /// HTTP/1.1 that answers everything with `text`.
    pub(crate) async fn saying(text: &'static str) -> Self {
        Self::http1(move |_| Response::new(full(text))).await
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    async fn serve(http2: bool, answer: impl Fn(Seen) -> Response<Body> + Send + Sync + 'static) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (counter, answer) = (connections.clone(), Arc::new(answer));
        tokio::spawn(async move {
            loop {
                let (stream, peer) = socket.accept().await.unwrap();
                counter.fetch_add(1, Ordering::SeqCst);
                let answer = answer.clone();
                let service = service_fn(move |request: Request<Incoming>| {
                    let answer = answer.clone();
                    async move {
                        let (head, body) = request.into_parts();
                        let Ok(collected) = body.collect().await else {
                            return Err(std::io::Error::other("the request broke off"));
                        };
                        let trailers = collected.trailers().cloned();
                        Ok(answer(Seen {
                            method: head.method,
                            uri: head.uri.to_string(),
                            version: head.version,
                            headers: head.headers,
                            body: collected.to_bytes(),
                            trailers,
                            peer,
                        }))
                    }
                });
                tokio::spawn(async move {
                    if http2 {
                        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                        let _ = server.serve_connection(TokioIo::new(stream), service).await;
                    } else {
                        let server = hyper::server::conn::http1::Builder::new();
                        let _ = server.serve_connection(TokioIo::new(stream), service).await;
                    }
                });
            }
        });
        Self { address, connections }
    }
}
