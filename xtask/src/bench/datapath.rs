//! `cargo xtask bench datapath`: builds the kernel programs, runs the benchmark of ebpf/loader.

use clap::Args;

use crate::{bpf, process};

/// Options of `bench datapath`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// Builds and measures. False: it could not be measured.
pub(crate) fn run(options: &Options) -> anyhow::Result<bool> {
    anyhow::ensure!(process::is_root(), "kernel programs are loaded by root only: run it as root");
    let object = bpf::run(&bpf::Options::default())?;
    let mut bench = process::cargo();
    bench.args(["bench", "--quiet", "--locked", "-p", "mesh-ebpf-loader", "--bench", "datapath"]);
    if options.json {
        bench.args(["--", "--json"]);
    }
    Ok(process::status(bench.env("MILLRACE_BPF_OBJECT", object))?.success())
}
