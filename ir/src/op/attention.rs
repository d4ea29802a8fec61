//! Attention over packed queries, keys and values, and the rotation that tells it positions.

use crate::graph::{Node, Sizes};
use crate::op::Op;
use crate::tape::Tape;
use crate::units::Flops;

/// Queries whose scores are held at once.
pub const QUERY_ROWS: u64 = 64;

/// Two blocks of scores of `QUERY_ROWS` queries against all keys.
pub(super) fn workspace(sizes: &Sizes) -> u64 {
    2 * QUERY_ROWS.min(sizes[&'s']) * sizes[&'s']
}

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
    /// In or out.
    pub rotation: Rotation,
}

impl Rotary {
    pub(super) fn gradient(&self, node: &Node, tape: &mut Tape) {
        let Some(dy) = tape.gradient_of(node.outputs[0]) else { return };
        let dx = tape.gradient_for(node.inputs[0]);
        tape.push(Op::Rotary(Rotary { rotation: Rotation::Inverse, ..*self }), &[dy], &[dx]);
    }
}

impl Pattern {
    /// Two products of queries and keys with 2 · s² · d each; a causal pattern needs half.
    pub(super) fn flops(self, sizes: &Sizes) -> Flops {
        let [b, s, g, c, d] = ['b', 's', 'g', 'c', 'd'].map(|letter| sizes[&letter] as f64);
        let all = 4.0 * b * s * s * g * (c - 2.0) * d;
        match self {
            Pattern::Causal => Flops(all / 2.0),
            Pattern::Full => Flops(all),
        }
    }

    /// Five products in place of two: scores are computed again (Dao et al. 2022, §3.1).
    pub(super) fn gradient_flops(self, sizes: &Sizes) -> Flops {
        self.flops(sizes) * 2.5
    }

    pub(super) fn gradient(self, node: &Node, tape: &mut Tape) {
        let Some(dy) = tape.gradient_of(node.outputs[0]) else { return };
        let dqkv = tape.gradient_for(node.inputs[0]);
        let inputs = [dy, node.inputs[0], node.outputs[0], node.outputs[1]];
        tape.push(Op::AttentionGradient(self), &inputs, &[dqkv]);
    }
}
