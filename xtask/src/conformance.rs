//! Suites that hold the product against others.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};

use crate::suite::Tally;
use crate::{cluster, go, process, tools};

/// Which suite.
#[derive(Debug, Subcommand)]
pub(crate) enum Suite {
    /// Give the same Envoy resources and requests to our proxy and to Envoy, and say what differs.
    Differential(Differential),
    /// Run Kubernetes' own tests of the network on a cluster that Millrace connects.
    E2e(E2e),
}

/// Options of `conformance e2e`.
#[derive(Debug, Default, Args)]
pub(crate) struct E2e {
    /// Only tests with this in their names, such as `Services`. Repeatable.
    #[arg(long, value_name = "TEXT")]
    focus: Vec<String>,
    /// A part of them, such as 1/4.
    #[arg(long, value_name = "I/N")]
    shard: Option<String>,
    /// Print their names and run nothing.
    #[arg(long)]
    list: bool,
    /// Leave the cluster up that was made for them.
    #[arg(long)]
    keep: bool,
    /// Keep the outcome, with the commit, in conformance/reports/e2e.txt.
    #[arg(long)]
    record: bool,
}

/// Options of `conformance differential`.
#[derive(Debug, Default, Args)]
pub(crate) struct Differential {
    /// Only this case of conformance/differential/cases; all when left out. Repeatable.
    #[arg(long, value_name = "NAME")]
    case: Vec<String>,
    /// Feed Envoy by state-of-the-world ADS instead of delta.
    #[arg(long)]
    sotw: bool,
    /// Print one JSON document with all findings.
    #[arg(long)]
    json: bool,
}

/// Folder of the cases.
const CASES: &str = "conformance/differential/cases";

/// Runs a suite. False when something failed, or nothing could be compared.
pub(crate) fn run(suite: &Suite) -> anyhow::Result<bool> {
    let options = match suite {
        Suite::Differential(options) => options,
        Suite::E2e(options) => return e2e(options),
    };
    if tools::envoy().is_none() {
        tools::ENVOY.install()?;
    }
    let mut runner = runner(options)?.context("Envoy was installed and is not there")?;
    Ok(runner.status().context("cannot start the runner")?.success())
}

/// Tests of Kubernetes that are not run, each with its reason.
const SKIPS: &str = "conformance/cluster/e2e-skips.txt";
const REPORT: &str = "conformance/reports/e2e.txt";

/// On the cluster that is up, or on one made for them.
fn e2e(options: &E2e) -> anyhow::Result<bool> {
    let program = go::build_tests()?;
    let report = match options.record {
        true => process::root().join(REPORT),
        false => process::target_dir().join("e2e.txt"),
    };
    cluster::with_millrace(options.keep, || {
        let mut tests = cluster::harness("kubernetes-e2e")?;
        tests.arg("--program").arg(&program).arg("--cache").arg(process::cache_dir());
        tests.arg("--skips").arg(process::root().join(SKIPS)).arg("--report").arg(&report);
        tests.arg("--commit").arg(process::describe_commit());
        tests.args(options.focus.iter().flat_map(|text| ["--focus", text]));
        tests.args(options.shard.iter().flat_map(|part| ["--shard", part]));
        if options.list {
            tests.arg("--list");
        }
        Ok(tests.status().context("cannot start the harness")?.success())
    })
}

/// The suite of the gate: skipped loudly where there is no Envoy.
pub(crate) fn differential() -> anyhow::Result<Tally> {
    let Some(mut runner) = runner(&Differential::default())? else {
        let count = u32::try_from(process::root().join(CASES).read_dir()?.count())?;
        let why = format!("there is no Envoy {}; run `cargo xtask setup`", tools::ENVOY.version);
        return Ok(Tally::skip(count, "comparison with Envoy", &why));
    };
    let output = runner.stdin(std::process::Stdio::null()).output().context("cannot start the runner")?;
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}");
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    match text.lines().rev().find_map(Tally::parse) {
        Some(tally) if output.status.success() == (tally.failed == 0) => Ok(tally),
        _ => bail!("the runner ended with {} and no total that fits", output.status),
    }
}

/// Builds the runner and what it runs; `None` without Envoy.
fn runner(options: &Differential) -> anyhow::Result<Option<Command>> {
    let Some(envoy) = tools::envoy() else { return Ok(None) };
    let mut build = process::cargo();
    build.args(["build", "--quiet", "--locked", "--package", "mesh-l7proxy-daemon"]);
    process::quiet_run(build.args(["--package", "mesh-conformance-differential"]))?;
    let programs: PathBuf = process::target_dir().join("debug");
    let mut runner = process::command(&programs.join("differential").to_string_lossy());
    runner.arg("--cases").arg(process::root().join(CASES));
    runner.arg("--l7proxy").arg(programs.join("l7proxy")).arg("--envoy").arg(envoy);
    runner.args(options.case.iter().flat_map(|name| ["--case", name]));
    if options.sotw {
        runner.args(["--protocol", "sotw"]);
    }
    if options.json {
        runner.arg("--json");
    }
    Ok(Some(runner))
}
