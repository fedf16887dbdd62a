//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use mesh_l7proxy_wire::default_run_dir;

/// Shows what Millrace does on this node: asks its agent.
#[derive(Debug, Parser)]
#[command(name = "millrace", about, max_term_width = 100, disable_version_flag = true, after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) common: CommonOptions,
}

const EXIT_CODES: &str = "Exit codes:\n  \
    0  done\n  \
    1  something is degraded, or failed\n  \
    2  wrong usage\n  \
    3  no agent answers\n  \
    4  what was asked for is not there\n  \
    5  this agent has no such part, or the part does not answer";

/// Where the agent is, and how to print.
#[derive(Clone, Debug, Args)]
pub(crate) struct CommonOptions {
    /// Folder of the agent's sockets.
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "MILLRACE_RUN_DIR",
        default_value_os_t = default_run_dir(),
        value_hint = clap::ValueHint::DirPath
    )]
    pub(crate) run_dir: PathBuf,
    /// Tables for people, or documents for scripts; streams have one JSON document a line.
    #[arg(long, short, global = true, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
    /// Whether to colour; `auto` colours on a terminal, unless NO_COLOR is set.
    #[arg(long, global = true, value_enum, default_value_t = ColorChoice::Auto, value_name = "WHEN")]
    pub(crate) color: ColorChoice,
}

/// How to print. (The variants have no text of their own, so that help stays short.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
    Yaml,
}

/// Whether to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorChoice {
    Auto,
    Always,
    Never,
}

/// What to show.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the health of each part, with the reason and the fix where something is wrong.
    Status(StatusOptions),
    /// List objects with the status a cluster would show.
    Get(GetOptions),
    /// Show one object and what it became: listeners, routes, clusters, endpoints, frontends.
    Describe(DescribeOptions),
    /// Show the addresses that connections are made to, and where they go.
    #[command(visible_alias = "svc", subcommand)]
    Service(ServiceCommand),
    /// Show the pods of this node.
    #[command(visible_alias = "ep", subcommand)]
    Endpoint(EndpointCommand),
    /// Show the proxy's configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Show what the proxy counts, sends to and listens on.
    #[command(subcommand)]
    Proxy(ProxyCommand),
    /// Show what is in the kernel's maps.
    #[command(subcommand)]
    Bpf(BpfCommand),
    /// Show what the agent sends to proxies, and what they say to it.
    #[command(subcommand)]
    Xds(XdsCommand),
    /// Show the rows that should be in the kernel, as documents.
    #[command(visible_alias = "statedb")]
    Tables(TablesOptions),
    /// Show what happened: the last events, or those to come as they happen.
    Events(EventsOptions),
    /// Show the versions of this program, of the agent and of the proxy.
    Version(VersionOptions),
    /// Try the ways between pods, nodes, Services and the outside. Needs kubectl.
    #[command(subcommand)]
    Connectivity(ConnectivityCommand),
    /// Gather what somebody who is to help needs, without secrets, in one file. Needs kubectl.
    Sysdump(SysdumpOptions),
    /// Print a completion script for a shell.
    #[command(after_help = COMPLETION_HELP)]
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

const COMPLETION_HELP: &str = "bash: millrace completion bash > /etc/bash_completion.d/millrace\n\
    zsh:  millrace completion zsh > \"${fpath[1]}/_millrace\"\n\
    fish: millrace completion fish > ~/.config/fish/completions/millrace.fish";

/// Which cluster, for commands that are about all of it.
#[derive(Clone, Debug, Args)]
pub(crate) struct ClusterOptions {
    /// Kubeconfig of the cluster; kubectl's own when left out.
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Context in the kubeconfig.
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// The program kubectl.
    #[arg(long, value_name = "PATH", default_value = "kubectl")]
    pub(crate) kubectl: PathBuf,
}

