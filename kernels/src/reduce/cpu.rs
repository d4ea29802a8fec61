//! Element by element, a cache-sized block at a time, so that `out` is written to memory once.

use crate::Real;
use crate::lanes::vectorised;

/// Elements of `out` that stay in the first level cache while all inputs pass.
const BLOCK: usize = 2048;

/// Writes Σ inputs to `out`, added from the first to the last.
///
/// # Panics
/// If there is no input, or one has another length than `out`.
pub fn sum_into<T: Real>(out: &mut [T], inputs: &[&[T]]) {
    combine(out, inputs, |sum, value| sum + value);
}

/// Writes the maximum over inputs to `out`.
///
/// # Panics
/// If there is no input, or one has another length than `out`.
pub fn max_into<T: Real>(out: &mut [T], inputs: &[&[T]]) {
    combine(out, inputs, T::or_greater);
}

fn combine<T: Real>(out: &mut [T], inputs: &[&[T]], operation: impl Fn(T, T) -> T) {
    let (first, others) = inputs.split_first().expect("a reduction has at least one input");
    for input in inputs {
        assert_eq!(input.len(), out.len(), "inputs have the length of the output");
    }
    vectorised!({
        for (start, out) in (0..).step_by(BLOCK).zip(out.chunks_mut(BLOCK)) {
            out.copy_from_slice(&first[start..][..out.len()]);
            for other in others {
                for (out, &value) in out.iter_mut().zip(&other[start..]) {
                    *out = operation(*out, value);
                }
            }
        }
    });
}
