//! Element by element.

use crate::Real;
use crate::lanes::{add_each, vectorised};

/// Writes a + b to `y`.
pub fn forward<T: Real>(a: &[T], b: &[T], y: &mut [T]) {
    assert_eq!((a.len(), b.len()), (y.len(), y.len()), "a, b and y have one shape");
    vectorised!({
        for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
            *y = a + b;
        }
    });
}

/// Adds `a` to `y` in place.
pub fn accumulate<T: Real>(a: &[T], y: &mut [T]) {
    assert_eq!(a.len(), y.len(), "a and y have one shape");
    vectorised!({ add_each(y, a, |a| a) });
}
