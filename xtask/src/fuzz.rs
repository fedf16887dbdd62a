//! Fuzzing: builds the executables of `fuzz/` with coverage counters and lets libFuzzer run them.
//!
//! The compiler of the workspace can do it: the coverage pass is LLVM's own, and the runtime comes with
//! `libfuzzer-sys`. There is no sanitizer in it; what is looked for are panics, overflows, hangs, memory
//! without bound and broken properties, not memory errors.

mod limits;
mod outcome;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use clap::builder::PossibleValuesParser;

use self::limits::{Limits, TARGETS};
use self::outcome::Outcome;
use crate::process;
use crate::suite::Tally;

/// Options of `fuzz`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only these targets; all when left out.
    #[arg(value_parser = PossibleValuesParser::new(TARGETS.iter().map(|limits| limits.name)))]
    targets: Vec<String>,
    /// Seconds for each target.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Targets that run at the same time.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=64))]
    jobs: u64,
    /// Do not run: take what was found before into the kept corpus, as few and as small inputs as cover it.
    #[arg(long)]
    keep: bool,
    /// Do not run: bring the executables' lock file to the workspace's versions.
    #[arg(long)]
    lock: bool,
}

/// Inputs that are kept of one target, at most: corpora are read at each run and live in the repository.
const KEPT_BYTES: u64 = 80 * 1024;

/// What makes the compiler count edges and comparisons for libFuzzer.
const COVERAGE: &str = "-C passes=sancov-module -C llvm-args=-sanitizer-coverage-level=4 \
    -C llvm-args=-sanitizer-coverage-inline-8bit-counters -C llvm-args=-sanitizer-coverage-pc-table \
    -C llvm-args=-sanitizer-coverage-trace-compares";

/// Runs the targets and prints what came of it. False when anything was found.
pub(crate) fn run(options: &Options) -> anyhow::Result<bool> {
    let chosen: Vec<&Limits> = TARGETS
        .iter()
        .filter(|limits| options.targets.is_empty() || options.targets.iter().any(|name| name == limits.name))
        .collect();
    if options.lock {
        return lock().map(|()| true);
    }
    let Some(folder) = build()? else {
        println!("{}", skip(chosen.len()));
        return Ok(true);
    };
    if options.keep {
        chosen.iter().try_for_each(|limits| keep(limits, &folder))?;
        return Ok(true);
    }
    let tally = fuzz(&chosen, &folder, options)?;
    println!("{tally}");
    Ok(tally.failed == 0)
}

/// The suite of the gate: every target for half a minute.
pub(crate) fn suite() -> anyhow::Result<Tally> {
    let Some(folder) = build()? else { return Ok(skip(TARGETS.len())) };
    let options = Options { targets: Vec::new(), seconds: 30, jobs: 2, keep: false, lock: false };
    fuzz(&Vec::from_iter(TARGETS), &folder, &options)
}

fn skip(count: usize) -> Tally {
    let why = "this Rust cannot count coverage, or there is no C++ compiler for libFuzzer";
    Tally::skip(u32::try_from(count).unwrap_or(u32::MAX), &format!("{count} fuzz targets"), why)
}

/// Builds the executables and returns their folder; `None` when this machine's compilers cannot.
fn build() -> anyhow::Result<Option<PathBuf>> {
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
fn lock() -> anyhow::Result<()> {
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

/// Where a target's inputs that are not kept yet are, from run to run.
fn found_dir(limits: &Limits) -> PathBuf {
    process::target_dir().join("fuzz/corpus").join(limits.name)
}

fn kept_dir(limits: &Limits) -> PathBuf {
    process::root().join("fuzz/corpus").join(limits.name)
}

fn artifacts_dir(limits: &Limits) -> PathBuf {
    process::root().join("fuzz/artifacts").join(limits.name)
}

/// Runs targets, so many at a time, and prints a line for each.
fn fuzz(targets: &[&Limits], folder: &Path, options: &Options) -> anyhow::Result<Tally> {
    let waiting = Mutex::new(targets.iter());
    let outcomes = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..options.jobs.min(targets.len() as u64) {
            scope.spawn(|| {
                loop {
                    // The lock is given back before the target runs.
                    let next = waiting.lock().map(|mut waiting| waiting.next());
                    let Ok(Some(limits)) = next else { return };
                    let outcome = run_one(limits, folder, Duration::from_secs(options.seconds));
                    if let Ok(outcome) = &outcome {
                        println!("{outcome}");
                    }
                    if let Ok(mut outcomes) = outcomes.lock() {
                        outcomes.push(outcome);
                    }
                }
            });
        }
    });
    let mut tally = Tally::default();
    let outcomes = outcomes.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    for outcome in outcomes {
        tally += Tally::one(outcome?.is_clean());
    }
    if tally.passed + tally.failed != u32::try_from(targets.len())? {
        bail!("not all of {} targets have run", targets.len());
    }
    Ok(tally)
}

