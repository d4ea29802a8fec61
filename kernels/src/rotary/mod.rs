//! Rotary positions (Su et al. 2021) on packed rows [b s g c d]: queries and key of each position are rotated, the
//! value is copied. Elements i and i + d/2 are a pair, turned by the angle position · θ^(−2i/d).

pub mod cpu;
pub(crate) mod cuda;

#[cfg(test)]
mod tests;

/// How far pairs turn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Angles {
    /// θ, the base of frequencies; 10 000 in the paper.
    pub theta: f64,
    /// The position of the block's first row.
    pub first_position: usize,
}
