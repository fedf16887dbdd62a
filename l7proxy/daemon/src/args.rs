//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use mesh_l7proxy_wire::default_run_dir;

/// The proxy of Millrace: takes the traffic that listeners and routes from an xDS server describe.
///
/// `l7proxy starter` is what one runs: it opens listeners, keeps a worker running and holds what
/// must outlive it. The worker parses traffic and has no privileges at all.
#[derive(Debug, Parser)]
#[command(version, about)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Open listeners, run the worker, replace it when it dies. Runs until SIGTERM.
    Starter(StarterOptions),
    /// Serve traffic. Started by the starter only.
    #[command(hide = true)]
    Worker(WorkerOptions),
    /// Show the starter, its workers and its listeners.
    Status {
        #[command(flatten)]
        run: RunDir,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        identity: Identity,
    },
    /// Replace the worker by a new one, of this or another binary, without losing a connection.
    Upgrade {
        #[command(flatten)]
        run: RunDir,
        /// The new binary; this one when left out.
        #[arg(long, value_name = "PATH")]
        binary: Option<PathBuf>,
        /// How long the new worker may take until it serves.
        #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
        ready_within: Duration,
    },
    /// Let the worker finish its connections, then stop it and the starter.
    Stop {
        #[command(flatten)]
        run: RunDir,
        /// How long to wait for the starter to be gone.
        #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
        wait: Duration,
    },
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RunDir {
    /// Where the sockets are: starter.sock, proxy-admin.sock and the xDS server's xds.sock.
    #[arg(long, value_name = "DIR", env = "MILLRACE_RUN_DIR", default_value_os_t = default_run_dir())]
    pub(crate) run_dir: PathBuf,
}

impl RunDir {
    pub(crate) fn starter_socket(&self) -> PathBuf {
        self.run_dir.join("starter.sock")
    }

    pub(crate) fn admin_socket(&self) -> PathBuf {
        self.run_dir.join("proxy-admin.sock")
    }

    pub(crate) fn lock_file(&self) -> PathBuf {
        self.run_dir.join("starter.lock")
    }
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Identity {
    /// What this starter is called; `status` fails when another one answers. In a pod, its UID.
    #[arg(long, value_name = "NAME", env = "MILLRACE_INSTANCE")]
    pub(crate) instance: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct StarterOptions {
    #[command(flatten)]
    pub(crate) run: RunDir,
    #[command(flatten)]
    pub(crate) identity: Identity,
    /// Take the place of a starter that runs with this run directory, without losing a connection; and once another
    /// one has taken this one's, do nothing until SIGTERM. For pods, whose successor starts before they go.
    #[arg(long)]
    pub(crate) take_over: bool,
    /// Data threads of the worker, each with listeners, pools and an event loop of its own. 0: one for each core.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) worker_threads: u16,
    /// Become this user (and the group of the same number) when started as root.
    #[arg(long, value_name = "UID")]
    pub(crate) user: Option<u32>,
    /// The xDS server's socket. <RUN_DIR>/xds.sock when left out.
    #[arg(long, value_name = "PATH")]
    pub(crate) xds_socket: Option<PathBuf>,
    /// How long connections may take to finish before the worker is killed.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub(crate) drain_timeout: Duration,
    /// Source ports of upstream connections that keep the client's address: LOW-HIGH, outside of the
    /// pods' net.ipv4.ip_local_port_range.
    #[arg(long, value_name = "LOW-HIGH", default_value = "20000-32000", value_parser = port_range)]
    pub(crate) upstream_ports: PortRange,
    /// Start a session of its own, so that signals to the caller's terminal do not reach the proxy.
    #[arg(long)]
    pub(crate) detach: bool,
    #[command(flatten)]
    pub(crate) shared: SharedOptions,
}

impl StarterOptions {
    pub(crate) fn xds_socket(&self) -> PathBuf {
        self.xds_socket.clone().unwrap_or_else(|| self.run.run_dir.join("xds.sock"))
    }
}

/// What the starter passes on to its workers.
#[derive(Debug, Clone, Args)]
pub(crate) struct SharedOptions {
    /// How this node introduces itself to the xDS server.
    #[arg(long, value_name = "ID", default_value = "l7proxy")]
    pub(crate) node_id: String,
    /// Log level and filter, as in RUST_LOG.
    #[arg(long, value_name = "FILTER", env = "MILLRACE_LOG", default_value = "info")]
    pub(crate) log: String,
    /// How log lines look. Logs go to stderr, the access log to stdout.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    /// Whether the worker confines itself by seccomp and Landlock. `off` is for debuggers and profilers.
    #[arg(long, value_enum, default_value_t = Sandbox::Strict)]
    pub(crate) sandbox: Sandbox,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct WorkerOptions {
    /// The inherited end of the channel to the starter.
    #[arg(long)]
    pub(crate) control_fd: i32,
    #[arg(long)]
    pub(crate) threads: u16,
    #[arg(long)]
    pub(crate) xds_socket: PathBuf,
    #[command(flatten)]
    pub(crate) shared: SharedOptions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

impl LogFormat {
    pub(crate) fn name(self) -> &'static str {
        match self {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sandbox {
    Strict,
    Off,
}

impl Sandbox {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Sandbox::Strict => "strict",
            Sandbox::Off => "off",
        }
    }
}

/// Ports from `low` to `high`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PortRange {
    pub(crate) low: u16,
    pub(crate) high: u16,
}

impl PortRange {
    pub(crate) fn count(self) -> u64 {
        u64::from(self.high - self.low) + 1
    }
}

/// Reads `30s`, `500ms` or `2m`.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| format!("`{text}` is no time; write 30s, 500ms or 2m"))?;
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number.saturating_mul(60))),
        _ => Err(format!("`{unit}` is no unit of time; write 30s, 500ms or 2m")),
    }
}

fn port_range(text: &str) -> Result<PortRange, String> {
    let hint = || format!("`{text}` is no port range; write LOW-HIGH, for example 20000-32000");
    let (low, high) = text.split_once('-').ok_or_else(hint)?;
    let (low, high) = (low.parse().map_err(|_| hint())?, high.parse().map_err(|_| hint())?);
    if low < 1024 || low > high {
        return Err(format!("the port range {low}-{high} is empty or starts below 1024"));
    }
    Ok(PortRange { low, high })
}

#[cfg(test)]
mod tests {
    use super::{Arguments, PortRange, duration, port_range};
    use clap::CommandFactory;
    use std::time::Duration;

    #[test]
    fn command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn times_need_a_number_and_a_unit() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "s", "30", "1h", "-1s", "99999999999999999999s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn port_ranges_are_ordered_and_unprivileged() {
        assert_eq!(port_range("20000-32000"), Ok(PortRange { low: 20000, high: 32000 }));
        for wrong in ["20000", "32000-20000", "80-90", "1-70000", "a-b"] {
            assert!(port_range(wrong).is_err(), "{wrong}");
        }
    }
}
