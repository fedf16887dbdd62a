//! The quickstart with real traffic, told as a story.
//!
//! In: programs, kernel object, manifests. Out: what was asked, what the backend saw, and what the kernel
//! counted; the exit code says whether everything was as it should be. As root the node, its pods and a
//! client outside are network namespaces and traffic is redirected ([`redirected`]); otherwise plain listeners
//! serve the same folder ([`plain`]). `cargo xtask demo` starts it.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it tells a story to whoever started it")]

mod backend;
mod plain;
mod redirected;
mod story;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use mesh_conformance::{Stack, StackOptions};

/// The quickstart with real traffic.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Option<Run>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Be an echo backend until ended; what `--keep` leaves in each pod.
    Backend(backend::Options),
}

#[derive(Debug, Args)]
struct Run {
    /// Folder of mesh-agent, l7proxy and millrace.
    #[arg(long)]
    programs: PathBuf,
    /// Compiled kernel programs.
    #[arg(long)]
    bpf_object: PathBuf,
    /// Manifests; they are copied.
    #[arg(long)]
    manifests: PathBuf,
    /// Leave everything running.
    #[arg(long)]
    keep: bool,
    /// Only take down what `--keep` left.
    #[arg(long)]
    down: bool,
    /// Plain listeners on 127.0.0.1, as without root.
    #[arg(long)]
    plain: bool,
    /// Prefix of the names of namespaces, folders and pins: two demos at one time need two.
    #[arg(long, default_value = "mr-demo")]
    prefix: String,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match (&arguments.command, &arguments.run) {
        (Some(Command::Backend(options)), _) => backend::serve(options).map(|()| true),
        (None, Some(run)) => demo(run),
        (None, None) => Err(anyhow::anyhow!("nothing to do: see --help")),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demo(run: &Run) -> anyhow::Result<bool> {
    let is_root = rustix::process::geteuid().is_root();
    if run.plain || !is_root {
        return plain::run(run);
    }
    let options = StackOptions {
        prefix: run.prefix.clone(),
        programs: run.programs.clone(),
        bpf_object: run.bpf_object.clone(),
        manifests: run.manifests.clone(),
        pods: 3,
        agent_arguments: Vec::new(),
    };
    if run.down {
        Stack::take_down(&options)?;
        println!("The demo is taken down.");
        return Ok(true);
    }
    redirected::run(options, run.keep)
}
