//! Least squares of few numbers, with what is known of them before (Gauss and Newton; the errors are of logarithms).

/// One number to find: all are logarithms.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unknown {
    /// Where it begins, and where it stays if nothing speaks against it.
    pub(super) start: f64,
    /// How far from there it is expected.
    pub(super) spread: f64,
    pub(super) range: [f64; 2],
}

/// What was found.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) values: Vec<f64>,
    /// How far off each may be, as the scatter of errors and what other numbers could do instead say.
    pub(super) deviations: Vec<f64>,
    /// How much each error moves with each number: `[number][row]`.
    pub(super) slopes: Vec<Vec<f64>>,
}

/// Errors are not smaller than this: a fit to exact data would leave nothing to what was known before.
const ERROR_MIN: f64 = 1e-3;
/// Difference of a logarithm by which slopes are found.
const DIFFERENCE: f64 = 0.02;
/// Steps shorter than this end the search.
const STEP_MIN: f64 = 3e-3;
const ROUNDS_MAX: usize = 8;
/// A step that makes errors larger is halved so often.
const HALVINGS: u32 = 4;

/// The values with the least squares of `errors`, each row weighing as `weights` say. The search begins at `near` if
/// something like it was found before, and then takes its slopes, too: slopes are dear, as each asks for all rows anew.
pub(super) fn least(
    unknowns: &[Unknown],
    weights: &[f64],
    near: Option<Found>,
    errors: impl Fn(&[f64]) -> Vec<f64>,
) -> Found {
    let is_near = near.is_some();
    let (mut values, slopes_near) = near.map_or_else(
        || (unknowns.iter().map(|unknown| unknown.start).collect::<Vec<f64>>(), None),
        |near| (near.values, Some(near.slopes)),
    );
    let mut now = errors(&values);
    let mut are_fresh = !is_near;
    let mut slopes = slopes_near.unwrap_or_else(|| slopes_at(&values, &now, &errors));
    for _ in 0..ROUNDS_MAX {
        match better(unknowns, weights, (&values, &now, &slopes), &errors) {
            Some((moved, then)) => {
                let step: Vec<f64> = moved.iter().zip(&values).map(|(a, b)| a - b).collect();
                learn(&mut slopes, &step, (&now, &then));
                are_fresh = false;
                (values, now) = (moved, then);
                if step.iter().all(|step| step.abs() < STEP_MIN) {
                    break;
                }
            }
            None if are_fresh || is_near => break,
            None => {
                slopes = slopes_at(&values, &now, &errors);
                are_fresh = true;
            }
        }
    }
    let matrix = matrix(unknowns, weights, &slopes, variance(&now, weights));
    let deviation = |index: usize| {
        let unit = (0..values.len()).map(|other| f64::from(u8::from(other == index))).collect();
        solve(matrix.clone(), unit)[index].max(0.0).sqrt()
    };
    Found { deviations: (0..values.len()).map(deviation).collect(), values, slopes }
}

/// Values and errors, and the slopes there.
type At<'a> = (&'a [f64], &'a [f64], &'a [Vec<f64>]);

/// What a step along the slopes, or a part of it, makes better: values, and their errors.
fn better(
    unknowns: &[Unknown],
    weights: &[f64],
    (values, now, slopes): At,
    errors: impl Fn(&[f64]) -> Vec<f64>,
) -> Option<(Vec<f64>, Vec<f64>)> {
    let variance = variance(now, weights);
    let cost = |values: &[f64], errors: &[f64]| {
        let known = values.iter().zip(unknowns).map(|(value, unknown)| (value - unknown.start) / unknown.spread);
        sum(weights, |row| errors[row] * errors[row]) / variance + known.map(|off| off * off).sum::<f64>()
    };
    let pull = |index: usize| {
        let known = (values[index] - unknowns[index].start) / unknowns[index].spread.powi(2);
        -(sum(weights, |row| slopes[index][row] * now[row]) / variance + known)
    };
    let step = solve(matrix(unknowns, weights, slopes, variance), (0..values.len()).map(pull).collect());
    let mut tried = (0..HALVINGS).map(|halvings| {
        let share = 0.5f64.powi(halvings as i32);
        let moved = values.iter().zip(&step).zip(unknowns);
        let moved: Vec<f64> = moved
            .map(|((value, step), unknown)| (value + share * step).clamp(unknown.range[0], unknown.range[1]))
            .collect();
        let then = errors(&moved);
        (moved, then)
    });
    let before = cost(values, now);
    tried.find(|(moved, then)| cost(moved, then) < before)
}

/// Slopes that say what the step did, and else what they said (Broyden 1965).
fn learn(slopes: &mut [Vec<f64>], step: &[f64], (before, after): (&[f64], &[f64])) {
    let length: f64 = step.iter().map(|step| step * step).sum();
    if length <= 0.0 {
        return;
    }
    for row in 0..before.len() {
        let said: f64 = slopes.iter().zip(step).map(|(slopes, step)| slopes[row] * step).sum();
        let off = (after[row] - before[row] - said) / length;
        slopes.iter_mut().zip(step).for_each(|(slopes, step)| slopes[row] += off * step);
    }
}

