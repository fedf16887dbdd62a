//! Bodies of answers, read with a limit.

use http::Response;
use http_body_util::BodyExt;
use kube::client::Body;

use crate::failure::Failure;

/// What is kept of the body of an error.
const ERROR_BODY: usize = 16 << 10;

/// Reads a whole body of at most `limit` bytes.
pub(crate) async fn whole(response: Response<Body>, limit: usize) -> Result<Vec<u8>, Failure> {
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::of_transport(&error))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > limit {
            return Err(Failure::broken(format!("an answer is longer than {} MiB", limit >> 20)));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// The start of a body, as far as it comes; for errors, which are short.
pub(crate) async fn start(response: Response<Body>) -> Vec<u8> {
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        bytes.extend_from_slice(&data[..data.len().min(ERROR_BODY - bytes.len())]);
        if bytes.len() == ERROR_BODY {
            break;
        }
    }
    bytes
}

/// A body line by line.
pub(crate) struct Lines {
    body: Body,
    /// Bytes that came; those before `start` are done with.
    buffer: Vec<u8>,
    start: usize,
    /// Up to here there is no end of a line.
    searched: usize,
    limit: usize,
}

impl Lines {
    /// Lines of at most `limit` bytes.
    pub(crate) fn new(response: Response<Body>, limit: usize) -> Self {
        Self { body: response.into_body(), buffer: Vec::new(), start: 0, searched: 0, limit }
    }

    /// The next line without its end; `None` at the end of the body, where the rest of a line that was cut off is
    /// left out. May be dropped at any time: no byte is lost.
    pub(crate) async fn next(&mut self) -> Result<Option<&[u8]>, Failure> {
        loop {
            if let Some(at) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
                let (from, end) = (self.start, self.searched + at);
                (self.start, self.searched) = (end + 1, end + 1);
                return Ok(Some(&self.buffer[from..end]));
            }
            self.buffer.drain(..self.start);
            self.start = 0;
            self.searched = self.buffer.len();
            if self.buffer.len() > self.limit {
                return Err(Failure::broken(format!("an event is longer than {} MiB", self.limit >> 20)));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => return Err(Failure::of_transport(&error)),
                None => return Ok(None),
            }
        }
    }
}
