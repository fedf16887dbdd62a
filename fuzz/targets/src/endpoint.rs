//! An endpoint that takes nothing but what the specification says, and notes everything else.

mod message;

use std::cell::RefCell;
use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub(crate) use self::message::Head;
use self::message::{Body, Malformed};

/// What the endpoint saw of one input's requests.
#[derive(Default)]
pub(crate) struct Seen {
    /// Heads, in the order of their arrival.
    pub(crate) heads: Vec<Head>,
    /// What no request may be.
    pub(crate) violations: Vec<String>,
}

/// What is answered.
#[derive(Clone)]
pub(crate) enum Answers {
    /// A small good response to each request, made after its path.
    Good,
    /// These bytes to each request, then the end of the connection.
    Raw(Rc<[u8]>),
}

/// Accepts until dropped.
pub(crate) async fn accept_all(listener: Rc<TcpListener>, answers: Answers, seen: Rc<RefCell<Seen>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (answers, seen) = (answers.clone(), seen.clone());
        tokio::task::spawn_local(async move { serve(stream, &answers, &seen).await });
    }
}

/// One connection, until the proxy ends it.
async fn serve(mut stream: TcpStream, answers: &Answers, seen: &RefCell<Seen>) {
    let mut bytes = Vec::new();
    loop {
        match message::take_head(&mut bytes) {
            Ok(Some(head)) => {
                let body = head.body();
                let answer = match answers {
                    Answers::Good => head.good_answer(),
                    Answers::Raw(raw) => raw.to_vec(),
                };
                seen.borrow_mut().heads.push(head);
                let body = match body {
                    Ok(body) => body,
                    Err(violation) => return violated(seen, violation, &bytes),
                };
                match read_body(&mut stream, body, &mut bytes).await {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(violation) => return violated(seen, violation, &bytes),
                }
                if !bytes.is_empty() {
                    // The proxy never sends a request before the last one was answered.
                    return violated(seen, Malformed("bytes behind a request that was not answered"), &bytes);
                }
                if stream.write_all(&answer).await.is_err() || matches!(answers, Answers::Raw(_)) {
                    return;
                }
            }
            Ok(None) => match read(&mut stream, &mut bytes).await {
                true => {}
                false => return,
            },
            Err(violation) => return violated(seen, violation, &bytes),
        }
    }
}

fn violated(seen: &RefCell<Seen>, violation: Malformed, bytes: &[u8]) {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned();
    seen.borrow_mut().violations.push(format!("{}: {text:?}", violation.0));
}

/// False at the end of the stream.
async fn read(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 8 * 1024];
    match stream.read(&mut buffer).await {
        Ok(size @ 1..) => {
            bytes.extend_from_slice(&buffer[..size]);
            true
        }
        _ => false,
    }
}

/// Reads to the end of a body. False when the connection ends before that, which says that it broke off.
async fn read_body(stream: &mut TcpStream, mut body: Body, bytes: &mut Vec<u8>) -> Result<bool, Malformed> {
    while !body.take(bytes)? {
        if !read(stream, bytes).await {
            return Ok(false);
        }
    }
    Ok(true)
}
