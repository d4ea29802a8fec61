//! Seeded random operands, for tests and for conformance.

use ir::seed::{Draws, Seed};

use crate::Real;

/// A reproducible stream of operands.
#[derive(Debug)]
pub(crate) struct Random(Draws);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(Draws::new(Seed(seed)))
    }

    /// A number that seeds another stream.
    pub(crate) fn next(&mut self) -> u64 {
        self.0.below(u64::MAX)
    }

    /// Values in [−1, 1).
    pub(crate) fn values<T: Real>(&mut self, count: usize) -> Vec<T> {
        (0..count).map(|_| T::from_f64(2.0 * self.0.uniform() - 1.0)).collect()
    }

    /// Whole numbers in [0, end).
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0.below(end as u64) as usize
    }

    pub(crate) fn tokens(&mut self, count: usize, vocabulary: usize) -> Vec<i32> {
        (0..count).map(|_| self.below(vocabulary) as i32).collect()
    }
}
