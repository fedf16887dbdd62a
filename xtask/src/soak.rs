//! Faults under traffic, for longer than the gate has time.

use clap::Args;

use crate::suite::Tally;
use crate::{bpf, process};

/// Options of `soak`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// About how many minutes all faults may take together; each is done at least as often as in the gate.
    #[arg(long, value_name = "N", default_value_t = 30)]
    minutes: u32,
    /// Only this fault; repeatable. One of agent-killed, agent-away, worker-killed, starter-killed,
    /// proxy-upgraded, maps-full, disk-full, descriptors-exhausted, backend-dies, cleaned-up.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
}

/// Builds the product and breaks it while traffic goes on. False when something was noticed that must not be.
pub(crate) fn run(options: &Options) -> anyhow::Result<bool> {
    if !process::is_root() {
        println!("{}", Tally::skip(1, "soak", "it needs root: namespaces, kernel programs, limits"));
        return Ok(true);
    }
    let object = bpf::run(&bpf::Options::default())?;
    let mut build = process::cargo();
    build.args(["build", "--locked", "--profile", "demo"]);
    for package in ["mesh-agent", "mesh-l7proxy-daemon", "mesh-cli", "mesh-conformance"] {
        build.args(["--package", package]);
    }
    process::run(&mut build)?;
    let programs = process::target_dir().join("demo");
    let mut soak = process::command(&programs.join("soak").to_string_lossy());
    soak.arg("--programs").arg(&programs).arg("--bpf-object").arg(object);
    soak.arg("--manifests").arg(process::root().join("examples/quickstart"));
    soak.args(["--minutes", &options.minutes.to_string()]);
    soak.args(options.only.iter().flat_map(|name| ["--only", name]));
    Ok(process::status(&mut soak)?.success())
}
