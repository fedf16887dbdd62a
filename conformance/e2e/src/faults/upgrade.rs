//! The proxy's binary is replaced while it serves.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use mesh_testkit::wait;

use super::world::{Pace, World, ensure_once, ensure_unharmed, place};
use super::{Length, Rig};

/// Replacements, and requests over them, at least.
const REPLACEMENTS: usize = 10;
const REQUESTS: u64 = 35_000;
/// How long old workers may take to finish: the drain deadline and the starter's grace.
const DRAINED_WITHIN: Duration = Duration::from_secs(33);
/// About what one replacement takes.
const ROUND: Duration = Duration::from_secs(4);

pub(super) fn binary_replaced_under_traffic(rig: &Rig, length: Length) -> anyhow::Result<String> {
    let rounds = length.rounds(REPLACEMENTS, ROUND);
    let world = World::serving(rig)?;
    let binary = world.own_proxy(rig)?;
    let every = Duration::from_millis;
    // Downloads take longer than it takes from one replacement to the next.
    let pace = Pace { fresh: every(4), kept: (12, every(4)), http2: (4, every(4)), download: every(6000) };
    let traffic = world.traffic_with(pace)?;
    let begun = Instant::now();
    for round in 1..=rounds {
        // A new file at the same path: the running worker's own file has no name any more.
        place(&rig.programs.join("l7proxy"), &binary)?;
        let mut upgrade = world.stack.program("l7proxy");
        upgrade.args(["upgrade", "--run-dir"]).arg(world.stack.run_dir()).arg("--binary").arg(&binary);
        let output = upgrade.stdin(Stdio::null()).output().context("cannot start l7proxy")?;
        ensure!(
            output.status.success(),
            "replacement {round}: {}\n{}",
            String::from_utf8_lossy(&output.stderr),
            world.logs()
        );
        // Replacements are spread over the requests.
        let goal = REQUESTS / REPLACEMENTS as u64 * round as u64;
        wait::until("its share of the requests is answered", Duration::from_secs(60), || {
            let answered = traffic.report().sum(|tally| tally.answered);
            ensure!(answered >= goal, "{answered} of {goal}:\n{}", traffic.report());
            Ok(())
        })?;
    }
    wait::until("the old workers are gone", DRAINED_WITHIN, || {
        let status = world.proxy_status()?;
        let workers = status["starter"]["workers"].as_array().map_or(0, Vec::len);
        ensure!(workers == 1, "{workers} workers");
        Ok(())
    })?;
    let took = begun.elapsed();
    let report = traffic.finish()?;
    let answered = report.sum(|tally| tally.answered);
    let told = format!("{rounds} replacements, {answered} requests in {:.1} s\n{report}", took.as_secs_f64());
    ensure_unharmed(&world, &report).with_context(|| told.clone())?;
    let refused = report.loads.iter().filter(|(name, _)| !name.ends_with("http2"));
    let refused: u64 = refused.map(|(_, tally)| tally.refused).sum();
    ensure!(refused == 0, "{told}\n{}", report.troubles());
    ensure!(answered >= REQUESTS, "{told}");
    let downloads = report.loads.iter().filter(|(name, _)| name.ends_with("download"));
    for (name, tally) in downloads {
        ensure!(tally.answered > 0, "{name}: {told}");
    }
    ensure_once(&world)?;
    Ok(told)
}
