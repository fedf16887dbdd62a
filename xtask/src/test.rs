//! The gate.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::Context;
use clap::Args;

use crate::suite::{Suite, Tally};
use crate::toolchain::Toolchain;
use crate::{bpf, lint, process};

/// Options of `test`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only these suites; all when left out.
    #[arg(value_enum)]
    suites: Vec<Name>,
}

/// Suites by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Name {
    /// Formatting, lints, licences, crate graph.
    Lint,
    /// Unit, property and golden tests.
    Unit,
    /// Packet and namespace tests: need root.
    Kernel,
}

/// Budgets in minutes on two cores, a warm build cache assumed.
const LINT: Suite = Suite { name: "lint", budget_minutes: 8 };
const UNIT: Suite = Suite { name: "unit", budget_minutes: 12 };
const KERNEL: Suite = Suite { name: "kernel", budget_minutes: 10 };

/// Runs the suites and prints the total. False when anything failed.
pub(crate) fn run(options: &Options) -> anyhow::Result<bool> {
    let wants = |name| options.suites.is_empty() || options.suites.contains(&name);
    let mut total = Tally::default();
    if wants(Name::Lint) {
        total += LINT.run(lint::run);
    }
    if wants(Name::Unit) {
        total += UNIT.run(unit);
    }
    if wants(Name::Kernel) {
        total += KERNEL.run(kernel);
    }
    println!("\n{total}");
    Ok(total.failed == 0)
}

fn unit() -> anyhow::Result<Tally> {
    let mut test = process::cargo();
    // Programs that tests start are built first, so that a test's time is its own.
    process::run(process::cargo().args(["build", "--locked", "--workspace", "--bins"]))?;
    let mut tally = cargo_test(test.args(["test", "--locked", "--workspace", "--no-fail-fast"]))?;
    // What is ignored here is run, or counted as skipped, by the kernel suite.
    tally.skipped = 0;
    Ok(tally)
}

fn kernel() -> anyhow::Result<Tally> {
    let count = ignored_tests()?;
    if !process::is_root() {
        return Ok(Tally::skip(count, &format!("{count} kernel tests"), "they need root"));
    }
    if Toolchain::find().is_none() {
        let why = "no compiler for kernel programs; run `cargo xtask setup`";
        return Ok(Tally::skip(count, &format!("{count} kernel tests"), why));
    }
    let object = bpf::run(&bpf::Options::default())?;
    let mut test = process::cargo();
    test.args([
        "test",
        "--locked",
        "--workspace",
        "--no-fail-fast",
        "--",
        "--ignored",
        "--test-threads=1",
        "kernel_",
    ]);
    cargo_test(test.env("MILLRACE_BPF_OBJECT", object))
}

/// How many tests wait for root, asked of the tests themselves.
fn ignored_tests() -> anyhow::Result<u32> {
    let mut list = process::cargo();
    list.args(["test", "--locked", "--workspace", "--", "--ignored", "--list", "kernel_"]);
    let text = process::output(&mut list).context("the tests cannot be listed")?;
    let count = text.lines().filter(|line| line.ends_with(": test")).count();
    Ok(u32::try_from(count)?)
}

/// Runs `cargo test`, passing its output on, and adds up its result lines. A run without a result line is
/// a failure: nothing was tested.
fn cargo_test(command: &mut Command) -> anyhow::Result<Tally> {
    println!("$ {}", process::shown(command));
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start cargo test")?;
    let output = child.stdout.take().context("the output is piped")?;
    let mut tally = Tally::default();
    let mut results = 0;
    for line in BufReader::new(output).lines() {
        let line = line.context("cargo test's output broke off")?;
        if let Some(result) = parse_result(&line) {
            tally += result;
            results += 1;
        }
        // Hundreds of passing tests say nothing; failures and their output do.
        if !line.ends_with(" ... ok") && !line.is_empty() {
            println!("{line}");
        }
    }
    let status = child.wait().context("cannot wait for cargo test")?;
    if results == 0 || (!status.success() && tally.failed == 0) {
        tally.failed += 1;
    }
    Ok(tally)
}

/// `test result: ok. 3 passed; 0 failed; 1 ignored; ...`
fn parse_result(line: &str) -> Option<Tally> {
    let rest = line.strip_prefix("test result: ")?;
    let number = |what: &str| -> Option<u32> {
        let before = rest.split(&format!(" {what}")).next()?;
        before.rsplit([' ', ';']).next()?.parse().ok()
    };
    Some(Tally { passed: number("passed")?, failed: number("failed")?, skipped: number("ignored")? })
}

#[cfg(test)]
mod tests {
    use super::parse_result;
    use crate::suite::Tally;

    #[test]
    fn result_lines_are_added_up_and_others_are_not() {
        let line = "test result: FAILED. 12 passed; 1 failed; 3 ignored; 0 measured; 2 filtered out; finished in 0.1s";
        assert_eq!(parse_result(line), Some(Tally { passed: 12, failed: 1, skipped: 3 }));
        assert_eq!(parse_result("test a::b ... ok"), None);
    }
}
