//! Row by row.

use crate::lanes::{add_each, prepare, vectorised};
use crate::{Real, Write, add};

/// Writes x plus `bias`, repeated over leading dimensions, to `y`.
pub fn forward<T: Real>(x: &[T], bias: &[T], y: &mut [T]) {
    assert_eq!(x.len(), y.len(), "x and y have one shape");
    assert!(x.len().is_multiple_of(bias.len()), "{} elements are no whole rows of {}", x.len(), bias.len());
    for (x, y) in x.chunks_exact(bias.len()).zip(y.chunks_exact_mut(bias.len())) {
        add::cpu::forward(x, bias, y);
    }
}

/// Sums `dy` over leading dimensions into `dbias`.
pub fn gradient<T: Real>(dy: &[T], dbias: &mut [T], write: Write) {
    assert!(dy.len().is_multiple_of(dbias.len()), "{} elements are no whole rows of {}", dy.len(), dbias.len());
    prepare(write, dbias);
    vectorised!({
        for dy in dy.chunks_exact(dbias.len()) {
            add_each(dbias, dy, |dy| dy);
        }
    });
}
