//! Durations as Go writes them, for annotations that Cilium reads with Go's parser.

use std::time::Duration;

/// Reads what Go's `time.ParseDuration` accepts and is not negative: `0`, `90s`, `1m30s`, `1.5h`, `250ms`.
/// `None` for anything else, and beyond Go's range of 2^63 nanoseconds.
pub(crate) fn parse_go(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let (whole, after) = split_digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => split_digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let unit = nanoseconds(unit)?;
        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        total = total.checked_add(u128::from(whole) * unit)?;
        let mut scale = unit;
        for digit in fraction.bytes() {
            scale /= 10;
            total += scale * u128::from(digit - b'0');
        }
        rest = after;
    }
    i64::try_from(total).ok().map(|nanoseconds| Duration::from_nanos(nanoseconds.unsigned_abs()))
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

fn nanoseconds(unit: &str) -> Option<u128> {
    Some(match unit {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
