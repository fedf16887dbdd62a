//! `mesh-agent`: the node agent. Wiring only: it starts the parts and hands each what it needs.
//!
//! In: the command line, a folder of manifests or an API server. Out: a configured proxy, a programmed kernel, `agent.sock`.
//! `mesh-agent operator` is the cluster's role: the same objects, their statuses written back (`operator.rs`).
//! Start reading in `control.rs`. Tasks: the watches of the folder or the API server, the node's observer, the xDS server, the
//! agent's socket, one reconciler a table, the keeper of nodes, the proxy's keeper and that of its logs, the watcher of its
//! processes, the datapath's keeper, and the control loop.

mod addresses;
mod admin;
mod api;
mod args;
mod await_daemonset;
mod bpf;
mod changes;
mod cleanup;
mod cni;
mod control;
mod datapath;
mod derive;
mod describe;
mod entries;
mod events;
#[cfg(test)]
mod fixture;
mod health;
mod identity_gc;
mod identity_keeper;
mod logs;
mod masquerade;
mod node_files;
mod node_ranges;
mod nodes;
mod objects;
mod operator;
mod own_node;
mod pod_network;
mod pod_ranges;
mod processes;
mod programmed;
mod proxy;
mod proxy_watch;
mod run_dir;
mod serve;
mod services;
mod source;
mod state;
mod status;
mod strangers;
mod tunnels;
mod turns;
mod view;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use args::{Arguments, Command};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // For the proxy's starter, which inherits it: its allocator would take pages of 2 MiB before its first line
    // runs. A kernel without such pages refuses, and is as good.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let log = match &arguments.command {
        Some(Command::Operator(options)) => &options.log,
        Some(Command::Cleanup(options)) => &options.log,
        Some(Command::InstallCni(options)) => &options.log,
        Some(Command::AwaitDaemonset(options)) => &options.log,
        Some(Command::Pause) | None => &arguments.serve.log,
    };
    start_logging(&log.filter, log.json);
    let outcome = match &arguments.command {
        Some(Command::Operator(options)) => operator::run(options),
        Some(Command::Cleanup(options)) => cleanup::run(options),
        Some(Command::InstallCni(options)) => node_files::install(options),
        Some(Command::AwaitDaemonset(options)) => await_daemonset::run(options),
        Some(Command::Pause) => cleanup::pause(),
        None => serve::serve(&arguments.serve),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Logs go to stderr; stdout stays free for what a command prints.
fn start_logging(filter: &str, json: bool) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    if json { builder.json().init() } else { builder.with_target(false).init() }
}
