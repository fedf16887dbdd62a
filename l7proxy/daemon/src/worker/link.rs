//! The worker's connection to the starter, shared by all its threads.
//!
//! One task ([`Link::run`], on the control runtime) owns the socket. Anyone else holds a
//! [`LinkHandle`], asks, and waits for the answer on a channel of its own.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::time::Duration;

use mesh_l7proxy_proxy::UpstreamSockets;
use mesh_l7proxy_wire::{
    Channel, Event, FromStarter, ListenSpec, ListenerInfo, Received, Refusal, RefusalKind, Request, Response,
    ToStarter,
};
use tokio::io::Interest;
use tokio::net::UnixDatagram;
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

/// Questions that wait to be sent. Each data thread opens few upstream connections at a time; more
/// than this is a starter that stands still, and then failing is better than waiting.
const QUEUE: usize = 1024;

/// Questions whose answers are on their way. All of them fit the socket (some 200 messages do), so that the starter
/// can always answer, whatever else we do.
const OPEN: usize = 128;

/// How long an answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// `SO_MARK` of connections that keep the client's address: what our own control plane writes into
/// `original_src.mark`. To go once [`UpstreamSockets`] hands over the listener's.
const CLIENT_ADDRESS_MARK: u32 = 0x0900;

type Answer = Result<(Response, Vec<OwnedFd>), LinkError>;

/// Why a question to the starter has no good answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    /// It said no, and why.
    #[error("{0}")]
    Refused(Refusal),
    /// It is gone, stands still, or says what makes no sense.
    #[error("the starter does not answer ({0})")]
    Silent(&'static str),
}

