//! Asking the starter, one question at a time.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::channel::{Channel, Received};
use crate::message::{
    Estate, Event, FromStarter, ListenSpec, ListenerInfo, Refusal, Request, Response, StarterStatus,
    ToStarter, Welcome,
};
use crate::sealed::SealedError;

/// How long the starter may take to answer, where the request does not say.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Why the starter gave no answer, or not the one that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// No starter listens at this path (none was started, or it is gone).
    #[error("no starter answers at {} (is `l7proxy starter` running with this run directory?)", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
    /// The socket failed, or the answer took too long (`WouldBlock`).
    #[error("the starter did not answer `{request}`")]
    Io {
        /// The request's name.
        request: &'static str,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
    /// The starter went away before it answered.
    #[error("the starter closed the connection at `{request}`")]
    Closed {
        /// The request's name.
        request: &'static str,
    },
    /// The starter refused.
    #[error("the starter refused `{request}`")]
    Refused {
        /// The request's name.
        request: &'static str,
        /// Why.
        #[source]
        refusal: Refusal,
    },
    /// The answer does not fit the question: two versions that do not understand each other.
    #[error("the starter's answer to `{request}` is not one: {detail}")]
    Unexpected {
        /// The request's name.
        request: &'static str,
        /// What came.
        detail: String,
    },
    /// The stored configuration cannot be read.
    #[error("the stored configuration cannot be used")]
    Stored(#[from] SealedError),
}

impl WireError {
    /// The refusal, when it is one.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            WireError::Refused { refusal, .. } => Some(refusal),
            _ => None,
        }
    }
}

/// A listener with its sockets, which are duplicates: closing them closes nothing of the starter's.
#[derive(Debug)]
pub struct OpenListener {
    /// What was asked for and where it is bound.
    pub info: ListenerInfo,
    /// `info.spec.sockets` listening sockets.
    pub sockets: Vec<OwnedFd>,
}

/// What another starter leaves.
#[derive(Debug)]
pub struct Inheritance {
    /// In numbers.
    pub estate: Estate,
    /// The locked file: who holds it is the run directory's starter.
    pub lock: OwnedFd,
    /// Listens on `starter.sock`.
    pub control: OwnedFd,
    /// Listens on `proxy-admin.sock`.
    pub admin: OwnedFd,
    /// The stored configuration, sealed.
    pub stored: Option<OwnedFd>,
}

/// A blocking connection to the starter.
#[derive(Debug)]
pub struct StarterClient {
    channel: Channel,
    last_id: u32,
    events: VecDeque<Event>,
}

impl StarterClient {
    /// Connects to `<run>/starter.sock`.
    ///
    /// # Errors
    /// [`WireError::Connect`] with `NotFound` or `ConnectionRefused` when no starter runs.
    pub fn connect(path: &Path) -> Result<Self, WireError> {
        let connect = || -> io::Result<OwnedFd> {
            let socket = rustix::net::socket_with(
                AddressFamily::UNIX,
                SocketType::SEQPACKET,
                SocketFlags::CLOEXEC,
                None,
            )?;
            // A starter that hangs accepts nobody; when its queue is full, connecting waits as sending does.
            set_socket_timeout(&socket, Timeout::Send, Some(ANSWER_WITHIN))?;
            rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
            Ok(socket)
        };
        let socket = connect().map_err(|source| WireError::Connect { path: path.to_owned(), source })?;
        Ok(Self::from_socket(socket))
    }

    /// Speaks over a connected socket, as a worker does with the one it inherited.
    pub fn from_socket(socket: OwnedFd) -> Self {
        Self { channel: Channel::new(socket), last_id: 0, events: VecDeque::new() }
    }

    /// Gives the channel back, with the events that came in between answers.
    pub fn into_parts(self) -> (Channel, VecDeque<Event>) {
        (self.channel, self.events)
    }

    /// Opens a listener, or gets the sockets of an open one again.
    ///
    /// # Errors
    /// Refused with [`crate::RefusalKind::AddressInUse`] when another process holds the address.
    pub fn listen(&mut self, spec: ListenSpec) -> Result<OpenListener, WireError> {
        match self.ask(Request::Listen(spec), &[], ANSWER_WITHIN)? {
            Received { message: Response::Opened(info), descriptors } => {
                Ok(OpenListener { info, sockets: descriptors })
            }
            other => Err(unexpected("listen", &other)),
        }
    }

