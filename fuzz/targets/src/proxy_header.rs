//! The header of the PROXY protocol, and what comes behind it, on a listener that needs one.
//!
//! Holds: without a good header nothing is answered and nothing forwarded; with one, the endpoint is told the
//! client of the header and no other; in however many pieces the bytes come, the same happens; the bytes of
//! the header never become a part of a request.

use std::net::{IpAddr, Ipv4Addr};

use crate::endpoint::Answers;
use crate::proxy::{Outcome, converse};

const START_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Two bytes say where to cut; the rest is sent.
pub fn run(data: &[u8]) {
    let [first, second, bytes @ ..] = data else { return };
    let whole = converse("proxied", &[bytes], Answers::Good);
    let (head, tail) = bytes.split_at(usize::from(*first).min(bytes.len()));
    let (middle, tail) = tail.split_at(usize::from(*second).min(tail.len()));
    let cut = converse("proxied", &[head, middle, tail], Answers::Good);
    assert_eq!(clients(&whole), clients(&cut), "pieces of {}, {} and more", head.len(), middle.len());

    if !bytes.starts_with(b"PROXY ") && !bytes.starts_with(START_V2) {
        assert!(whole.reply.is_empty() && whole.forwarded.is_empty(), "served without a header");
    }
    if let Some(client) = said(bytes) {
        let expected = client.to_canonical().to_string();
        for told in clients(&whole) {
            assert!(told.ends_with(&expected), "the header says {expected}, the endpoint was told {told}");
        }
    }
}

/// What the endpoint was told of the client of each request.
fn clients(outcome: &Outcome) -> Vec<String> {
    let last = outcome.forwarded.iter().map(|head| head.all("x-forwarded-for").last().unwrap_or_default());
    last.map(|value| String::from_utf8_lossy(value).into_owned()).collect()
}

/// The client's address in a header that has one, read as plainly as can be.
fn said(bytes: &[u8]) -> Option<IpAddr> {
    if let Some(rest) = bytes.strip_prefix(b"PROXY ") {
        let mut words = rest.split(|byte| *byte == b' ');
        let is_tcp = matches!(words.next()?, b"TCP4" | b"TCP6");
        return str::from_utf8(words.next()?).ok()?.parse().ok().filter(|_| is_tcp);
    }
    match bytes.strip_prefix(START_V2)? {
        [0x21, 0x11, _, _, a, b, c, d, ..] => Some(Ipv4Addr::new(*a, *b, *c, *d).into()),
        [0x21, 0x21, _, _, rest @ ..] => Some(IpAddr::from(<[u8; 16]>::try_from(rest.get(..16)?).ok()?)),
        _ => None,
    }
}
