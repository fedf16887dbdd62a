//! HTTP/1.1 requests read to the letter (RFC 9112), without any of the leniency that it allows.

/// What is wrong with a request.
#[derive(Debug)]
pub(crate) struct Malformed(pub(crate) &'static str);

/// The head of a request.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) method: String,
    /// With the query.
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, Vec<u8>)>,
}

/// Takes a head from the front; `None` when it is not all there.
pub(crate) fn take_head(bytes: &mut Vec<u8>) -> Result<Option<Head>, Malformed> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        // A line feed alone would end a line for some readers.
        return if bare_line_end(bytes) { Err(Malformed("a bare CR or LF in a head")) } else { Ok(None) };
    };
    let rest = bytes.split_off(end + 4);
    let text = std::mem::replace(bytes, rest);
    let head = parse_head(&text[..end])?;
    Ok(Some(head))
}

fn bare_line_end(bytes: &[u8]) -> bool {
    bytes.iter().enumerate().any(|(at, byte)| match byte {
        b'\n' => at == 0 || bytes[at - 1] != b'\r',
        b'\r' => bytes.get(at + 1).is_some_and(|next| *next != b'\n'),
        _ => false,
    })
}

fn parse_head(text: &[u8]) -> Result<Head, Malformed> {
    if bare_line_end(text) {
        return Err(Malformed("a bare CR or LF in a head"));
    }
    let mut lines = text.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let first = lines.next().unwrap_or_default();
    let mut words = first.split(|byte| *byte == b' ');
    let (method, path, version) = (words.next(), words.next(), words.next());
    let (Some(method), Some(path), Some(b"HTTP/1.1"), None) = (method, path, version, words.next()) else {
        return Err(Malformed("a first line that is not three words"));
    };
    if method.is_empty() || !method.iter().all(|byte| is_token(*byte)) {
        return Err(Malformed("a method that is no token"));
    }
    if !path.starts_with(b"/") || path.iter().any(|byte| *byte <= b' ' || *byte == 0x7f || *byte == b'#') {
        return Err(Malformed("a path that is none"));
    }
    let headers = lines.map(header).collect::<Result<Vec<_>, Malformed>>()?;
    let head = Head {
        method: String::from_utf8_lossy(method).into_owned(),
        path: String::from_utf8_lossy(path).into_owned(),
        headers,
    };
    if head.all("host").count() != 1 {
        return Err(Malformed("not exactly one host"));
    }
    Ok(head)
}

fn header(line: &[u8]) -> Result<(String, Vec<u8>), Malformed> {
    let colon = line.iter().position(|byte| *byte == b':').ok_or(Malformed("a header without a colon"))?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
        return Err(Malformed("a header name that is no token"));
    }
    if value.iter().any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f) {
        return Err(Malformed("a control character in a header value"));
    }
    Ok((String::from_utf8_lossy(name).to_ascii_lowercase(), value.trim_ascii().to_vec()))
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

impl Head {
    /// The values of a header.
    pub(crate) fn all<'h>(&'h self, name: &str) -> impl Iterator<Item = &'h [u8]> {
        let name = name.to_owned();
        self.headers.iter().filter(move |(held, _)| *held == name).map(|(_, value)| value.as_slice())
    }

    /// The framing, which has to be said once and plainly.
    pub(crate) fn body(&self) -> Result<Body, Malformed> {
        let lengths: Vec<&[u8]> = self.all("content-length").collect();
        let codings: Vec<&[u8]> = self.all("transfer-encoding").collect();
        match (lengths.as_slice(), codings.as_slice()) {
            ([], []) => Ok(Body::Length(0)),
            ([digits], []) if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => {
                let length = str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
                length.map(Body::Length).ok_or(Malformed("a length that is too large"))
            }
            ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Body::Chunked(Chunked::Size)),
            ([_], []) => Err(Malformed("a length that is no number")),
            ([], [_]) => Err(Malformed("a coding that is not chunked")),
            _ => Err(Malformed("framing said more than once")),
        }
    }

    /// A response, some with a length, some chunked with trailers.
    pub(crate) fn good_answer(&self) -> Vec<u8> {
        let text: &[u8] = match (self.method.as_str(), self.path.as_str()) {
            ("HEAD", _) => b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n",
            (_, path) if path.contains("chunked") => {
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: t\r\n\r\n2\r\nok\r\n0\r\nt: 1\r\n\r\n"
            }
            (_, path) if path.contains("empty") => b"HTTP/1.1 204 No Content\r\n\r\n",
            _ => b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        };
        text.to_vec()
    }
}

/// What is left of a body.
#[derive(Debug)]
pub(crate) enum Body {
    Length(u64),
    Chunked(Chunked),
}

/// Where in a chunked body.
#[derive(Debug)]
pub(crate) enum Chunked {
    Size,
    Data(u64),
    Trailers,
}

impl Body {
    /// Takes what is there of the body from the front. True when that is all.
    pub(crate) fn take(&mut self, bytes: &mut Vec<u8>) -> Result<bool, Malformed> {
        loop {
            match self {
                Self::Length(left) => {
                    let size = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    bytes.drain(..size);
                    *left -= size as u64;
                    return Ok(*left == 0);
                }
                Self::Chunked(state) => match state {
                    Chunked::Size => {
                        let Some(line) = take_line(bytes)? else { return Ok(false) };
                        if line.is_empty() || line.len() > 16 || !line.iter().all(u8::is_ascii_hexdigit) {
                            return Err(Malformed("a chunk size that is no number"));
                        }
                        let size =
                            str::from_utf8(&line).ok().and_then(|text| u64::from_str_radix(text, 16).ok());
                        *state = match size.ok_or(Malformed("a chunk size that is too large"))? {
                            0 => Chunked::Trailers,
                            size => Chunked::Data(size),
                        };
                    }
                    Chunked::Data(left) => {
                        let size = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                        bytes.drain(..size);
                        *left -= size as u64;
                        if *left > 0 || bytes.len() < 2 {
                            return Ok(false);
                        }
                        if !bytes.starts_with(b"\r\n") {
                            return Err(Malformed("a chunk longer than it says"));
                        }
                        bytes.drain(..2);
                        *state = Chunked::Size;
                    }
                    Chunked::Trailers => {
                        let Some(line) = take_line(bytes)? else { return Ok(false) };
                        if line.is_empty() {
                            return Ok(true);
                        }
                        let (name, _) = header(&line)?;
                        if ["content-length", "transfer-encoding", "host"].contains(&name.as_str()) {
                            return Err(Malformed("framing in a trailer"));
                        }
                    }
                },
            }
        }
    }
}

fn take_line(bytes: &mut Vec<u8>) -> Result<Option<Vec<u8>>, Malformed> {
    let Some(end) = bytes.windows(2).position(|window| window == b"\r\n") else {
        return if bare_line_end(bytes) {
            Err(Malformed("a bare CR or LF in a chunked body"))
        } else {
            Ok(None)
        };
    };
    let rest = bytes.split_off(end + 2);
    let mut line = std::mem::replace(bytes, rest);
    line.truncate(end);
    if bare_line_end(&line) { Err(Malformed("a bare CR or LF in a chunked body")) } else { Ok(Some(line)) }
}
