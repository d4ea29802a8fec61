//! What happens once a step, to flat blocks of parameters.

use super::Sizes;
use crate::units::Flops;

/// About fourteen operations an element (Loshchilov and Hutter 2019, algorithm 2).
pub(super) fn flops(sizes: &Sizes) -> Flops {
    Flops(14.0 * sizes.get(&'n').copied().unwrap_or(0) as f64)
}
