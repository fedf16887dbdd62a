//! Requests over a netlink socket, one at a time: each waits for the kernel's answer.
//!
//! The socket may be one that the plugin opened inside of a pod. It works there whoever uses it, and the agent
//! needs CAP_NET_ADMIN for it and nothing more.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, socket_with};

use crate::error::EndpointError;

/// The kernel answers at once; this is for a socket that is none.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of the longest answer, and more: a link with all its statistics has some two thousand. The kernel puts several
/// of a list into so many.
const ANSWER: usize = 32 * 1024;

/// A netlink socket in some network namespace.
pub(crate) struct Requests {
    socket: OwnedFd,
    sequence: u32,
}

/// What to do about a thing that is there already.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existing {
    /// It is an error.
    Refuse,
    /// It is replaced.
    Replace,
}

impl Requests {
    /// A socket in the namespace of this thread.
    pub(crate) fn here() -> Result<Self, EndpointError> {
        let flags = SocketFlags::CLOEXEC;
        // Protocol 0 is NETLINK_ROUTE.
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)
            .map_err(|error| refused("cannot open a netlink socket", error.into()))?;
        Self::over(socket)
    }

    /// A socket that was opened elsewhere.
    ///
    /// # Errors
    /// When it is no socket.
    pub(crate) fn over(socket: OwnedFd) -> Result<Self, EndpointError> {
        for timeout in [Timeout::Recv, Timeout::Send] {
            set_socket_timeout(socket.as_fd(), timeout, Some(PATIENCE))
                .map_err(|error| refused("what came as a netlink socket", error.into()))?;
        }
        Ok(Self { socket, sequence: 0 })
    }

    /// Makes a thing.
    pub(crate) fn make(
        &mut self,
        what: &str,
        message: RouteNetlinkMessage,
        existing: Existing,
    ) -> Result<(), EndpointError> {
        let flags = match existing {
            Existing::Refuse => NLM_F_CREATE | NLM_F_EXCL,
            Existing::Replace => NLM_F_CREATE | NLM_F_REPLACE,
        };
        self.ask(message, flags | NLM_F_ACK).map(drop).map_err(|error| refused(what, error))
    }

    /// Changes or removes a thing.
    pub(crate) fn change(&mut self, what: &str, message: RouteNetlinkMessage) -> Result<(), EndpointError> {
        self.ask(message, NLM_F_ACK).map(drop).map_err(|error| refused(what, error))
    }

    /// Looks one thing up.
    pub(crate) fn get(
        &mut self,
        what: &str,
        message: RouteNetlinkMessage,
    ) -> Result<RouteNetlinkMessage, EndpointError> {
        let missing = || refused(what, io::Error::from(rustix::io::Errno::NOENT));
        self.ask(message, 0).map_err(|error| refused(what, error))?.ok_or_else(missing)
    }

    /// Looks all things of a kind up.
    pub(crate) fn list(
        &mut self,
        what: &str,
        message: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, EndpointError> {
        self.ask_for_all(message).map_err(|error| refused(what, error))
    }

    fn ask(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<Option<RouteNetlinkMessage>> {
        self.send(message, flags)?;
        let mut answer = vec![0; ANSWER];
        loop {
            let (length, _) = rustix::net::recv(&self.socket, &mut answer[..], RecvFlags::empty())?;
            let answer = parsed(&answer[..length])?;
            // An answer to a question that was given up.
            if answer.header.sequence_number != self.sequence {
                continue;
            }
            return match answer.payload {
                NetlinkPayload::Error(error) if error.code.is_none() => Ok(None),
                NetlinkPayload::Error(error) => Err(error.to_io()),
                NetlinkPayload::InnerMessage(message) => Ok(Some(message)),
                _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer is none")),
            };
        }
    }

    /// The answers to one question, of which each datagram has several.
    fn ask_for_all(&mut self, message: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.send(message, NLM_F_DUMP)?;
        let mut all = Vec::new();
        let mut bytes = vec![0; ANSWER];
        loop {
            let (length, _) = rustix::net::recv(&self.socket, &mut bytes[..], RecvFlags::empty())?;
            let mut rest = &bytes[..length];
            while !rest.is_empty() {
                let answer = parsed(rest)?;
                // Each begins at a multiple of four.
                let length = (answer.header.length as usize).next_multiple_of(4).max(4);
                rest = rest.get(length..).unwrap_or_default();
                if answer.header.sequence_number != self.sequence {
                    continue;
                }
                match answer.payload {
                    NetlinkPayload::Done(_) => return Ok(all),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    NetlinkPayload::InnerMessage(message) => all.push(message),
                    _ => {}
                }
            }
        }
    }

    fn send(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.sequence += 1;
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | flags;
        request.header.sequence_number = self.sequence;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        rustix::net::send(&self.socket, &bytes, SendFlags::empty())?;
        Ok(())
    }
}

fn parsed(bytes: &[u8]) -> io::Result<NetlinkMessage<RouteNetlinkMessage>> {
    NetlinkMessage::deserialize(bytes)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))
}

fn refused(what: &str, reason: io::Error) -> EndpointError {
    EndpointError::Refused { what: what.to_owned(), reason }
}
