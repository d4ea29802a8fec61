//! Many times of one work become one sample.

use ir::profile::{Sample, Work};
use ir::units::Seconds;

/// A spread of more than this part of the median is worth a word.
const NOISY: f64 = 0.25;

/// The sample of some times in seconds: median, and half the distance of the quartiles.
///
/// # Panics
/// If there are none.
pub(crate) fn fold(work: Work, times: &mut [f64]) -> Sample {
    times.sort_by(f64::total_cmp);
    let spread = (quantile(times, 0.75) - quantile(times, 0.25)) / 2.0;
    Sample { work, median: Seconds(quantile(times, 0.5)), spread: Seconds(spread), runs: times.len() as u32, way: None }
}

/// Whether times differed so much that the median says little.
pub(crate) fn is_noisy(sample: &Sample) -> bool {
    sample.spread.0 > NOISY * sample.median.0
}

/// The median of some times in seconds; zero if there are none.
pub(crate) fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    if times.is_empty() { 0.0 } else { quantile(times, 0.5) }
}

/// The value below which a part of the sorted values lies, linear between neighbours.
fn quantile(sorted: &[f64], part: f64) -> f64 {
    let place = part * (sorted.len() - 1) as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * (place - below as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ir::units::Bytes;

    #[test]
    fn one_late_run_changes_neither_median_nor_spread() {
        let work = Work::Copy { bytes: Bytes(8) };
        let sample = fold(work.clone(), &mut [3.0, 1.0, 2.0, 5.0, 4.0]);
        assert_eq!((sample.median, sample.spread, sample.runs), (Seconds(3.0), Seconds(1.0), 5));
        let late = fold(work, &mut [3.0, 1.0, 2.0, 500.0, 4.0]);
        assert_eq!((late.median, late.spread), (Seconds(3.0), Seconds(1.0)));
        assert!(is_noisy(&late));
    }

    #[test]
    fn a_single_time_has_no_spread() {
        let sample = fold(Work::Copy { bytes: Bytes(8) }, &mut [2.0]);
        assert_eq!((sample.median, sample.spread), (Seconds(2.0), Seconds::ZERO));
        assert!(!is_noisy(&sample));
    }
}
