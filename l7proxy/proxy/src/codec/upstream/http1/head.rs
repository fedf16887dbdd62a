//! The head of an answer (RFC 9112, 4 to 6): status, headers, and where its body ends.

use std::mem::MaybeUninit;
use std::ops::Range;

use bytes::{Buf, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::super::RESPONSE_HEAD;

/// Bytes of a head, with those of the informational ones before it; also of trailers.
pub(super) const MOST_BYTES: usize = RESPONSE_HEAD as usize;

/// Fields of a head, and of trailers.
pub(super) const MOST_FIELDS: usize = 100;

/// Lengths that hyper, which passes a body on, keeps for itself.
const RESERVED_LENGTHS: u64 = u64::MAX - 1;

/// The head of an answer that is not informational.
pub(super) struct Head {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) framing: Framing,
    /// Whether another request may follow on the connection.
    pub(super) persists: bool,
}

/// Where the body ends (RFC 9112, 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// After so many bytes.
    Length(u64),
    /// After the last chunk and its trailers.
    Chunked,
    /// With the connection.
    Closing,
}

/// Why an answer cannot be understood, or may be understood otherwise by somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("its head is no HTTP: {0}")]
    Syntax(httparse::Error),
    #[error("its head, or a part of it, is longer than allowed")]
    TooLarge,
    #[error("its status is none")]
    Status,
    #[error("a field has a name or a value that is none")]
    Field,
    #[error("its content-length is not one number")]
    Length,
    #[error("it has both content-length and transfer-encoding")]
    TwoFramings,
    #[error("its transfer-encoding is not chunked alone")]
    Coding,
    #[error("its chunks are not formed as they should be")]
    Chunk,
    #[error("its trailers are not formed as they should be")]
    Trailers,
}

impl Head {
    pub(super) fn is_switch(&self) -> bool {
        self.status == StatusCode::SWITCHING_PROTOCOLS
    }

    /// Whether no body follows.
    pub(super) fn is_complete(&self) -> bool {
        self.framing == Framing::Length(0)
    }
}

/// What is remembered from one read to the next.
#[derive(Default)]
pub(super) struct Parser {
    /// Names and values in the head at hand. Its memory is used again.
    fields: Vec<(Range<usize>, Range<usize>)>,
    /// Bytes of a head that is not complete.
    seen: usize,
    /// Bytes of informational heads.
    skipped: usize,
}

