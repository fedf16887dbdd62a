//! Long bodies: a known number of known bytes, sent over a known time.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Channel};
use hyper::header::{CONTENT_LENGTH, HeaderValue};
use hyper::{HeaderMap, Response};

/// Bodies that take time are sent in so many pieces at most, evenly spread.
const PIECES: u64 = 50;
/// Bytes sent at once at most.
const PIECE: u64 = 64 * 1024;

/// The byte at an offset of every download. Its period is prime, so that a body with a piece missing or
/// doubled differs at once.
pub fn byte_at(offset: u64) -> u8 {
    u8::try_from(offset % 251).expect("a remainder of 251 fits a byte")
}

/// What a path asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Download {
    bytes: u64,
    over: Duration,
    /// Whether its length is told before.
    sized: bool,
}

impl Download {
    /// `/bytes/N` at once, `/bytes/N/over/MS` spread over so many milliseconds; `/chunks/...` without a
    /// length told before.
    pub(super) fn asked_for(path: &str) -> Option<Self> {
        let (rest, sized) = match path.strip_prefix("/bytes/") {
            Some(rest) => (rest, true),
            None => (path.strip_prefix("/chunks/")?, false),
        };
        let mut parts = rest.split('/');
        let bytes = parts.next()?.parse().ok()?;
        let over = match (parts.next(), parts.next()) {
            (None, _) => 0,
            (Some("over"), Some(milliseconds)) => milliseconds.parse().ok()?,
            _ => return None,
        };
        Some(Self { bytes, over: Duration::from_millis(over), sized })
    }

    /// The answer; its body is sent by a task of its own.
    pub(super) fn response(self) -> Response<BoxBody<Bytes, Infallible>> {
        let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
        tokio::spawn(async move {
            let piece = self.bytes.div_ceil(PIECES).clamp(1, PIECE);
            let pause = self.over.div_f64(self.bytes.div_ceil(piece).max(1) as f64);
            let mut offset = 0;
            while offset < self.bytes {
                let end = (offset + piece).min(self.bytes);
                let data: Bytes = (offset..end).map(byte_at).collect();
                // Whoever asked has gone.
                if sender.send_data(data).await.is_err() {
                    return;
                }
                offset = end;
                if !pause.is_zero() {
                    tokio::time::sleep(pause).await;
                }
            }
        });
        let mut response = Response::new(body.boxed());
        if self.sized {
            let length: &mut HeaderMap = response.headers_mut();
            length.insert(CONTENT_LENGTH, HeaderValue::from(self.bytes));
        }
        response
    }
}
