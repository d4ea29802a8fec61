//! The middle of many measurements.

use ir::units::Seconds;

/// The median of times, and the median distance from it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Middle {
    pub(crate) median: Seconds,
    pub(crate) spread: Seconds,
    pub(crate) count: usize,
}

/// The middle of `times`; none of none.
pub(crate) fn middle(times: impl IntoIterator<Item = Seconds>) -> Option<Middle> {
    let times: Vec<f64> = times.into_iter().map(|time| time.0).collect();
    let median = median(times.clone())?;
    let distances = times.iter().map(|time| (time - median).abs()).collect();
    let spread = Seconds(self::median(distances)?);
    Some(Middle { median: Seconds(median), spread, count: times.len() })
}

/// Of two in the middle, their mean.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    Some((values[last / 2] + values[last.div_ceil(2)]) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slow_step_does_not_move_the_middle() {
        let found = middle([1.0, 3.0, 2.0, 2.5, 100.0].map(Seconds));
        assert_eq!(found, Some(Middle { median: Seconds(2.5), spread: Seconds(0.5), count: 5 }));
        assert_eq!(middle([1.0, 4.0].map(Seconds)).map(|middle| middle.median), Some(Seconds(2.5)));
        assert_eq!(middle([]), None);
    }
}
