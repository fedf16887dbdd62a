//! The gate.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, bail};
use clap::Args;

use crate::suite::{Suite, Tally};
use crate::toolchain::Toolchain;
use crate::{bpf, conformance, fuzz, lint, process, tools};

/// Options of `test`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only these suites; all when left out.
    #[arg(value_enum)]
    suites: Vec<Name>,
    /// Keep the outcome of each suite, with the commit, in conformance/reports/gate.txt.
    #[arg(long)]
    report: bool,
}

/// What a suite does.
type Body = fn() -> anyhow::Result<Tally>;

/// Where the last whole run is kept.
const REPORT: &str = "conformance/reports/gate.txt";

/// Suites by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Name {
    /// Formatting, lints, licences, crate graph.
    Lint,
    /// Unit, property and golden tests.
    Unit,
    /// Our proxy beside Envoy: needs the binary that `cargo xtask setup` gets.
    Differential,
    /// Packet and namespace tests: need root.
    Kernel,
    /// Every fuzz target for half a minute.
    Fuzz,
}

/// Budgets in minutes on two cores, a warm build cache assumed.
const LINT: Suite = Suite { name: "lint", budget_minutes: 8 };
const UNIT: Suite = Suite { name: "unit", budget_minutes: 12 };
const DIFFERENTIAL: Suite = Suite { name: "differential", budget_minutes: 6 };
const KERNEL: Suite = Suite { name: "kernel", budget_minutes: 16 };
const FUZZ: Suite = Suite { name: "fuzz", budget_minutes: 12 };

/// Which tests are the kernel suite's.
const IS_KERNEL: &str = "test(/(^|::)kernel_/)";

/// Runs the suites and prints the total. False when anything failed.
pub(crate) fn run(options: &Options) -> anyhow::Result<bool> {
    if options.report && !options.suites.is_empty() {
        bail!("the report is of a whole run: leave out the suites, or --report");
    }
    let wants = |name| options.suites.is_empty() || options.suites.contains(&name);
    // On a machine without a build cache the budgets of CI hold, not those of a suite.
    let warm = reports().is_dir();
    let suites: [(Name, Suite, Body); 5] = [
        (Name::Lint, LINT, lint::run),
        (Name::Unit, UNIT, unit),
        (Name::Differential, DIFFERENTIAL, conformance::differential),
        (Name::Kernel, KERNEL, kernel),
        (Name::Fuzz, FUZZ, fuzz::suite),
    ];
    let mut total = Tally::default();
    let mut report = format!("commit {}\n", process::describe_commit());
    for (name, suite, body) in suites {
        if wants(name) {
            let tally = suite.run(warm, body);
            report.push_str(&format!("{:<12} {tally}\n", suite.name));
            total += tally;
        }
    }
    report.push_str(&format!("{:<12} {total}\n", "all"));
    if options.report {
        fs::write(process::root().join(REPORT), report).with_context(|| format!("cannot write {REPORT}"))?;
    }
    println!("\n{total}");
    Ok(total.failed == 0)
}

/// Everything but the kernel tests, which are marked as ignored: they are run, or counted as skipped, by
/// their own suite. Other ignored tests are helpers that tests start.
fn unit() -> anyhow::Result<Tally> {
    // Programs that tests start are built first, so that a test's time is its own.
    process::run(process::cargo().args(["build", "--quiet", "--locked", "--workspace", "--bins"]))?;
    run_tests(nextest()?.args(["run", "--workspace"]))
}

fn kernel() -> anyhow::Result<Tally> {
    let count = count_kernel_tests()?;
    if !process::is_root() {
        return Ok(Tally::skip(count, &format!("{count} kernel tests"), "they need root"));
    }
    if Toolchain::find().is_none() {
        let why = "no compiler for kernel programs; run `cargo xtask setup`";
        return Ok(Tally::skip(count, &format!("{count} kernel tests"), why));
    }
    let object = bpf::run(&bpf::Options::default())?;
    process::run(process::cargo().args(["build", "--quiet", "--locked", "--workspace", "--bins"]))?;
    let mut test = nextest()?;
    test.args(["run", "--workspace", "--run-ignored", "only", "-E", IS_KERNEL]);
    let tally = run_tests(test.env("MILLRACE_BPF_OBJECT", object))?;
    if tally.passed + tally.failed + tally.skipped < count {
        bail!("there are {count} kernel tests, and not all have run");
    }
    Ok(tally)
}

