//! HTTP/1 to endpoints (RFC 9112), a codec of our own.
//!
//! One request at a time has a connection. Whoever waits for its answer reads and writes the socket: between
//! them is no task, no channel and no copy. Only a request's body that is still on its way when the answer
//! begins gets a task, or both ends could wait for each other to read.

mod body;
mod chunked;
mod connection;
mod head;
mod request;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;

use http::Response;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

pub(crate) use self::body::{Answer, Broken, Switched};
use self::connection::Connection;
use super::{RequestHead, SendError, Sender};
use crate::body::RequestBody;
use crate::codec::Incoming;
use crate::io::Outbound;

/// What the sender of a request, the answer's body and a task for the request's body share.
type Shared = Rc<RefCell<Connection>>;

/// One connection. Dropped before its answer is complete, it closes it.
pub(crate) struct Http1 {
    connection: Shared,
    /// The task that sends the rest of a request.
    pump: Option<AbortHandle>,
}

/// Speaks HTTP/1 on a connected socket. `gone` is dropped when the connection ends.
pub(crate) fn handshake(stream: TcpStream, gone: impl Sized + 'static) -> Sender {
    let connection = Connection::new(Outbound::new(stream), Box::new(gone));
    Sender::Http1(Http1 { connection: Rc::new(RefCell::new(connection)), pump: None })
}

impl Http1 {
    pub(super) async fn exchange(
        &mut self,
        mut head: RequestHead<'_>,
        body: RequestBody,
    ) -> Result<Response<Incoming>, SendError> {
        self.connection.borrow_mut().begin(&head, body);
        let answer = poll_fn(|cx| self.connection.borrow_mut().poll_exchange(cx, &mut head)).await?;
        if self.connection.borrow().is_sending() {
            self.pump();
        }
        let body = Answer::new(&self.connection, answer.framing);
        let mut response = Response::new(Incoming::Http1(body));
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        Ok(response)
    }

    /// Gives the rest of the request to a task, which ends with it or with the connection.
    fn pump(&mut self) {
        let connection = self.connection.clone();
        let task = tokio::task::spawn_local(poll_fn(move |cx| connection.borrow_mut().poll_rest(cx)));
        self.pump = Some(task.abort_handle());
    }

    pub(super) fn is_ready(&self) -> bool {
        self.connection.borrow_mut().is_ready()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.connection.borrow().is_closed()
    }
}

impl Drop for Http1 {
    fn drop(&mut self) {
        let mut connection = self.connection.borrow_mut();
        // With its answer complete, a request is still worth its end: the task closes the connection then.
        if connection.close_after_request() {
            return;
        }
        connection.close();
        if let Some(pump) = self.pump.take() {
            pump.abort();
        }
    }
}
