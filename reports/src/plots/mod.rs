//! What each figure of a report shows.

mod breakdown;
mod candidates;
mod loss;
mod memory;
mod timeline;

use ir::units::Bytes;

use crate::Report;
use crate::figure::Figure;

/// All figures for which there is something to show.
pub(crate) fn figures(report: &Report<'_>) -> Vec<Figure> {
    [breakdown::figure, memory::figure, timeline::figure, loss::figure, candidates::figure]
        .into_iter()
        .filter_map(|figure| figure(report))
        .collect()
}

/// At most `limit` of the numbers from 0 to `count`, spread evenly, with both ends.
fn spread(count: u32, limit: u32) -> Vec<u32> {
    if count <= limit {
        return (0..count).collect();
    }
    (0..limit).map(|index| (u64::from(index) * u64::from(count - 1) / u64::from(limit - 1)) as u32).collect()
}

/// Whether a limit of memory can be drawn without making what is below it too small to see.
fn fits_into_view(capacity: Bytes, largest: Bytes) -> bool {
    capacity.as_f64() <= 3.0 * largest.as_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_both_ends() {
        assert_eq!(spread(3, 8), [0, 1, 2]);
        assert_eq!(spread(16, 4), [0, 5, 10, 15]);
    }
}
