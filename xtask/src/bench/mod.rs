//! Benchmarks, each with its protocol in the room that it measures.

mod datapath;
mod proxy;

use clap::{Args, Subcommand};

/// Options of `bench`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Measure the proxy beside Envoy, nginx, haproxy and pingora (docs/benchmarks.md).
    Proxy(proxy::Options),
    /// Measure each kernel program beside an empty one; as root.
    Datapath(datapath::Options),
}

/// Runs one. False: a bar is missed.
pub(crate) fn run(options: &Options) -> anyhow::Result<bool> {
    match &options.what {
        What::Proxy(options) => proxy::run(options),
        What::Datapath(options) => datapath::run(options),
    }
}
