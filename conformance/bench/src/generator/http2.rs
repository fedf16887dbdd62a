//! HTTP/2 clients with prior knowledge.

use std::net::SocketAddr;
use std::rc::Rc;

use anyhow::Context;
use bytes::Bytes;
use h2::client::SendRequest;
use tokio::net::TcpStream;

use super::http1::{BODY, Head};
use super::{Request, Shared, Turns};

/// One connection with its streams. The window is large, as that of browsers is.
pub(super) async fn connection(
    target: SocketAddr,
    requests: Rc<[Request]>,
    lanes: Vec<Turns>,
    tally: Shared,
) {
    let sender = match handshake(target).await {
        Ok(sender) => sender,
        Err(error) => {
            *tally.borrow_mut().errors.entry(format!("connect: {error:#}")).or_default() += 1;
            return;
        }
    };
    let streams: Vec<_> = lanes
        .into_iter()
        .map(|mut turns| {
            let (sender, requests, tally) = (sender.clone(), requests.clone(), tally.clone());
            tokio::task::spawn_local(async move {
                while let Some(turn) = turns.recv().await {
                    let answer = exchange(sender.clone(), &requests[turn.request]).await;
                    let answer = match answer {
                        Ok((head, body)) if head.status == 200 && body == *BODY => Ok(()),
                        Ok((head, _)) if head.status == 200 => Err("another body".to_owned()),
                        Ok((head, _)) => Err(format!("status {}", head.status)),
                        Err(error) => Err(format!("{error:#}")),
                    };
                    tally.borrow_mut().answered(turn, answer);
                }
            })
        })
        .collect();
    for stream in streams {
        // A task that failed has said so in the tally.
        let _ = stream.await;
    }
}

async fn handshake(target: SocketAddr) -> anyhow::Result<SendRequest<Bytes>> {
    let stream = TcpStream::connect(target).await?;
    stream.set_nodelay(true)?;
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(1 << 20).initial_connection_window_size(4 << 20);
    let (sender, connection) = builder.handshake(stream).await?;
    tokio::task::spawn_local(async move {
        // Its streams report what breaks it.
        let _ = connection.await;
    });
    Ok(sender)
}

async fn exchange(sender: SendRequest<Bytes>, request: &Request) -> anyhow::Result<(Head, Vec<u8>)> {
    let mut builder = http::Request::get(format!("http://{}{}", request.host, request.path))
        .version(http::Version::HTTP_2)
        .header("user-agent", "bench")
        .header("accept", "*/*");
    for (name, value) in &request.headers {
        builder = builder.header(*name, value);
    }
    let mut sender = sender.ready().await?;
    let (response, _) = sender.send_request(builder.body(())?, true)?;
    let (head, mut incoming) = response.await?.into_parts();
    let mut body = Vec::with_capacity(BODY.len());
    while let Some(data) = incoming.data().await {
        let data = data?;
        incoming.flow_control().release_capacity(data.len())?;
        body.extend_from_slice(&data);
    }
    let headers = head.headers.iter();
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    Ok((
        Head {
            status: head.status.as_u16(),
            headers: headers.map(|(name, value)| (name.as_str().to_owned(), text(value))).collect(),
        },
        body,
    ))
}

/// One request on a connection of its own, for a close look at the answer. Must run on a `LocalSet`.
///
/// # Errors
/// There is no whole answer.
pub(crate) async fn ask(target: SocketAddr, request: &Request) -> anyhow::Result<(Head, Vec<u8>)> {
    exchange(handshake(target).await.context("cannot connect")?, request).await
}
