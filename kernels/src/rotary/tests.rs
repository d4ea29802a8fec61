//! What a rotation is: norm-preserving, relative, undone by its gradient.

use ir::op::Scaling;

use super::{Angles, cpu};
use crate::Packed;
use crate::oracle::{Random, assert_gradient, assert_near, dot, narrow, widen};

const PACKED: Packed = Packed { sequence: 3, groups: 2, queries: 2, head: 6 };
const ANGLES: Angles = Angles { theta: 10_000.0, scaling: None, first_position: 5 };

fn forward(packed: Packed, angles: Angles, x: &[f64]) -> Vec<f64> {
    let mut y = vec![f64::NAN; x.len()];
    cpu::forward(packed, angles, x, &mut y);
    y
}

#[test]
fn pairs_turn_by_position_times_frequency() {
    let packed = Packed { sequence: 1, groups: 1, queries: 1, head: 4 };
    let y = forward(
        packed,
        Angles { theta: 100.0, scaling: None, first_position: 3 },
        &[1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 7.0, 8.0, 9.0, 6.0],
    );
    // Frequencies are 1 and 100^(-1/2) = 0.1.
    let (s, c) = 3.0_f64.sin_cos();
    let (s_slow, c_slow) = 0.3_f64.sin_cos();
    let want = [c, 2.0 * c_slow, s, 2.0 * s_slow, -s, -s_slow, c, c_slow, 7.0, 8.0, 9.0, 6.0];
    assert_near("y", &y, &want, 1e-14);
}

#[test]
fn slow_pairs_are_stretched_and_fast_ones_stay() {
    // Over 100 tokens the pairs turn 15.9, 3.4 and 0.7 times.
    let scaling =
        Scaling { factor: 4.0, low_frequency_factor: 1.0, high_frequency_factor: 5.0, original_sequence: 100 };
    let plain = Angles { theta: 100.0, scaling: None, first_position: 0 };
    let scaled = Angles { scaling: Some(scaling), ..plain };
    let share = (plain.frequency(1, 6) * 100.0 / std::f64::consts::TAU - 1.0) / 4.0;
    assert!((0.0..1.0).contains(&share));
    let want = [1.0, (1.0 - share) / 4.0 + share, 0.25];
    let found = [0, 1, 2].map(|pair| scaled.frequency(pair, 6) / plain.frequency(pair, 6));
    assert_near("shares", &found, &want, 1e-14);
}

#[test]
fn the_gradient_is_the_slope_and_turns_back() {
    let mut random = Random::new(10);
    let x: Vec<f64> = random.values(2 * 3 * PACKED.row());
    let dy: Vec<f64> = random.values(x.len());
    let mut dx = vec![f64::NAN; x.len()];
    cpu::gradient(PACKED, ANGLES, &dy, &mut dx);
    assert_gradient("x", &x, &dx, |x| dot(&dy, &forward(PACKED, ANGLES, x)));
    let mut back = vec![f64::NAN; x.len()];
    cpu::gradient(PACKED, ANGLES, &forward(PACKED, ANGLES, &x), &mut back);
    assert_near("back", &back, &x, 1e-14);
}

#[test]
fn a_later_block_equals_the_end_of_a_longer_one() {
    let x: Vec<f64> = Random::new(11).values(3 * PACKED.row());
    let whole = forward(PACKED, ANGLES, &x);
    let packed = Packed { sequence: 1, ..PACKED };
    let part = forward(packed, Angles { first_position: 7, ..ANGLES }, &x[2 * PACKED.row()..]);
    assert_near("part", &part, &whole[2 * PACKED.row()..], 0.0);
}

#[test]
fn single_precision_agrees_with_double_at_late_positions() {
    let x: Vec<f32> = Random::new(12).values(3 * PACKED.row());
    let angles = Angles { theta: 500_000.0, scaling: None, first_position: 100_000 };
    let mut y = vec![f32::NAN; x.len()];
    cpu::forward(PACKED, angles, &x, &mut y);
    assert_near("y", &widen(&y), &forward(PACKED, angles, &widen(&narrow(&widen(&x)))), 1e-6);
}
