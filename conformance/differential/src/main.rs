//! Feeds each case of a folder to our proxy and to Envoy, sends both the same requests, and compares what
//! clients got and what backends saw.
//!
//! **In**: case files, the two programs. **Out**: a line a case, what differs, and a total; the exit code.
//! **Start reading** at `case.rs` (what is written down), then `proxy.rs` (one run) and `compare.rs`.
//! **Tasks**: a server, backends and a client for each run, ended with it.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it talks to whoever started it")]

mod backend;
mod case;
mod client;
mod compare;
mod observed;
mod proxy;
mod resources;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Parser, ValueEnum};
use mesh_testkit::envoy::Ads;
use serde::Serialize;

use self::case::Case;
use self::compare::Findings;
use self::proxy::Program;

/// The same resources and requests for l7proxy and Envoy, and what differs.
#[derive(Debug, Parser)]
struct Arguments {
    /// Folder of the cases.
    #[arg(long, value_name = "DIR")]
    cases: PathBuf,
    /// Only this case; all when left out. Repeatable.
    #[arg(long, value_name = "NAME")]
    case: Vec<String>,
    /// Our proxy.
    #[arg(long, value_name = "PATH")]
    l7proxy: PathBuf,
    /// Envoy.
    #[arg(long, value_name = "PATH")]
    envoy: PathBuf,
    /// The variant of ADS that Envoy speaks; ours speaks delta.
    #[arg(long, value_enum, default_value_t = Protocol::Delta)]
    protocol: Protocol,
    /// One JSON document with all that was seen, instead of lines.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Protocol {
    Delta,
    Sotw,
}

/// The outcome of a case.
#[derive(Debug, Serialize)]
struct Outcome {
    name: String,
    about: String,
    passed: bool,
    requests: usize,
    #[serde(flatten)]
    findings: Findings,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    let mut cases = case::load(&arguments.cases)?;
    if let Some(unknown) = arguments.case.iter().find(|name| !cases.iter().any(|case| case.name == **name)) {
        bail!("there is no case {unknown} in {}", arguments.cases.display());
    }
    cases.retain(|case| arguments.case.is_empty() || arguments.case.contains(&case.name));
    let ads = match arguments.protocol {
        Protocol::Delta => Ads::Delta,
        Protocol::Sotw => Ads::StateOfTheWorld,
    };
    let ours = Program::Millrace(arguments.l7proxy.clone());
    let envoy = Program::Envoy(arguments.envoy.clone(), ads);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut outcomes = Vec::new();
    for case in &cases {
        let findings = runtime.block_on(run_case(case, &ours, &envoy)).unwrap_or_else(|error| Findings {
            failures: vec![format!("{error:#}")],
            deliberate: Vec::new(),
        });
        let outcome = Outcome {
            name: case.name.clone(),
            about: case.about.clone(),
            passed: findings.failures.is_empty(),
            requests: case.requests.len(),
            findings,
        };
        if !arguments.json {
            print(&outcome);
        }
        outcomes.push(outcome);
    }
    let passed = outcomes.iter().filter(|outcome| outcome.passed).count();
    let failed = outcomes.len() - passed;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&outcomes).context("outcomes are plain data")?);
    } else {
        let deliberate: usize = outcomes.iter().map(|outcome| outcome.findings.deliberate.len()).sum();
        let requests: usize = outcomes.iter().map(|outcome| outcome.requests).sum();
        println!("{} cases, {requests} requests, {deliberate} deliberate differences", outcomes.len());
        println!("{passed} passed, {failed} failed, 0 skipped");
    }
    Ok(failed == 0)
}

async fn run_case(case: &Case, ours: &Program, envoy: &Program) -> anyhow::Result<Findings> {
    let certificates = resources::certificates(case)?;
    let (millrace, envoy) =
        tokio::join!(proxy::run(ours, case, &certificates), proxy::run(envoy, case, &certificates));
    let (millrace, envoy) = (millrace.context("millrace")?, envoy.context("envoy")?);
    Ok(compare::compare(case, &millrace, &envoy))
}

fn print(outcome: &Outcome) {
    let word = if outcome.passed { "ok    " } else { "FAILED" };
    println!("{word} {}: {}", outcome.name, outcome.about);
    outcome.findings.deliberate.iter().for_each(|line| println!("       DELIBERATE: {line}"));
    outcome.findings.failures.iter().for_each(|line| println!("       {line}"));
}
