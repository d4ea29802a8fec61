//! Numbers of 16 bits with the exponents of `f32`: its upper half. They are kept and moved, and computed with in `f32`.

/// A number of 8 bits of exponent and 7 of fraction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Bf16(pub u16);

impl Bf16 {
    /// The nearest number, and of two that are as near the even one. What is no number stays none.
    #[inline(always)]
    pub fn rounded(value: f32) -> Bf16 {
        let bits = value.to_bits();
        // Just less than half of the last place, or just half if that place is odd. A carry into the exponent is right:
        // the next power of two, or infinity.
        let nearest = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
        // The upper half of what is no number could be that of infinity; one bit makes sure.
        let none = bits | 0x0040_0000;
        Bf16((if value.is_nan() { none } else { nearest } >> 16) as u16)
    }

    /// The same number, exactly.
    #[inline(always)]
    pub fn widened(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }
}

/// Writes numbers as `f32`.
pub fn widen(from: &[Bf16], into: &mut [f32]) {
    assert_eq!(from.len(), into.len(), "one length");
    into.iter_mut().zip(from).for_each(|(into, from)| *into = from.widened());
}

/// Writes the nearest numbers of 16 bits.
pub fn round(from: &[f32], into: &mut [Bf16]) {
    assert_eq!(from.len(), into.len(), "one length");
    into.iter_mut().zip(from).for_each(|(into, from)| *into = Bf16::rounded(*from));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_number_is_taken_and_of_two_the_even_one() {
        let table: [(u32, u16); 17] = [
            (0x0000_0000, 0x0000), // 0
            (0x8000_0000, 0x8000), // -0
            (0x3f80_0000, 0x3f80), // 1
            (0x3f80_7fff, 0x3f80), // below half: down
            (0x3f80_8000, 0x3f80), // half, even below: down
            (0x3f80_8001, 0x3f81), // above half: up
            (0x3f81_7fff, 0x3f81), // below half of the next: down
            (0x3f81_8000, 0x3f82), // half, odd below: up
            (0xbf81_8000, 0xbf82), // and away from zero below it
            (0x3fff_8000, 0x4000), // a carry into the exponent
            (0x0000_8000, 0x0000), // half of the smallest: to zero, which is even
            (0x0000_8001, 0x0001), // more than that: the smallest
            (0x7f7f_7fff, 0x7f7f), // the largest stays
            (0x7f7f_8000, 0x7f80), // half above the largest is infinity
            (0x7f80_0000, 0x7f80), // infinity
            (0xff80_0000, 0xff80), // and the other
            (0x7fc0_0000, 0x7fc0), // no number
        ];
        for (from, to) in table {
            assert_eq!(Bf16::rounded(f32::from_bits(from)).0, to, "{from:#010x}");
        }
    }

    #[test]
    fn what_is_no_number_stays_none() {
        for bits in [0x7f80_0001, 0xff80_0001, 0x7f80_ffff, 0x7fff_ffff, 0xffff_ffff] {
            let rounded = Bf16::rounded(f32::from_bits(bits));
            assert!(rounded.widened().is_nan(), "{bits:#010x} became {rounded:?}");
        }
    }

    #[test]
    fn every_number_of_16_bits_comes_back() {
        for bits in 0..=u16::MAX {
            let number = Bf16(bits);
            assert!(number.widened().is_nan() || Bf16::rounded(number.widened()) == number, "{bits:#06x}");
        }
    }
}
