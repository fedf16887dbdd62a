//! `cargo xtask bench proxy`: builds what is compared, finds the others, runs conformance/bench.

use std::path::PathBuf;

use clap::Args;

use crate::{process, tools};

/// Options of `bench proxy`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only this row of the matrix; may be given several times.
    #[arg(long = "row", value_name = "N")]
    rows: Vec<u32>,
    /// Print one JSON object instead of tables.
    #[arg(long)]
    json: bool,
    /// Blocks to keep a row.
    #[arg(long, value_name = "N", default_value_t = 10)]
    blocks: usize,
    /// How long each of a block's runs takes, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    seconds: f64,
    /// Peers beside the proxy itself, with commas: envoy, nginx, haproxy, pingora.
    #[arg(long, value_name = "NAMES", default_value = "envoy,nginx,haproxy,pingora")]
    peers: String,
    /// Requests a second; each row has its own when left out.
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
    /// Every proxy writes an access log.
    #[arg(long)]
    log: bool,
    /// Another build of the proxy to compare with, such as one of the commit before.
    #[arg(long, value_name = "PATH")]
    before: Option<PathBuf>,
}

/// The crate of the pingora peer, which is no member of the workspace.
const PINGORA: &str = "conformance/bench/pingora-peer";

/// Builds and measures. False: a bar is missed.
pub(crate) fn run(options: &Options) -> anyhow::Result<bool> {
    let mut build = process::cargo();
    build.args(["build", "--release", "--locked"]);
    build.args(["-p", "mesh-l7proxy-daemon", "-p", "mesh-agent", "-p", "mesh-bench"]);
    // What is built is told on stderr, so that stdout has the results alone.
    run_quietly(&mut build)?;
    let built = |name: &str| process::target_dir().join("release").join(name);
    let wanted = |peer: &str| options.peers.split(',').any(|name| name.trim() == peer);

    let mut bench = process::command(&built("bench-proxy").display().to_string());
    bench.arg("run").arg("--l7proxy").arg(built("l7proxy")).arg("--agent").arg(built("mesh-agent"));
    bench.arg("--blocks").arg(options.blocks.to_string());
    bench.arg("--seconds").arg(options.seconds.to_string());
    bench.arg("--peers").arg(&options.peers);
    for row in &options.rows {
        bench.arg("--row").arg(row.to_string());
    }
    if let Some(rate) = options.rate {
        bench.arg("--rate").arg(rate.to_string());
    }
    for (flag, set) in [("--json", options.json), ("--log", options.log)] {
        if set {
            bench.arg(flag);
        }
    }
    if let Some(before) = &options.before {
        bench.arg("--l7proxy-before").arg(before);
    }
    for name in ["nginx", "haproxy"] {
        // nginx is the control peer of every comparison.
        if (wanted(name) || name == "nginx")
            && let Some(path) = packaged(name)
        {
            bench.arg(format!("--{name}")).arg(path);
        }
    }
    if wanted("envoy")
        && let Some(path) = tools::envoy()
    {
        bench.arg("--envoy").arg(path);
    }
    if wanted("pingora") {
        bench.arg("--pingora").arg(pingora()?);
    }
    Ok(bench.status()?.success())
}

/// A program of a Debian package of the same name, installed if that is possible. None is said by whoever
/// misses it.
fn packaged(name: &str) -> Option<PathBuf> {
    let find = || {
        let mut folders = vec![PathBuf::from("/usr/sbin")];
        folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        folders.into_iter().map(|folder| folder.join(name)).find(|path| path.is_file())
    };
    find().or_else(|| {
        let mut install = process::command("apt-get");
        install.args(["install", "--yes", "--no-install-recommends", name]);
        // Services that packages start would take ports and the core.
        install.env("RUNLEVEL", "1").env("DEBIAN_FRONTEND", "noninteractive");
        if process::is_root() {
            // Not installed is told by the benchmark.
            let _ = run_quietly(&mut install);
        }
        find()
    })
}

fn pingora() -> anyhow::Result<PathBuf> {
    let mut build = process::cargo();
    build.args(["build", "--release", "--locked", "--manifest-path"]);
    build.arg(process::root().join(PINGORA).join("Cargo.toml"));
    let target = process::target_dir().join("pingora-peer");
    run_quietly(build.arg("--target-dir").arg(&target))?;
    Ok(target.join("release/pingora-peer"))
}

/// Runs it with its output on stderr.
fn run_quietly(command: &mut std::process::Command) -> anyhow::Result<()> {
    eprintln!("$ {}", process::shown(command));
    let status = command.stdout(std::io::stderr()).status()?;
    anyhow::ensure!(status.success(), "{} ended with {status}", process::shown(command));
    Ok(())
}
