//! The command line.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use hyper::Uri;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use mesh_l7proxy_wire::default_run_dir;

/// The node agent of Millrace: reads Kubernetes objects, configures the proxy over xDS and programs the
/// kernel.
#[derive(Debug, Parser)]
#[command(version, about, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) serve: ServeOptions,
}

/// What else than serving.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The role that a cluster has once: write the statuses of Ingresses, Gateways, GatewayClasses and routes.
    Operator(Box<OperatorOptions>),
    /// Take out what an agent left in the kernel: links, maps, routes and rules below its own roots.
    Cleanup(CleanupOptions),
    /// Put the CNI plugin and its configuration on the node.
    InstallCni(InstallCniOptions),
    /// Wait until every pod of a DaemonSet is ready: what the chart's hooks have to wait for.
    AwaitDaemonset(AwaitOptions),
    /// Do nothing until SIGTERM: a DaemonSet has pods that stay.
    Pause,
}

/// Options of `operator`.
#[derive(Debug, Args)]
pub(crate) struct OperatorOptions {
    #[command(flatten)]
    pub(crate) cluster: ClusterOptions,
    #[command(flatten)]
    pub(crate) translation: TranslationOptions,
    #[command(flatten)]
    pub(crate) cluster_pool: ClusterPoolOptions,
    /// How often an identity that pods have is marked as in use.
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = duration)]
    pub(crate) identity_gc_interval: Duration,
    /// An identity that no pod had for so long is deleted.
    #[arg(long, value_name = "DURATION", default_value = "30m", value_parser = duration)]
    pub(crate) identity_heartbeat_timeout: Duration,
    #[command(flatten)]
    pub(crate) log: LogOptions,
    /// Namespace of the Lease that one of several operators holds.
    #[arg(long, value_name = "NAMESPACE", env = "CILIUM_K8S_NAMESPACE", default_value = "kube-system")]
    pub(crate) k8s_namespace: String,
    /// Another operator takes over when the Lease was not renewed for so long.
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = duration)]
    pub(crate) leader_election_lease_duration: Duration,
    /// The operator gives up when it could not renew the Lease for so long.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub(crate) leader_election_renew_deadline: Duration,
    /// How often the Lease is renewed or looked at.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration)]
    pub(crate) leader_election_retry_period: Duration,
}

/// Where the operator takes the nodes' ranges from.
#[derive(Debug, Args)]
pub(crate) struct ClusterPoolOptions {
    /// Who gives nodes the ranges of their pods' addresses: the operator in the modes with a pool.
    #[arg(long, value_enum)]
    pub(crate) ipam: Option<Ipam>,
    /// Ranges that nodes get blocks of.
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub(crate) cluster_pool_ipv4_cidr: Vec<Ipv4Net>,
    /// Length of the prefix of a node's block.
    #[arg(long, value_name = "BITS", default_value_t = 24)]
    pub(crate) cluster_pool_ipv4_mask_size: u8,
    /// The same for IPv6.
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub(crate) cluster_pool_ipv6_cidr: Vec<Ipv6Net>,
    /// Length of the prefix of a node's block of IPv6.
    #[arg(long, value_name = "BITS", default_value_t = 112)]
    pub(crate) cluster_pool_ipv6_mask_size: u8,
}

/// Options of `cleanup`.
#[derive(Debug, Args)]
pub(crate) struct CleanupOptions {
    #[command(flatten)]
    pub(crate) roots: Roots,
    /// Stop the proxy as well.
    #[arg(long)]
    pub(crate) stop_proxy: bool,
    /// The pods' devices and all files of the run directory as well: Millrace leaves the node.
    #[arg(long)]
    pub(crate) pods: bool,
    /// Wait so long for an agent that runs to end; it would put everything back.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) wait_for_agent: Option<Duration>,
    /// The CNI plugin and its configuration are taken from these folders, where they are given.
    #[command(flatten)]
    pub(crate) folders: CniFolders,
    #[command(flatten)]
    pub(crate) log: LogOptions,
}

/// Where the container runtime looks.
#[derive(Clone, Debug, Args)]
pub(crate) struct CniFolders {
    /// The runtime's folder of CNI plugins.
    #[arg(long, value_name = "DIR")]
    pub(crate) cni_bin_path: Option<PathBuf>,
    /// The runtime's folder of CNI configurations.
    #[arg(long, value_name = "DIR")]
    pub(crate) cni_conf_path: Option<PathBuf>,
}

