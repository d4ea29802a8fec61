//! Row by row.

use super::{Saved, Shard};
use crate::Real;
use crate::lanes::{max, sum, vectorised};

/// Writes the maximum of each row of `logits` [n v] to `maxima` [n].
pub fn row_max<T: Real>(width: usize, logits: &[T], maxima: &mut [T]) {
    assert_eq!(logits.len(), maxima.len() * width, "logits are [n v], maxima are [n]");
    vectorised!({
        for (logits, maximum) in logits.chunks_exact(width).zip(maxima) {
            *maximum = max(logits);
        }
    });
}

/// Writes Σ e^(x − maximum) of each row, and the logit of its target or 0, to `sums` [n 2].
pub fn sum_exp<T: Real>(shard: Shard, logits: &[T], maxima: &[T], targets: &[i32], sums: &mut [T]) {
    let rows = targets.len();
    assert_eq!((maxima.len(), sums.len()), (rows, 2 * rows), "targets and maxima are [n], sums are [n 2]");
    assert_eq!(logits.len(), rows * shard.width, "logits are [n v]");
    vectorised!({
        let rows = logits.chunks_exact(shard.width).zip(maxima).zip(targets);
        for (((logits, &maximum), &target), out) in rows.zip(sums.chunks_exact_mut(2)) {
            out[0] = sum(logits, |x| (x - maximum).exp());
            out[1] = shard.column(target).map_or(T::ZERO, |column| logits[column]);
        }
    });
}

/// Adds the loss of all rows to `total`.
pub fn cross_entropy<T: Real>(maxima: &[T], sums: &[T], total: &mut T) {
    assert_eq!(sums.len(), 2 * maxima.len(), "sums are [n 2], maxima are [n]");
    let mut loss = total.to_f64();
    for (maximum, sums) in maxima.iter().zip(sums.chunks_exact(2)) {
        loss += maximum.to_f64() + sums[0].to_f64().ln() - sums[1].to_f64();
    }
    *total = T::from_f64(loss);
}

/// Writes `scale` times the gradient of the loss to `dlogits` [n v].
pub fn gradient<T: Real>(shard: Shard, saved: Saved<T>, scale: f64, dlogits: &mut [T]) {
    let Saved { logits, maxima, sums, targets } = saved;
    let rows = targets.len();
    assert_eq!((maxima.len(), sums.len()), (rows, 2 * rows), "targets and maxima are [n], sums are [n 2]");
    assert_eq!((logits.len(), dlogits.len()), (rows * shard.width, rows * shard.width), "logits are [n v]");
    vectorised!({
        let inputs = logits.chunks_exact(shard.width).zip(dlogits.chunks_exact_mut(shard.width));
        let statistics = maxima.iter().zip(sums.chunks_exact(2)).zip(targets);
        for ((logits, dlogits), ((&maximum, sums), &target)) in inputs.zip(statistics) {
            let factor = T::from_f64(scale) / sums[0];
            for (dlogit, &logit) in dlogits.iter_mut().zip(logits) {
                *dlogit = (logit - maximum).exp() * factor;
            }
            if let Some(column) = shard.column(target) {
                dlogits[column] += T::from_f64(-scale);
            }
        }
    });
}
