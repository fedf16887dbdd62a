//! Measures the proxy beside its peers.
//!
//! In: the rows to measure and where the programs are. Out: a table for people or JSON, one record a row.
//! Start reading in [`block`] for how a ratio is made, then `rows`. Processes: this one makes requests and
//! serves xDS, a second one ([`backend`]) answers them, both on one core; each peer is alone on the other.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark talks to whoever started it")]

mod accounting;
mod args;
mod backend;
mod block;
mod cores;
mod generator;
mod peers;
mod report;
mod resources;
mod rows;
mod statistics;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Arguments, Command};

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Run(options) => rows::run(&options),
        Command::Backend => backend::run().map(|()| true),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
