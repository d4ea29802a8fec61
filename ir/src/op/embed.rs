//! Rows of a table: by token, and by position.

use crate::graph::{Node, Sizes};
use crate::op::Op;
use crate::tape::Tape;
use crate::units::Flops;

/// One addition for each element moved: rows of the table that are not used do not count.
pub(super) fn flops(sizes: &Sizes) -> Flops {
    let is_moved = |letter: &char| !matches!(letter, 'v' | 'p');
    Flops(sizes.iter().filter(|(letter, _)| is_moved(letter)).map(|(_, &size)| size as f64).product())
}

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
