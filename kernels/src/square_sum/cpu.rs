//! One pass in double precision.

use crate::Real;
use crate::lanes::{sum_squares, vectorised};

/// Adds weight · Σ x² to `total`.
pub fn accumulate<T: Real>(values: &[T], weight: f64, total: &mut T) {
    let sum = vectorised!({ sum_squares(values) });
    *total = T::from_f64(total.to_f64() + weight * sum);
}
