//! What libFuzzer says at the end of a run.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One target's run.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) name: &'static str,
    pub(super) executions: u64,
    per_second: u64,
    /// Edges reached.
    pub(super) edges: u64,
    new_inputs: u64,
    megabytes: u64,
    succeeded: bool,
    findings: Vec<PathBuf>,
    log: PathBuf,
    /// What the target said when it died, and its input.
    last_words: Vec<String>,
    /// Time on a processor.
    pub(super) cpu: Duration,
}

impl Outcome {
    /// Reads libFuzzer's report.
    pub(super) fn new(
        name: &'static str,
        text: &str,
        succeeded: bool,
        findings: Vec<PathBuf>,
        log: PathBuf,
    ) -> Self {
        let stat = |key: &str| {
            let line = text.lines().rev().find_map(|line| line.strip_prefix("stat::")?.strip_prefix(key));
            line.and_then(|rest| rest.trim_start_matches(':').trim().parse().ok()).unwrap_or(0)
        };
        // `#1234 DONE cov: 56 ft: 78 ...`; after a finding the last line of progress stands for it.
        let progress = text.lines().rev().filter(|line| line.starts_with('#'));
        let edges = progress
            .filter_map(|line| line.split_once(" cov: "))
            .find_map(|(_, rest)| rest.split_whitespace().next()?.parse().ok());
        Self {
            name,
            executions: stat("number_of_executed_units"),
            per_second: stat("average_exec_per_sec"),
            edges: edges.unwrap_or(0),
            new_inputs: stat("new_units_added"),
            megabytes: stat("peak_rss_mb"),
            succeeded,
            findings,
            log,
            last_words: if succeeded { Vec::new() } else { last_words(text) },
            cpu: Duration::ZERO,
        }
    }

    /// The same with the time that it took.
    pub(super) fn with_cpu(self, cpu: Duration) -> Self {
        Self { cpu, ..self }
    }

    /// How much was found. A death that left no input is a finding too.
    pub(super) fn findings(&self) -> u64 {
        (self.findings.len() as u64).max(u64::from(!self.succeeded))
    }

    /// Whether nothing was found, and inputs were run at all.
    pub(super) fn is_clean(&self) -> bool {
        self.findings() == 0 && self.executions > 0
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, executions, per_second, edges, cpu, new_inputs, megabytes, .. } = self;
        write!(
            f,
            "{name:<14} {executions:>10} executions {per_second:>7}/s, {edges:>6} edges, \
             {new_inputs:>5} new inputs, {megabytes:>4} MiB, {:>4} s on a processor, {} findings",
            cpu.as_secs(),
            self.findings()
        )?;
        for finding in &self.findings {
            write!(f, "\nFOUND: {name}: {}", finding.display())?;
        }
        if !self.succeeded && self.findings.is_empty() {
            write!(f, "\nFOUND: {name}: it died without leaving its input, as a stack that overflows does")?;
        }
        for line in &self.last_words {
            write!(f, "\n{name}: {line}")?;
        }
        if !self.is_clean() {
            write!(f, "\n{name}: what libFuzzer said is in {}", self.log.display())?;
        }
        Ok(())
    }
}

/// Lines of a death that are shown, and the most characters of each.
const LAST_WORDS: (usize, usize) = (12, 800);

/// The panic's message without its stack, libFuzzer's own reason, and the input: the machine that found it may be
/// gone when somebody reads of it.
fn last_words(text: &str) -> Vec<String> {
    let panic = text.lines().skip_while(|line| !line.contains("panicked at"));
    let panic = panic.take_while(|line| *line != "stack backtrace:");
    let reason =
        text.lines().filter(|line| line.contains(" ERROR: libFuzzer") || line.starts_with("Base64: "));
    let cut = |line: &str| line.chars().take(LAST_WORDS.1).collect();
    panic.take(LAST_WORDS.0).chain(reason).map(cut).collect()
}

/// The files of a folder, sorted.
pub(super) fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::Outcome;

    const REPORT: &str = "INFO: seed corpus: files: 3\n#4\tINITED cov: 90 ft: 91 corp: 1/1b\n\
        #262144\tDONE   cov: 118 ft: 119 corp: 20/96b lim: 4096 exec/s: 87381 rss: 41Mb\n\
        Done 262144 runs in 3 second(s)\nstat::number_of_executed_units: 262144\n\
        stat::average_exec_per_sec:     87381\nstat::new_units_added:          19\n\
        stat::slowest_unit_time_sec:    0\nstat::peak_rss_mb:              41\n";

    #[test]
    fn the_report_is_read() {
        let outcome = Outcome::new("packet", REPORT, true, Vec::new(), PathBuf::from("log"));
        assert!(outcome.is_clean());
        let shown = outcome.to_string();
        for part in ["262144 executions", "87381/s", "118 edges", "19 new inputs", "41 MiB", "0 findings"] {
            assert!(shown.contains(part), "{shown}");
        }
    }

    #[test]
    fn a_finding_a_failure_and_a_run_of_nothing_are_not_clean() {
        let log = || PathBuf::from("log");
        let finding = vec![PathBuf::from("crash-1")];
        assert!(!Outcome::new("packet", REPORT, true, finding, log()).is_clean());
        let died = Outcome::new("packet", REPORT, false, Vec::new(), log());
        assert!(!died.is_clean() && died.to_string().contains("FOUND: packet: it died"), "{died}");
        assert!(!Outcome::new("packet", "", true, Vec::new(), log()).is_clean());
    }

    #[test]
    fn a_death_is_told_without_its_stack() {
        let text = "#2 NEW cov: 3\nthread '<unnamed>' panicked at targets/src/packet.rs:1:2:\nleft: 1\n\
            stack backtrace:\n   0: rust_begin_unwind\n==7== ERROR: libFuzzer: deadly signal\nBase64: AGQ=\n";
        let shown = Outcome::new("packet", text, false, Vec::new(), PathBuf::from("log")).to_string();
        for part in
            ["packet: thread '<unnamed>' panicked at", "packet: left: 1", "deadly signal", "Base64: AGQ="]
        {
            assert!(shown.contains(part), "{shown}");
        }
        assert!(!shown.contains("rust_begin_unwind"), "{shown}");
    }
}
