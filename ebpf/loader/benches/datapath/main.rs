//! What the programs cost, in nanoseconds, beside an empty program in the same run.
//!
//! In: the object file and root, as for the kernel tests, whose node and packets it uses. Out: a table with a row
//! for each case, or one JSON object (`--json`). Started by `cargo xtask bench datapath`.
//!
//! Packets are run by BPF_PROG_TEST_RUN (`packets.rs`): many times in a row on one processor, caches warm. That
//! is no ingress, so giving a packet to a socket is refused there; what that costs shows in the rows measured
//! on real traffic by the kernel's own run-time statistics (`calls.rs`), the socket calls too.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod calls;
#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../../tests/it/harness.rs"]
mod harness;
#[allow(dead_code, reason = "only the packets are of use, not the tests")]
#[path = "../../tests/it/packet.rs"]
mod packet;
mod packets;
mod row;

use std::process::ExitCode;

use crate::harness::on_node;
use crate::row::Row;

fn main() -> ExitCode {
    let (done, rows) = std::sync::mpsc::channel::<Vec<Row>>();
    on_node("bench", move |node| {
        let mut measured = packets::measure(node);
        measured.extend(calls::measure(node));
        done.send(measured).unwrap();
    });
    // Nothing comes where it cannot run, which was said.
    let Ok(rows) = rows.recv() else { return ExitCode::FAILURE };
    if std::env::args().any(|argument| argument == "--json") {
        println!("{}", serde_json::json!({ "rows": rows }));
    } else {
        println!("{}", row::table(&rows));
    }
    ExitCode::SUCCESS
}
