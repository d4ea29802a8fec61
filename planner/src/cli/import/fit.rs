//! Curves through measured points, by least squares.

/// `a + b · x + c · x²`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Curve([f64; 3]);

impl Curve {
    /// Value at `x`.
    pub(crate) fn at(&self, x: f64) -> f64 {
        let [a, b, c] = self.0;
        a + x * (b + x * c)
    }

    /// `x · slope`.
    pub(crate) fn through_zero(slope: f64) -> Self {
        Self([0.0, slope, 0.0])
    }

    /// The straight line nearest to points of at least two places; none of fewer.
    pub(crate) fn line(points: &[(f64, f64)]) -> Option<Self> {
        fitted(points, 2).map(Self)
    }

    /// The parabola nearest to points of at least three places; none of fewer.
    pub(crate) fn parabola(points: &[(f64, f64)]) -> Option<Self> {
        fitted(points, 3).map(Self)
    }
}

/// The first `terms` coefficients that leave the least sum of squares, by the normal equations. Places are scaled to at
/// most one, so that powers stay alike.
fn fitted(points: &[(f64, f64)], terms: usize) -> Option<[f64; 3]> {
    let mut places: Vec<f64> = points.iter().map(|&(x, _)| x).collect();
    places.sort_by(f64::total_cmp);
    places.dedup();
    if places.len() < terms {
        return None;
    }
    let scale = places.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
    let mut rows = [[0.0; 4]; 3];
    for (i, row) in rows.iter_mut().enumerate().take(terms) {
        for &(x, y) in points {
            let x = x / scale;
            (0..terms).for_each(|j| row[j] += x.powi((i + j) as i32));
            row[3] += y * x.powi(i as i32);
        }
    }
    for pivot in 0..terms {
        let reduced = rows[pivot].map(|value| value / rows[pivot][pivot]);
        rows[pivot] = reduced;
        for row in (0..terms).filter(|&row| row != pivot) {
            let factor = rows[row][pivot];
            (0..4).for_each(|column| rows[row][column] -= factor * reduced[column]);
        }
    }
    Some([rows[0][3], rows[1][3] / scale, rows[2][3] / (scale * scale)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_go_through_points_that_lie_on_one() {
        let points: Vec<(f64, f64)> = [512.0, 1024.0, 4096.0, 8192.0].map(|x| (x, 3.0 + x * (0.5 - x * 1e-5))).to_vec();
        let curve = Curve::parabola(&points).expect("there are enough points");
        assert!((curve.at(2048.0) - (3.0 + 1024.0 - 41.943_04)).abs() < 1e-6);
        let line = Curve::line(&[(1.0, 1.0), (2.0, 2.0), (3.0, 6.0)]).expect("there are enough points");
        assert!((line.at(2.0) - 3.0).abs() < 1e-12 && (line.at(0.0) + 2.0).abs() < 1e-12);
        assert_eq!(Curve::line(&[(2.0, 1.0), (2.0, 3.0)]), None);
    }
}
