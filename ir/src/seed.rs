//! Seed-determined randomness: numbers that depend on a key and a position, never on the order of asking.

/// A stream of random numbers whose every element can be asked for alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(pub u64);

impl Seed {
    /// An independent stream for `key`.
    pub fn derive(self, key: u64) -> Seed {
        Seed(mix(self.0 ^ mix(key.wrapping_add(0x9e37_79b9_7f4a_7c15))))
    }

    /// An independent stream for a name.
    pub fn derive_name(self, name: &str) -> Seed {
        name.bytes().fold(self, |seed, byte| seed.derive(u64::from(byte)))
    }

    /// The 64 random bits at `index`.
    pub fn bits(self, index: u64) -> u64 {
        mix(self.0.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    /// A number in `[0, 1)` at `index`.
    pub fn uniform(self, index: u64) -> f64 {
        (self.bits(index) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A whole number below `bound` at `index`.
    pub fn below(self, index: u64, bound: u64) -> u64 {
        assert!(bound > 0, "an empty range has no numbers");
        ((u128::from(self.bits(index)) * u128::from(bound)) >> 64) as u64
    }

    /// A standard normal number at `index` (Box and Muller 1958).
    pub fn normal(self, index: u64) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform(2 * index)).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform(2 * index + 1)).cos()
    }
}

/// A seed with a counter, for code that draws one number after the other.
#[derive(Clone, Debug)]
pub struct Draws {
    seed: Seed,
    next: u64,
}

impl Draws {
    /// Draws from the start of `seed`.
    pub fn new(seed: Seed) -> Draws {
        Draws { seed, next: 0 }
    }

    /// The next whole number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next += 1;
        self.seed.below(self.next, bound)
    }

    /// The next number in `[0, 1)`.
    pub fn uniform(&mut self) -> f64 {
        self.next += 1;
        self.seed.uniform(self.next)
    }

    /// One of `items`.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014).
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_number_again() {
        assert_eq!(Seed(7).derive(3).bits(11), Seed(7).derive(3).bits(11));
        assert_ne!(Seed(7).derive(3).bits(11), Seed(7).derive(4).bits(11));
    }

    #[test]
    fn normal_numbers_have_mean_zero_and_variance_one() {
        let draws: Vec<f64> = (0..20_000).map(|index| Seed(1).normal(index)).collect();
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / draws.len() as f64;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "mean {mean}, variance {variance}");
    }
}
