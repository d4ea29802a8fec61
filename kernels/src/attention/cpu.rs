//! One head at a time, a stretch of queries at a time: their scores against all keys they see fit a cache, so the
//! softmax is the plain one and products run at full speed. Causal stretches skip the keys after their last query.

use ir::op::{Pattern, QUERY_ROWS};

use super::{Heads, Saved, Scratch};
use crate::lanes::{max, sum, sum_pairs, vectorised};
use crate::matmul::cpu::product;
use crate::matmul::{Matrix, MatrixMut, Size};
use crate::{Packed, Real, Write};

/// Queries per stretch.
const STRETCH: usize = QUERY_ROWS as usize;

/// Elements of [`Scratch::scores`]: two stretches against all keys, as `ir` promises to planners.
pub fn scores(packed: Packed) -> usize {
    2 * STRETCH.min(packed.sequence) * packed.sequence
}

/// Writes the output to `y` [b s g r d], and what the gradient needs to `lse` [b s g r].
///
/// # Panics
/// If `scratch` is shorter than its parts say.
pub fn forward<T: Real>(heads: Heads, qkv: &[T], y: &mut [T], lse: &mut [T], scratch: Scratch<T>) {
    check(heads.packed, qkv, y, lse);
    let Scratch { scores, product: panels } = scratch;
    let (row, query_row) = (heads.packed.row(), heads.packed.query_row());
    for stretch in stretches(heads, qkv.len()) {
        let Stretch { first, rows, keys, .. } = stretch;
        let size = Size { rows, inner: heads.packed.head, columns: keys };
        let query = Matrix::rows(&qkv[stretch.query..], row);
        let key = Matrix::rows(&qkv[stretch.key..], row);
        let value = Matrix::rows(&qkv[stretch.value..], row);
        product(size, query, key.transposed(), dense(scores, keys), panels);
        vectorised!({
            for (i, scores) in scores.chunks_exact_mut(keys).enumerate().take(rows) {
                lse[stretch.statistic + i * query_row / heads.packed.head] =
                    softmax(scores, heads.seen(first + i, keys), heads.packed.scale());
            }
        });
        let size = Size { rows, inner: keys, columns: heads.packed.head };
        let out = MatrixMut { values: &mut y[stretch.output..], row_stride: query_row, write: Write::Replace };
        product(size, Matrix::rows(scores, keys), value, out, panels);
    }
}

/// Writes the gradient of all slots to `dqkv` [b s g c d], given that of the output, `dy` [b s g r d].
///
/// # Panics
/// If `scratch` is shorter than its parts say.
pub fn gradient<T: Real>(heads: Heads, saved: Saved<T>, dy: &[T], dqkv: &mut [T], scratch: Scratch<T>) {
    let Saved { qkv, y, lse } = saved;
    check(heads.packed, qkv, y, lse);
    assert_eq!((dy.len(), dqkv.len()), (y.len(), qkv.len()), "gradients have the shape of what they are of");
    let head = heads.packed.head;
    let (row, query_row) = (heads.packed.row(), heads.packed.query_row());
    let Scratch { scores, product: panels } = scratch;
    let (scores, dscores) = scores.split_at_mut(self::scores(heads.packed) / 2);
    // Queries are written once, but keys and values gather from every stretch.
    dqkv.fill(T::ZERO);
    for stretch in stretches(heads, qkv.len()) {
        let Stretch { rows, keys, .. } = stretch;
        let query = Matrix::rows(&qkv[stretch.query..], row);
        let key = Matrix::rows(&qkv[stretch.key..], row);
        let value = Matrix::rows(&qkv[stretch.value..], row);
        let dout = Matrix::rows(&dy[stretch.output..], query_row);
        let size = Size { rows, inner: head, columns: keys };
        product(size, query, key.transposed(), dense(scores, keys), panels);
        product(size, dout, value.transposed(), dense(dscores, keys), panels);
        vectorised!({ softmax_gradient(heads, stretch, (saved, dy), scores, dscores) });
        let (probability, dscore) = (Matrix::rows(scores, keys), Matrix::rows(dscores, keys));
        let across = Size { rows: keys, inner: rows, columns: head };
        product(across, probability.transposed(), dout, gather(dqkv, stretch.value, row), panels);
        product(across, dscore.transposed(), query, gather(dqkv, stretch.key, row), panels);
        let along = Size { rows, inner: keys, columns: head };
        product(along, dscore, key, gather(dqkv, stretch.query, row), panels);
    }
}