/// What of connectivity.
#[derive(Debug, Subcommand)]
pub(crate) enum ConnectivityCommand {
    /// Start pods in a namespace of their own, try every way between them, and remove them.
    Test(ConnectivityOptions),
}

/// Options of `connectivity test`.
#[derive(Debug, Args)]
pub(crate) struct ConnectivityOptions {
    /// Image of the pods: Kubernetes' agnhost, which is its entrypoint.
    #[arg(long, value_name = "IMAGE", env = "MILLRACE_TEST_IMAGE")]
    pub(crate) image: String,
    /// Namespace that is made for them, and removed with all in it.
    #[arg(long, value_name = "NAME", default_value = "millrace-connectivity-test")]
    pub(crate) namespace: String,
    /// Leave the pods when it is done.
    #[arg(long)]
    pub(crate) keep: bool,
    #[command(flatten)]
    pub(crate) cluster: ClusterOptions,
}

/// Options of `sysdump`.
#[derive(Debug, Args)]
pub(crate) struct SysdumpOptions {
    /// Where the archive is written. `millrace-sysdump-TIME.tar.gz` here when left out.
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) cluster: ClusterOptions,
}

/// Options of `status`.
#[derive(Debug, Args)]
pub(crate) struct StatusOptions {
    /// Also what the kernel can, which plan was chosen and why, the proxy's processes, and how full maps are.
    #[arg(long, conflicts_with = "brief")]
    pub(crate) verbose: bool,
    /// One line: OK, or the first thing that is wrong.
    #[arg(long)]
    pub(crate) brief: bool,
    /// Wait until everything is well.
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long to wait, such as 90s or 5m.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration)]
    pub(crate) wait_duration: Duration,
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
}

/// Options of `describe`.
#[derive(Debug, Args)]
pub(crate) struct DescribeOptions {
    /// Kind of object.
    #[arg(value_enum)]
    pub(crate) kind: Kind,
    /// Name, or NAMESPACE/NAME.
    pub(crate) name: String,
    /// Its namespace; may be left out where only one object has the name.
    #[arg(long, short)]
    pub(crate) namespace: Option<String>,
}

/// What to show of services.
#[derive(Debug, Subcommand)]
pub(crate) enum ServiceCommand {
    /// List all.
    List,
    /// Show those of one identifier, address or Service.
    Get {
        /// An ID of the list, ADDRESS:PORT, or NAMESPACE/NAME.
        which: String,
    },
}

/// What to show of pods.
#[derive(Debug, Subcommand)]
pub(crate) enum EndpointCommand {
    /// List those whose network this agent made.
    List,
}

/// What to show of the proxy's configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print what the proxy has, as Envoy's config_dump; secrets are redacted.
    Dump {
        /// Only resources of this type.
        #[arg(long, value_enum)]
        resource: Option<ResourceType>,
        /// Only resources with this name; `*` and `?` stand for any text and any one character.
        #[arg(long, value_name = "PATTERN")]
        name: Option<String>,
    },
}

/// Types of resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ResourceType {
    /// Listeners.
    #[value(name = "listeners", alias = "listener", alias = "lds")]
    Listeners,
    /// Route configurations.
    #[value(name = "routes", alias = "route", alias = "rds")]
    Routes,
    /// Clusters.
    #[value(name = "clusters", alias = "cluster", alias = "cds")]
    Clusters,
    /// Endpoints of clusters.
    #[value(name = "endpoints", alias = "endpoint", alias = "eds")]
    Endpoints,
    /// Secrets, redacted.
    #[value(name = "secrets", alias = "secret", alias = "sds")]
    Secrets,
}

/// What to show of the proxy.
#[derive(Debug, Subcommand)]
pub(crate) enum ProxyCommand {
    /// All numbers, one a line.
    Stats {
        /// Only those whose name has this in it; `*` and `?` stand for any text and any one character.
        pattern: Option<String>,
        /// Those that are zero as well.
        #[arg(long, short)]
        all: bool,
    },
    /// Clusters with their endpoints.
    Clusters,
    /// Listeners with their addresses.
    Listeners,
}

