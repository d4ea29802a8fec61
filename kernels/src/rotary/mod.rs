//! Rotary positions (Su et al. 2021) on packed rows [b s g c d]: queries and key of each position are rotated, the
//! value is copied. Elements i and i + d/2 are a pair, turned by the angle position · θ^(−2i/d).

pub mod cpu;
pub(crate) mod cuda;

#[cfg(test)]
mod tests;

use ir::op::Scaling;

/// How far pairs turn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Angles {
    /// θ, the base of frequencies; 10 000 in the paper.
    pub theta: f64,
    /// How slow frequencies are stretched, if they are.
    pub scaling: Option<Scaling>,
    /// The position of the block's first row.
    pub first_position: usize,
}

impl Angles {
    /// Radians that a pair of a head turns from one position to the next.
    fn frequency(&self, pair: usize, head: usize) -> f64 {
        let frequency = self.theta.powf(-2.0 * pair as f64 / head as f64);
        self.scaling.map_or(frequency, |scaling| scaling.scaled(frequency))
    }
}