impl Parser {
    /// Takes a head from the input if it is complete; informational ones are skipped. `headers` gives the map
    /// to fill.
    pub(super) fn parse(
        &mut self,
        input: &mut BytesMut,
        head_only: bool,
        headers: impl FnOnce() -> HeaderMap,
    ) -> Result<Option<Head>, Malformed> {
        loop {
            // A head that comes byte by byte is not read from its start for each of them.
            if self.seen > 0 && !has_blank_line(&input[self.seen.saturating_sub(3)..]) {
                self.seen = input.len();
                return self.partial(input.len());
            }
            let Some((size, status, minor)) = self.read(input)? else {
                self.seen = input.len();
                return self.partial(input.len());
            };
            self.seen = 0;
            self.partial(size.saturating_sub(1))?;
            let status = StatusCode::from_u16(status).map_err(|_| Malformed::Status)?;
            if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
                input.advance(size);
                self.skipped += size;
                if input.is_empty() {
                    return Ok(None);
                }
                continue;
            }
            self.skipped = 0;
            return self.take(input, size, (status, minor, head_only), headers()).map(Some);
        }
    }

    /// Looks at the size of what has come.
    fn partial(&self, size: usize) -> Result<Option<Head>, Malformed> {
        if self.skipped + size >= MOST_BYTES { Err(Malformed::TooLarge) } else { Ok(None) }
    }

    /// Finds the places of all fields. Gives the size of the head, its status and minor version.
    fn read(&mut self, input: &[u8]) -> Result<Option<(usize, u16, u8)>, Malformed> {
        let mut fields = [const { MaybeUninit::uninit() }; MOST_FIELDS];
        let mut response = httparse::Response::new(&mut []);
        let parsed = httparse::ParserConfig::default()
            .parse_response_with_uninit_headers(&mut response, input, &mut fields)
            .map_err(|error| match error {
                httparse::Error::TooManyHeaders => Malformed::TooLarge,
                error => Malformed::Syntax(error),
            })?;
        let httparse::Status::Complete(size) = parsed else { return Ok(None) };
        let (Some(status), Some(minor)) = (response.code, response.version) else { return Ok(None) };
        let place = |part: &[u8]| {
            let start = part.as_ptr() as usize - input.as_ptr() as usize;
            start..start + part.len()
        };
        self.fields.clear();
        self.fields
            .extend(response.headers.iter().map(|field| (place(field.name.as_bytes()), place(field.value))));
        Ok(Some((size, status, minor)))
    }

    fn take(
        &self,
        input: &mut BytesMut,
        size: usize,
        (status, minor, head_only): (StatusCode, u8, bool),
        mut headers: HeaderMap,
    ) -> Result<Head, Malformed> {
        let bytes = input.split_to(size).freeze();
        let mut lengths = Lengths::default();
        // HTTP/1.0 could keep a connection as well, but would have to be asked in its own way.
        let mut persists = minor == 1;
        headers.reserve(self.fields.len());
        for (name, value) in &self.fields {
            let name = HeaderName::from_bytes(&bytes[name.clone()]).map_err(|_| Malformed::Field)?;
            let value =
                HeaderValue::from_maybe_shared(bytes.slice(value.clone())).map_err(|_| Malformed::Field)?;
            match name {
                header::CONTENT_LENGTH => lengths.length(&value),
                header::TRANSFER_ENCODING => lengths.coding(&value),
                header::CONNECTION if says(&value, b"close") => persists = false,
                _ => {}
            }
            headers.append(name, value);
        }
        let has_no_body = head_only
            || matches!(
                status,
                StatusCode::SWITCHING_PROTOCOLS | StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
            );
        let framing = if has_no_body { Framing::Length(0) } else { lengths.framing(minor)? };
        persists &= framing != Framing::Closing;
        Ok(Head { status, headers, framing, persists })
    }
}

/// What the head says about the length of the body.
#[derive(Default)]
struct Lengths {
    length: Option<Result<u64, Malformed>>,
    coding: Option<Result<(), Malformed>>,
}

impl Lengths {
    fn length(&mut self, value: &HeaderValue) {
        self.length = Some(match self.length {
            None => number(value.as_bytes()).ok_or(Malformed::Length),
            // Others may take the other one.
            Some(_) => Err(Malformed::Length),
        });
    }

    fn coding(&mut self, value: &HeaderValue) {
        // Any other one would have to be undone here, or be told to the client, who did not ask for it.
        let is_chunked = self.coding.is_none() && value.as_bytes().eq_ignore_ascii_case(b"chunked");
        self.coding = Some(if is_chunked { Ok(()) } else { Err(Malformed::Coding) });
    }

    fn framing(self, minor: u8) -> Result<Framing, Malformed> {
        match (self.length, self.coding) {
            (None, None) => Ok(Framing::Closing),
            (Some(length), None) => Ok(Framing::Length(length?)),
            // A server of 1.0 does not know codings: one before it may have read another length.
            (None, Some(_)) if minor == 0 => Err(Malformed::Coding),
            (None, Some(coding)) => coding.map(|()| Framing::Chunked),
            (Some(_), Some(_)) => Err(Malformed::TwoFramings),
        }
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(digits).ok()?.parse().ok().filter(|length| *length < RESERVED_LENGTHS)
}

/// Whether a list of words in a header has this one.
pub(super) fn says(value: &HeaderValue, word: &[u8]) -> bool {
    value.as_bytes().split(|byte| *byte == b',').any(|said| said.trim_ascii().eq_ignore_ascii_case(word))
}

fn has_blank_line(bytes: &[u8]) -> bool {
    bytes.windows(2).any(|pair| pair == b"\n\n") || bytes.windows(3).any(|three| three == b"\n\r\n")
}
