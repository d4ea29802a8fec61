//! Products of matrices, and biases.

use crate::graph::{Node, Sizes};
use crate::op::Op;
use crate::tape::Tape;
use crate::units::Flops;

/// A product of matrices: rows × inner times inner × columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Product {
    /// Rows of the first factor and of the result.
    pub rows: u64,
    /// Columns of the second factor and of the result.
    pub columns: u64,
    /// What is summed over.
    pub inner: u64,
    /// How the first factor is stored.
    pub a: Storage,
    /// How the second factor is stored.
    pub b: Storage,
}

/// Whether what is summed over varies fastest in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Storage {
    /// It does.
    InnerLast,
    /// It varies slowest.
    InnerFirst,
}

pub(super) fn flops(sizes: &Sizes) -> Flops {
    Flops(2.0 * sizes.values().map(|&size| size as f64).product::<f64>())
}

/// For y = x · w: dx = dy · w and dw = dy · x, each summed over what its result lacks.
pub(super) fn gradient(node: &Node, tape: &mut Tape) {
    let Some(dy) = tape.gradient_of(node.outputs[0]) else { return };
    let [x, w] = [node.inputs[0], node.inputs[1]];
    let dx = tape.gradient_for(x);
    tape.push(Op::MatMul, &[dy, w], &[dx]);
    let dw = tape.gradient_for(w);
    tape.push(Op::MatMul, &[dy, x], &[dw]);
}

pub(super) fn bias_gradient(node: &Node, tape: &mut Tape) {
    let Some(dy) = tape.gradient_of(node.outputs[0]) else { return };
    tape.contribute(node.inputs[0], dy);
    let dbias = tape.gradient_for(node.inputs[1]);
    tape.push(Op::BiasGradient, &[dy], &[dbias]);
}
