//! Rows of a table: by token, and by position.

use ir::graph::Node;
use ir::op::Op;

use super::Tape;

pub(super) fn gradient(node: &Node, tape: &mut Tape) {
    let Some(dy) = tape.gradient_of(node.outputs[0]) else { return };
    let dtable = tape.gradient_for(node.inputs[1]);
    tape.push(Op::EmbedGradient, &[node.inputs[0], dy], &[dtable]);
}

pub(super) fn position_gradient(node: &Node, tape: &mut Tape) {
    let Some(dy) = tape.gradient_of(node.outputs[0]) else { return };
    tape.contribute(node.inputs[0], dy);
    let dtable = tape.gradient_for(node.inputs[1]);
    tape.push(Op::PositionGradient, &[dy], &[dtable]);
}
