//! Softmax attention on packed rows [b s g c d] (Vaswani et al. 2017; grouped queries of Ainslie et al. 2023).
//!
//! y = P · V with P = exp(Q · Kᵀ / √d − lse), where lse is the logarithm of each row's sum of exponentials. With
//! D = Σ dy · y per row (Dao et al. 2022): dV = Pᵀ · dy, dS = P ∘ (dy · Vᵀ − D) / √d, dQ = dS · K, dK = dSᵀ · Q.
//! Only a stretch of rows of P exists at any time.

use ir::op::Pattern;

use crate::Packed;

pub mod cpu;
pub mod cross;
pub(crate) mod cuda;

#[cfg(test)]
mod tests;

/// Shape and pattern of attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// The shape of queries, keys and values.
    pub packed: Packed,
    /// Which keys a query sees.
    pub pattern: Pattern,
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

/// Memory that attention writes while it runs; its content before and after does not matter.
#[derive(Debug)]
pub struct Scratch<'a, T> {
    /// Scores of some queries: [`cpu::scores`] elements or more.
    pub scores: &'a mut [T],
    /// What a product needs: [`crate::matmul::cpu::SCRATCH`] elements or more.
    pub product: &'a mut [T],
}
