//! The number types that kernels compute in.

use std::fmt::Debug;
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub};

/// A floating-point type that kernels compute in: `f32` for training, `f64` to check gradients.
pub trait Real:
    sealed::Sealed
    + Copy
    + Debug
    + Default
    + PartialOrd
    + Send
    + Sync
    + 'static
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + MulAssign
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// −∞, the maximum of nothing.
    const LOWEST: Self;

    /// The nearest value of this type.
    fn from_f64(value: f64) -> Self;
    /// The same value, exactly.
    fn to_f64(self) -> f64;
    /// `self · factor + term`, rounded once.
    fn mul_add(self, factor: Self, term: Self) -> Self;
    /// The square root, correctly rounded.
    fn sqrt(self) -> Self;
    /// e to the power of `self`, within 2 units in the last place.
    fn exp(self) -> Self;

    /// The greater of two; a NaN in `self` is lost, one in `other` stays.
    #[inline(always)]
    fn or_greater(self, other: Self) -> Self {
        if self > other { self } else { other }
    }

    /// 1 / (1 + e^−self).
    #[inline(always)]
    fn sigmoid(self) -> Self {
        Self::ONE / (Self::ONE + (-self).exp())
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

impl Real for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const LOWEST: Self = f64::NEG_INFINITY;

    #[inline(always)]
    fn from_f64(value: f64) -> Self {
        value
    }

    #[inline(always)]
    fn to_f64(self) -> f64 {
        self
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        f64::mul_add(self, factor, term)
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        f64::sqrt(self)
    }

    #[inline(always)]
    fn exp(self) -> Self {
        f64::exp(self)
    }
}

impl Real for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const LOWEST: Self = f32::NEG_INFINITY;

    #[inline(always)]
    fn from_f64(value: f64) -> Self {
        value as f32
    }

    #[inline(always)]
    fn to_f64(self) -> f64 {
        f64::from(self)
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        f32::mul_add(self, factor, term)
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        f32::sqrt(self)
    }

    /// Without a branch or call, so that loops over it become vector code. Results under 2^−126 are 0, over 2^127.5 ∞.
    #[inline(always)]
    fn exp(self) -> Self {
        // e^x = 2^n · e^r with n = round(x / ln 2) and |r| ≤ ln 2 / 2. Adding 1.5 · 2^23 leaves no bit for fractions:
        // the sum is rounded to an integer, which then stands in the low bits of the mantissa.
        const ROUNDER: f32 = 12_582_912.0;
        const LN_2_LOW: f32 = (std::f64::consts::LN_2 - std::f32::consts::LN_2 as f64) as f32;
        const SMALLEST: f32 = -126.0 * std::f32::consts::LN_2;
        const GREATEST: f32 = 127.5 * std::f32::consts::LN_2;
        let rounded = self.mul_add(std::f32::consts::LOG2_E, ROUNDER);
        let n = rounded - ROUNDER;
        let r = n.mul_add(-LN_2_LOW, n.mul_add(-std::f32::consts::LN_2, self));
        // The Taylor series to r^7 / 7!: what is left out is below r^8 / 8! < 6e-9, a tenth of a unit.
        let mut power = 1.0 / 5040.0;
        for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
            power = f32::mul_add(power, r, coefficient);
        }
        let two_to_n = f32::from_bits((rounded.to_bits() << 23).wrapping_add(1.0_f32.to_bits()));
        if self < SMALLEST {
            0.0
        } else if self > GREATEST {
            f32::INFINITY
        } else {
            power * two_to_n
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_precision_exp_is_within_two_units_in_the_last_place() {
        let mut worst = 0.0_f64;
        for i in -873_000..=883_000 {
            let x = i as f32 * 1e-4;
            let exact = f64::from(x).exp();
            let unit = exact * f64::from(f32::EPSILON);
            worst = worst.max((f64::from(Real::exp(x)) - exact).abs() / unit);
        }
        assert!(worst <= 1.0, "off by {worst} · 2^-23 relative");
    }

    #[test]
    fn single_precision_exp_has_the_right_limits() {
        assert_eq!(Real::exp(0.0_f32).to_bits(), 1.0_f32.to_bits());
        assert_eq!(Real::exp(f32::NEG_INFINITY).to_bits(), 0);
        assert_eq!(Real::exp(-1e30_f32).to_bits(), 0);
        assert!(Real::exp(f32::INFINITY).is_infinite());
        assert!(Real::exp(1000.0_f32).is_infinite());
        assert!(Real::exp(f32::NAN).is_nan());
    }
}
