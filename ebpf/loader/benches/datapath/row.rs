//! One measured case.

use serde::Serialize;

/// Nanoseconds of a case and of an empty program beside it, round by round.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    /// Program.
    pub(crate) program: &'static str,
    /// What it was given.
    pub(crate) case: String,
    /// How it was measured: `test-run` or `traffic`.
    pub(crate) method: &'static str,
    /// Median over the rounds.
    pub(crate) nanoseconds: f64,
    /// Median of the empty program.
    pub(crate) empty: f64,
    /// Median of the differences, and their lower and upper quartile.
    pub(crate) over_empty: [f64; 3],
}

impl Row {
    /// From the rounds: each the program's time and the empty one's.
    pub(crate) fn of(
        program: &'static str,
        case: impl Into<String>,
        method: &'static str,
        rounds: &[(f64, f64)],
    ) -> Self {
        let quartiles = |of: &dyn Fn(&(f64, f64)) -> f64| {
            let mut values: Vec<f64> = rounds.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            let at = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
            [at(0.5), at(0.25), at(0.75)]
        };
        Self {
            program,
            case: case.into(),
            method,
            nanoseconds: quartiles(&|(program, _)| *program)[0],
            empty: quartiles(&|(_, empty)| *empty)[0],
            over_empty: quartiles(&|(program, empty)| program - empty),
        }
    }
}
