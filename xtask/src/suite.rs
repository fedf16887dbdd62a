//! Suites: what passed, failed and was skipped, and how long it may take.

use std::fmt;
use std::time::{Duration, Instant};

/// Outcome of one or more suites.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Tests that passed.
    pub(crate) passed: u32,
    /// Tests that failed.
    pub(crate) failed: u32,
    /// Tests that could not run here.
    pub(crate) skipped: u32,
}

impl Tally {
    /// One test.
    pub(crate) fn one(passed: bool) -> Self {
        Self { passed: u32::from(passed), failed: u32::from(!passed), skipped: 0 }
    }

    /// Reads the last line of a suite.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let mut numbers = line.split(", ").zip([" passed", " failed", " skipped"]);
        let mut next = || {
            let (part, word) = numbers.next()?;
            part.strip_suffix(word)?.parse().ok()
        };
        Some(Self { passed: next()?, failed: next()?, skipped: next()? })
    }

    /// Skipped tests, said loudly.
    pub(crate) fn skip(count: u32, what: &str, why: &str) -> Self {
        println!("SKIPPED: {what}: {why}");
        Self { skipped: count, ..Self::default() }
    }
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// A suite and its budget.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Suite {
    /// Name.
    pub(crate) name: &'static str,
    /// Minutes it may take, building included, on two cores.
    pub(crate) budget_minutes: u64,
}

impl Suite {
    /// Runs it and prints its line. Taking longer than the budget is a failure where the build cache is warm.
    pub(crate) fn run(self, warm: bool, body: impl FnOnce() -> anyhow::Result<Tally>) -> Tally {
        println!("\n== {} (at most {} minutes)", self.name, self.budget_minutes);
        let start = Instant::now();
        let mut tally = body().unwrap_or_else(|error| {
            eprintln!("error: {error:#}");
            Tally::one(false)
        });
        let took = start.elapsed();
        if warm && took > Duration::from_secs(self.budget_minutes * 60) {
            eprintln!("error: suite {} took {} s, more than its budget", self.name, took.as_secs());
            tally.failed += 1;
        }
        println!("{} took {:.1} s", self.name, took.as_secs_f32());
        println!("{tally}");
        tally
    }
}

#[cfg(test)]
mod tests {
    use super::Tally;

    #[test]
    fn a_total_is_read_as_it_is_written() {
        let tally = Tally { passed: 12, failed: 3, skipped: 1 };
        assert_eq!(Tally::parse(&tally.to_string()), Some(tally));
        assert_eq!(Tally::parse("12 passed, 3 failed"), None);
        assert_eq!(Tally::parse("ok, and more"), None);
    }
}
