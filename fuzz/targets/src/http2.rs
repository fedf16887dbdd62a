//! HTTP/2 frames of a client.
//!
//! Holds: what reaches the endpoint by HTTP/1 is framed once and plainly and has no path of another form; the
//! connection ends when its client has nothing more to say, whatever streams it left open.

use crate::endpoint::Answers;
use crate::http1::{carefully_forwarded, forwarded};
use crate::proxy::converse;

/// The connection preface (RFC 9113, 3.4) and empty settings, which every input begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Frames.
pub fn run(data: &[u8]) {
    let outcome = converse("careful", &[PREFACE, data], Answers::Good);
    for head in &outcome.forwarded {
        forwarded(head);
        carefully_forwarded(head);
    }
}
