//! Products of matrices, and biases.

use super::Sizes;
use crate::units::Flops;

/// A product of matrices: rows × inner times inner × columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Product {
    /// Rows of the first factor and of the result.
    pub rows: u64,
    /// Columns of the second factor and of the result.
    pub columns: u64,
    /// What is summed over.
    pub inner: u64,
    /// How the first factor is stored.
    pub a: Storage,
    /// How the second factor is stored.
    pub b: Storage,
}

/// Whether what is summed over varies fastest in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Storage {
    /// It does.
    InnerLast,
    /// It varies slowest.
    InnerFirst,
}

pub(super) fn flops(sizes: &Sizes) -> Flops {
    Flops(2.0 * sizes.values().map(|&size| size as f64).product::<f64>())
}