/// Options of `install-cni`.
#[derive(Debug, Args)]
pub(crate) struct InstallCniOptions {
    #[command(flatten)]
    pub(crate) folders: CniFolders,
    /// The plugin's program.
    #[arg(long, value_name = "FILE", default_value = "/usr/lib/millrace/millrace-cni")]
    pub(crate) cni_plugin: PathBuf,
    /// The agent's socket, as a path of the node.
    #[arg(long, value_name = "PATH", default_value = "/run/millrace/cni.sock")]
    pub(crate) agent_socket: PathBuf,
    /// Whether configurations of other CNIs are moved out of the way (NAME.millrace_bak).
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub(crate) cni_exclusive: bool,
    #[command(flatten)]
    pub(crate) log: LogOptions,
}

/// Options of `await-daemonset`.
#[derive(Debug, Args)]
pub(crate) struct AwaitOptions {
    /// Its name.
    pub(crate) name: String,
    /// Its namespace.
    #[arg(long, value_name = "NAMESPACE")]
    pub(crate) namespace: String,
    /// How long.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub(crate) within: Duration,
    #[command(flatten)]
    pub(crate) cluster: ClusterOptions,
    #[command(flatten)]
    pub(crate) log: LogOptions,
}

/// Folders that belong to one agent.
#[derive(Clone, Debug, Args)]
pub(crate) struct Roots {
    /// Folder of the sockets: agent.sock, xds.sock, and the proxy's.
    #[arg(long, value_name = "DIR", env = "MILLRACE_RUN_DIR", default_value_os_t = default_run_dir())]
    pub(crate) run_dir: PathBuf,
    /// Folder in the BPF file system for maps and links, which outlive the agent.
    #[arg(long, value_name = "DIR", default_value = "/sys/fs/bpf/millrace")]
    pub(crate) pin_root: PathBuf,
}

/// Where objects come from. With none of them: the API server of the cluster that the agent is a pod of.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct SourceOptions {
    /// Folder or file with Kubernetes objects (YAML or JSON), watched for changes; no API server is asked then.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["k8s_kubeconfig_path", "k8s_api_server_urls"])]
    pub(crate) manifests: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) cluster: ClusterOptions,
}

/// Which API server.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ClusterOptions {
    /// Kubeconfig of the API server whose objects are followed; its current context is used.
    #[arg(long, value_name = "FILE", visible_alias = "kubeconfig")]
    pub(crate) k8s_kubeconfig_path: Option<PathBuf>,
    /// URLs of the API server, in place of those of the kubeconfig or the pod's environment. The next one is asked
    /// when one does not answer.
    #[arg(long, value_name = "URL", value_delimiter = ',', visible_alias = "k8s-api-server", value_parser = server_url)]
    pub(crate) k8s_api_server_urls: Vec<Uri>,
    /// Namespaces whose Secrets are read. Those of all when left out.
    #[arg(long, value_name = "NAMESPACE", value_delimiter = ',', value_parser = NonEmptyStringValueParser::new())]
    pub(crate) secrets_namespaces: Vec<String>,
}

/// What becomes of Ingresses and Gateways, where they do not say. Agents and operator of a cluster are given the same.
#[derive(Clone, Debug, Args)]
pub(crate) struct TranslationOptions {
    /// Address for every Ingress and Gateway that names none; pools are not asked then. Repeatable.
    #[arg(long, value_name = "IP")]
    pub(crate) address: Vec<IpAddr>,
    /// Ingress: whether plain HTTP on a host with TLS is redirected to HTTPS.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub(crate) enforce_ingress_https: bool,
    /// Ingress: whether each gets an address of its own or all share one, where no annotation says.
    #[arg(long, value_enum, default_value_t = LoadBalancerMode::Dedicated)]
    pub(crate) ingress_default_lb_mode: LoadBalancerMode,
}

/// What is logged.
#[derive(Clone, Debug, Args)]
pub(crate) struct LogOptions {
    /// Log level and filter, as in RUST_LOG.
    #[arg(long = "log", value_name = "FILTER", env = "MILLRACE_LOG", default_value = "info")]
    pub(crate) filter: String,
    /// Log lines as JSON.
    #[arg(long = "log-json")]
    pub(crate) json: bool,
}

