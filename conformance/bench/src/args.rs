//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Measures the proxy beside its peers on two cores.
#[derive(Debug, Parser)]
#[command(name = "bench-proxy", about)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Measure.
    Run(Box<Options>),
    /// Answer requests until killed.
    #[command(hide = true)]
    Backend,
}

/// What to measure and with what.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only this row of the matrix; may be given several times. All that are built when left out.
    #[arg(long = "row", value_name = "N")]
    pub(crate) rows: Vec<u32>,
    /// Print one JSON object instead of tables.
    #[arg(long)]
    pub(crate) json: bool,
    /// Blocks to keep a row; more are made while some are dropped, at most twice as many.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) blocks: usize,
    /// How long each of a block's runs takes.
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    pub(crate) seconds: Duration,
    /// Peers beside the proxy itself; nginx is the control peer and always there if installed.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Peer::ALL)]
    pub(crate) peers: Vec<Peer>,
    /// Requests a second; each row has its own when left out.
    #[arg(long, value_name = "N")]
    pub(crate) rate: Option<f64>,
    /// Every proxy writes an access log, to a file in memory.
    #[arg(long)]
    pub(crate) log: bool,
    /// The proxy.
    #[arg(long, value_name = "PATH")]
    pub(crate) l7proxy: PathBuf,
    /// A second build of the proxy, to compare with the first.
    #[arg(long, value_name = "PATH")]
    pub(crate) l7proxy_before: Option<PathBuf>,
    /// The agent, for what both take together when idle.
    #[arg(long, value_name = "PATH")]
    pub(crate) agent: Option<PathBuf>,
    /// Envoy.
    #[arg(long, value_name = "PATH")]
    pub(crate) envoy: Option<PathBuf>,
    /// nginx.
    #[arg(long, value_name = "PATH")]
    pub(crate) nginx: Option<PathBuf>,
    /// haproxy.
    #[arg(long, value_name = "PATH")]
    pub(crate) haproxy: Option<PathBuf>,
    /// The minimal pingora proxy (conformance/bench/pingora-peer).
    #[arg(long, value_name = "PATH")]
    pub(crate) pingora: Option<PathBuf>,
}

/// Other proxies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
#[allow(missing_docs)]
pub(crate) enum Peer {
    Envoy,
    Nginx,
    Haproxy,
    Pingora,
}

impl Peer {
    pub(crate) const ALL: [Self; 4] = [Self::Envoy, Self::Nginx, Self::Haproxy, Self::Pingora];

    /// As it calls itself.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Envoy => "envoy",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Pingora => "pingora",
        }
    }
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("`{text}` is no number of seconds"))?;
    if (0.1..=600.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(format!("`{text}` is not between 0.1 and 600 seconds"))
    }
}
