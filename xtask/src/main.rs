//! `cargo xtask`: every task of this repository.
//!
//! In: the command line. Out: what each task prints, and the exit code. Nothing here is part of the
//! product. Start reading in [`Task`]; each task is a file.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a task talks to whoever started it")]

mod bench;
mod bpf;
mod chart;
mod cluster;
mod conformance;
mod demo;
mod fuzz;
mod go;
mod graph;
mod image;
mod lint;
mod process;
mod setup;
mod soak;
mod suite;
mod test;
mod text;
mod toolchain;
mod tools;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The tasks of this repository.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Task {
    /// Install what is missing: packages, the toolchain for kernel programs, checkers.
    Setup(setup::Options),
    /// Build the kernel programs into target/bpf/millrace.o.
    Bpf(bpf::Options),
    /// Check formatting, lints, licences, the crate graph and the text of the tree.
    Lint,
    /// Print the edges between our crates; a test holds them against docs/crate-graph.txt.
    Graph(graph::Options),
    /// Run the gate: lint, unit, golden and, as root, packet and namespace tests.
    Test(test::Options),
    /// Feed hostile bytes to what reads them: libFuzzer over every target, or some.
    Fuzz(fuzz::Options),
    /// Measure: the proxy beside its peers, kernel programs beside empty ones.
    Bench(bench::Options),
    /// Hold the product against others: the same configuration and requests for our proxy and Envoy.
    #[command(subcommand)]
    Conformance(conformance::Suite),
    /// A real Kubernetes on this machine, for tests: nodes in namespaces. Needs root.
    #[command(subcommand)]
    Cluster(cluster::Task),
    /// Lint the Helm chart and hold what it renders against charts/golden.
    Chart(chart::Options),
    /// Make the product's container images: no container engine is needed.
    Image(image::Options),
    /// Run the quickstart: pods and a client in network namespaces, real traffic, a short story.
    Demo(demo::Options),
    /// Break things while traffic goes on, for as long as you like; as root.
    Soak(soak::Options),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::Setup(options) => setup::run(&options).map(|()| true),
        Task::Bpf(options) => bpf::run(&options).map(|_| true),
        Task::Lint => lint::run().map(|tally| tally.failed == 0),
        Task::Graph(options) => graph::run(&options),
        Task::Test(options) => test::run(&options),
        Task::Fuzz(options) => fuzz::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::Conformance(suite) => conformance::run(&suite),
        Task::Cluster(task) => cluster::run(&task),
        Task::Chart(options) => chart::run(&options),
        Task::Image(options) => image::run(&options).map(|_| true),
        Task::Demo(options) => demo::run(&options),
        Task::Soak(options) => soak::run(&options),
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
