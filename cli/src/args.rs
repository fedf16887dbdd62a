//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use mesh_l7proxy_wire::default_run_dir;

/// Shows what the agent of this node knows and does.
#[derive(Debug, Parser)]
#[command(name = "millrace", version, about)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to show.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show objects with the status a cluster would show.
    Get(GetOptions),
    /// Show the health of each part, with the reason and the fix where something is wrong.
    Status(OutputOptions),
    /// Show the agent's own state as JSON.
    Dump(DumpOptions),
    /// Print a completion script for a shell.
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Options of `get`.
#[derive(Debug, Args)]
pub(crate) struct GetOptions {
    /// Kind of object.
    #[arg(value_enum)]
    pub(crate) kind: Kind,
    /// Name of one object; all of the kind when left out.
    pub(crate) name: Option<String>,
    /// Only this namespace; every namespace when left out.
    #[arg(long, short)]
    pub(crate) namespace: Option<String>,
    #[command(flatten)]
    pub(crate) common: OutputOptions,
}

/// Options of `dump`.
#[derive(Debug, Args)]
pub(crate) struct DumpOptions {
    /// Which part.
    #[arg(value_enum)]
    pub(crate) part: Part,
    #[command(flatten)]
    pub(crate) agent: AgentOptions,
}

/// Where the agent is, and how to print.
#[derive(Debug, Args)]
pub(crate) struct OutputOptions {
    /// How to print.
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) agent: AgentOptions,
}

/// Where the agent is.
#[derive(Debug, Args)]
pub(crate) struct AgentOptions {
    /// Folder of the agent's sockets.
    #[arg(long, value_name = "DIR", env = "MILLRACE_RUN_DIR", default_value_os_t = default_run_dir())]
    pub(crate) run_dir: PathBuf,
}

/// Kinds that `get` knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Ingress.
    #[value(alias = "ingresses", alias = "ing")]
    Ingress,
    /// Gateway.
    #[value(alias = "gateways", alias = "gtw")]
    Gateway,
    /// GatewayClass.
    #[value(name = "gatewayclass", alias = "gatewayclasses", alias = "gc")]
    GatewayClass,
    /// HTTPRoute.
    #[value(name = "httproute", alias = "httproutes")]
    HttpRoute,
}

impl Kind {
    /// The kind's name in the agent's API.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Gateway => "gateway",
            Self::GatewayClass => "gatewayclass",
            Self::HttpRoute => "httproute",
        }
    }
}

/// Parts of the agent's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// What should be in the kernel: frontends, routes, rules.
    Tables,
    /// What the proxy was sent, as Envoy's JSON without secrets.
    Xds,
    /// What clients of the xDS server have acknowledged and refused.
    Clients,
    /// The datapath's plan: what the kernel can, what was chosen and why.
    Plan,
    /// The kernel programs' counters.
    Counters,
    /// The kernel programs' maps.
    Maps,
}

impl Part {
    /// The part's name in the agent's API.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Tables => "tables",
            Self::Xds => "xds",
            Self::Clients => "clients",
            Self::Plan => "plan",
            Self::Counters => "counters",
            Self::Maps => "maps",
        }
    }
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Arguments;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