/// Options of the agent itself.
#[derive(Clone, Debug, Args)]
pub(crate) struct ServeOptions {
    #[command(flatten)]
    pub(crate) source: SourceOptions,
    #[command(flatten)]
    pub(crate) roots: Roots,
    /// Whether eBPF redirects traffic to the proxy. `auto`: as root yes, otherwise plain listeners.
    #[arg(long, value_enum, default_value_t = Redirect::Auto)]
    pub(crate) redirect: Redirect,
    /// Compiled kernel programs.
    #[arg(
        long,
        value_name = "FILE",
        env = "MILLRACE_BPF_OBJECT",
        default_value = "/usr/lib/millrace/millrace.o"
    )]
    pub(crate) bpf_object: PathBuf,
    /// Take what the kernel can from this file (`datapath.kernel` of `millrace status --verbose -o json`) instead of asking the kernel:
    /// what would be planned there.
    #[arg(long, value_name = "FILE", hide = true)]
    pub(crate) kernel_features: Option<PathBuf>,
    /// Root of the cgroup v2 hierarchy whose processes have their Service connections balanced. Found in
    /// the mounts when left out.
    #[arg(long, value_name = "DIR")]
    pub(crate) cgroup: Option<PathBuf>,
    /// Devices towards the outside, `*` and `?` allowed. Those by which a route leads to another router when left out.
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    pub(crate) devices: Vec<String>,
    /// Host ends of the pods' devices.
    #[arg(long, value_name = "PATTERN", value_delimiter = ',', default_value = "mrp*")]
    pub(crate) pod_devices: Vec<String>,
    #[command(flatten)]
    pub(crate) translation: TranslationOptions,
    /// Where plain listeners serve port 80 when nothing is redirected.
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    pub(crate) http_port: u16,
    /// Where plain listeners serve port 443 when nothing is redirected.
    #[arg(long, value_name = "PORT", default_value_t = 8443)]
    pub(crate) https_port: u16,
    /// The proxy's program. The one beside the agent's own when left out.
    #[arg(long, value_name = "PATH")]
    pub(crate) proxy_binary: Option<PathBuf>,
    /// Whether the agent starts the proxy when none runs.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub(crate) start_proxy: bool,
    /// Data threads of the proxy. One for each core when left out.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=128))]
    pub(crate) proxy_threads: Option<u16>,
    /// The user the proxy becomes when the agent is root.
    #[arg(long, value_name = "UID", default_value_t = 65532)]
    pub(crate) proxy_user: u32,
    /// First and last loopback port that redirected connections may be handed to the proxy on.
    #[arg(long, value_name = "LOW-HIGH", default_value = "10000-20000", value_parser = port_range)]
    pub(crate) proxy_ports: (u16, u16),
    /// First and last source port of connections that keep a pod's address. Outside of the pods'
    /// `ip_local_port_range`. A proxy that runs keeps the ones it has: stop it (`l7proxy stop`) before the agent
    /// is started with others.
    #[arg(long, value_name = "LOW-HIGH", default_value = "20000-32000", value_parser = port_range)]
    pub(crate) upstream_ports: (u16, u16),
    #[command(flatten)]
    pub(crate) pods: PodOptions,
    /// Where the node's /proc is: in a container its own is for reading only.
    #[arg(long, value_name = "DIR", default_value = "/proc")]
    pub(crate) procfs: PathBuf,
    #[command(flatten)]
    pub(crate) log: LogOptions,
}

