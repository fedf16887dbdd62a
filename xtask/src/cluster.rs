//! A real Kubernetes on this machine: builds what it is made of and hands over to conformance/cluster.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::{Args, Subcommand};

use crate::suite::{Suite, Tally};
use crate::{bpf, go, image, process, setup, test};

/// What to do with a cluster.
#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Build the programs from outside into the cache, where they are missing; `up` does so by itself.
    Build(Build),
    /// Make a cluster, or start what is missing of it.
    #[command(disable_help_flag = true)]
    Up(Rest),
    /// Remove it and everything that belongs to it, after a crash too.
    #[command(disable_help_flag = true)]
    Down(Rest),
    /// Show what runs.
    #[command(disable_help_flag = true)]
    Status(Rest),
    /// Give the nodes images.
    #[command(disable_help_flag = true)]
    LoadImage(Rest),
    /// Build the images for tests and install Millrace by its chart, or upgrade it.
    #[command(disable_help_flag = true)]
    Install(Rest),
    /// Uninstall Millrace.
    #[command(disable_help_flag = true)]
    Uninstall(Rest),
    /// Run Helm as the administrator.
    #[command(disable_help_flag = true)]
    Helm(Rest),
    /// Print the path of the administrator's kubeconfig, or what is in it.
    #[command(disable_help_flag = true)]
    Kubeconfig(Rest),
    /// Run kubectl as the administrator.
    #[command(disable_help_flag = true)]
    Kubectl(Rest),
    /// Run a program on a node.
    #[command(disable_help_flag = true)]
    Exec(Rest),
    /// Run the tests that are marked for a cluster, on one that is up already or is made for them.
    E2e(E2e),
    /// The short proof: a cluster made, Millrace installed, reached on every way, upgraded, uninstalled, nothing left.
    Smoke(Smoke),
}

/// Options of `cluster build`.
#[derive(Debug, Args)]
pub(crate) struct Build {
    /// The tests of Kubernetes, e2e.test, as well.
    #[arg(long)]
    tests: bool,
}

/// What the harness itself takes; `--help` shows it.
#[derive(Debug, Args)]
pub(crate) struct Rest {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    words: Vec<String>,
}

/// Options of `cluster e2e`.
#[derive(Debug, Args)]
pub(crate) struct E2e {
    /// Leave the cluster up that was made for the tests.
    #[arg(long)]
    keep: bool,
    /// Only tests whose names have this in them.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Options of `up`, when there is no cluster.
    #[arg(last = true, value_name = "OPTIONS OF UP")]
    up: Vec<String>,
}

/// Options of `cluster smoke`.
#[derive(Debug, Args)]
pub(crate) struct Smoke {
    /// Minutes that everything may take. Programs from outside that cannot be had in them are a reason to skip the test.
    #[arg(long, value_name = "N")]
    minutes: Option<u64>,
}

/// The tests, making and removing the cluster included.
const SUITE: Suite = Suite { name: "cluster e2e", budget_minutes: 15 };
const SMOKE: Suite = Suite { name: "cluster smoke", budget_minutes: 10 };
/// What the smoke takes at most once there are the programs from outside: images, and the test.
const SMOKE_TAKES: Duration = Duration::from_secs(6 * 60);
/// The test that is the smoke; its cluster is its own.
const SMOKE_TEST: &str = "the_chart_makes_millrace_the_network";
/// Names the folders of the programs to the harness.
const PROGRAMS: &str = "MILLRACE_CLUSTER_PROGRAMS";

/// Does it. False when something failed, or is not well.
pub(crate) fn run(task: &Task) -> anyhow::Result<bool> {
    let (name, rest) = match task {
        Task::Build(options) => return build(options).map(|()| true),
        Task::E2e(options) => return Ok(e2e(options)?.failed == 0),
        Task::Smoke(options) => return Ok(smoke(options)?.failed == 0),
        Task::Up(rest) => ("up", rest),
        Task::Down(rest) => ("down", rest),
        Task::Status(rest) => ("status", rest),
        Task::LoadImage(rest) => ("load-image", rest),
        Task::Install(rest) => ("install", rest),
        Task::Uninstall(rest) => ("uninstall", rest),
        Task::Helm(rest) => ("helm", rest),
        Task::Kubeconfig(rest) => ("kubeconfig", rest),
        Task::Kubectl(rest) => ("kubectl", rest),
        Task::Exec(rest) => ("exec", rest),
    };
    let asks_for_help = rest.words.iter().any(|word| word == "--help" || word == "-h");
    match name {
        "up" if !asks_for_help => prepare()?,
        "install" if !asks_for_help => drop(image::run(&image::Options::for_tests())?),
        _ => {}
    }
    let mut command = harness(name)?;
    Ok(command.args(&rest.words).status().context("cannot start the harness")?.success())
}

/// What a cluster needs that is missing.
fn prepare() -> anyhow::Result<()> {
    setup::for_cluster()?;
    go::build()
}

