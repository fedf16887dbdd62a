//! The first bytes of a connection to a listener that looks for TLS and a server name.
//!
//! Holds: in however many pieces they come, the same chain is chosen, and the same is said to the client; a
//! hello without an end is cut off; no bytes get through TLS without its handshake.

use serde_json::Value;

use crate::endpoint::Answers;
use crate::proxy::{Outcome, converse};

/// Two bytes say where to cut; the rest is sent.
pub fn run(data: &[u8]) {
    let [first, second, bytes @ ..] = data else { return };
    let whole = converse("tls", &[bytes], Answers::Good);
    let early = usize::from(*first).min(bytes.len());
    let (head, tail) = bytes.split_at(early);
    let (middle, tail) = tail.split_at(usize::from(*second).min(tail.len()));
    let cut = converse("tls", &[head, middle, tail], Answers::Good);

    assert_eq!(chosen(&whole), chosen(&cut), "pieces of {}, {} and more", head.len(), middle.len());
    if bytes.first() == Some(&0x16) {
        assert_eq!(whole.reply.first(), cut.reply.first(), "another kind of record was sent");
        assert!(whole.forwarded.is_empty() && cut.forwarded.is_empty(), "TLS was taken for HTTP");
        assert!(matches!(whole.reply.first(), None | Some(0x15 | 0x16)), "HTTP was answered to TLS");
    }
}

/// What the counters say about the choice: those of chains, handshakes and refusals.
fn chosen(outcome: &Outcome) -> Vec<(String, Value)> {
    let stats = outcome.stats()["stats"].as_array().cloned().unwrap_or_default();
    let told = ["no_filter_chain", "connection", "ssl", "tls", "no_certificate", "cx_total"];
    stats
        .into_iter()
        .filter_map(|stat| Some((stat["name"].as_str()?.to_owned(), stat["value"].clone())))
        .filter(|(name, _)| told.iter().any(|part| name.contains(part)))
        .collect()
}
