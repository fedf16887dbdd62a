//! The executables, built with coverage counters.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::Context;

use crate::process;

/// What makes the compiler count edges and comparisons for libFuzzer.
const COVERAGE: &str = "-C passes=sancov-module -C llvm-args=-sanitizer-coverage-level=4 \
    -C llvm-args=-sanitizer-coverage-inline-8bit-counters -C llvm-args=-sanitizer-coverage-pc-table \
    -C llvm-args=-sanitizer-coverage-trace-compares";

/// Builds the executables and returns their folder; `None` when this machine's compilers cannot.
pub(super) fn build() -> anyhow::Result<Option<PathBuf>> {
    let mut rustc = process::command("rustc");
    let host = process::output(rustc.arg("-vV")).context("rustc does not tell its version")?;
    let host = host.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc has no host")?;
    if !can_count_coverage(host) || process::output(Command::new("c++").arg("--version")).is_none() {
        return Ok(None);
    }
    let target_dir = process::target_dir().join("fuzz");
    let mut cargo = process::cargo();
    cargo.args(["build", "--release", "--quiet", "--locked", "--manifest-path", "fuzz/Cargo.toml"]);
    // With a target named, build scripts and macros are built without the counters.
    cargo.args(["--target", host, "--target-dir"]).arg(&target_dir).env("RUSTFLAGS", COVERAGE);
    process::run(&mut cargo).context("if the lock file is behind: `cargo xtask fuzz --lock`")?;
    Ok(Some(target_dir.join(host).join("release")))
}

/// The workspace's versions, and the few packages that only the executables have.
pub(super) fn lock() -> anyhow::Result<()> {
    fs::copy(process::root().join("Cargo.lock"), process::root().join("fuzz/Cargo.lock"))?;
    let mut metadata = process::cargo();
    metadata.args(["metadata", "--quiet", "--format-version", "1", "--manifest-path", "fuzz/Cargo.toml"]);
    process::run(metadata.stdout(Stdio::null()))
}

fn can_count_coverage(host: &str) -> bool {
    let mut rustc = process::command("rustc");
    rustc.args(["--target", host, "--crate-type", "lib", "--emit", "obj=-", "-"]);
    rustc.args(COVERAGE.split_whitespace()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    rustc.status().is_ok_and(|status| status.success())
}