/// Which map to show.
#[derive(Debug, Subcommand)]
pub(crate) enum BpfCommand {
    /// All maps: names, sizes, how full they are.
    List,
    /// Services, their slots and their backends put together.
    #[command(visible_alias = "loadbalancer")]
    Lb {
        #[command(subcommand)]
        action: LbAction,
    },
    /// Addresses that are dialled.
    #[command(visible_alias = "service")]
    Services(MapOptions),
    /// The n-th backend of a service.
    #[command(visible_alias = "slot")]
    Slots(MapOptions),
    /// Backends by identifier.
    #[command(visible_alias = "backend")]
    Backends(MapOptions),
    /// What sockets dialled before they were sent to a backend.
    #[command(visible_alias = "revsk")]
    Reverse(MapOptions),
    /// The node's own addresses.
    #[command(visible_alias = "nodeaddrs")]
    NodeAddresses(MapOptions),
    /// The proxy's sockets that take redirected connections.
    #[command(visible_alias = "listener")]
    Listeners(MapOptions),
    /// What changes while the programs stay loaded.
    Config(MapOptions),
    /// What the programs count.
    #[command(visible_alias = "metrics")]
    Counters(MapOptions),
    /// Which processor's program looks for a socket at this moment.
    Looking(MapOptions),
    /// Pods' own connections on source ports that the proxy borrows.
    #[command(visible_alias = "flow")]
    Flows(MapOptions),
    /// By device, the node's addresses that pods' packets leave with.
    Masquerade(MapOptions),
    /// Ranges of addresses: pods of this node, and what is reached by pods' own addresses.
    Nets(MapOptions),
    /// Ranges of other nodes' pods, with the nodes that tunnels to them end at.
    #[command(visible_alias = "tunnel")]
    Tunnels(MapOptions),
    /// This node's pods, as packets are handed to them past the stack.
    #[command(visible_alias = "endpoint")]
    Endpoints(MapOptions),
    /// By device, the addresses that the pod behind it may send with.
    #[command(visible_alias = "source")]
    Sources(MapOptions),
    /// Connections masqueraded, and those of Services reached by packets.
    Nat(MapOptions),
    /// Connections that outside opens towards pods by their own addresses.
    #[command(visible_alias = "note")]
    Notes(MapOptions),
    /// Ports of datagrams in fragments.
    #[command(visible_alias = "frag")]
    Fragments(MapOptions),
    /// Sampled redirects and drops. Reading takes them out.
    Events(MapOptions),
}

/// What to do with a map.
#[derive(Debug, Args)]
pub(crate) struct MapOptions {
    #[command(subcommand)]
    pub(crate) action: MapAction,
}

/// What can be done with a map.
#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum MapAction {
    /// Print all entries.
    List,
}

/// What can be done with the load-balancing maps.
#[derive(Debug, Subcommand)]
pub(crate) enum LbAction {
    /// Print all entries.
    List {
        /// The addresses that are dialled.
        #[arg(long, group = "part")]
        frontends: bool,
        /// The backends.
        #[arg(long, group = "part")]
        backends: bool,
        /// What sockets dialled before they were sent to a backend.
        #[arg(long, group = "part")]
        revnat: bool,
    },
}

/// What to show of xDS.
#[derive(Debug, Subcommand)]
pub(crate) enum XdsCommand {
    /// Who takes configuration, how far each is, and what each refused.
    Clients,
    /// What is offered, as Envoy's JSON; secrets are redacted.
    Resources,
}

/// Options of `tables`.
#[derive(Debug, Args)]
pub(crate) struct TablesOptions {
    /// One table; all when left out.
    pub(crate) name: Option<String>,
}

