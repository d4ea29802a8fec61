//! Whether an implementation computes what the reference does: random cases of every operation, and their comparison.
//!
//! Inputs are rounded as they are stored, the reference runs in double precision, and an error is measured by the
//! greater of the value and the root mean square of all values: elements that nearly cancel are not held to a
//! precision that no sum has.

mod case;
mod expected;
mod number;
mod run;
mod suite;

pub use case::{Case, Form, Values};
pub use run::{Fault, Outcome, run};
pub use suite::{Extent, suite};

/// The greatest error of an output, against what is expected; infinite if one of them is no number.
pub fn error(got: &[f32], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len(), "an output has the shape that was asked for");
    let squares: f64 = want.iter().map(|want| want * want).sum();
    let size = (squares / want.len().max(1) as f64).sqrt();
    let errors = got.iter().zip(want).map(|(&got, &want)| {
        let error = (f64::from(got) - want).abs() / want.abs().max(size).max(f64::MIN_POSITIVE);
        if error.is_finite() { error } else { f64::INFINITY }
    });
    errors.fold(0.0, f64::max)
}

pub(crate) use number::{bytes_of, floats_of};
