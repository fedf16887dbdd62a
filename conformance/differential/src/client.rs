//! Sending a request and taking down everything that comes back.

mod raw;
mod tls;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use self::raw::Replacing;
use crate::backend::{Body, header_map, with_line_ends};
use crate::case::Request;
use crate::observed::{Response, headers};
use crate::resources::Certificates;

/// How long one exchange may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// Sends a request on a connection of its own. A connection that ends early is an answer too; an error is
/// a case that cannot be sent, or a proxy that says nothing at all.
pub(crate) async fn send(
    to: SocketAddr,
    request: &Request,
    certificates: &Certificates,
) -> anyhow::Result<Response> {
    let exchange = async {
        let stream = connect(to).await?;
        match &request.tls {
            None => speak(stream, request, Response::default()).await,
            Some(server_name) => {
                let protocol = if request.http2 { "h2" } else { "http/1.1" };
                match tls::connect(stream, server_name, protocol, certificates).await {
                    Ok((stream, response)) => speak(stream, request, response).await,
                    Err(_) => Ok(Response { error: Some("no handshake".to_owned()), ..Response::default() }),
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, exchange).await.with_context(|| format!("no end within {PATIENCE:?}"))?
}

/// Connects from 127.0.0.2: for a client at exactly 127.0.0.1, Envoy writes its own address into
/// x-forwarded-for, which depends on the machine.
async fn connect(to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from(([127, 0, 0, 2], 0)))?;
    socket.connect(to).await
}

async fn speak<S>(stream: S, request: &Request, mut response: Response) -> anyhow::Result<Response>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let informational = Arc::new(Mutex::new(Vec::new()));
    let mut message = message(request)?;
    let noted = informational.clone();
    hyper::ext::on_informational(&mut message, move |head| {
        noted.lock().expect("nobody panics with it").push(head.status().as_u16());
    });
    let answer = if request.http2 {
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        sender.send_request(message).await
    } else {
        let bytes = request.raw.as_deref().map(with_line_ends);
        let stream = TokioIo::new(Replacing::new(stream, bytes));
        let (mut sender, connection) = http1::handshake(stream).await?;
        tokio::spawn(connection.with_upgrades());
        sender.send_request(message).await
    };
    match answer {
        Ok(answer) => read(answer, request, &mut response).await?,
        Err(error) => response.error = Some(ending(&error)),
    }
    response.informational = informational.lock().expect("nobody panics with it").clone();
    Ok(response)
}

/// The request as hyper sends it. Of a raw one only the method counts, which decides how the answer is read.
fn message(request: &Request) -> anyhow::Result<http::Request<Body>> {
    let method = match &request.raw {
        Some(raw) => raw.split(' ').next().unwrap_or_default(),
        None => &request.method,
    };
    let method = http::Method::from_bytes(method.as_bytes()).unwrap_or(http::Method::GET);
    if request.raw.is_some() {
        let body = Full::new(Bytes::new()).map_err(|never| match never {}).boxed_unsync();
        return Ok(http::Request::builder().method(method).uri("/").body(body)?);
    }
    let mut message = http::Request::new(body(request)?);
    *message.method_mut() = method;
    *message.headers_mut() = header_map(&request.headers)?;
    if request.http2 {
        let scheme = if request.tls.is_some() { "https" } else { "http" };
        *message.uri_mut() = format!("{scheme}://{}{}", request.host, request.path).parse()?;
    } else {
        *message.uri_mut() = request.path.parse()?;
        message.headers_mut().insert("host", request.host.parse()?);
    }
    Ok(message)
}

fn body(request: &Request) -> anyhow::Result<Body> {
    let text = Bytes::from(request.body.clone());
    if !request.chunked && request.trailers.is_empty() {
        return Ok(Full::new(text).map_err(|never| match never {}).boxed_unsync());
    }
    let mut frames = vec![Ok(Frame::data(text))];
    if !request.trailers.is_empty() {
        frames.push(Ok(Frame::trailers(header_map(&request.trailers)?)));
    }
    Ok(BodyExt::boxed_unsync(StreamBody::new(stream::iter(frames))))
}

async fn read(
    mut answer: http::Response<Incoming>,
    request: &Request,
    response: &mut Response,
) -> anyhow::Result<()> {
    response.status = answer.status().as_u16();
    response.version = format!("{:?}", answer.version());
    response.headers = headers(answer.headers());
    if let Some(text) = request.after_upgrade.as_ref().filter(|_| response.status == 101) {
        let mut stream = TokioIo::new(hyper::upgrade::on(&mut answer).await?);
        stream.write_all(text.as_bytes()).await?;
        let mut echo = vec![0; text.len()];
        stream.read_exact(&mut echo).await?;
        response.upgraded = Some(echo.escape_ascii().to_string());
        response.complete = true;
        return Ok(());
    }
    let mut body = answer.into_body();
    let mut bytes = Vec::new();
    response.complete = true;
    while let Some(frame) = body.frame().await {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => bytes.extend_from_slice(&data),
            Ok(Err(frame)) => response.trailers = frame.trailers_ref().map(headers).unwrap_or_default(),
            Err(_) => {
                response.complete = false;
                break;
            }
        }
    }
    response.body = bytes.escape_ascii().to_string();
    Ok(())
}

/// How a connection ended, without the words of a library.
fn ending(error: &hyper::Error) -> String {
    let source = std::error::Error::source(error);
    match source.and_then(|source| source.downcast_ref::<h2::Error>()).and_then(h2::Error::reason) {
        Some(reason) => format!("reset: {reason:?}"),
        None => "the connection ended".to_owned(),
    }
}
