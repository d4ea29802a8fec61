//! What happens once a step, to flat blocks of parameters.

use super::Sizes;
use crate::units::Flops;

/// How many numbers of a step its updates read, of 32 bits each: what changes from step to step, and what a training
/// sets. `kernels::adamw::Constants` says which, in which order.
pub const UPDATE_CONSTANTS: u64 = 9;

/// About fourteen operations an element (Loshchilov and Hutter 2019, algorithm 2).
pub(super) fn flops(sizes: &Sizes) -> Flops {
    Flops(14.0 * sizes.get(&'n').copied().unwrap_or(0) as f64)
}
