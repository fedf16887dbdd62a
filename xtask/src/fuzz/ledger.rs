//! How long each target was run in all, kept in the repository.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::time::Duration;

use anyhow::{Context, bail};

use super::outcome::Outcome;
use crate::process;

/// Where it is.
const FILE: &str = "conformance/reports/fuzz.txt";

/// What each column is.
const HEAD: &str = "# Long runs of the fuzz targets in all; `cargo xtask fuzz --long` adds to it.
# Seconds are time on a processor, edges those of the last run, findings all that there ever were.
# target       seconds   executions   edges findings last        commit
";

/// What came of a target's runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Entry {
    /// Time on a processor.
    seconds: u64,
    executions: u64,
    /// Of the last run.
    edges: u64,
    findings: u64,
    /// Day of the last run.
    last: String,
    /// What was run last.
    commit: String,
}

/// The file's content.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ledger(BTreeMap<String, Entry>);

impl Ledger {
    /// Reads the file; nothing when there is none.
    pub(super) fn read() -> anyhow::Result<Self> {
        let path = process::root().join(FILE);
        if !path.exists() {
            return Ok(Self::default());
        }
        Self::parse(&fs::read_to_string(&path)?).with_context(|| format!("{FILE} was changed by hand"))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let entries = lines.map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [name, seconds, executions, edges, findings, last, commit] = words[..] else {
                bail!("{line:?} has not 7 columns");
            };
            let number =
                |word: &str| word.parse().with_context(|| format!("{word} in {line:?} is no number"));
            let entry = Entry {
                seconds: number(seconds)?,
                executions: number(executions)?,
                edges: number(edges)?,
                findings: number(findings)?,
                last: last.to_owned(),
                commit: commit.to_owned(),
            };
            Ok((name.to_owned(), entry))
        });
        entries.collect::<anyhow::Result<_>>().map(Self)
    }

    /// Adds a run to what is in the file by now.
    pub(super) fn add(outcome: &Outcome, commit: &str) -> anyhow::Result<()> {
        let day = process::output(std::process::Command::new("date").args(["-u", "+%F"]))
            .context("`date` does not tell the day")?;
        // Two long runs of different targets may end a turn at the same moment.
        let lock = File::create(process::target_dir().join("fuzz/ledger.lock"))?;
        lock.lock()?;
        let mut ledger = Self::read()?;
        ledger.count(outcome, day.trim(), commit);
        let path = process::root().join(FILE);
        fs::write(&path, ledger.to_string()).with_context(|| format!("cannot write {FILE}"))
    }

    fn count(&mut self, outcome: &Outcome, day: &str, commit: &str) {
        let entry = self.0.entry(outcome.name.to_owned()).or_default();
        entry.seconds += outcome.cpu.as_secs();
        entry.executions += outcome.executions;
        entry.edges = outcome.edges;
        entry.findings += outcome.findings();
        day.clone_into(&mut entry.last);
        commit.clone_into(&mut entry.commit);
    }

    /// How long a target has run in all.
    pub(super) fn time(&self, name: &str) -> Duration {
        Duration::from_secs(self.0.get(name).map_or(0, |entry| entry.seconds))
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HEAD)?;
        for (name, Entry { seconds, executions, edges, findings, last, commit }) in &self.0 {
            writeln!(
                f,
                "{name:<14} {seconds:>7} {executions:>12} {edges:>7} {findings:>8} {last:<11} {commit}"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use super::{Ledger, Outcome};

    const REPORT: &str = "#9\tDONE   cov: 118 ft: 119 corp: 20/96b\nstat::number_of_executed_units: 1000\n";

    #[test]
    fn runs_are_added_up() {
        let run = || {
            let outcome = Outcome::new("packet", REPORT, true, vec![PathBuf::from("a")], PathBuf::new());
            outcome.with_cpu(Duration::from_millis(2700))
        };
        let mut ledger = Ledger::default();
        ledger.count(&run(), "2026-01-01", "a");
        ledger.count(&run(), "2026-01-02", "b");
        assert_eq!(ledger.time("packet"), Duration::from_secs(4));
        assert_eq!(ledger.time("pipeline"), Duration::ZERO);
        let shown = ledger.to_string();
        let line = shown.lines().last().expect("a line").split_whitespace().collect::<Vec<_>>();
        assert_eq!(line, ["packet", "4", "2000", "118", "2", "2026-01-02", "b"]);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut ledger = Ledger::default();
        let outcome = Outcome::new("http1", REPORT, true, Vec::new(), PathBuf::new());
        ledger.count(&outcome.with_cpu(Duration::from_secs(3)), "2026-01-01", "abc-dirty");
        assert_eq!(Ledger::parse(&ledger.to_string()).expect("it is well-formed"), ledger);
        let error = Ledger::parse("packet 1 2\n").expect_err("a column is missing");
        assert!(error.to_string().contains("7 columns"), "{error}");
    }

    #[test]
    fn the_kept_ledger_can_be_read() {
        Ledger::read().expect("it is well-formed");
    }
}
