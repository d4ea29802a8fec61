//! Products of matrices, and biases.

use ir::graph::Node;
use ir::op::Op;

use super::Tape;

/// For y = x · w: dx = dy · w and dw = dy · x, each summed over what its result lacks. Nobody asks for the gradient of
/// patches.
pub(super) fn gradient(node: &Node, tape: &mut Tape) {
    let Some(dy) = tape.gradient_of(node.outputs[0]) else { return };
    let [x, w] = [node.inputs[0], node.inputs[1]];
    if !tape.is_input_of_step(x) {
        let dx = tape.gradient_for(x);
        tape.push(Op::MatMul, &[dy, w], &[dx]);
    }
    let dw = tape.gradient_for(w);
    tape.push(Op::MatMul, &[dy, x], &[dw]);
}

pub(super) fn bias_gradient(node: &Node, tape: &mut Tape) {
    let Some(dy) = tape.gradient_of(node.outputs[0]) else { return };
    tape.contribute(node.inputs[0], dy);
    let dbias = tape.gradient_for(node.inputs[1]);
    tape.push(Op::BiasGradient, &[dy], &[dbias]);
}
