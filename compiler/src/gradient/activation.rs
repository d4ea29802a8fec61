//! What stands between products: activation functions and residual sums.

use ir::graph::Node;
use ir::op::{Activation, Op};

use super::Tape;

pub(super) fn gradient(activation: Activation, node: &Node, tape: &mut Tape) {
    let Some(dy) = tape.gradient_of(node.outputs[0]) else { return };
    let dx = tape.gradient_for(node.inputs[0]);
    tape.push(Op::ActivationGradient(activation), &[dy, node.inputs[0]], &[dx]);
}

/// Both summands have the gradient of the sum; nothing is computed.
pub(super) fn add_gradient(node: &Node, tape: &mut Tape) {
    let Some(dy) = tape.gradient_of(node.outputs[0]) else { return };
    tape.contribute(node.inputs[0], dy);
    tape.contribute(node.inputs[1], dy);
}
