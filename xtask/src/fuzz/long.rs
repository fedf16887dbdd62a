//! The long run: every target in turn, until each has had its hour.

use std::path::Path;
use std::time::Duration;

use super::ledger::Ledger;
use super::limits::Limits;
use super::outcome::Outcome;
use super::run::{self, Length};
use crate::process;
use crate::suite::Tally;

/// Time on a processor that each target is to have in all.
const GOAL: Duration = Duration::from_secs(3600);

/// Runs whichever target had least so far, for a turn, until all have had their time or one has a finding.
/// A finding is looked at before more of the same are sought.
pub(super) fn run(targets: &[&Limits], folder: &Path, turn: Duration) -> anyhow::Result<Tally> {
    let commit = process::describe_commit();
    let mut outcomes: Vec<Outcome> = Vec::new();
    loop {
        let ledger = Ledger::read()?;
        let had = |limits: &&&Limits| ledger.time(limits.name);
        let is_open = |limits: &&&Limits| {
            let was_found = outcomes.iter().any(|outcome| outcome.name == limits.name && !outcome.is_clean());
            had(limits) < GOAL && !was_found
        };
        let Some(limits) = targets.iter().filter(is_open).min_by_key(had) else { break };
        // At least some seconds each, so that a rest below one second ends too.
        let rest = (GOAL - ledger.time(limits.name)).max(Duration::from_secs(5));
        let outcome = run::run(limits, folder, Length::Cpu(turn.min(rest)))?;
        println!("{outcome}");
        Ledger::add(&outcome, &commit)?;
        outcomes.push(outcome);
    }
    let mut tally = Tally::default();
    for limits in targets {
        let mut own = outcomes.iter().filter(|outcome| outcome.name == limits.name);
        tally += Tally::one(own.all(Outcome::is_clean));
    }
    Ok(tally)
}
