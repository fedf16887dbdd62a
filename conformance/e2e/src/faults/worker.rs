//! The worker dies.

use std::time::Duration;

use anyhow::ensure;
use mesh_testkit::http::{Connection, Speak};
use mesh_testkit::process::stand_still;
use mesh_testkit::wait;
use rustix::process::{Pid, Signal};

use super::world::{World, ensure_once, signal};
use super::{Length, Rig};

/// From a death to the next answer to each kind of traffic.
const SERVED_WITHIN: Duration = Duration::from_secs(2);
/// Connections that arrive while nobody accepts.
const WAITING: usize = 20;
/// About what one round takes.
const ROUND: Duration = Duration::from_secs(2);

pub(super) fn killed_under_traffic(rig: &Rig, length: Length) -> anyhow::Result<String> {
    let rounds = length.rounds(10, ROUND);
    let world = World::serving(rig)?;
    let traffic = world.traffic()?;
    let mut slowest = Duration::ZERO;
    for round in 0..rounds {
        let worker = world.worker()?;
        if round % 2 == 0 {
            signal(worker, Signal::KILL)?;
        } else {
            answer_those_that_wait(&world, worker)?;
        }
        slowest = slowest.max(traffic.answered_again(SERVED_WITHIN)?);
        // Until the next worker has lived a while it would be one that keeps dying, which waits on purpose.
        wait::until("the successor is another one", SERVED_WITHIN, || {
            ensure!(world.worker()? != worker, "the old one is still there");
            Ok(())
        })?;
    }
    let report = traffic.finish()?;
    let told = format!("{rounds} kills; served again after {} ms at most\n{report}", slowest.as_millis());
    let wrong = report.sum(|tally| tally.wrong + tally.failed);
    ensure!(wrong == 0, "{told}\n{}", report.troubles());
    for (name, tally) in &report.loads {
        if name.ends_with("fresh") {
            // Those that the dead worker had accepted are lost, one client asks one at a time.
            ensure!(tally.lost <= rounds as u64, "{name}: {told}\n{}", report.troubles());
            ensure!(tally.refused == 0, "{name}: the listening sockets were open all the time: {told}");
            ensure!(tally.longest_gap <= SERVED_WITHIN, "{name}: {told}");
        }
        if name.ends_with("flow") {
            ensure!(tally.unanswered() == 0 && tally.cut == 0, "what passes no proxy noticed: {told}");
        }
    }
    ensure_once(&world)?;
    Ok(told)
}

/// Connections that arrive while the worker stands still wait in the listening sockets, and are answered by
/// its successor.
fn answer_those_that_wait(world: &World, worker: Pid) -> anyhow::Result<()> {
    stand_still(worker.as_raw_pid().unsigned_abs())?;
    let to = world.catalog().to;
    let waiting: Vec<_> = (0..WAITING).map(|_| world.stack.pod(2).connect(to)).collect::<Result<_, _>>()?;
    signal(worker, Signal::KILL)?;
    for stream in waiting {
        let answer = Connection::open(stream, &Speak::Http1)?.get("catalog", "/")?;
        ensure!(answer.status == 200, "a connection that waited is answered with {}", answer.status);
    }
    Ok(())
}
