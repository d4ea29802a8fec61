//! Seeded random numbers, for tests and for conformance.

use crate::Real;

/// A reproducible stream of numbers (the splitmix64 generator of Steele et al. 2014).
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Values in [−1, 1).
    pub(crate) fn values<T: Real>(&mut self, count: usize) -> Vec<T> {
        (0..count).map(|_| T::from_f64((self.next() >> 11) as f64 / (1_u64 << 52) as f64 - 1.0)).collect()
    }

    /// Whole numbers in [0, end).
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub(crate) fn tokens(&mut self, count: usize, vocabulary: usize) -> Vec<i32> {
        (0..count).map(|_| self.below(vocabulary) as i32).collect()
    }
}
