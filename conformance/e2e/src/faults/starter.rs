//! The starter dies, and with it the listening sockets.

use std::time::{Duration, Instant};

use anyhow::ensure;
use mesh_testkit::wait;
use rustix::process::Signal;

use super::world::{World, ensure_once, signal};
use super::{Length, Rig};

/// From its death to the next answer to each kind of traffic: half a second until the agent sees it, the new
/// proxy's first configuration, and the clients' first retransmission of what nobody took, after a second.
const SERVED_WITHIN: Duration = Duration::from_secs(4);
/// About what one round takes.
const ROUND: Duration = Duration::from_secs(5);

pub(super) fn killed_under_traffic(rig: &Rig, length: Length) -> anyhow::Result<String> {
    let rounds = length.rounds(3, ROUND);
    let world = World::serving(rig)?;
    let traffic = world.traffic()?;
    let mut slowest = Duration::ZERO;
    for _ in 0..rounds {
        let starter = world.starter()?;
        let begun = Instant::now();
        signal(starter, Signal::KILL)?;
        wait::until("the agent starts another", SERVED_WITHIN, || {
            ensure!(world.starter()? != starter, "the old one still answers");
            Ok(())
        })?;
        traffic.answered_again(SERVED_WITHIN)?;
        slowest = slowest.max(begun.elapsed());
        world.stack.wait_ready()?;
    }
    // Waits for everything under way: what hangs is counted as lost.
    let report = traffic.finish()?;
    let told = format!("{rounds} kills; all served again after {} ms at most\n{report}", slowest.as_millis());
    for (name, tally) in &report.loads {
        ensure!(tally.wrong == 0, "{name}: {told}\n{}", report.troubles());
        ensure!(
            tally.longest_gap <= SERVED_WITHIN || name.ends_with("download"),
            "{name}: {told}\n{}\n{}",
            report.troubles(),
            world.logs()
        );
        if name.ends_with("flow") {
            ensure!(tally.unanswered() == 0 && tally.cut == 0, "what passes no proxy noticed: {told}");
        }
    }
    ensure_once(&world)?;
    Ok(told)
}
