//! The chunked coding, taken apart (RFC 9112, 7.1).

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::head::{MOST_BYTES, MOST_FIELDS, Malformed};

/// Bytes of chunk extensions in one body. Nobody reads them.
const MOST_EXTENSIONS: usize = 16 * 1024;

/// What comes next in a body.
#[derive(Debug, PartialEq)]
pub(super) enum Decoded {
    Data(Bytes),
    /// The end, with them.
    Trailers(HeaderMap),
    End,
    /// Not enough has come.
    More,
}

/// Where in the coding we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before the size of a chunk.
    Size,
    /// So many bytes of the chunk are still to come, at least one.
    Data(u64),
    /// Behind the last byte of a chunk.
    DataEnd,
    Trailers,
    End,
}

/// The state between two reads.
#[derive(Debug)]
pub(super) struct Chunked {
    place: Place,
    extensions: usize,
    /// Bytes of the line or the trailers at hand that were looked at.
    seen: usize,
}

impl Chunked {
    pub(super) fn new() -> Self {
        Self { place: Place::Size, extensions: 0, seen: 0 }
    }

    /// Takes what comes next from the input.
    pub(super) fn decode(&mut self, input: &mut BytesMut) -> Result<Decoded, Malformed> {
        loop {
            match self.place {
                Place::Size => match self.size(input)? {
                    None => return Ok(Decoded::More),
                    Some(0) => self.place = Place::Trailers,
                    Some(size) => self.place = Place::Data(size),
                },
                Place::Data(_) if input.is_empty() => return Ok(Decoded::More),
                Place::Data(left) => {
                    let size = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                    let left = left - size as u64;
                    self.place = if left == 0 { Place::DataEnd } else { Place::Data(left) };
                    return Ok(Decoded::Data(input.split_to(size).freeze()));
                }
                Place::DataEnd => match &input[..] {
                    [b'\r', b'\n', ..] => {
                        input.advance(2);
                        self.place = Place::Size;
                    }
                    [] | [b'\r'] => return Ok(Decoded::More),
                    _ => return Err(Malformed::Chunk),
                },
                Place::Trailers => return self.trailers(input),
                Place::End => return Ok(Decoded::End),
            }
        }
    }

    /// Whether the end has come as well, as far as that can be seen without a look at trailers. Saves whoever
    /// passes the body on from sending the end by itself.
    pub(super) fn ends_here(&mut self, input: &mut BytesMut) -> bool {
        const END: &[u8] = b"\r\n0\r\n\r\n";
        if self.place == Place::DataEnd && input.starts_with(END) {
            input.advance(END.len());
            self.place = Place::End;
        }
        self.place == Place::End
    }

    /// The size of the next chunk, 0 for the last. None: its line is not complete.
    fn size(&mut self, input: &mut BytesMut) -> Result<Option<u64>, Malformed> {
        let Some(end) = input[self.seen..].iter().position(|byte| *byte == b'\n') else {
            self.seen = input.len();
            // The size and the end of the line as well, which are next to nothing.
            return if self.extensions + self.seen > MOST_EXTENSIONS {
                Err(Malformed::Chunk)
            } else {
                Ok(None)
            };
        };
        let line = &input[..self.seen + end + 1];
        self.seen = 0;
        // The parser takes no digit at all for 0, which would end the body.
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let parsed = httparse::parse_chunk_size(line).map_err(|_| Malformed::Chunk)?;
        let httparse::Status::Complete((length, size)) = parsed else { return Err(Malformed::Chunk) };
        if digits == 0 || length != line.len() {
            return Err(Malformed::Chunk);
        }
        self.extensions += length - digits - b"\r\n".len();
        if self.extensions > MOST_EXTENSIONS {
            return Err(Malformed::Chunk);
        }
        input.advance(length);
        Ok(Some(size))
    }

    fn trailers(&mut self, input: &mut BytesMut) -> Result<Decoded, Malformed> {
        const BLANK: &[u8] = b"\r\n";
        if input.starts_with(BLANK) {
            input.advance(BLANK.len());
            self.place = Place::End;
            return Ok(Decoded::End);
        }
        let from = self.seen.saturating_sub(3);
        let Some(end) = input[from..].windows(4).position(|four| four == b"\r\n\r\n") else {
            self.seen = input.len();
            return if self.seen >= MOST_BYTES { Err(Malformed::TooLarge) } else { Ok(Decoded::More) };
        };
        let block = input.split_to(from + end + 4).freeze();
        if block.len() > MOST_BYTES {
            return Err(Malformed::TooLarge);
        }
        // The parser takes a line feed alone for the end of a line; others do not.
        let is_bare = |place: usize| block[place] == b'\n' && (place == 0 || block[place - 1] != b'\r');
        if (0..block.len()).any(is_bare) {
            return Err(Malformed::Trailers);
        }
        let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
        let parsed = httparse::parse_headers(&block, &mut fields).map_err(|_| Malformed::Trailers)?;
        let httparse::Status::Complete((length, fields)) = parsed else { return Err(Malformed::Trailers) };
        if length != block.len() {
            return Err(Malformed::Trailers);
        }
        let mut trailers = HeaderMap::with_capacity(fields.len());
        for field in fields {
            let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Malformed::Trailers)?;
            let value = HeaderValue::from_maybe_shared(block.slice_ref(field.value))
                .map_err(|_| Malformed::Trailers)?;
            trailers.append(name, value);
        }
        self.place = Place::End;
        Ok(Decoded::Trailers(trailers))
    }
}