fn sum(weights: &[f64], of: impl Fn(usize) -> f64) -> f64 {
    weights.iter().enumerate().map(|(row, weight)| weight * of(row)).sum()
}

fn variance(errors: &[f64], weights: &[f64]) -> f64 {
    let mean = sum(weights, |row| errors[row] * errors[row]) / weights.iter().sum::<f64>();
    mean.max(ERROR_MIN * ERROR_MIN)
}

fn slopes_at(values: &[f64], now: &[f64], errors: impl Fn(&[f64]) -> Vec<f64>) -> Vec<Vec<f64>> {
    let slope = |index: usize| {
        let mut beside = values.to_vec();
        beside[index] += DIFFERENCE;
        errors(&beside).iter().zip(now).map(|(beside, now)| (beside - now) / DIFFERENCE).collect()
    };
    (0..values.len()).map(slope).collect()
}

/// The inverse of how values scatter: what rows say, and what was known before.
fn matrix(unknowns: &[Unknown], weights: &[f64], slopes: &[Vec<f64>], variance: f64) -> Vec<Vec<f64>> {
    let entry = |i: usize, j: usize| {
        let known = if i == j { unknowns[i].spread.powi(-2) } else { 0.0 };
        sum(weights, |row| slopes[i][row] * slopes[j][row]) / variance + known
    };
    (0..unknowns.len()).map(|i| (0..unknowns.len()).map(|j| entry(i, j)).collect()).collect()
}

/// The solution of a few equations whose matrix is symmetric and positive, which what is known before makes it.
fn solve(mut matrix: Vec<Vec<f64>>, mut right: Vec<f64>) -> Vec<f64> {
    let count = right.len();
    for pivot in 0..count {
        for row in pivot + 1..count {
            let factor = matrix[row][pivot] / matrix[pivot][pivot];
            let above = matrix[pivot].clone();
            matrix[row].iter_mut().zip(&above).for_each(|(entry, above)| *entry -= factor * above);
            right[row] -= factor * right[pivot];
        }
    }
    for row in (0..count).rev() {
        let behind: f64 = (row + 1..count).map(|column| matrix[row][column] * right[column]).sum();
        right[row] = (right[row] - behind) / matrix[row][row];
    }
    right
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: Unknown = Unknown { start: 0.0, spread: 1.0, range: [-3.0, 3.0] };

    #[test]
    fn equations_are_solved() {
        let found = solve(vec![vec![4.0, 1.0], vec![1.0, 3.0]], vec![1.0, 2.0]);
        assert!((found[0] - 1.0 / 11.0).abs() < 1e-12 && (found[1] - 7.0 / 11.0).abs() < 1e-12, "{found:?}");
    }

    #[test]
    fn numbers_that_made_the_rows_are_found_and_others_are_said() {
        // Steps of two parts, as logarithms; the third number is in none.
        let rows: Vec<f64> = (1..=9).map(f64::from).collect();
        let step = |values: &[f64], row: f64| (values[0].exp() * row + values[1].exp() * 5.0).ln();
        let truth = [0.4, -0.3, 0.0];
        let errors = |values: &[f64]| rows.iter().map(|&row| step(values, row) - step(&truth, row)).collect();
        let found = least(&[FREE; 3], &[1.0; 9], None, errors);
        assert!((found.values[0] - 0.4).abs() < 1e-3 && (found.values[1] + 0.3).abs() < 1e-3, "{found:?}");
        assert!(found.deviations[0] < 0.01 && found.deviations[1] < 0.01, "{found:?}");
        assert!(found.values[2].abs() < 1e-9 && (found.deviations[2] - 1.0).abs() < 1e-6, "{found:?}");
    }

    #[test]
    fn numbers_that_only_their_sum_says_are_not_determined() {
        let errors = |values: &[f64]| vec![values[0] + values[1] - 0.5; 20];
        let found = least(&[FREE; 2], &[1.0; 20], None, errors);
        assert!((found.values[0] - 0.25).abs() < 1e-3, "{found:?}");
        assert!(found.deviations.iter().all(|deviation| *deviation > 0.6), "{found:?}");
    }

    #[test]
    fn a_search_that_begins_near_finds_the_same() {
        let errors = |values: &[f64]| (1..=9).map(|row| values[0] * f64::from(row) - values[1].exp()).collect();
        let far = least(&[FREE; 2], &[1.0; 9], None, errors);
        let near = least(&[FREE; 2], &[1.0; 9], Some(far.clone()), errors);
        assert!(far.values.iter().zip(&near.values).all(|(a, b)| (a - b).abs() < 0.01), "{far:?} {near:?}");
    }

    #[test]
    fn a_range_is_kept() {
        let narrow = Unknown { range: [-0.1, 0.1], ..FREE };
        assert_eq!(least(&[narrow], &[1.0; 4], None, |values| vec![values[0] - 1.0; 4]).values, [0.1]);
    }
}
