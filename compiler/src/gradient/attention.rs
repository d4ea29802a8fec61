//! Attention, and the rotation that tells it positions.

use ir::graph::Node;
use ir::op::{Op, Pattern, Rotary, Rotation};

use super::Tape;

pub(super) fn gradient(pattern: Pattern, node: &Node, tape: &mut Tape) {
    let Some(dy) = tape.gradient_of(node.outputs[0]) else { return };
    let dqkv = tape.gradient_for(node.inputs[0]);
    let inputs = [dy, node.inputs[0], node.outputs[0], node.outputs[1]];
    tape.push(Op::AttentionGradient(pattern), &inputs, &[dqkv]);
}

pub(super) fn cross_gradient(node: &Node, tape: &mut Tape) {
    let Some(dy) = tape.gradient_of(node.outputs[0]) else { return };
    let [queries, keys_and_values] = [node.inputs[0], node.inputs[1]];
    let gradients = [queries, keys_and_values].map(|input| tape.gradient_for(input));
    let inputs = [dy, queries, keys_and_values, node.outputs[0], node.outputs[1]];
    tape.push(Op::CrossAttentionGradient, &inputs, &gradients);
}

pub(super) fn rotary_gradient(rotary: Rotary, node: &Node, tape: &mut Tape) {
    let Some(dy) = tape.gradient_of(node.outputs[0]) else { return };
    let dx = tape.gradient_for(node.inputs[0]);
    tape.push(Op::Rotary(Rotary { rotation: Rotation::Inverse, ..rotary }), &[dy], &[dx]);
}