    /// All open listeners with duplicates of their sockets, in the order of opening.
    ///
    /// # Errors
    /// Only when the starter is gone or of another version.
    pub fn listeners(&mut self) -> Result<Vec<OpenListener>, WireError> {
        let mut all = Vec::new();
        let mut from = Some(0);
        while let Some(index) = from {
            let reply = self.ask(Request::Listeners { from: index }, &[], ANSWER_WITHIN)?;
            let Received { message: Response::Listeners { listeners, next }, descriptors } = reply else {
                return Err(unexpected("listeners", &reply));
            };
            let mut sockets = descriptors.into_iter();
            for info in listeners {
                let count = usize::from(info.spec.sockets);
                let own: Vec<OwnedFd> = sockets.by_ref().take(count).collect();
                if own.len() < count {
                    return Err(WireError::Unexpected {
                        request: "listeners",
                        detail: "sockets are missing: this process has too many open files".to_owned(),
                    });
                }
                all.push(OpenListener { info, sockets: own });
            }
            from = next;
        }
        Ok(all)
    }

    /// Closes a listener. Returns whether there was one.
    ///
    /// # Errors
    /// Only when the starter is gone or of another version.
    pub fn close(&mut self, name: &str, address: SocketAddr) -> Result<bool, WireError> {
        match self.ask(Request::Close { name: name.to_owned(), address }, &[], ANSWER_WITHIN)?.message {
            Response::Closed { existed } => Ok(existed),
            other => Err(unexpected("close", &other)),
        }
    }

    /// How the starter and its workers do.
    ///
    /// # Errors
    /// Only when the starter is gone or of another version.
    pub fn status(&mut self) -> Result<StarterStatus, WireError> {
        match self.ask(Request::Status, &[], ANSWER_WITHIN)?.message {
            Response::Status(status) => Ok(*status),
            other => Err(unexpected("status", &other)),
        }
    }

    /// Replaces the worker by one of this binary. Waits until that one serves; returns its process id.
    ///
    /// # Errors
    /// Refused with [`crate::RefusalKind::UpgradeFailed`] when it never served; the old one serves on.
    pub fn upgrade(&mut self, binary: &Path, ready_within: Duration) -> Result<u32, WireError> {
        let ready_within_ms = u64::try_from(ready_within.as_millis()).unwrap_or(u64::MAX);
        let request = Request::Upgrade { binary: binary.to_owned(), ready_within_ms };
        match self.ask(request, &[], ready_within.saturating_add(ANSWER_WITHIN))?.message {
            Response::Upgraded { pid } => Ok(pid),
            other => Err(unexpected("upgrade", &other)),
        }
    }

    /// Lets the starter drain its worker and exit.
    ///
    /// # Errors
    /// Only when the starter is gone or of another version.
    pub fn shutdown(&mut self) -> Result<(), WireError> {
        match self.ask(Request::Shutdown, &[], ANSWER_WITHIN)?.message {
            Response::ShuttingDown => Ok(()),
            other => Err(unexpected("shutdown", &other)),
        }
    }

    /// Announces that the asker takes the starter's place, and gets what it needs besides [`Self::listeners`].
    ///
    /// # Errors
    /// Refused with [`crate::RefusalKind::Busy`] when it is stopping, being upgraded, or handing over already.
    pub fn hand_over(&mut self) -> Result<Inheritance, WireError> {
        let Received { message, descriptors } = self.ask(Request::HandOver, &[], ANSWER_WITHIN)?;
        let Response::Estate(estate) = message else { return Err(unexpected("hand_over", &message)) };
        let mut descriptors = descriptors.into_iter();
        let [lock, control, admin, stored] = std::array::from_fn(|_| descriptors.next());
        match (lock, control, admin) {
            (Some(lock), Some(control), Some(admin))
                if stored.is_some() == estate.stored_config_bytes.is_some() =>
            {
                Ok(Inheritance { estate, lock, control, admin, stored })
            }
            _ => Err(WireError::Unexpected {
                request: "hand_over",
                detail: "descriptors are missing: this process has too many open files".to_owned(),
            }),
        }
    }

