//! The quickstart, from a fresh machine.

use clap::Args;

use crate::{bpf, process, setup};

/// Options of `demo`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Leave everything running and print commands to try.
    #[arg(long)]
    keep: bool,
    /// Take down what `--keep` left.
    #[arg(long)]
    down: bool,
    /// Plain listeners on 127.0.0.1 instead of redirection, as without root.
    #[arg(long)]
    plain: bool,
}

/// Builds what the demo needs and runs it. False when it found something wrong.
pub(crate) fn run(options: &Options) -> anyhow::Result<bool> {
    let redirect = process::is_root() && !options.plain;
    if options.down {
        println!("taking the demo down");
    } else {
        if redirect {
            setup::for_demo()?;
            bpf::run(&bpf::Options::default())?;
        } else {
            println!("plain listeners on 127.0.0.1: nothing is redirected; as root (make demo) it is");
        }
        let mut build = process::cargo();
        build.args(["build", "--locked", "--profile", "demo"]);
        println!("building the product; the first time this takes some minutes");
        for package in ["mesh-agent", "mesh-l7proxy-daemon", "mesh-cli", "mesh-conformance"] {
            build.args(["--package", package]);
        }
        process::run(&mut build)?;
    }
    let programs = process::target_dir().join("demo");
    let mut demo = process::command(&programs.join("demo").to_string_lossy());
    demo.arg("--programs").arg(&programs).arg("--bpf-object").arg(bpf::object());
    demo.arg("--manifests").arg(process::root().join("examples/quickstart"));
    let flags = [(options.keep, "--keep"), (options.down, "--down"), (options.plain, "--plain")];
    demo.args(flags.iter().filter(|(set, _)| *set).map(|(_, flag)| flag));
    Ok(process::status(&mut demo)?.success())
}
