//! One pass over weights, gradients and both moments.

use super::{Constants, Extent, Gradient, State};
use crate::Real;
use crate::lanes::vectorised;

/// Updates `state` by `gradient`, all of one length.
pub fn update<T: Real>(constants: &Constants<T>, extent: Extent, state: State<T>, gradient: Gradient<'_, T>) {
    let State { weight, mean, square } = state;
    let Gradient { values, square_norm } = gradient;
    let elements = values.len();
    assert_eq!((weight.len(), mean.len(), square.len()), (elements, elements, elements), "one length");
    let end = extent.length.saturating_sub(extent.first).min(elements);
    let decayed = extent.decayed.saturating_sub(extent.first).min(end);
    let coefficient = constants.coefficient(square_norm);
    for (range, keep) in [(0..decayed, constants.keep), (decayed..end, T::ONE)] {
        let part = State {
            weight: &mut weight[range.clone()],
            mean: &mut mean[range.clone()],
            square: &mut square[range.clone()],
        };
        update_all(&Constants { keep, ..*constants }, coefficient, part, &values[range]);
    }
}

/// Updates what all decays alike.
fn update_all<T: Real>(constants: &Constants<T>, coefficient: T, state: State<T>, gradient: &[T]) {
    let Constants { keep, rate, root_scale, beta1, beta2, rest1, rest2, epsilon, .. } = *constants;
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
