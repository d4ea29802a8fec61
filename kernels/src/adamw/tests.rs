//! Steps against the paper's recurrence, and stretches against the whole.

use super::{Constants, Extent, Gradient, State, Step, cpu};
use crate::Real;
use crate::oracle::{Random, assert_near, widen};

const STEP: Step = Step {
    learning_rate: 1e-2,
    beta1: 0.9,
    beta2: 0.95,
    epsilon: 1e-8,
    weight_decay: 0.1,
    number: 1,
    gradient_norm_max: 1.0,
};

/// Of the gradients of each step: they are halved.
const SQUARE_NORM: f64 = 4.0;

/// Three steps on 10 elements, of which 6 decay and 9 are real, in stretches that end at `ends`.
fn run<T: Real>(ends: &[usize]) -> Vec<T> {
    let mut random = Random::new(23);
    let mut weight: Vec<T> = random.values(10);
    let (mut mean, mut square) = (vec![T::ZERO; 10], vec![T::ZERO; 10]);
    for number in 1..=3 {
        let gradient: Vec<T> = random.values(10);
        let mut first = 0;
        for &end in ends {
            let part =
                State { weight: &mut weight[first..end], mean: &mut mean[first..end], square: &mut square[first..end] };
            let extent = Extent { first, decayed: 6, length: 9 };
            let values = &gradient[first..end];
            let constants = Constants::new(&Step { number, ..STEP });
            cpu::update(&constants, extent, part, Gradient { values, square_norm: SQUARE_NORM });
            first = end;
        }
    }
    weight
}

#[test]
fn steps_follow_the_recurrence_and_spare_padding() {
    let mut random = Random::new(23);
    let mut want: Vec<f64> = random.values(10);
    let (mut m, mut v) = ([0.0; 10], [0.0; 10]);
    for t in 1..=3 {
        let gradient: Vec<f64> = random.values(10);
        for i in 0..9 {
            let g = 0.5 * gradient[i];
            m[i] = 0.9 * m[i] + 0.1 * g;
            v[i] = 0.95 * v[i] + 0.05 * g * g;
            let (m_hat, v_hat): (f64, f64) = (m[i] / (1.0 - 0.9_f64.powi(t)), v[i] / (1.0 - 0.95_f64.powi(t)));
            let decay = if i < 6 { 0.1 } else { 0.0 };
            want[i] -= 1e-2 * decay * want[i] + 1e-2 * m_hat / (v_hat.sqrt() + 1e-8);
        }
    }
    assert_near("weight", &run(&[10]), &want, 1e-13);
    assert_near("single", &widen(&run::<f32>(&[10])), &want, 1e-6);
}

#[test]
fn stretches_update_as_the_whole_does() {
    let whole: Vec<f32> = run(&[10]);
    for ends in [[3, 7, 10], [6, 9, 10], [1, 2, 10]] {
        let parts: Vec<f32> = run(&ends);
        assert_near("weight", &widen(&parts), &widen(&whole), 0.0);
    }
}

#[test]
fn only_gradients_above_the_norm_are_clipped() {
    let coefficient = |gradient_norm_max, square_norm| {
        Constants::<f64>::new(&Step { gradient_norm_max, ..STEP }).coefficient(square_norm)
    };
    assert_near(
        "clip",
        &[coefficient(1.0, 16.0), coefficient(1.0, 0.25), coefficient(f64::INFINITY, 9.0)],
        &[0.25, 1.0, 1.0],
        0.0,
    );
}

#[test]
fn constants_lie_in_the_order_that_the_device_declares() {
    let constants = Constants::from_numbers(std::array::from_fn(|index| index as f64));
    assert_eq!(Constants::from_numbers(constants.numbers()), constants);
    let declared = include_str!("adamw.cu").split_once("float ").and_then(|(_, rest)| rest.split_once(';'));
    let (names, _) = declared.expect("the device declares constants");
    let shown = format!("{constants:?}");
    let numbered = names.split(", ").enumerate().map(|(index, name)| format!("{name}: {index}.0"));
    assert_eq!(shown, format!("Constants {{ {} }}", numbered.collect::<Vec<_>>().join(", ")));
}
