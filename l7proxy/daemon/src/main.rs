//! The proxy's processes.
//!
//! In: resources from an xDS server on a Unix socket, connections on the listeners that these
//! describe. Out: connections to endpoints, an access log on stdout, a log on stderr, an admin socket.
//!
//! Two processes run: [`starter`] opens sockets, keeps what must outlive a worker and reads nothing
//! from the network; [`worker`] has no privileges, and does the rest. Start reading at
//! `starter::run` and `worker::run`. The starter has one thread; the worker has one for control
//! (xDS, admin, the link to the starter) and one for each core's worth of traffic.

mod args;
mod capability;
mod commands;
mod logging;
mod starter;
mod sys;
mod worker;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use crate::args::{Arguments, Command};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let command = Arguments::parse().command;
    // The allocator asks for pages of 2 MiB. The worker is faster with them; the others would use some
    // kilobytes of each. The setting is inherited, so the worker takes it back. A kernel without such pages
    // refuses, and is as good.
    let small = !matches!(command, Command::Worker(_));
    let _ = rustix::thread::disable_transparent_huge_pages(small);
    match run(command) {
        Ok(code) => code,
        Err(error) => {
            // Not by the log, which may not be there yet, and which a user of `status` does not expect.
            let _ = writeln!(std::io::stderr(), "l7proxy: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Starter(options) => {
            logging::start(&options.shared.log, options.shared.log_format)?;
            starter::run(options)
        }
        Command::Worker(options) => {
            logging::start(&options.shared.log, options.shared.log_format)?;
            worker::run(options)
        }
        Command::Status { run, json, identity } => commands::status(&run, json, &identity),
        Command::Upgrade { run, binary, ready_within } => commands::upgrade(&run, binary, ready_within),
        Command::Stop { run, wait } => commands::stop(&run, wait),
    }
}
