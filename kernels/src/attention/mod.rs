//! Softmax attention on packed rows [b s g c d] (Vaswani et al. 2017; grouped queries of Ainslie et al. 2023).
//!
//! y = P · V with P = exp(Q · Kᵀ / √d − lse), where lse is the logarithm of each row's sum of exponentials. With
//! D = Σ dy · y per row (Dao et al. 2022): dV = Pᵀ · dy, dS = P ∘ (dy · Vᵀ − D) / √d, dQ = dS · K, dK = dSᵀ · Q.
//! Only a stretch of rows of P exists at any time.

use crate::Packed;

pub mod cpu;

#[cfg(test)]
mod tests;

/// Which keys a query sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// Its own position and those before.
    Causal,
    /// All of the sequence.
    Full,
}

/// Shape and mask of attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// The shape of queries, keys and values.
    pub packed: Packed,
    /// Which keys a query sees.
    pub mask: Mask,
}

/// What the gradient needs from the forward pass.
#[derive(Clone, Copy, Debug)]
pub struct Saved<'a, T> {
    /// Packed rows [b s g c d].
    pub qkv: &'a [T],
    /// Output [b s g r d].
    pub y: &'a [T],
    /// Logarithm of each row's sum of exponentials [b s g r].
    pub lse: &'a [T],
}
