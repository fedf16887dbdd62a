//! Tables for people.

use comfy_table::{CellAlignment, Table, presets};

use crate::block::Series;
use crate::statistics::Estimate;

/// `1.02 [1.00, 1.05]`.
pub(crate) fn shown(estimate: Option<Estimate>, decimals: usize) -> String {
    estimate.map_or_else(String::new, |estimate| {
        format!("{:.decimals$} [{:.decimals$}, {:.decimals$}]", estimate.median, estimate.low, estimate.high)
    })
}

/// A table as Markdown reads it, all columns but the first to the right.
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(header.to_vec());
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// One comparison.
pub(crate) fn series(series: &Series) -> String {
    let mut table = table(&[
        "proxy",
        "CPU us a request",
        "user + kernel",
        "ours / its CPU",
        "machine over direct us",
        "sleeps a request",
        "p50 ms",
        "p99 ms",
    ]);
    for standing in &series.standings {
        table.add_row([
            standing.name.clone(),
            shown(standing.cpu_us, 1),
            format!("{:.1} + {:.1}", standing.user_us, standing.system_us),
            shown(standing.ratio, 3),
            format!("{:.1}", standing.machine_over_direct_us),
            format!("{:.2}", standing.sleeps),
            format!("{:.3}", standing.p50_ms),
            format!("{:.3}", standing.p99_ms),
        ]);
    }
    format!(
        "{table}\n{} requests a second, {} s a run; {} blocks kept, {} dropped; at most {:.2} % stolen",
        series.rate, series.seconds, series.kept, series.dropped, series.stolen_percent
    )
}
