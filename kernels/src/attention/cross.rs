//! Attention to another sequence: queries [b s g r d], keys and values [b t g e d], where e = 0 is a key and e = 1 its
//! value; every query sees all. The formulas are those of packed rows. One query at a time: plain, and not fast.

use super::cpu::softmax;
use crate::Real;
use crate::lanes::{sum_pairs, vectorised};

/// The shape of queries, keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cross {
    /// Queries of a sequence.
    pub sequence: usize,
    /// Keys of the other sequence.
    pub keys: usize,
    /// Heads of keys and values.
    pub groups: usize,
    /// Query heads for each of these.
    pub queries: usize,
    /// Numbers of a head.
    pub head: usize,
}

/// What the gradient needs from the forward pass.
#[derive(Clone, Copy, Debug)]
pub struct CrossSaved<'a, T> {
    /// Queries [b s g r d].
    pub q: &'a [T],
    /// Keys and values [b t g e d].
    pub kv: &'a [T],
    /// Output [b s g r d].
    pub y: &'a [T],
    /// Logarithm of each row's sum of exponentials [b s g r].
    pub lse: &'a [T],
}

/// Writes the output to `y` [b s g r d], and what the gradient needs to `lse` [b s g r].
///
/// # Panics
/// If operands have other shapes, or `scores` is shorter than the keys of a sequence.
pub fn forward<T: Real>(shape: Cross, [q, kv]: [&[T]; 2], y: &mut [T], lse: &mut [T], scores: &mut [T]) {
    shape.check(q.len(), kv.len());
    assert_eq!((y.len(), lse.len() * shape.head), (q.len(), q.len()), "a result for each query");
    let scores = &mut scores[..shape.keys];
    vectorised!({
        let rows = q.chunks_exact(shape.head).zip(y.chunks_exact_mut(shape.head)).zip(lse.iter_mut());
        for (row, ((q, y), lse)) in rows.enumerate() {
            for (key, score) in scores.iter_mut().enumerate() {
                let [k, _] = shape.places(row, key);
                *score = sum_pairs(q, &kv[k..k + shape.head], |q, k| q * k);
            }
            *lse = softmax(scores, shape.keys, shape.scale());
            y.fill(T::ZERO);
            for (key, &share) in scores.iter().enumerate() {
                let [_, v] = shape.places(row, key);
                add_scaled(y, share, &kv[v..v + shape.head]);
            }
        }
    });
}

/// Writes the gradients of queries to `dq` and of keys and values to `dkv`, given that of the output, `dy`.
///
/// # Panics
/// If operands have other shapes.
pub fn gradient<T: Real>(shape: Cross, saved: CrossSaved<'_, T>, dy: &[T], dq: &mut [T], dkv: &mut [T]) {
    let CrossSaved { q, kv, y, lse } = saved;
    shape.check(q.len(), kv.len());
    assert_eq!((dy.len(), dq.len(), dkv.len()), (y.len(), q.len(), kv.len()), "gradients have the shape of their own");
    dkv.fill(T::ZERO);
    dq.fill(T::ZERO);
    let (head, scale) = (shape.head, shape.scale::<T>());
    vectorised!({
        for (row, &lse) in lse.iter().enumerate() {
            let own = row * head..(row + 1) * head;
            let (q, y, dy, dq) = (&q[own.clone()], &y[own.clone()], &dy[own.clone()], &mut dq[own]);
            let mean = sum_pairs(dy, y, |dy, y| dy * y);
            for key in 0..shape.keys {
                let [k, v] = shape.places(row, key);
                let share = (sum_pairs(q, &kv[k..k + head], |q, k| q * k) * scale - lse).exp();
                let dscore = share * (sum_pairs(dy, &kv[v..v + head], |dy, v| dy * v) - mean) * scale;
                add_scaled(dq, dscore, &kv[k..k + head]);
                add_scaled(&mut dkv[k..k + head], dscore, q);
                add_scaled(&mut dkv[v..v + head], share, dy);
            }
        }
    });
}

#[inline(always)]
fn add_scaled<T: Real>(sum: &mut [T], factor: T, values: &[T]) {
    for (sum, &value) in sum.iter_mut().zip(values) {
        *sum = factor.mul_add(value, *sum);
    }
}

