//! One pass over weights, gradients and both moments.

use super::{Extent, State, Step};
use crate::Real;
use crate::lanes::vectorised;

/// Updates `state` by `gradient`, all of one length.
pub fn update<T: Real>(step: &Step, extent: Extent, state: State<T>, gradient: &[T]) {
    let State { weight, mean, square } = state;
    let elements = gradient.len();
    assert_eq!((weight.len(), mean.len(), square.len()), (elements, elements, elements), "one length");
    let end = extent.length.saturating_sub(extent.first).min(elements);
    let decayed = extent.decayed.saturating_sub(extent.first).min(end);
    for (range, decay) in [(0..decayed, step.weight_decay), (decayed..end, 0.0)] {
        let part = State {
            weight: &mut weight[range.clone()],
            mean: &mut mean[range.clone()],
            square: &mut square[range.clone()],
        };
        update_all(step, decay, part, &gradient[range]);
    }
}

fn update_all<T: Real>(step: &Step, decay: f64, state: State<T>, gradient: &[T]) {
    let correction = |beta: f64| 1.0 - beta.powf(step.number as f64);
    let keep = T::from_f64(1.0 - step.learning_rate * decay);
    let rate = T::from_f64(step.learning_rate / correction(step.beta1));
    let root_scale = T::from_f64(1.0 / correction(step.beta2).sqrt());
    let [beta1, beta2] = [step.beta1, step.beta2].map(T::from_f64);
    let [rest1, rest2] = [1.0 - step.beta1, 1.0 - step.beta2].map(T::from_f64);
    let [epsilon, coefficient] = [step.epsilon, step.coefficient].map(T::from_f64);
    vectorised!({
        let moments = state.mean.iter_mut().zip(state.square);
        for ((weight, (mean, square)), &gradient) in state.weight.iter_mut().zip(moments).zip(gradient) {
            let g = gradient * coefficient;
            *mean = beta1 * *mean + rest1 * g;
            *square = beta2 * *square + rest2 * g * g;
            *weight = *weight * keep - rate * *mean / (square.sqrt() * root_scale + epsilon);
        }
    });
}
