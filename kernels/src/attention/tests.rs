//! Attention against its definition with the whole matrix of probabilities, and finite differences.

use ir::op::Pattern;

use super::{Heads, Saved, Scratch, cpu};
use crate::oracle::{Random, assert_gradient, assert_near, dot, narrow, widen};
use crate::{Packed, Real, matmul};

fn forward<T: Real>(heads: Heads, qkv: &[T]) -> [Vec<T>; 2] {
    let nan = T::from_f64(f64::NAN);
    let rows = qkv.len() / heads.packed.row();
    let outputs = rows * heads.packed.query_row();
    let (mut y, mut lse) = (vec![nan; outputs], vec![nan; outputs / heads.packed.head]);
    let (mut scores, mut panels) = (vec![nan; cpu::scores(heads.packed)], vec![nan; matmul::cpu::SCRATCH]);
    cpu::forward(heads, qkv, &mut y, &mut lse, Scratch { scores: &mut scores, product: &mut panels });
    [y, lse]
}

fn gradient<T: Real>(heads: Heads, qkv: &[T], dy: &[T]) -> Vec<T> {
    let nan = T::from_f64(f64::NAN);
    let [y, lse] = forward(heads, qkv);
    let mut dqkv = vec![nan; qkv.len()];
    let saved = Saved { qkv, y: &y, lse: &lse };
    let (mut scores, mut panels) = (vec![nan; cpu::scores(heads.packed)], vec![nan; matmul::cpu::SCRATCH]);
    cpu::gradient(heads, saved, dy, &mut dqkv, Scratch { scores: &mut scores, product: &mut panels });
    dqkv
}

fn naive(heads: Heads, qkv: &[f64]) -> Vec<f64> {
    let Packed { sequence, groups, queries, head } = heads.packed;
    let slot = |position: usize, group: usize, slot: usize| {
        &qkv[position * heads.packed.row() + (group * (queries + 2) + slot) * head..][..head]
    };
    let mut y = Vec::new();
    for row in 0..qkv.len() / heads.packed.row() {
        let first = row / sequence * sequence;
        let end = if heads.pattern == Pattern::Causal { row + 1 } else { first + sequence };
        for group in 0..groups {
            for query in 0..queries {
                let score =
                    |key| (dot(slot(row, group, query), slot(key, group, queries)) / (head as f64).sqrt()).exp();
                let total: f64 = (first..end).map(score).sum();
                for i in 0..head {
                    y.push((first..end).map(|key| score(key) / total * slot(key, group, queries + 1)[i]).sum());
                }
            }
        }
    }
    y
}

fn each(check: impl Fn(Heads, Vec<f64>)) {
    let mut random = Random::new(24);
    for (batch, sequence, groups, queries, head) in
        [(1, 1, 1, 1, 1), (2, 5, 2, 1, 3), (2, 3, 1, 3, 2), (1, 67, 1, 2, 2)]
    {
        for pattern in [Pattern::Causal, Pattern::Full] {
            let packed = Packed { sequence, groups, queries, head };
            let values: Vec<f64> = random.values(batch * sequence * packed.row());
            check(Heads { packed, pattern }, values.iter().map(|x| 2.0 * x).collect());
        }
    }
}

#[test]
fn the_output_is_the_probability_weighted_mean_of_values() {
    each(|heads, qkv| assert_near(&format!("{heads:?}"), &forward(heads, &qkv)[0], &naive(heads, &qkv), 1e-12));
}

#[test]
fn the_gradient_is_the_slope() {
    each(|heads, qkv| {
        let dy: Vec<f64> = Random::new(25).values(qkv.len() / (heads.packed.queries + 2) * heads.packed.queries);
        let dqkv = gradient(heads, &qkv, &dy);
        assert_gradient(&format!("{heads:?}"), &qkv, &dqkv, |qkv| dot(&dy, &forward(heads, qkv)[0]));
    });
}

#[test]
fn a_causal_output_does_not_see_the_future() {
    let packed = Packed { sequence: 130, groups: 1, queries: 1, head: 4 };
    let heads = Heads { packed, pattern: Pattern::Causal };
    let mut qkv: Vec<f32> = Random::new(26).values(130 * packed.row());
    let [before, _] = forward(heads, &qkv);
    qkv[100 * packed.row()..].fill(1e3);
    let [after, _] = forward(heads, &qkv);
    assert_near("y", &widen(&after[..400]), &widen(&before[..400]), 1e-6);
}

#[test]
fn single_precision_agrees_with_double_even_for_large_scores() {
    let packed = Packed { sequence: 70, groups: 2, queries: 2, head: 8 };
    let mut random = Random::new(27);
    let qkv = narrow(&random.values::<f64>(2 * 70 * packed.row()).iter().map(|x| 10.0 * x).collect::<Vec<_>>());
    let dy: Vec<f32> = random.values(2 * 70 * packed.query_row());
    for pattern in [Pattern::Causal, Pattern::Full] {
        let heads = Heads { packed, pattern };
        assert_near("y", &widen(&forward(heads, &qkv)[0]), &forward(heads, &widen(&qkv))[0], 2e-4);
        assert_near("dqkv", &widen(&gradient(heads, &qkv, &dy)), &gradient(heads, &widen(&qkv), &widen(&dy)), 2e-3);
    }
}