impl Cross {
    fn check(&self, queries: usize, keys_and_values: usize) {
        let Cross { sequence, keys, groups, queries: of_group, head } = *self;
        let [query, key] = [sequence * groups * of_group * head, 2 * keys * groups * head];
        assert!(queries.is_multiple_of(query), "{queries} numbers are no whole sequences of {query}");
        assert_eq!(queries / query * key, keys_and_values, "as many sequences of keys and values");
    }

    /// Where a key, and its value, begin that a row of queries looks at.
    #[inline(always)]
    fn places(&self, row: usize, key: usize) -> [usize; 2] {
        let group = row / self.queries % self.groups;
        let batch = row / (self.queries * self.groups * self.sequence);
        let first = ((batch * self.keys + key) * self.groups + group) * 2 * self.head;
        [first, first + self.head]
    }

    /// 1 / √d.
    fn scale<T: Real>(&self) -> T {
        T::from_f64(1.0 / (self.head as f64).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{Random, assert_gradient, assert_near, dot};

    const SHAPES: [Cross; 3] = [
        Cross { sequence: 3, keys: 5, groups: 2, queries: 1, head: 4 },
        Cross { sequence: 4, keys: 2, groups: 1, queries: 3, head: 3 },
        Cross { sequence: 1, keys: 7, groups: 3, queries: 2, head: 17 },
    ];

    /// Two sequences.
    fn operands(shape: Cross) -> [Vec<f64>; 3] {
        let mut random = Random::new(61);
        let query = 2 * shape.sequence * shape.groups * shape.queries * shape.head;
        [query, 2 * shape.keys * shape.groups * 2 * shape.head, query].map(|count| random.values(count))
    }

    fn run(shape: Cross, q: &[f64], kv: &[f64]) -> [Vec<f64>; 2] {
        let (mut y, mut lse) = (vec![f64::NAN; q.len()], vec![f64::NAN; q.len() / shape.head]);
        forward(shape, [q, kv], &mut y, &mut lse, &mut vec![f64::NAN; 2 * shape.keys]);
        [y, lse]
    }

    #[test]
    fn the_output_is_the_probability_weighted_mean_of_the_other_sequence() {
        for shape in SHAPES {
            let [q, kv, _] = operands(shape);
            let Cross { sequence, keys, groups, queries, head } = shape;
            let at = |b: usize, t: usize, g: usize, e: usize| (((b * keys + t) * groups + g) * 2 + e) * head;
            let mut want = Vec::new();
            for (b, _, g, row) in rows_of(sequence, groups, queries) {
                let q = &q[row * head..(row + 1) * head];
                let shares: Vec<f64> =
                    (0..keys).map(|t| (dot(q, &kv[at(b, t, g, 0)..][..head]) / (head as f64).sqrt()).exp()).collect();
                let total: f64 = shares.iter().sum();
                let mean = |d: usize| (0..keys).map(|t| shares[t] / total * kv[at(b, t, g, 1) + d]).sum::<f64>();
                want.extend((0..head).map(mean));
            }
            assert_near(&format!("{shape:?}"), &run(shape, &q, &kv)[0], &want, 1e-12);
        }
    }

    /// Batch, position, group and row of two sequences, in order.
    fn rows_of(sequence: usize, groups: usize, queries: usize) -> Vec<(usize, usize, usize, usize)> {
        let all = (0..2).flat_map(|b| (0..sequence).map(move |s| (b, s)));
        let all = all.flat_map(|(b, s)| (0..groups).map(move |g| (b, s, g)));
        let all = all.flat_map(|(b, s, g)| (0..queries).map(move |_| (b, s, g)));
        all.enumerate().map(|(row, (b, s, g))| (b, s, g, row)).collect()
    }

    #[test]
    fn the_gradient_is_the_slope() {
        for shape in SHAPES {
            let [q, kv, dy] = operands(shape);
            let [y, lse] = run(shape, &q, &kv);
            let (mut dq, mut dkv) = (vec![f64::NAN; q.len()], vec![f64::NAN; kv.len()]);
            gradient(shape, CrossSaved { q: &q, kv: &kv, y: &y, lse: &lse }, &dy, &mut dq, &mut dkv);
            assert_gradient("q", &q, &dq, |q| dot(&dy, &run(shape, q, &kv)[0]));
            assert_gradient("kv", &kv, &dkv, |kv| dot(&dy, &run(shape, &q, kv)[0]));
        }
    }
}
