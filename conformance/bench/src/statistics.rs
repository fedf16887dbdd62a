//! Medians and how far they can be trusted.

use serde::Serialize;

/// Resamplings for an interval.
const RESAMPLINGS: usize = 2000;

/// A median with the interval that holds it in 95 % of resamplings.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Estimate {
    /// The median.
    pub(crate) median: f64,
    /// Lower end of the interval.
    pub(crate) low: f64,
    /// Upper end.
    pub(crate) high: f64,
}

/// The middle of the values; the mean of the two in the middle of an even number. None of nothing.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// The median and its interval by the percentile bootstrap, with a fixed seed: the same values give the same
/// interval.
pub(crate) fn estimate(values: &[f64]) -> Option<Estimate> {
    let middle = median(values)?;
    let mut random = fastrand::Rng::with_seed(1);
    let mut medians: Vec<f64> = (0..RESAMPLINGS)
        .filter_map(|_| {
            let drawn: Vec<f64> = values.iter().map(|_| values[random.usize(..values.len())]).collect();
            median(&drawn)
        })
        .collect();
    medians.sort_by(f64::total_cmp);
    let at = |share: f64| medians[((medians.len() - 1) as f64 * share).round() as usize];
    Some(Estimate { median: middle, low: at(0.025), high: at(0.975) })
}

#[cfg(test)]
mod tests {
    use super::{estimate, median};

    #[test]
    fn a_median_is_the_middle_or_the_mean_of_the_two_middle_ones() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn an_interval_holds_the_median_and_grows_with_the_spread() {
        let narrow = estimate(&[1.0, 1.01, 0.99, 1.0, 1.02]).expect("there are values");
        let wide = estimate(&[1.0, 2.0, 0.5, 1.0, 3.0]).expect("there are values");
        assert!(narrow.low <= narrow.median && narrow.median <= narrow.high);
        assert!(wide.high - wide.low > narrow.high - narrow.low);
    }
}
