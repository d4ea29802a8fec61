//! Matrix product C = A · B, C += A · B or C = A · B + D, of which all contractions of named dimensions are cases: contracted
//! dimensions lie side by side, so `b s h, g c d h -> b s g c d` is rows (b s), inner h, columns (g c d), with the
//! weight read as the transpose of its [(g c d), h]. The gradients are the same product of other views:
//! dA = dC · Bᵀ and dB = Aᵀ · dC.

use crate::{Real, Write};

pub mod cpu;

#[cfg(test)]
mod tests;

/// The three extents of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Rows of A and C.
    pub rows: usize,
    /// Columns of A, rows of B.
    pub inner: usize,
    /// Columns of B and C.
    pub columns: usize,
}

/// A matrix inside a slice: element (i, j) stands at i · row_stride + j · column_stride.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a, T> {
    /// From the first element to the last or further.
    pub values: &'a [T],
    /// Elements from one row to the next.
    pub row_stride: usize,
    /// Elements from one column to the next.
    pub column_stride: usize,
}

impl<'a, T: Real> Matrix<'a, T> {
    /// Rows that lie `row_stride` apart, each of them dense.
    pub fn rows(values: &'a [T], row_stride: usize) -> Self {
        Self { values, row_stride, column_stride: 1 }
    }

    /// The same matrix with rows and columns exchanged.
    pub fn transposed(self) -> Self {
        Self { values: self.values, row_stride: self.column_stride, column_stride: self.row_stride }
    }

    /// The part that begins at this row and column.
    pub(crate) fn from(self, row: usize, column: usize) -> Self {
        Self { values: &self.values[row * self.row_stride + column * self.column_stride..], ..self }
    }
}

/// Where a product goes: dense rows that lie `row_stride` apart.
#[derive(Debug)]
pub struct MatrixMut<'a, T> {
    /// From the first element to the last or further; elements between rows stay.
    pub values: &'a mut [T],
    /// Elements from one row to the next.
    pub row_stride: usize,
    /// Whether the old content counts.
    pub write: Write,
}
