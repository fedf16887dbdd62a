//! One question and one answer on a Unix stream socket.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use serde_json::Value;

use crate::{Failure, Request};

/// The longest document in bytes, either way. A garbage collection names every pod of the node, some 120 bytes each.
pub const MAX_DOCUMENT: u64 = 1024 * 1024;

/// Descriptors beside a request that enters a pod: its network namespace, and a netlink socket made inside of it.
pub const DESCRIPTORS: usize = 2;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nobody listens.
    #[error("no agent listens on {path}: {reason}")]
    NoAgent {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// The agent went away, or took too long.
    #[error("the agent did not answer: {0}")]
    NoAnswer(#[source] io::Error),
    /// The answer is no JSON.
    #[error("the agent's answer cannot be read: {0}")]
    Unreadable(#[source] serde_json::Error),
}

/// A request with its descriptors, which are close-on-exec.
#[derive(Debug)]
pub struct Received {
    /// What is asked.
    pub request: Request,
    /// The pod's network namespace and a netlink socket inside of it, or nothing.
    pub descriptors: Vec<OwnedFd>,
}

/// Asks the agent and waits for its answer at most so long: the result's document, or the failure.
///
/// # Errors
/// [`CallError`] when the agent cannot be asked; what it refuses is the inner `Err`.
pub fn call(
    socket: &Path,
    request: &Request,
    descriptors: &[BorrowedFd<'_>],
    patience: Duration,
) -> Result<Result<Value, Failure>, CallError> {
    let no_agent = |reason| CallError::NoAgent { path: socket.to_owned(), reason };
    let mut stream = UnixStream::connect(socket).map_err(no_agent)?;
    let document = serde_json::to_vec(request).map_err(CallError::Unreadable)?;
    let answered = send(&mut stream, &document, descriptors, patience).and_then(|()| read(&mut stream));
    serde_json::from_slice(&answered.map_err(CallError::NoAnswer)?).map_err(CallError::Unreadable)
}

fn send(
    stream: &mut UnixStream,
    document: &[u8],
    descriptors: &[BorrowedFd<'_>],
    patience: Duration,
) -> io::Result<()> {
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors for one request"));
    }
    let sent =
        rustix::net::sendmsg(&*stream, &[IoSlice::new(document)], &mut ancillary, SendFlags::NOSIGNAL)?;
    stream.write_all(&document[sent..])?;
    stream.shutdown(Shutdown::Write)
}

/// Reads a request whole, waiting at most so long for each part of it.
///
/// # Errors
/// `InvalidData` for what is no request or too long, `WouldBlock` or `TimedOut` when it does not come; descriptors
/// that came are closed.
pub fn receive(stream: &mut UnixStream, patience: Duration) -> io::Result<Received> {
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut document = vec![0; 4096];
    let mut parts = [IoSliceMut::new(&mut document)];
    let first = rustix::net::recvmsg(&*stream, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?.bytes;
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    document.truncate(first);
    document.extend(read(stream)?);
    let request = serde_json::from_slice(&document)?;
    Ok(Received { request, descriptors })
}

/// Answers a request.
pub fn answer(stream: &mut UnixStream, answer: &Result<Value, Failure>) -> io::Result<()> {
    stream.write_all(&serde_json::to_vec(answer)?)?;
    stream.shutdown(Shutdown::Write)
}

fn read(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut document = Vec::new();
    stream.take(MAX_DOCUMENT + 1).read_to_end(&mut document)?;
    if document.len() as u64 > MAX_DOCUMENT {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a document over the bound of 1 MiB"));
    }
    Ok(document)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::time::Duration;

    use serde_json::json;

    use super::{CallError, MAX_DOCUMENT, answer, call, receive};
    use crate::{Code, Command, Failure, Request};

    const PATIENCE: Duration = Duration::from_secs(5);

    fn request(config: serde_json::Value) -> Request {
        Request {
            command: Command::Add,
            container_id: "c".to_owned(),
            interface: "eth0".to_owned(),
            netns: String::new(),
            arguments: String::new(),
            config,
        }
    }

    #[test]
    fn a_request_arrives_whole_with_its_descriptors_and_is_answered() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("cni.sock");
        let listener = UnixListener::bind(&path).expect("a socket");
        // More than a socket's buffer holds.
        let asked = request(json!({"long": "x".repeat(900_000)}));
        let expected = asked.clone();
        let agent = std::thread::spawn(move || {
            for outcome in [Ok(json!({"ips": []})), Err(Failure::new(Code::Exhausted, "no free address"))] {
                let (mut stream, _) = listener.accept().expect("a call");
                let received = receive(&mut stream, PATIENCE).expect("a request");
                assert_eq!(received.request, expected);
                assert_eq!(received.descriptors.len(), 2);
                answer(&mut stream, &outcome).expect("the plugin waits");
            }
        });
        let file = tempfile::tempfile().expect("a file");
        let descriptors = [file.as_fd(), file.as_fd()];
        let ask = || call(&path, &asked, &descriptors, PATIENCE).expect("an answer");
        assert_eq!(ask(), Ok(json!({"ips": []})));
        assert_eq!(ask().map_err(|failure| failure.code), Err(Code::Exhausted));
        agent.join().expect("the agent is content");
    }

    #[test]
    fn without_an_agent_the_error_names_the_socket() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("cni.sock");
        let error = call(&path, &request(json!({})), &[], PATIENCE).expect_err("nobody listens");
        assert!(matches!(error, CallError::NoAgent { .. }), "{error}");
        assert!(error.to_string().contains("cni.sock"), "{error}");
    }

    #[test]
    fn too_much_nonsense_and_silence_are_errors() {
        let refused = |bytes: Vec<u8>| {
            let (mut ours, mut theirs) = UnixStream::pair().expect("a pair");
            let writer = std::thread::spawn(move || {
                theirs.write_all(&bytes).and_then(|()| theirs.shutdown(std::net::Shutdown::Write))
            });
            let error = receive(&mut ours, PATIENCE).expect_err("it is no request");
            drop(ours);
            let _ = writer.join().expect("the writer ends");
            error.kind()
        };
        assert_eq!(refused(vec![b'x'; MAX_DOCUMENT as usize + 5000]), std::io::ErrorKind::InvalidData);
        assert_eq!(refused(b"{}".to_vec()), std::io::ErrorKind::InvalidData);
        let (mut ours, _theirs) = UnixStream::pair().expect("a pair");
        let error = receive(&mut ours, Duration::from_millis(50)).expect_err("nothing comes");
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    }
}