/// Options of the pods' network.
#[derive(Clone, Debug, Args)]
pub(crate) struct PodOptions {
    /// Where the addresses of this node's pods come from. With it, or with ranges, the agent makes the pods' network
    /// and serves the CNI plugin on `cni.sock`.
    #[arg(long, value_enum)]
    pub(crate) ipam: Option<Ipam>,
    /// Name of this machine's Node. The machine's own name when left out.
    #[arg(long, value_name = "NAME", env = "K8S_NODE_NAME")]
    pub(crate) k8s_node_name: Option<String>,
    /// Addresses for this node's pods, in place of those that the cluster gives it.
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub(crate) ipv4_range: Vec<Ipv4Net>,
    /// The same for IPv6.
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub(crate) ipv6_range: Vec<Ipv6Net>,
    /// Whether pods get an IPv4 address, where the cluster gives their node a range.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub(crate) enable_ipv4: bool,
    /// The same for IPv6.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub(crate) enable_ipv6: bool,
    /// Routes the pods of each other node to that node's address. All nodes have to be on one link.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", default_value_t = false,
          require_equals = true, action = clap::ArgAction::Set)]
    pub(crate) auto_direct_node_routes: bool,
    /// How packets between pods of different nodes travel: wrapped in VXLAN, or routed as they are. Tunnels when left out,
    /// unless the routes between nodes are asked for.
    #[arg(long, value_enum)]
    pub(crate) routing_mode: Option<RoutingMode>,
    /// What tunnels are made of.
    #[arg(long, value_enum, default_value_t = TunnelProtocol::Vxlan)]
    pub(crate) tunnel_protocol: TunnelProtocol,
    /// UDP port of the tunnels, the same on all nodes.
    #[arg(long, value_name = "PORT", default_value_t = 8472, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) tunnel_port: u16,
    /// Which addresses of the nodes carry the tunnels.
    #[arg(long, value_enum, default_value_t = Underlay::Ipv4)]
    pub(crate) underlay_protocol: Underlay,
    /// Sends packets for this node's pods through the node's stack, where netfilter's rules of others see them.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", default_value_t = false,
          require_equals = true, action = clap::ArgAction::Set)]
    pub(crate) enable_host_legacy_routing: bool,
    /// Has the kernel keep the hardware addresses of the way to each other node, whatever the traffic.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", default_value_t = false,
          require_equals = true, action = clap::ArgAction::Set)]
    pub(crate) enable_l2_neigh_discovery: bool,
    /// Answers packets to pods that are gone with ICMP errors until their addresses are given again.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", default_value_t = false,
          require_equals = true, action = clap::ArgAction::Set)]
    pub(crate) enable_unreachable_routes: bool,
    /// Device towards the other nodes. The one that has the address of this Node when left out.
    #[arg(long, value_name = "DEVICE")]
    pub(crate) direct_routing_device: Option<String>,
    /// Addresses that pods reach with their own: nothing towards them is masqueraded.
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub(crate) ipv4_native_routing_cidr: Vec<Ipv4Net>,
    /// The same for IPv6.
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub(crate) ipv6_native_routing_cidr: Vec<Ipv6Net>,
    /// Whether what pods send outside by IPv4 leaves with the node's address.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub(crate) enable_ipv4_masquerade: bool,
    /// The same for IPv6.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub(crate) enable_ipv6_masquerade: bool,
    /// Largest packet of the pods' devices, in bytes; 0: that of the devices towards the outside.
    #[arg(long, value_name = "BYTES", default_value_t = 0, value_parser = mtu)]
    pub(crate) mtu: u32,
}

impl PodOptions {
    /// How packets between nodes travel.
    pub(crate) fn routing_mode(&self) -> RoutingMode {
        let otherwise = if self.auto_direct_node_routes { RoutingMode::Native } else { RoutingMode::Tunnel };
        self.routing_mode.unwrap_or(otherwise)
    }

    /// Whether the agent makes the pods' network.
    pub(crate) fn is_wanted(&self) -> bool {
        self.ipam.is_some() || !self.ranges().is_empty()
    }

    /// The name of this machine's Node: as kubelet does it, the host's name in small letters where none is given.
    pub(crate) fn node_name(&self) -> String {
        let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        self.k8s_node_name.clone().unwrap_or_else(|| host().trim().to_lowercase())
    }

    /// The ranges of both families that were given here.
    pub(crate) fn ranges(&self) -> Vec<IpNet> {
        let v4 = self.ipv4_range.iter().map(|range| range.trunc().into());
        v4.chain(self.ipv6_range.iter().map(|range| range.trunc().into())).collect()
    }
}

impl ServeOptions {
    /// Where plain listeners are.
    pub(crate) fn plain(&self, port: u16) -> SocketAddr {
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)
    }
}

/// How packets between pods of different nodes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoutingMode {
    /// Wrapped.
    Tunnel,
    /// As they are.
    Native,
}

/// What tunnels are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TunnelProtocol {
    /// RFC 7348.
    Vxlan,
}

