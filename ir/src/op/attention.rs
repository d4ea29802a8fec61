//! Attention over packed queries, keys and values, and the rotation that tells it positions.

use serde::{Deserialize, Serialize};

use super::Sizes;
use crate::units::Flops;

/// Queries whose scores are held at once.
pub const QUERY_ROWS: u64 = 64;

/// Two blocks of scores of `QUERY_ROWS` queries against all keys.
pub(super) fn workspace(sizes: &Sizes) -> u64 {
    2 * QUERY_ROWS.min(sizes[&'s']) * sizes[&'s']
}

/// Two rows of scores of one query against all keys of the other sequence.
pub(super) fn cross_workspace(sizes: &Sizes) -> u64 {
    2 * sizes[&'t']
}

/// Two products of queries and the keys of another sequence.
pub(super) fn cross_flops(sizes: &Sizes) -> Flops {
    Flops(4.0 * ['b', 's', 't', 'g', 'r', 'd'].iter().map(|letter| sizes[letter] as f64).product::<f64>())
}

/// Five products in place of two: scores are computed again (Dao et al. 2022, §3.1).
pub(super) const GRADIENT_WORK: f64 = 2.5;

/// Which keys a query sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pattern {
    /// Those at its own position and before.
    Causal,
    /// All of its sequence.
    Full,
}

/// Whether positions are turned in or out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rotation {
    /// As in the forward pass.
    Forward,
    /// Back again: the gradient of a rotation is its inverse.
    Inverse,
}

/// Rotary position embedding (Su et al. 2021): pairs (i, i + d/2) turn by position · base^(−2i/d).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rotary {
    /// The base of the frequencies.
    pub base: f64,
    /// How slow frequencies are stretched, if they are.
    pub scaling: Option<Scaling>,
    /// In or out.
    pub rotation: Rotation,
}

/// Rotary frequencies for sequences longer than those at first trained on (Llama Team 2024, §3.4.1, as published with
/// its weights): pairs that turn less than `low_frequency_factor` times over the original sequence turn `factor` times
/// slower, those that turn more than `high_frequency_factor` times as before, those between in between.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scaling {
    /// How much slower.
    pub factor: f64,
    /// Turns below which frequencies are divided.
    pub low_frequency_factor: f64,
    /// Turns above which frequencies stay.
    pub high_frequency_factor: f64,
    /// Tokens of the original sequence.
    pub original_sequence: u64,
}

impl Scaling {
    /// The frequency, in radians a token, in place of this one.
    pub fn scaled(self, frequency: f64) -> f64 {
        let turns = self.original_sequence as f64 * frequency / std::f64::consts::TAU;
        let (low, high) = (self.low_frequency_factor, self.high_frequency_factor);
        let share = ((turns - low) / (high - low)).clamp(0.0, 1.0);
        (1.0 - share) * frequency / self.factor + share * frequency
    }
}

impl Pattern {
    /// Two products of queries and keys with 2 · s² · d each; a causal pattern needs half. Windows are sequences.
    pub(super) fn flops(self, sizes: &Sizes) -> Flops {
        let [b, s, g, c, d] = ['b', 's', 'g', 'c', 'd'].map(|letter| sizes[&letter] as f64);
        let windows = sizes.get(&'w').map_or(1.0, |&count| count as f64);
        let all = 4.0 * b * windows * s * s * g * (c - 2.0) * d;
        match self {
            Pattern::Causal => Flops(all / 2.0),
            Pattern::Full => Flops(all),
        }
    }

    pub(super) fn gradient_flops(self, sizes: &Sizes) -> Flops {
        self.flops(sizes) * GRADIENT_WORK
    }
}
