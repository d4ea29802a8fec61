//! The parts together against −ln softmax, whole and split.

use super::{Saved, Shard, cpu};
use crate::oracle::{Random, assert_gradient, assert_near, narrow, widen};
use crate::{Real, reduce};

/// What one shard computes of its logits.
type Part<'a, T> = dyn Fn(&Shard, &[T], &mut [T]) + 'a;

/// Loss and gradient of logits [n v], computed by shards that end at `ends`.
fn run<T: Real>(logits: &[T], targets: &[i32], ends: &[usize], scale: f64) -> (T, Vec<T>) {
    let rows = targets.len();
    let vocabulary = *ends.last().unwrap();
    let nan = T::from_f64(f64::NAN);
    let mut shards = Vec::new();
    let mut first = 0;
    for &end in ends {
        let part: Vec<T> = logits.chunks_exact(vocabulary).flat_map(|row| row[first..end].to_vec()).collect();
        shards.push((Shard { first, width: end - first }, part));
        first = end;
    }
    let exchange = |parts: Vec<Vec<T>>, reduce: fn(&mut [T], &[&[T]])| {
        let mut out = vec![nan; parts[0].len()];
        reduce(&mut out, &parts.iter().map(Vec::as_slice).collect::<Vec<_>>());
        out
    };
    let each = |length: usize, part: &Part<T>| -> Vec<Vec<T>> {
        let one = |(shard, logits): &(Shard, Vec<T>)| {
            let mut out = vec![nan; length];
            part(shard, logits, &mut out);
            out
        };
        shards.iter().map(one).collect()
    };
    let maxima = exchange(each(rows, &|shard, x, out| cpu::row_max(shard.width, x, out)), reduce::cpu::max_into);
    let sums = each(2 * rows, &|shard, x, out| cpu::sum_exp(*shard, x, &maxima, targets, out));
    let sums = exchange(sums, reduce::cpu::sum_into);
    let mut loss = T::ZERO;
    cpu::cross_entropy(&maxima, &sums, &mut loss);
    let mut whole = vec![nan; logits.len()];
    for (shard, logits) in &shards {
        let mut part = vec![nan; logits.len()];
        cpu::gradient(*shard, Saved { logits, maxima: &maxima, sums: &sums, targets }, scale, &mut part);
        for (whole, part) in whole.chunks_exact_mut(vocabulary).zip(part.chunks_exact(shard.width)) {
            whole[shard.first..][..shard.width].copy_from_slice(part);
        }
    }
    (loss, whole)
}

fn case(seed: u64) -> (Vec<f64>, Vec<i32>) {
    let mut random = Random::new(seed);
    let logits = random.values::<f64>(4 * 37).iter().map(|x| 20.0 * x).collect();
    (logits, random.tokens(4, 37))
}

#[test]
fn the_loss_is_minus_the_log_of_the_target_probability() {
    let (logits, targets) = case(19);
    let mut want = 0.0;
    for (row, &target) in logits.chunks_exact(37).zip(&targets) {
        want -= (row[target as usize].exp() / row.iter().map(|x| x.exp()).sum::<f64>()).ln();
    }
    assert_near("loss", &[run(&logits, &targets, &[37], 1.0).0], &[want], 1e-12);
}

#[test]
fn the_gradient_is_the_slope() {
    let (logits, targets) = case(20);
    let (_, dlogits) = run(&logits, &targets, &[37], 0.25);
    assert_gradient("logits", &logits, &dlogits, |logits| 0.25 * run(logits, &targets, &[37], 1.0).0);
}

#[test]
fn a_split_vocabulary_gives_the_same_loss_and_gradient() {
    let (logits, targets) = case(21);
    let (loss, dlogits) = run(&logits, &targets, &[37], 1.0);
    let (loss_split, dlogits_split) = run(&logits, &targets, &[5, 6, 37], 1.0);
    assert_near("loss", &[loss_split], &[loss], 1e-13);
    assert_near("gradient", &dlogits_split, &dlogits, 1e-13);
}

#[test]
fn single_precision_agrees_with_double_even_for_huge_logits() {
    let (logits, targets) = case(22);
    let logits: Vec<f32> = narrow(&logits.iter().map(|x| x * 50.0).collect::<Vec<_>>());
    let (want, dwant) = run(&widen(&logits), &targets, &[37], 1.0);
    let (loss, dlogits) = run(&logits, &targets, &[11, 37], 1.0);
    assert_near("loss", &[f64::from(loss)], &[want], 1e-5);
    assert_near("gradient", &widen(&dlogits), &dwant, 1e-5);
}
