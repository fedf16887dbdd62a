//! One end of a `SOCK_SEQPACKET` socket: whole messages with their descriptors, or an error.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest message in bytes.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// The most descriptors beside one message. Linux itself stops at 253 (`SCM_MAX_FD`).
pub const MAX_DESCRIPTORS: usize = 128;

/// A message with its descriptors. Descriptors are close-on-exec.
#[derive(Debug)]
pub struct Received<T> {
    /// What was said.
    pub message: T,
    /// What came along.
    pub descriptors: Vec<OwnedFd>,
}

/// One end. Blocking unless the socket was made non-blocking; then calls fail with `WouldBlock`.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
    buffer: Box<[u8]>,
}

impl Channel {
    /// Wraps a connected `SOCK_SEQPACKET` socket.
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket, buffer: vec![0; MAX_MESSAGE].into_boxed_slice() }
    }

    /// Two connected ends, both close-on-exec and blocking.
    pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
        let ends =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok(ends)
    }

    /// Gives the socket back.
    pub fn into_socket(self) -> OwnedFd {
        self.socket
    }

    /// Makes calls return `WouldBlock` rather than wait.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        rustix::io::ioctl_fionbio(&self.socket, nonblocking)?;
        Ok(())
    }

    /// Sends one message whole.
    ///
    /// # Errors
    /// `InvalidInput` when it is longer than [`MAX_MESSAGE`] or has too many descriptors, `WouldBlock`
    /// on a full non-blocking socket, else what the kernel says (`BrokenPipe` when the other end is gone).
    pub fn send<T: Serialize>(&self, message: &T, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        if bytes.len() > MAX_MESSAGE || descriptors.len() > MAX_DESCRIPTORS {
            let (length, count) = (bytes.len(), descriptors.len());
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("a message of {length} bytes and {count} descriptors is over the bounds"),
            ));
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            let fits = ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
            debug_assert!(fits, "the space is for MAX_DESCRIPTORS");
        }
        loop {
            match rustix::net::sendmsg(
                &self.socket,
                &[IoSlice::new(&bytes)],
                &mut ancillary,
                SendFlags::NOSIGNAL,
            ) {
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Receives one message whole; `None` when the other end is closed. Descriptors may be missing: the kernel
    /// drops those for which this process has no room left (`EMFILE`), and whoever expects some has to count.
    ///
    /// # Errors
    /// `InvalidData` when the message was cut or is no JSON of this type (descriptors that came are closed);
    /// `WouldBlock` on an empty non-blocking socket.
    pub fn receive<T: DeserializeOwned>(&mut self) -> io::Result<Option<Received<T>>> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let mut parts = [IoSliceMut::new(&mut self.buffer)];
            match rustix::net::recvmsg(&self.socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
                Ok(received) => break received,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        };
        let mut descriptors = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        if received.flags.contains(ReturnFlags::TRUNC) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a message over the bounds was cut"));
        }
        if received.bytes == 0 {
            return Ok(None);
        }
        let message = serde_json::from_slice(&self.buffer[..received.bytes])
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(Some(Received { message, descriptors }))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests;