    /// The asker serves: the starter that handed over lets go.
    ///
    /// # Errors
    /// Refused with [`crate::RefusalKind::Busy`] when it did not wait that long and serves on.
    pub fn taken_over(&mut self) -> Result<(), WireError> {
        match self.ask(Request::TakenOver, &[], ANSWER_WITHIN)?.message {
            Response::Noted => Ok(()),
            other => Err(unexpected("taken_over", &other)),
        }
    }

    /// Waits until the starter hangs up, which it does when it exits.
    ///
    /// # Errors
    /// `TimedOut` when it is still there after this time.
    pub fn wait_closed(&mut self, within: Duration) -> Result<(), WireError> {
        let failed = |source| WireError::Io { request: "shutdown", source };
        set_socket_timeout(&self.channel, Timeout::Recv, Some(within))
            .map_err(|errno| failed(errno.into()))?;
        match self.channel.receive::<FromStarter>() {
            Ok(None) => Ok(()),
            Ok(Some(other)) => Err(unexpected("shutdown", &other)),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(failed(io::ErrorKind::TimedOut.into()))
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// A worker's first words. Returns the admin listener along.
    ///
    /// # Errors
    /// When the other end is no starter, or one of another version.
    pub fn hello(&mut self, version: &str) -> Result<(Welcome, OwnedFd), WireError> {
        let mut reply = self.ask(Request::Hello { version: version.to_owned() }, &[], ANSWER_WITHIN)?;
        match (reply.message, reply.descriptors.pop()) {
            (Response::Welcome(welcome), Some(admin)) => Ok((welcome, admin)),
            (other, _) => Err(unexpected("hello", &other)),
        }
    }

    /// The stored configuration, if there is one.
    ///
    /// # Errors
    /// [`WireError::Stored`] when what came is not sealed memory.
    pub fn load_config(&mut self) -> Result<Option<Vec<u8>>, WireError> {
        let mut reply = self.ask(Request::LoadConfig, &[], ANSWER_WITHIN)?;
        match (reply.message, reply.descriptors.pop()) {
            (Response::Config { bytes: Some(_) }, Some(memory)) => {
                Ok(Some(crate::sealed::read_sealed(memory)?))
            }
            (Response::Config { bytes: None }, None) => Ok(None),
            (other, _) => Err(unexpected("load_config", &other)),
        }
    }

    /// A socket bound to this source address.
    ///
    /// # Errors
    /// Refused with [`crate::RefusalKind::NotPermitted`] when the starter lacks CAP_NET_RAW.
    pub fn upstream_socket(&mut self, local: IpAddr, mark: u32) -> Result<OwnedFd, WireError> {
        let mut reply = self.ask(Request::UpstreamSocket { local, mark }, &[], ANSWER_WITHIN)?;
        match (reply.message, reply.descriptors.pop()) {
            (Response::UpstreamSocket, Some(socket)) => Ok(socket),
            (other, _) => Err(unexpected("upstream_socket", &other)),
        }
    }

    fn ask(
        &mut self,
        request: Request,
        descriptors: &[BorrowedFd<'_>],
        within: Duration,
    ) -> Result<Received<Response>, WireError> {
        let name = request.name();
        let failed = |source| WireError::Io { request: name, source };
        self.last_id = self.last_id.wrapping_add(1);
        let id = self.last_id;
        set_socket_timeout(&self.channel, Timeout::Send, Some(within))
            .map_err(|errno| failed(errno.into()))?;
        set_socket_timeout(&self.channel, Timeout::Recv, Some(within))
            .map_err(|errno| failed(errno.into()))?;
        self.channel.send(&ToStarter { id, request }, descriptors).map_err(failed)?;
        loop {
            let received = self.channel.receive::<FromStarter>().map_err(failed)?;
            let Some(Received { message, descriptors }) = received else {
                return Err(WireError::Closed { request: name });
            };
            match message {
                FromStarter::Event(event) => self.events.push_back(event),
                FromStarter::Reply { id: answered, outcome } if answered == id => {
                    return match outcome {
                        Ok(message) => Ok(Received { message, descriptors }),
                        Err(refusal) => Err(WireError::Refused { request: name, refusal }),
                    };
                }
                // The answer to a question that this client gave up waiting for.
                FromStarter::Reply { .. } => {}
            }
        }
    }
}

impl AsFd for StarterClient {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

fn unexpected(request: &'static str, came: &dyn std::fmt::Debug) -> WireError {
    WireError::Unexpected { request, detail: format!("{came:?}") }
}