/// The test runner.
pub(crate) fn nextest() -> anyhow::Result<Command> {
    let program = tools::NEXTEST.find().context("cargo-nextest is missing: run `cargo xtask setup`")?;
    // Called by its path: what is in the cache is not on the path of programs.
    let mut command = process::cargo_program(&program.to_string_lossy());
    command.arg("nextest");
    // Tests with a real Envoy run where it is at hand, and say that they are skipped where it is not.
    if let Some(envoy) = tools::envoy() {
        command.env(tools::ENVOY_VARIABLE, envoy);
    }
    Ok(command)
}

/// How many tests wait for root, asked of the tests themselves.
fn count_kernel_tests() -> anyhow::Result<u32> {
    let mut list = nextest()?;
    list.args(["list", "--workspace", "--locked", "--cargo-quiet", "--run-ignored", "only", "-E", IS_KERNEL]);
    list.args(["--message-format", "oneline"]);
    let text = process::output(&mut list).context("the tests cannot be listed")?;
    Ok(u32::try_from(text.lines().filter(|line| line.contains("kernel_")).count())?)
}

/// Runs tests and adds up the report. A run without a report is a failure: nothing was tested.
pub(crate) fn run_tests(command: &mut Command) -> anyhow::Result<Tally> {
    // The runner keeps its reports here whatever cargo's target folder is.
    let report = process::root().join("target/nextest/gate/junit.xml");
    match fs::remove_file(&report) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", report.display()));
        }
        _ => {}
    }
    command.args(["--locked", "--cargo-quiet", "--profile", "gate"]);
    let status = process::status(command)?;
    let Ok(text) = fs::read_to_string(&report) else {
        bail!("the tests left no report: they did not run");
    };
    let (mut tally, skipped) = parse_report(&text).context("the report of the tests cannot be read")?;
    skipped.iter().for_each(|line| println!("{line}"));
    if !status.success() && tally.failed == 0 {
        tally.failed += 1;
    }
    Ok(tally)
}

/// Where nextest keeps its reports: at the root, wherever cargo builds.
fn reports() -> PathBuf {
    process::root().join("target/nextest")
}

/// Totals of a JUnit report, and the lines by which tests said that they could not run; those ended well,
/// but did not pass.
fn parse_report(text: &str) -> Option<(Tally, Vec<&str>)> {
    let head = text.lines().find(|line| line.contains("<testsuites "))?;
    let number = |name: &str| -> Option<u32> {
        head.split_once(&format!(" {name}=\""))?.1.split_once('"')?.0.parse().ok()
    };
    let failed = number("failures")? + number("errors")?;
    let mut skipped = Vec::new();
    for case in text.split("<testcase ").skip(1) {
        let is_failure = case.contains("<failure") || case.contains("<error");
        let told = case.split(['\n', '>']).find(|line| line.starts_with("SKIPPED: "));
        if let (false, Some(line)) = (is_failure, told) {
            skipped.push(line);
        }
    }
    let count = u32::try_from(skipped.len()).ok()?;
    let passed = number("tests")?.checked_sub(failed + count)?;
    Some((Tally { passed, failed, skipped: count }, skipped))
}

#[cfg(test)]
mod tests {
    use super::parse_report;
    use crate::suite::Tally;

    const REPORT: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="nextest-run" tests="4" failures="1" errors="0" uuid="0" time="1.5">
    <testsuite name="a" tests="4" disabled="0" errors="0" failures="1">
        <testcase name="one" classname="a" time="0.1"><system-out>ok</system-out></testcase>
        <testcase name="two" classname="a" time="0.1">
            <system-err>SKIPPED: two: needs a door
</system-err>
        </testcase>
        <testcase name="three" classname="a" time="0.1">
            <failure type="test failure"/>
            <system-err>SKIPPED: said before it failed</system-err>
        </testcase>
        <testcase name="four" classname="a" time="0.1"/>
    </testsuite>
</testsuites>"#;

    #[test]
    fn a_test_that_could_not_run_is_counted_as_skipped_and_not_as_passed() {
        let (tally, skipped) = parse_report(REPORT).expect("a report");
        assert_eq!(tally, Tally { passed: 2, failed: 1, skipped: 1 });
        assert_eq!(skipped, ["SKIPPED: two: needs a door"]);
        assert_eq!(parse_report("no report"), None);
    }
}
