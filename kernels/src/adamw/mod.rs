//! Adam with decoupled weight decay (Loshchilov and Hutter 2019) and clipping by the global norm, on any stretch of
//! a flattened tensor, so that ranks may each update a part.
//!
//! With g = coefficient · gradient: m ← β₁ m + (1 − β₁) g, v ← β₂ v + (1 − β₂) g², and
//! w ← w · (1 − rate · decay) − rate · (m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + ε).

pub mod cpu;
pub mod cuda;

#[cfg(test)]
mod tests;

/// The constants of one optimiser step.
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
    /// What gradients are multiplied by first: [`Step::clip`] of the global norm, or 1.
    pub coefficient: f64,
}

impl Step {
    /// The coefficient that brings gradients with this square norm to `norm_max` if they are above.
    pub fn clip(norm_max: f64, square_norm: f64) -> f64 {
        let norm = square_norm.sqrt();
        if norm > norm_max { norm_max / norm } else { 1.0 }
    }
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
