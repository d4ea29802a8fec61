//! Addition of a window of the table to each sequence.

use super::Window;
use crate::lanes::{prepare, vectorised};
use crate::{Real, Write, add};

impl Window {
    /// The elements of `table` that the window covers.
    fn range(self) -> std::ops::Range<usize> {
        self.first * self.width..(self.first + self.sequence) * self.width
    }
}

/// Writes x plus the row of each position to `y`.
pub fn forward<T: Real>(window: Window, x: &[T], table: &[T], y: &mut [T]) {
    assert_eq!(x.len(), y.len(), "x and y are [b s h]");
    let rows = &table[window.range()];
    assert!(x.len().is_multiple_of(rows.len()), "{} elements are no whole sequences of {window:?}", x.len());
    for (x, y) in x.chunks_exact(rows.len()).zip(y.chunks_exact_mut(rows.len())) {
        add::cpu::forward(x, rows, y);
    }
}

/// Sums `dy` over sequences into the window of `dtable`.
pub fn gradient<T: Real>(window: Window, dy: &[T], dtable: &mut [T], write: Write) {
    prepare(write, dtable);
    let rows = &mut dtable[window.range()];
    assert!(dy.len().is_multiple_of(rows.len()), "{} elements are no whole sequences of {window:?}", dy.len());
    vectorised!({
        for dy in dy.chunks_exact(rows.len()) {
            crate::lanes::add_each(rows, dy, |dy| dy);
        }
    });
}
