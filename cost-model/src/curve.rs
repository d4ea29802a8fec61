//! Time as a function of the amount of work, through measured points.

/// No kernel of some size takes longer than so many times what the description of its device says.
const SLOWEST: f64 = 4.0;

/// Measured times by amount of work, for one kind of work. Never falls: more work is never priced lower.
#[derive(Clone, Debug, Default)]
pub(crate) struct Curve {
    // Invariant: amounts increase strictly, times do not decrease, all are positive.
    points: Vec<(f64, f64)>,
}

impl Curve {
    /// The curve through (amount, seconds), in any order. Points that are not positive are left out.
    pub(crate) fn through(samples: &[(f64, f64)]) -> Curve {
        let mut sorted: Vec<(f64, f64)> =
            samples.iter().copied().filter(|&(amount, time)| amount > 0.0 && time > 0.0).collect();
        sorted.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        Curve { points: rising(&sorted) }
    }

    /// The time for `amount`; none if nothing was measured.
    ///
    /// Between two points log–log linear: exact for every power law. Above the largest, proportional to the amount.
    /// Below the smallest, along the line through the two smallest, whose height at zero is the fixed cost.
    pub(crate) fn at(&self, amount: f64) -> Option<f64> {
        let (&first, &last) = (self.points.first()?, self.points.last()?);
        if amount <= first.0 {
            return Some(self.below(first, amount));
        }
        if amount >= last.0 {
            return Some(last.1 * amount / last.0);
        }
        let right = self.points.partition_point(|&(other, _)| other < amount);
        let ((x0, y0), (x1, y1)) = (self.points[right - 1], self.points[right]);
        let part = (amount / x0).ln() / (x1 / x0).ln();
        Some(y0 * (y1 / y0).powf(part))
    }

    /// The same, where the time for `amount` is modelled as `modelled`: above the largest, no more than the largest and
    /// [`SLOWEST`] times that together. What takes next to nothing is the cost of a launch, which is paid once.
    pub(crate) fn at_with(&self, amount: f64, modelled: f64) -> Option<f64> {
        let (time, &last) = (self.at(amount)?, self.points.last()?);
        Some(if amount > last.0 { time.min(last.1 + SLOWEST * modelled) } else { time })
    }

    fn below(&self, first: (f64, f64), amount: f64) -> f64 {
        let fixed = self.points.get(1).map_or(0.0, |second| {
            let slope = (second.1 - first.1) / (second.0 - first.0);
            (first.1 - slope * first.0).max(0.0)
        });
        fixed + (first.1 - fixed) * amount / first.0
    }
}

/// Isotonic regression by pooling adjacent violators (Ayer et al. 1955), on logarithms: runs of points that fall are
/// replaced by their geometric mean, and so are points of one amount.
fn rising(sorted: &[(f64, f64)]) -> Vec<(f64, f64)> {
    // Pools: the sum of log times, the count of points.
    let mut pools: Vec<(f64, usize)> = Vec::new();
    let mut previous = 0.0;
    for &(amount, time) in sorted {
        let mut pool = (time.ln(), 1);
        let same = amount <= previous;
        let mut merge = same;
        while let Some(&(sum, count)) = pools.last() {
            if !merge && sum / count as f64 <= pool.0 / pool.1 as f64 {
                break;
            }
            pool = (pool.0 + sum, pool.1 + count);
            pools.pop();
            merge = false;
        }
        pools.push(pool);
        previous = amount;
    }
    let times = pools.iter().flat_map(|&(sum, count)| std::iter::repeat_n((sum / count as f64).exp(), count));
    let mut points: Vec<(f64, f64)> = sorted.iter().map(|&(amount, _)| amount).zip(times).collect();
    points.dedup_by(|later, earlier| later.0 <= earlier.0);
    points
}

#[cfg(test)]
mod tests {
    use super::*;
    use ir::seed::{Draws, Seed};

    fn near(found: Option<f64>, expected: f64) {
        let found = found.expect("a curve with points");
        assert!((found / expected - 1.0).abs() < 1e-9, "{found} is not {expected}");
    }

    #[test]
    fn between_two_points_a_power_law_is_exact() {
        let curve = Curve::through(&[(1.0, 2.0), (16.0, 8.0)]);
        near(curve.at(4.0), 4.0);
    }

    #[test]
    fn above_the_largest_time_grows_with_work_and_below_the_fixed_cost_remains() {
        let curve = Curve::through(&[(10.0, 3.0), (20.0, 5.0)]);
        near(curve.at(200.0), 50.0);
        near(curve.at(5.0), 2.0);
        near(curve.at(1e-12), 1.0);
    }

    #[test]
    fn a_launch_is_paid_once() {
        let launch = Curve::through(&[(2.0, 1.5e-6)]);
        near(launch.at(4e6), 3.0);
        near(launch.at_with(4e6, 1e-5), 1.5e-6 + 4e-5);
        let work = Curve::through(&[(1e6, 1e-5)]);
        near(work.at_with(4e6, 1e-5), 4e-5);
    }

    #[test]
    fn one_point_is_a_rate() {
        near(Curve::through(&[(10.0, 3.0)]).at(5.0), 1.5);
        assert!(Curve::through(&[]).at(5.0).is_none());
    }

    #[test]
    fn noise_never_makes_more_work_cheaper() {
        for seed in 0..200 {
            let mut draws = Draws::new(Seed(seed));
            let samples: Vec<(f64, f64)> =
                (0..12).map(|_| ((1 + draws.below(20)) as f64, 0.1 + draws.uniform())).collect();
            let curve = Curve::through(&samples);
            let times: Vec<f64> = (1..100).filter_map(|step| curve.at(f64::from(step) * 0.25)).collect();
            assert_eq!(times.len(), 99);
            assert!(times.windows(2).all(|pair| pair[0] <= pair[1] * (1.0 + 1e-12)), "seed {seed}: {times:?}");
        }
    }
}