fn run_one(limits: &Limits, folder: &Path, time: Duration) -> anyhow::Result<Outcome> {
    let (found, artifacts) = (found_dir(limits), artifacts_dir(limits));
    for folder in [&found, &artifacts, &kept_dir(limits)] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let before = outcome::files(&artifacts)?;
    let mut program = libfuzzer(limits, folder);
    program.arg(format!("-max_total_time={}", time.as_secs()));
    program.arg(format!("-artifact_prefix={}/", artifacts.display())).arg("-print_final_stats=1");
    // New inputs go to the first folder.
    program.args([&found, &kept_dir(limits)]);
    let output = program.output().with_context(|| format!("cannot start {}", process::shown(&program)))?;
    let text = String::from_utf8_lossy(&output.stderr);
    let log = process::target_dir().join("fuzz").join(format!("{}.log", limits.name));
    fs::write(&log, &*text).with_context(|| format!("cannot write {}", log.display()))?;
    let new: Vec<PathBuf> =
        outcome::files(&artifacts)?.into_iter().filter(|file| !before.contains(file)).collect();
    Ok(Outcome::new(limits.name, &text, output.status.success(), new, log))
}

/// The executable with the target's limits.
fn libfuzzer(limits: &Limits, folder: &Path) -> Command {
    let mut program = process::command(&folder.join(limits.name).to_string_lossy());
    program.arg(format!("-max_len={}", limits.longest));
    program.arg(format!("-timeout={}", limits.seconds));
    program.arg(format!("-rss_limit_mb={}", limits.megabytes));
    if let Some(name) = limits.dictionary {
        let dictionary = process::root().join("fuzz/dictionaries").join(name);
        program.arg(format!("-dict={}", dictionary.display()));
    }
    program.stdin(Stdio::null());
    program
}

/// Replaces the kept corpus by the smallest inputs, old and new, that cover as much, as far as there is room.
fn keep(limits: &Limits, folder: &Path) -> anyhow::Result<()> {
    let (kept, fresh) = (kept_dir(limits), process::target_dir().join("fuzz/kept").join(limits.name));
    if fresh.exists() {
        fs::remove_dir_all(&fresh)?;
    }
    fs::create_dir_all(&fresh)?;
    let mut merge = libfuzzer(limits, folder);
    merge.arg("-set_cover_merge=1").args([&fresh, &kept, &found_dir(limits)]);
    let output = merge.output().with_context(|| format!("cannot start {}", process::shown(&merge)))?;
    if !output.status.success() {
        bail!("{}: merging failed: {}", limits.name, String::from_utf8_lossy(&output.stderr));
    }
    // Inputs with a name were put there by hand and stay; the others are named by their hash.
    let by_hand = |path: &PathBuf| path.file_name().is_some_and(|name| name.len() != 40);
    for path in outcome::files(&kept)?.iter().filter(|path| !by_hand(path)) {
        fs::remove_file(path)?;
    }
    let mut room = KEPT_BYTES;
    for path in outcome::files(&kept)? {
        room = room.saturating_sub(fs::metadata(&path)?.len());
    }
    let mut inputs: Vec<(u64, PathBuf)> = Vec::new();
    for path in outcome::files(&fresh)? {
        inputs.push((fs::metadata(&path)?.len(), path));
    }
    inputs.sort();
    let mut count = 0;
    for (size, path) in inputs {
        let Some(left) = room.checked_sub(size) else { break };
        let name = path.file_name().context("a file has a name")?;
        fs::copy(&path, kept.join(name))?;
        (room, count) = (left, count + 1);
    }
    println!("{}: {count} inputs kept beside those with a name", limits.name);
    Ok(())
}
