//! No agent for a while.

use std::time::{Duration, Instant};

use anyhow::ensure;
use rustix::process::Signal;

use super::world::{World, ensure_once, signal};
use super::{Length, Rig};

/// In the gate; `cargo xtask soak` goes on for five minutes at least.
const IN_THE_GATE: Duration = Duration::from_secs(20);
/// In a soak.
const IN_A_SOAK: Duration = Duration::from_secs(300);
/// From a worker's death to the next answer.
const SERVED_WITHIN: Duration = Duration::from_secs(2);

pub(super) fn agent_is_away(rig: &Rig, length: Length) -> anyhow::Result<String> {
    let time = match length {
        Length::Gate => IN_THE_GATE,
        Length::Soak(_) => length.time(IN_A_SOAK),
    };
    let mut world = World::serving(rig)?;
    let traffic = world.traffic()?;
    world.stack.kill_agent()?;
    let end = Instant::now() + time;
    std::thread::sleep(time / 4);
    let undisturbed = traffic.report();
    // Its successor has nobody to ask: it serves what the dead one left with the starter.
    let worker = world.worker()?;
    signal(worker, Signal::KILL)?;
    let again = traffic.answered_again(SERVED_WITHIN)?;
    ensure!(world.worker()? != worker, "the killed worker serves");
    while Instant::now() < end {
        std::thread::sleep(Duration::from_millis(100));
    }
    let at_the_end = traffic.report();
    world.stack.start_agent()?;
    world.stack.wait_ready()?;
    traffic.answered_again(SERVED_WITHIN)?;
    let report = traffic.finish()?;
    let told = format!(
        "{} s without an agent; a new worker served after {} ms\n{report}",
        time.as_secs(),
        again.as_millis()
    );
    let harm = |report: &mesh_testkit::traffic::Report| {
        report.sum(|tally| tally.lost + tally.refused + tally.failed + tally.wrong + tally.cut)
    };
    ensure!(harm(&undisturbed) == 0, "before the worker died: {undisturbed}\n{}", undisturbed.troubles());
    ensure!(harm(&at_the_end) == harm(&report), "when the agent came back: {told}\n{}", report.troubles());
    let wrong = report.sum(|tally| tally.wrong + tally.failed + tally.refused);
    ensure!(wrong == 0, "{told}\n{}", report.troubles());
    ensure!(report.longest_gap() <= SERVED_WITHIN, "{told}\n{}", report.troubles());
    ensure_once(&world)?;
    Ok(told)
}
