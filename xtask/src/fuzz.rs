//! Fuzzing: builds the executables of `fuzz/` with coverage counters and lets libFuzzer run them.
//!
//! The compiler of the workspace can do it: the coverage pass is LLVM's own, and the runtime comes with
//! `libfuzzer-sys`. There is no sanitizer in it; what is looked for are panics, overflows, hangs, memory
//! without bound and broken properties, not memory errors.

mod build;
mod keep;
mod ledger;
mod limits;
mod long;
mod outcome;
mod run;

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use clap::builder::PossibleValuesParser;

use self::limits::{Limits, TARGETS};
use self::run::Length;
use crate::suite::Tally;

/// Options of `fuzz`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only these targets; all when left out.
    #[arg(value_parser = PossibleValuesParser::new(TARGETS.iter().map(|limits| limits.name)))]
    targets: Vec<String>,
    /// Seconds for each target, 30 when left out; with --long those of a turn, on a processor, 300 when left out.
    #[arg(long)]
    seconds: Option<u64>,
    /// Targets that run at the same time.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=64))]
    jobs: u64,
    /// One target at a time, in turns, until each has had an hour of a processor in all; adds to
    /// conformance/reports/fuzz.txt.
    #[arg(long, conflicts_with_all = ["jobs", "keep", "lock"])]
    long: bool,
    /// Do not run: take what was found before into the kept corpus, as few and as small inputs as cover it.
    #[arg(long)]
    keep: bool,
    /// Do not run: bring the executables' lock file to the workspace's versions.
    #[arg(long)]
    lock: bool,
}

/// Seconds for a target in the gate.
const SHORT: u64 = 30;

/// Seconds of one turn of a long run.
const TURN: u64 = 300;

/// Runs the targets and prints what came of it. False when anything was found.
pub(crate) fn run(options: &Options) -> anyhow::Result<bool> {
    let named = options.targets.iter().filter_map(|name| TARGETS.iter().find(|limits| limits.name == name));
    let chosen: Vec<&Limits> =
        if options.targets.is_empty() { TARGETS.iter().collect() } else { named.collect() };
    if options.lock {
        return build::lock().map(|()| true);
    }
    let Some(folder) = build::build()? else {
        println!("{}", skip(chosen.len()));
        return Ok(true);
    };
    if options.keep {
        chosen.iter().try_for_each(|limits| keep::keep(limits, &folder))?;
        return Ok(true);
    }
    let tally = if options.long {
        long::run(&chosen, &folder, Duration::from_secs(options.seconds.unwrap_or(TURN)))?
    } else {
        fuzz(&chosen, &folder, Duration::from_secs(options.seconds.unwrap_or(SHORT)), options.jobs)?
    };
    println!("{tally}");
    Ok(tally.failed == 0)
}

/// The suite of the gate: every target for half a minute.
pub(crate) fn suite() -> anyhow::Result<Tally> {
    let Some(folder) = build::build()? else { return Ok(skip(TARGETS.len())) };
    fuzz(&Vec::from_iter(TARGETS), &folder, Duration::from_secs(SHORT), 2)
}

fn skip(count: usize) -> Tally {
    let why = "this Rust cannot count coverage, or there is no C++ compiler for libFuzzer";
    Tally::skip(u32::try_from(count).unwrap_or(u32::MAX), &format!("{count} fuzz targets"), why)
}

/// Runs targets, so many at a time, and prints a line for each.
fn fuzz(targets: &[&Limits], folder: &Path, time: Duration, jobs: u64) -> anyhow::Result<Tally> {
    let waiting = Mutex::new(targets.iter());
    let outcomes = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs.min(targets.len() as u64) {
            scope.spawn(|| {
                loop {
                    // The lock is given back before the target runs.
                    let next = waiting.lock().map(|mut waiting| waiting.next());
                    let Ok(Some(limits)) = next else { return };
                    let outcome = run::run(limits, folder, Length::Wall(time));
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