fn build(options: &Build) -> anyhow::Result<()> {
    go::build()?;
    if options.tests {
        println!("the tests of Kubernetes: {}", go::build_tests()?.display());
    }
    Ok(())
}

/// Does something on the cluster that is up, or on one of two nodes made for it, with Millrace installed and a DNS.
pub(crate) fn with_millrace(keep: bool, work: impl FnOnce() -> anyhow::Result<bool>) -> anyhow::Result<bool> {
    let was_up = process::output(&mut harness("kubeconfig")?).is_some();
    let prepared = || -> anyhow::Result<()> {
        if was_up {
            return Ok(());
        }
        prepare()?;
        image::run(&image::Options::for_tests())?;
        process::run(harness("up")?.args(["--cni", "none", "--dns"]))?;
        process::run(&mut harness("install")?)
    };
    let outcome = prepared().and_then(|()| work());
    if !was_up && !keep {
        process::run(&mut harness("down")?)?;
    }
    outcome
}

/// The harness, built.
pub(crate) fn harness(task: &str) -> anyhow::Result<Command> {
    let mut build = process::cargo();
    build.args(["build", "--quiet", "--locked", "--package", "mesh-conformance-cluster"]);
    process::quiet_run(&mut build)?;
    let program = process::target_dir().join("debug/cluster");
    let mut command = Command::new(program);
    command.arg(task);
    name_inputs(&mut command)?;
    Ok(command)
}

/// Tells a program where everything is that clusters are made of.
fn name_inputs(command: &mut Command) -> anyhow::Result<()> {
    command.env(PROGRAMS, std::env::join_paths(go::folders()?)?);
    command.env("MILLRACE_CHART", process::root().join("charts/millrace"));
    command.env("MILLRACE_IMAGES", image::folder());
    Ok(())
}

fn e2e(options: &E2e) -> anyhow::Result<Tally> {
    if !process::is_root() {
        let tally = Tally::skip(1, "tests on a cluster", "they need root");
        println!("{tally}");
        return Ok(tally);
    }
    // Building Kubernetes, which happens once, is not the tests' time.
    prepare()?;
    let object = product()?;
    image::run(&image::Options::for_tests())?;
    Ok(SUITE.run(true, || {
        let was_up = process::output(&mut harness("kubeconfig")?).is_some();
        let up = process::run(harness("up")?.args(&options.up));
        let outcome =
            up.and_then(|()| test::run_tests(marked_tests(options)?.env("MILLRACE_BPF_OBJECT", &object)));
        if !was_up && !options.keep {
            process::run(&mut harness("down")?)?;
        }
        outcome
    }))
}

fn smoke(options: &Smoke) -> anyhow::Result<Tally> {
    if let Err(why) = can_smoke(options) {
        let tally = Tally::skip(1, "cluster smoke", &format!("{why:#}"));
        println!("{tally}");
        return Ok(tally);
    }
    image::run(&image::Options::for_tests())?;
    let options = E2e { keep: false, only: Some(SMOKE_TEST.to_owned()), up: Vec::new() };
    Ok(SMOKE.run(true, || test::run_tests(&mut marked_tests(&options)?)))
}

/// Gets what the smoke needs from outside, which is not the test's time.
fn can_smoke(options: &Smoke) -> anyhow::Result<()> {
    ensure!(process::is_root(), "it needs root");
    let mut unshare = process::command("unshare");
    let namespaces = process::output(unshare.args(["--mount", "--net", "--uts", "true"]));
    namespaces.context("namespaces of mounts, networks and host names cannot be made here")?;
    setup::for_cluster()?;
    let Some(minutes) = options.minutes else { return go::build() };
    let left = Duration::from_secs(minutes * 60).checked_sub(SMOKE_TAKES);
    let left = left.with_context(|| {
        format!("{minutes} minutes are left, and it takes {}", SMOKE_TAKES.as_secs() / 60)
    })?;
    go::build_by(Instant::now() + left).context("the programs of a cluster cannot be had in time")
}

/// Builds the programs that go onto nodes; where the kernel programs are.
fn product() -> anyhow::Result<PathBuf> {
    let mut build = process::cargo();
    build.args(["build", "--quiet", "--locked"]);
    for package in ["mesh-agent", "mesh-l7proxy-daemon", "mesh-cni-plugin", "mesh-cli"] {
        build.args(["--package", package]);
    }
    process::quiet_run(&mut build)?;
    bpf::run(&bpf::Options::default())
}

/// The tests whose names say that they need a cluster.
fn marked_tests(options: &E2e) -> anyhow::Result<Command> {
    let mut tests = test::nextest()?;
    tests.args(["run", "--package", "mesh-conformance-cluster", "--run-ignored", "only"]);
    let mut which = "test(/(^|::)cluster_/)".to_owned();
    if let Some(text) = &options.only {
        which.push_str(&format!(" & test(~{text})"));
    }
    tests.args(["-E", &which]);
    name_inputs(&mut tests)?;
    Ok(tests)
}