/// Options of `events`.
#[derive(Debug, Args)]
pub(crate) struct EventsOptions {
    /// Go on with events as they happen.
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// Begin with so many of the last events. The agent remembers 1024.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) last: usize,
    /// Only these kinds, such as `xds-refused`; `*` stands for any text. Repeatable.
    #[arg(long, value_name = "KIND")]
    pub(crate) kind: Vec<String>,
    /// Only what somebody should look at.
    #[arg(long)]
    pub(crate) warnings: bool,
}

/// Options of `version`.
#[derive(Debug, Args)]
pub(crate) struct VersionOptions {
    /// Only this program's; nobody is asked.
    #[arg(long)]
    pub(crate) client: bool,
}

/// Kinds of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Ingress.
    #[value(alias = "ingresses", alias = "ing")]
    Ingress,
    /// IngressClass.
    #[value(name = "ingressclass", alias = "ingressclasses")]
    IngressClass,
    /// Gateway.
    #[value(alias = "gateways", alias = "gtw")]
    Gateway,
    /// GatewayClass.
    #[value(name = "gatewayclass", alias = "gatewayclasses", alias = "gc")]
    GatewayClass,
    /// HTTPRoute.
    #[value(name = "httproute", alias = "httproutes")]
    HttpRoute,
    /// ReferenceGrant.
    #[value(name = "referencegrant", alias = "referencegrants", alias = "refgrant")]
    ReferenceGrant,
    /// Service.
    #[value(alias = "services", alias = "svc")]
    Service,
    /// EndpointSlice.
    #[value(name = "endpointslice", alias = "endpointslices")]
    EndpointSlice,
    /// Secret; its values are never shown.
    #[value(alias = "secrets")]
    Secret,
    /// Namespace.
    #[value(alias = "namespaces", alias = "ns")]
    Namespace,
    /// Node.
    #[value(alias = "nodes", alias = "no")]
    Node,
    /// CiliumNode.
    #[value(name = "ciliumnode", alias = "ciliumnodes", alias = "cn")]
    CiliumNode,
    /// Pod, of the agent's node.
    #[value(alias = "pods", alias = "po")]
    Pod,
    /// CiliumIdentity.
    #[value(name = "ciliumidentity", alias = "ciliumidentities", alias = "ciliumid")]
    CiliumIdentity,
    /// CiliumEndpoint.
    #[value(name = "ciliumendpoint", alias = "ciliumendpoints", alias = "cep")]
    CiliumEndpoint,
    /// CiliumLoadBalancerIPPool.
    #[value(
        name = "ciliumloadbalancerippool",
        alias = "ciliumloadbalancerippools",
        alias = "ippools",
        alias = "ippool",
        alias = "lbippool"
    )]
    LbPool,
}

impl Kind {
    /// The kind's name in the agent's API.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::IngressClass => "ingressclass",
            Self::Gateway => "gateway",
            Self::GatewayClass => "gatewayclass",
            Self::HttpRoute => "httproute",
            Self::ReferenceGrant => "referencegrant",
            Self::Service => "service",
            Self::EndpointSlice => "endpointslice",
            Self::Secret => "secret",
            Self::Namespace => "namespace",
            Self::Node => "node",
            Self::CiliumNode => "ciliumnode",
            Self::Pod => "pod",
            Self::CiliumIdentity => "ciliumidentity",
            Self::CiliumEndpoint => "ciliumendpoint",
            Self::LbPool => "ciliumloadbalancerippool",
        }
    }
}

/// Reads `90s`, `5m` or `1h30m`.
fn duration(text: &str) -> Result<Duration, String> {
    let hint = || format!("`{text}` is no time; write 90s, 5m or 1h30m");
    let span: jiff::SignedDuration = text.parse().map_err(|_| hint())?;
    Duration::try_from(span).map_err(|_| hint())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::CommandFactory;

    use super::{Arguments, duration};

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn times_have_a_unit_and_are_not_negative() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        for wrong in ["", "5", "-5s", "soon"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
