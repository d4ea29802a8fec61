//! Adam with decoupled weight decay (Loshchilov and Hutter 2019) and clipping by the global norm, on any stretch of
//! a flattened tensor, so that ranks may each update a part.
//!
//! With g = coefficient · gradient: m ← β₁ m + (1 − β₁) g, v ← β₂ v + (1 − β₂) g², and
//! w ← w · (1 − rate · decay) − rate · (m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + ε).

pub mod cpu;
pub(crate) mod cuda;

#[cfg(test)]
mod tests;

use ir::op::UPDATE_CONSTANTS;

use crate::Real;

/// One optimiser step, as a training sets it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Of this step, after the schedule.
    pub learning_rate: f64,
    /// β₁, how slowly the mean of gradients follows.
    pub beta1: f64,
    /// β₂, how slowly the mean of squared gradients follows.
    pub beta2: f64,
    /// ε, added to the root.
    pub epsilon: f64,
    /// Share of a decayed weight that one unit of learning rate takes away.
    pub weight_decay: f64,
    /// t, from 1.
    pub number: u64,
    /// The norm of the whole gradient is brought down to this if it is above.
    pub gradient_norm_max: f64,
}

/// What every element's update reads of a step, in the order in which it lies in memory; `adamw.cu` declares the same.
///
/// The host computes these from a [`Step`] in double precision and writes them before the step, so that a device does
/// no more than read them: programs, and recordings of them, are the same for every step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Constants<T> {
    /// What is left of a weight that decays: 1 − rate · decay.
    pub keep: T,
    /// Of the mean: the learning rate, divided by 1 − β₁ᵗ.
    pub rate: T,
    /// Of the root of the mean square: 1 / √(1 − β₂ᵗ).
    pub root_scale: T,
    /// β₁.
    pub beta1: T,
    /// β₂.
    pub beta2: T,
    /// 1 − β₁.
    pub rest1: T,
    /// 1 − β₂.
    pub rest2: T,
    /// ε.
    pub epsilon: T,
    /// The largest norm of the whole gradient.
    pub gradient_norm_max: T,
}

/// How many there are.
const COUNT: usize = UPDATE_CONSTANTS as usize;

impl<T: Real> Constants<T> {
    /// Those of a step, each rounded once.
    pub fn new(step: &Step) -> Constants<T> {
        let correction = |beta: f64| 1.0 - beta.powf(step.number as f64);
        Constants {
            keep: T::from_f64(1.0 - step.learning_rate * step.weight_decay),
            rate: T::from_f64(step.learning_rate / correction(step.beta1)),
            root_scale: T::from_f64(1.0 / correction(step.beta2).sqrt()),
            beta1: T::from_f64(step.beta1),
            beta2: T::from_f64(step.beta2),
            rest1: T::from_f64(1.0 - step.beta1),
            rest2: T::from_f64(1.0 - step.beta2),
            epsilon: T::from_f64(step.epsilon),
            gradient_norm_max: T::from_f64(step.gradient_norm_max),
        }
    }

    /// The numbers as they lie in memory.
    pub fn numbers(&self) -> [T; COUNT] {
        let Constants { keep, rate, root_scale, beta1, beta2, rest1, rest2, epsilon, gradient_norm_max } = *self;
        [keep, rate, root_scale, beta1, beta2, rest1, rest2, epsilon, gradient_norm_max]
    }

    /// From the numbers as they lie in memory.
    pub fn from_numbers(numbers: [T; COUNT]) -> Constants<T> {
        let [keep, rate, root_scale, beta1, beta2, rest1, rest2, epsilon, gradient_norm_max] = numbers;
        Constants { keep, rate, root_scale, beta1, beta2, rest1, rest2, epsilon, gradient_norm_max }
    }

    /// What gradients are multiplied by, if the squares of all of them add up to this.
    pub fn coefficient(&self, square_norm: f64) -> T {
        let (norm, norm_max) = (square_norm.sqrt(), self.gradient_norm_max.to_f64());
        if norm > norm_max { T::from_f64(norm_max / norm) } else { T::ONE }
    }
}

/// A stretch of gradients.
#[derive(Clone, Copy, Debug)]
pub struct Gradient<'a, T> {
    /// Its elements.
    pub values: &'a [T],
    /// The sum of squares of the whole model's gradients.
    pub square_norm: f64,
}

/// Which elements of the flattened tensor a stretch holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The flat index of the stretch's first element.
    pub first: usize,
    /// Elements with a flat index below this get weight decay.
    pub decayed: usize,
    /// Elements with a flat index from here on are padding and stay as they are.
    pub length: usize,
}

/// What a step updates; three slices of one length.
#[derive(Debug)]
pub struct State<'a, T> {
    /// w, the weights.
    pub weight: &'a mut [T],
    /// m, the running mean of gradients.
    pub mean: &'a mut [T],
    /// v, the running mean of squared gradients.
    pub square: &'a mut [T],
}
