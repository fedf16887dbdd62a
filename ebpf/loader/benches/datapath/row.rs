//! Measured cases.

use comfy_table::{CellAlignment, Table, presets};
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

/// All of them, as Markdown reads it.
pub(crate) fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(["program", "case", "how", "ns", "empty ns", "ns over empty", "quartiles"]);
    for row in rows {
        let [median, lower, upper] = row.over_empty;
        table.add_row([
            row.program.to_owned(),
            row.case.clone(),
            row.method.to_owned(),
            format!("{:.0}", row.nanoseconds),
            format!("{:.0}", row.empty),
            format!("{median:.0}"),
            format!("{lower:.0}-{upper:.0}"),
        ]);
    }
    for column in table.column_iter_mut().skip(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
