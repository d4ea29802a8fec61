//! Normalisation.

use ir::graph::Node;
use ir::op::{Norm, Op};

use super::Tape;

/// dy, x, weight and the saved statistics give dx, dweight and, where there is a bias, dbias.
pub(super) fn gradient(norm: Norm, node: &Node, tape: &mut Tape) {
    let Some(dy) = tape.gradient_of(node.outputs[0]) else { return };
    let mut inputs = vec![dy, node.inputs[0], node.inputs[1]];
    inputs.extend_from_slice(&node.outputs[1..]);
    let outputs: Vec<_> = node.inputs.iter().map(|&input| tape.gradient_for(input)).collect();
    tape.push(Op::NormGradient(norm), &inputs, &outputs);
}