/// A stretch of one head's queries: where its parts begin.
#[derive(Clone, Copy)]
struct Stretch {
    /// Position of the first query.
    first: usize,
    /// Queries in the stretch.
    rows: usize,
    /// Keys that its last query sees.
    keys: usize,
    /// First element of the queries, keys and values in packed rows.
    query: usize,
    key: usize,
    value: usize,
    /// First element in the output, and in the statistics of rows.
    output: usize,
    statistic: usize,
}

/// All stretches of a packed tensor, in a fixed order.
fn stretches(heads: Heads, elements: usize) -> impl Iterator<Item = Stretch> {
    let packed = heads.packed;
    let Packed { sequence, groups, queries, head } = packed;
    let per_sequence = sequence.div_ceil(STRETCH);
    let count = packed.batch(elements) * groups * queries * per_sequence;
    (0..count).map(move |index| {
        let (index, first) = (index / per_sequence, index % per_sequence * STRETCH);
        let (index, slot) = (index / queries, index % queries);
        let (batch, group) = (index / groups, index % groups);
        let rows = STRETCH.min(sequence - first);
        let slots = batch * sequence * packed.row() + group * (queries + 2) * head;
        let output = (batch * sequence + first) * packed.query_row() + (group * queries + slot) * head;
        Stretch {
            first,
            rows,
            keys: heads.seen(first + rows - 1, sequence),
            query: slots + first * packed.row() + slot * head,
            key: slots + queries * head,
            value: slots + (queries + 1) * head,
            output,
            statistic: output / head,
        }
    })
}

impl Heads {
    /// How many of `keys` the query at this position sees.
    fn seen(&self, position: usize, keys: usize) -> usize {
        match self.pattern {
            Pattern::Causal => position + 1,
            Pattern::Full => keys,
        }
    }
}

impl Packed {
    /// 1 / √d.
    fn scale<T: Real>(&self) -> T {
        T::from_f64(1.0 / (self.head as f64).sqrt())
    }
}

/// Turns scores into probabilities in place, zeros from `seen` on; returns the logarithm of the sum of exponentials.
#[inline(always)]
pub(super) fn softmax<T: Real>(scores: &mut [T], seen: usize, scale: T) -> T {
    let (scores, hidden) = scores.split_at_mut(seen);
    hidden.fill(T::ZERO);
    let maximum = max(scores) * scale;
    for score in scores.iter_mut() {
        *score = score.mul_add(scale, -maximum).exp();
    }
    let total = sum(scores, |x| x);
    let share = T::ONE / total;
    for score in scores {
        *score *= share;
    }
    T::from_f64(maximum.to_f64() + total.to_f64().ln())
}

/// Turns raw scores into probabilities and the gradient of probabilities into that of raw scores, both in place.
#[inline(always)]
fn softmax_gradient<T: Real>(
    heads: Heads,
    stretch: Stretch,
    (saved, dy): (Saved<T>, &[T]),
    scores: &mut [T],
    dscores: &mut [T],
) {
    let (head, query_row, scale) = (heads.packed.head, heads.packed.query_row(), heads.packed.scale());
    let keys = stretch.keys;
    for i in 0..stretch.rows {
        let start = stretch.output + i * query_row;
        let lse = saved.lse[stretch.statistic + i * query_row / head];
        let offset = sum_pairs(&dy[start..][..head], &saved.y[start..][..head], |dy, y| dy * y);
        let seen = heads.seen(stretch.first + i, keys);
        let (scores, hidden) = scores[i * keys..][..keys].split_at_mut(seen);
        let (dscores, dhidden) = dscores[i * keys..][..keys].split_at_mut(seen);
        hidden.fill(T::ZERO);
        dhidden.fill(T::ZERO);
        for (score, dscore) in scores.iter_mut().zip(dscores) {
            let probability = score.mul_add(scale, -lse).exp();
            *score = probability;
            *dscore = probability * (*dscore - offset) * scale;
        }
    }
}

fn dense<T>(values: &mut [T], columns: usize) -> MatrixMut<'_, T> {
    MatrixMut { values, row_stride: columns, write: Write::Replace }
}

fn gather<T>(values: &mut [T], first: usize, row_stride: usize) -> MatrixMut<'_, T> {
    MatrixMut { values: &mut values[first..], row_stride, write: Write::Accumulate }
}

fn check<T>(packed: Packed, qkv: &[T], y: &[T], lse: &[T]) {
    let rows = packed.batch(qkv.len()) * packed.sequence;
    let outputs = rows * packed.query_row();
    assert_eq!((y.len(), lse.len() * packed.head), (outputs, outputs), "y is [b s g r d], lse is [b s g r]");
}
