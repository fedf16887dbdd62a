//! The body of an answer, read from the connection by whoever wants it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};

use super::Shared;
use super::chunked::{Chunked, Decoded};
use super::head::{Framing, Malformed};
use crate::io::Io;

/// What follows the head of an answer. Its frames are parts of the memory that the socket was read into.
pub(crate) struct Answer {
    /// None: it was read to its end, or broke off.
    connection: Option<Shared>,
    decoder: Decoder,
}

enum Decoder {
    Length(u64),
    Chunked(Chunked),
    /// The end of the connection is the end of the body.
    Closing,
}

/// Why an answer ends before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error("cannot read from the endpoint")]
    Io(#[source] io::Error),
    #[error("the endpoint closed the connection within its answer")]
    Short,
    #[error("the endpoint's answer is malformed")]
    Malformed(#[source] Malformed),
    #[error("the endpoint did not switch protocols")]
    NotSwitched,
}

impl Decoder {
    fn decode(&mut self, input: &mut BytesMut) -> Result<Decoded, Malformed> {
        match self {
            Self::Chunked(chunked) => chunked.decode(input),
            Self::Length(0) => Ok(Decoded::End),
            Self::Length(_) | Self::Closing if input.is_empty() => Ok(Decoded::More),
            Self::Length(left) => {
                let size = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= size as u64;
                Ok(Decoded::Data(input.split_to(size).freeze()))
            }
            Self::Closing => Ok(Decoded::Data(input.split().freeze())),
        }
    }

    /// Whether nothing can follow what was decoded last.
    fn ends_here(&mut self, input: &mut BytesMut) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunked) => chunked.ends_here(input),
            Self::Closing => false,
        }
    }
}

impl Answer {
    pub(super) fn new(connection: &Shared, framing: Framing) -> Self {
        let decoder = match framing {
            Framing::Length(length) => Decoder::Length(length),
            Framing::Chunked => Decoder::Chunked(Chunked::new()),
            Framing::Closing => Decoder::Closing,
        };
        Self { connection: Some(connection.clone()), decoder }
    }

    /// The connection after 101.
    pub(crate) fn switched(&mut self) -> Switched {
        Switched(self.connection.take())
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        // Without a body, the connection may serve another request by now.
        if this.is_end_stream() {
            return Poll::Ready(None);
        }
        let Some(shared) = this.connection.clone() else { return Poll::Ready(None) };
        let mut connection = shared.borrow_mut();
        let (frame, ends) = loop {
            match this.decoder.decode(connection.input()) {
                Ok(Decoded::Data(data)) => {
                    let ends = this.decoder.ends_here(connection.input());
                    break (Some(Ok(Frame::data(data))), ends);
                }
                Ok(Decoded::Trailers(trailers)) => break (Some(Ok(Frame::trailers(trailers))), true),
                Ok(Decoded::End) => break (None, true),
                Ok(Decoded::More) => {}
                Err(error) => break (Some(Err(Broken::Malformed(error))), false),
            }
            match ready!(connection.poll_fill(cx)) {
                Ok(1..) => {}
                Ok(0) if matches!(this.decoder, Decoder::Closing) => break (None, true),
                Ok(0) => break (Some(Err(Broken::Short)), false),
                Err(error) => break (Some(Err(Broken::Io(error))), false),
            }
        };
        if ends {
            connection.answered();
        }
        if matches!(frame, Some(Err(_))) {
            connection.close();
        }
        if ends || matches!(frame, Some(Err(_))) {
            this.connection = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.connection.is_none() || matches!(self.decoder, Decoder::Length(0))
    }

    fn size_hint(&self) -> SizeHint {
        match self.decoder {
            Decoder::Length(left) => SizeHint::with_exact(left),
            Decoder::Chunked(_) | Decoder::Closing => SizeHint::default(),
        }
    }
}

/// A connection that stopped being HTTP.
pub(crate) struct Switched(Option<Shared>);

impl Switched {
    pub(crate) fn kept(self) -> Result<Io, Broken> {
        let connection = self.0.ok_or(Broken::NotSwitched)?;
        let stream = connection.borrow_mut().hand_on();
        stream.ok_or(Broken::NotSwitched)
    }
}
