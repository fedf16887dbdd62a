//! Faults under traffic, for as long as one likes. Started by `cargo xtask soak`.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a task talks to whoever started it")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use mesh_conformance::faults::{Length, Rig, SCENARIOS};

/// Runs faults under traffic.
#[derive(Debug, Parser)]
struct Arguments {
    /// Folder of the product's programs.
    #[arg(long, value_name = "DIR")]
    programs: PathBuf,
    /// Compiled kernel programs.
    #[arg(long, value_name = "FILE")]
    bpf_object: PathBuf,
    /// Manifests of the quickstart.
    #[arg(long, value_name = "DIR")]
    manifests: PathBuf,
    /// About how long all of them may take together.
    #[arg(long, value_name = "N", default_value_t = 30)]
    minutes: u32,
    /// Only these.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let unknown = arguments.only.iter().find(|only| SCENARIOS.iter().all(|known| known.name != **only));
    if let Some(unknown) = unknown {
        let names: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        eprintln!("there is no fault {unknown}; the faults are {}", names.join(", "));
        return ExitCode::FAILURE;
    }
    let wanted = |name: &str| arguments.only.is_empty() || arguments.only.iter().any(|only| only == name);
    let chosen: Vec<_> = SCENARIOS.iter().filter(|scenario| wanted(scenario.name)).collect();
    let each = Duration::from_secs(60) * arguments.minutes / u32::try_from(chosen.len()).unwrap_or(1).max(1);
    let (mut passed, mut failed) = (0, 0);
    for scenario in &chosen {
        println!("\n== {}: {}", scenario.name, scenario.about);
        let rig = Rig {
            programs: arguments.programs.clone(),
            bpf_object: arguments.bpf_object.clone(),
            manifests: arguments.manifests.clone(),
            prefix: format!("mrt-soak-{}", std::process::id()),
        };
        let begun = Instant::now();
        match (scenario.run)(&rig, Length::Soak(each)) {
            Ok(figures) => {
                passed += 1;
                println!("{figures}");
                println!("PASSED: {} in {} s", scenario.name, begun.elapsed().as_secs());
            }
            Err(error) => {
                failed += 1;
                eprintln!("FAILED: {}: {error:#}", scenario.name);
            }
        }
    }
    println!("\n{passed} passed, {failed} failed, 0 skipped");
    if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