impl From<LinkError> for io::Error {
    fn from(error: LinkError) -> Self {
        let kind = match &error {
            LinkError::Refused(Refusal { kind: RefusalKind::AddressInUse, .. }) => io::ErrorKind::AddrInUse,
            LinkError::Refused(Refusal { kind: RefusalKind::NotPermitted, .. }) => {
                io::ErrorKind::PermissionDenied
            }
            LinkError::Refused(_) | LinkError::Silent(_) => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

struct Question {
    request: Request,
    descriptor: Option<OwnedFd>,
    answer: oneshot::Sender<Answer>,
}

/// Asks the starter. Cheap to clone.
#[derive(Clone)]
pub(super) struct LinkHandle {
    questions: mpsc::Sender<Question>,
}

impl LinkHandle {
    async fn ask(&self, request: Request, descriptor: Option<OwnedFd>) -> Answer {
        let (answer, answered) = oneshot::channel();
        let question = Question { request, descriptor, answer };
        self.questions.try_send(question).map_err(|_| LinkError::Silent("too many questions are open"))?;
        match tokio::time::timeout(ANSWER_WITHIN, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(LinkError::Silent("it is gone")),
            Err(_) => Err(LinkError::Silent("it takes too long")),
        }
    }

    /// Opens a listener or finds the open one; its sockets, as many as asked for.
    pub(super) async fn listen(&self, spec: ListenSpec) -> Result<(ListenerInfo, Vec<OwnedFd>), LinkError> {
        match self.ask(Request::Listen(spec), None).await? {
            (Response::Opened(info), sockets) if sockets.len() == usize::from(info.spec.sockets) => {
                Ok((info, sockets))
            }
            _ => Err(LinkError::Silent("no answer to `listen`")),
        }
    }

    /// Lets the starter close its sockets of a listener.
    pub(super) async fn close(&self, name: &str, address: std::net::SocketAddr) -> Result<(), LinkError> {
        self.ask(Request::Close { name: name.to_owned(), address }, None).await.map(drop)
    }

    /// Tells that connections are accepted.
    pub(super) async fn ready(&self) -> Result<(), LinkError> {
        self.ask(Request::Ready, None).await.map(drop)
    }

    /// Leaves a configuration, in sealed memory, with the starter.
    pub(super) async fn store_config(&self, memory: OwnedFd) -> Result<(), LinkError> {
        self.ask(Request::StoreConfig, Some(memory)).await.map(drop)
    }

    async fn upstream_socket(&self, local: IpAddr, mark: u32) -> Result<OwnedFd, LinkError> {
        match self.ask(Request::UpstreamSocket { local, mark }, None).await? {
            (Response::UpstreamSocket, mut sockets) if sockets.len() == 1 => {
                sockets.pop().ok_or(LinkError::Silent("no socket"))
            }
            _ => Err(LinkError::Silent("no answer to `upstream_socket`")),
        }
    }
}

impl UpstreamSockets for LinkHandle {
    fn transparent(&self, local: IpAddr) -> Pin<Box<dyn Future<Output = io::Result<OwnedFd>> + Send>> {
        let link = self.clone();
        Box::pin(async move { Ok(link.upstream_socket(local, CLIENT_ADDRESS_MARK).await?) })
    }
}

/// The socket and the questions under way.
pub(super) struct Link {
    channel: Channel,
    /// A duplicate of the channel's socket, for tokio to watch: it has no type for sequential packets,
    /// and only readiness is asked of it.
    readiness: UnixDatagram,
    questions: mpsc::Receiver<Question>,
    /// Taken from the queue, and did not fit the socket.
    unsent: Option<Question>,
    /// Those whose answer nobody waits for any more included: it comes all the same.
    open: HashMap<u32, oneshot::Sender<Answer>>,
    last_id: u32,
    events: mpsc::UnboundedSender<Event>,
}

impl Link {
    /// Takes the channel over from the blocking client of the first steps. The events end when the
    /// starter is gone. Their number is bounded by the starter, which says each thing once.
    ///
    /// # Errors
    /// When the runtime cannot watch the socket.
    pub(super) fn new(
        channel: Channel,
        early: VecDeque<Event>,
    ) -> io::Result<(Self, LinkHandle, mpsc::UnboundedReceiver<Event>)> {
        channel.set_nonblocking(true)?;
        let (sender, questions) = mpsc::channel(QUEUE);
        let (events, heard) = mpsc::unbounded_channel();
        for event in early {
            // The receiver is in our hands: it cannot be closed yet.
            let _ = events.send(event);
        }
        let duplicate = channel.as_fd().try_clone_to_owned()?;
        let readiness = UnixDatagram::from_std(duplicate.into())?;
        let link =
            Self { channel, readiness, questions, unsent: None, open: HashMap::new(), last_id: 0, events };
        Ok((link, LinkHandle { questions: sender }, heard))
    }

    /// Runs until the starter is gone or every handle is dropped.
    pub(super) async fn run(mut self) {
        let ended = loop {
            let may_ask = self.unsent.is_none() && self.open.len() < OPEN;
            // Hearing comes before asking: answers must not pile up. Cancelled, none of these has done anything.
            tokio::select! {
                biased;
                ready = self.readiness.readable() => match ready.and_then(|()| self.hear()) {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(error) => break error,
                },
                ready = self.readiness.writable(), if self.unsent.is_some() => {
                    let Some(question) = self.unsent.take() else { continue };
                    if let Err(error) = ready.and_then(|()| self.send(question)) {
                        break error;
                    }
                }
                question = self.questions.recv(), if may_ask => match question {
                    Some(question) => if let Err(error) = self.send(question) {
                        break error;
                    },
                    None => return,
                },
            }
        };
        warn!(error = %ended, "the connection to the starter is broken");
    }

    /// Takes what has come. False: nothing will come any more.
    fn hear(&mut self) -> io::Result<bool> {
        let channel = &mut self.channel;
        match self.readiness.try_io(Interest::READABLE, || channel.receive::<FromStarter>()) {
            Ok(Some(received)) => self.take(received),
            Ok(None) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    /// Sends a question, or keeps it until there is room.
    fn send(&mut self, question: Question) -> io::Result<()> {
        // Who asked has given up meanwhile.
        if question.answer.is_closed() {
            return Ok(());
        }
        let id = self.last_id.wrapping_add(1);
        let message = ToStarter { id, request: question.request };
        let descriptors: Vec<_> = question.descriptor.iter().map(AsFd::as_fd).collect();
        match self.readiness.try_io(Interest::WRITABLE, || self.channel.send(&message, &descriptors)) {
            Ok(()) => {
                self.last_id = id;
                self.open.insert(id, question.answer);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                drop(descriptors);
                self.unsent = Some(Question { request: message.request, ..question });
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                // Whoever asked may have stopped waiting.
                let _ = question.answer.send(Err(LinkError::Silent("the question is too long")));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn take(&mut self, received: Received<FromStarter>) {
        match received.message {
            FromStarter::Event(event) => {
                // Nobody listens any more once the worker is on its way out.
                let _ = self.events.send(event);
            }
            FromStarter::Reply { id, outcome } => {
                if let Some(answer) = self.open.remove(&id) {
                    let outcome = outcome.map(|response| (response, received.descriptors));
                    // Whoever asked may have stopped waiting; descriptors are closed then.
                    let _ = answer.send(outcome.map_err(LinkError::Refused));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