/// Which addresses of the nodes carry tunnels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Underlay {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// Where the addresses of pods come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Ipam {
    /// `spec.podCIDRs` of the Node, which Kubernetes gives it.
    Kubernetes,
    /// `spec.ipam.podCIDRs` of the CiliumNode, which the operator gives it.
    ClusterPool,
    /// The same, and further ranges when there is need of them; those without pods go back.
    #[value(name = "cluster-pool-v2beta")]
    ClusterPoolV2Beta,
}

impl Ipam {
    /// As the flag writes it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes",
            Self::ClusterPool => "cluster-pool",
            Self::ClusterPoolV2Beta => "cluster-pool-v2beta",
        }
    }
}

/// Whether eBPF redirects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Redirect {
    /// As root.
    Auto,
    /// Always; an error where the kernel or the rights do not allow it.
    On,
    /// Never: plain listeners.
    Off,
}

/// Who shares an Ingress address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LoadBalancerMode {
    /// Nobody.
    Dedicated,
    /// All Ingresses.
    Shared,
}

fn server_url(text: &str) -> Result<Uri, String> {
    let hint = |why: &str| format!("{why}; write a URL such as https://192.0.2.10:6443");
    let url: Uri =
        text.trim_end_matches('/').parse().map_err(|error| hint(&format!("it is no URL: {error}")))?;
    match (url.scheme_str(), url.host()) {
        (Some("http" | "https"), Some(_)) => Ok(url),
        (Some("http" | "https"), None) => Err(hint("it names no host")),
        _ => Err(hint("it begins with neither https:// nor http://")),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let hint = || format!("`{text}` is no duration; write one such as 15s or 500ms");
    let duration: jiff::SignedDuration = text.parse().map_err(|_| hint())?;
    Duration::try_from(duration).ok().filter(|duration| !duration.is_zero()).ok_or_else(hint)
}

fn port_range(text: &str) -> Result<(u16, u16), String> {
    let hint = || format!("`{text}` is no port range; write LOW-HIGH, for example 10000-20000");
    let (low, high) = text.split_once('-').ok_or_else(hint)?;
    let (low, high): (u16, u16) = (low.parse().map_err(|_| hint())?, high.parse().map_err(|_| hint())?);
    if low < 1024 || low >= high {
        return Err(format!("the port range {text} is empty or starts below 1024"));
    }
    Ok((low, high))
}

/// Nothing, or at least what IPv6 asks of every link (RFC 8200, 5).
fn mtu(text: &str) -> Result<u32, String> {
    let wrong = || format!("`{text}` is no size of packets; it is 0 or 1280 to 65535 bytes");
    let mtu = text.parse().map_err(|_| wrong())?;
    if mtu == 0 || (1280..=65535).contains(&mtu) { Ok(mtu) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::{Arguments, mtu, port_range, server_url};

    #[test]
    fn a_packet_is_not_smaller_than_ipv6_allows() {
        assert_eq!((mtu("0"), mtu("1280")), (Ok(0), Ok(1280)));
        for wrong in ["1279", "65536", "-1", "big"] {
            assert!(mtu(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn objects_come_from_one_source() {
        let parse = |arguments: &[&str]| Arguments::try_parse_from([&["mesh-agent"], arguments].concat());
        parse(&["--manifests", "d"]).expect("a folder");
        let both = parse(&["--manifests", "d", "--kubeconfig", "f"]).expect_err("two sources");
        assert!(both.to_string().contains("--k8s-kubeconfig-path"), "{both}");
        let two =
            parse(&["--k8s-api-server-urls", "https://a:6443,http://[::1]:8080/"]).expect("two addresses");
        assert_eq!(two.serve.source.cluster.k8s_api_server_urls.len(), 2);
        for wrong in ["192.0.2.1:6443", "ftp://a", "a", "https://"] {
            let error = server_url(wrong).expect_err("no URL of an API server");
            assert!(error.contains("https://192.0.2.10:6443"), "{error}");
        }
    }

    #[test]
    fn port_ranges_are_ordered_and_unprivileged() {
        assert_eq!(port_range("10000-20000"), Ok((10000, 20000)));
        for wrong in ["10000", "20000-10000", "80-90", "a-b"] {
            assert!(port_range(wrong).is_err(), "{wrong}");
        }
    }
}
