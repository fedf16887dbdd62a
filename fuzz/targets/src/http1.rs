//! HTTP/1 on a plain connection: what a client sends, and what an endpoint answers.
//!
//! Holds: what reaches the endpoint is framed once and plainly, and is no more requests than came in; where
//! paths are normalised the endpoint sees no other form; the client's word about itself ends here; the
//! connection ends when its client has nothing more to say.

use std::rc::Rc;

use crate::endpoint::{Answers, Head};
use crate::proxy::converse;

/// What parts the client's bytes from those of the endpoint, where the input has both.
const ANSWER: &[u8] = b"\n#answer\n";

/// A byte chooses the listener; the rest is sent.
pub fn run(data: &[u8]) {
    let [choice, bytes @ ..] = data else { return };
    let (sent, answers) = match bytes.windows(ANSWER.len()).position(|window| window == ANSWER) {
        Some(at) => (&bytes[..at], Answers::Raw(Rc::from(&bytes[at + ANSWER.len()..]))),
        None => (bytes, Answers::Good),
    };
    let is_careful = choice & 1 == 0;
    let outcome = converse(if is_careful { "careful" } else { "lenient" }, &[sent], answers);
    // Requests that are tried again on a fresh connection are those of pooled ones, of which there are few.
    let first_lines = sent.windows(7).filter(|window| *window == b"HTTP/1.").count();
    let is_http2 = sent.starts_with(b"PRI * HTTP/2.0");
    assert!(
        is_http2 || outcome.forwarded.len() <= 2 * first_lines,
        "{first_lines} requests became {}",
        outcome.forwarded.len()
    );
    for head in &outcome.forwarded {
        forwarded(head);
        if is_careful {
            carefully_forwarded(head);
        }
    }
}

/// What holds of every request that an endpoint sees.
pub(crate) fn forwarded(head: &Head) {
    for name in ["keep-alive", "proxy-connection", "http2-settings"] {
        assert!(head.all(name).next().is_none(), "{name} was forwarded");
    }
    assert!(head.all("te").all(|value| value == b"trailers"), "te was forwarded");
    let upgrade = head.all("upgrade").next();
    assert!(upgrade.is_none_or(|value| value.eq_ignore_ascii_case(b"websocket")), "an upgrade was forwarded");
    assert!(head.method != "CONNECT", "CONNECT was forwarded");
}

/// What holds where the listener is the first proxy that a client meets, and normalises paths.
pub(crate) fn carefully_forwarded(head: &Head) {
    let own = |name: &str| head.all(name).collect::<Vec<_>>();
    let proto = own("x-forwarded-proto");
    assert!(proto == [b"http"], "x-forwarded-proto is {proto:?}");
    let last = own("x-forwarded-for").last().map(|value| value.to_vec()).unwrap_or_default();
    assert!(last.ends_with(b"192.0.2.10"), "x-forwarded-for is {last:?}");

    let path = head.path.split('?').next().unwrap_or_default();
    assert!(!path.contains("//") && !path.contains('\\'), "{path} is not normalised");
    let lower = path.to_ascii_lowercase();
    assert!(
        ["%2f", "%5c", "%2e", "%00"].iter().all(|escape| !lower.contains(escape)),
        "{path} has an escape"
    );
    let is_dots = |segment: &str| matches!(segment.split(';').next(), Some("." | ".."));
    assert!(!path.split('/').any(is_dots), "{path} has dot segments");
}
