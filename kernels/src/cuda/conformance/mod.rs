//! Whether an implementation computes what the reference does: random cases of every operation, and their comparison.
//!
//! Inputs are rounded as they are stored, the reference runs in double precision, and an error is measured by the
//! greatest of the value and the root mean squares of its vector and of all values: elements that nearly cancel are
//! not held to a precision that no sum has. Attention has vectors of heads, and under a causal mask the early ones,
//! which few keys take part in, are many times as long as the late.

mod case;
mod expected;
mod number;
pub mod record;
mod run;
mod suite;

pub use case::{Case, Form, Values};
pub use run::{Fault, Outcome, run};
pub use suite::{Extent, suite};

/// The greatest error of an output in vectors of so many numbers, against what is expected; infinite if one of them is
/// no number.
pub fn error(got: &[f32], want: &[f64], vector: usize) -> f64 {
    assert_eq!(got.len(), want.len(), "an output has the shape that was asked for");
    let size = |values: &[f64]| {
        let squares: f64 = values.iter().map(|value| value * value).sum();
        (squares / values.len().max(1) as f64).sqrt()
    };
    let all = size(want).max(f64::MIN_POSITIVE);
    let vector = vector.max(1);
    let errors = got.chunks(vector).zip(want.chunks(vector)).flat_map(|(got, want)| {
        let least = size(want).max(all);
        got.iter().zip(want).map(move |(&got, &want)| {
            let error = (f64::from(got) - want).abs() / want.abs().max(least);
            if error.is_finite() { error } else { f64::INFINITY }
        })
    });
    errors.fold(0.0, f64::max)
}

/// Numbers of an operand that belong together: those of a head, or all.
pub(crate) fn vector(operand: &ir::program::Operand) -> usize {
    let head = operand.dimensions.last().filter(|(letter, _)| *letter == 'd');
    head.map_or(operand.elements(), |&(_, size)| size) as usize
}

pub(crate) use number::{bytes_of, floats_of};
