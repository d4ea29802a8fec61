//! Cross-entropy in three parts, so that the vocabulary may be split and only rows are exchanged.

use ir::graph::{Node, TensorId};
use ir::op::Op;

use super::Tape;

/// softmax − target, scaled: from the logits themselves, round `RowMax` and `SumExp`, whose results it uses.
///
/// The inputs of the loss are largest and sums; a head names its logits and targets behind them, as inputs that the
/// forward kernel does not read.
pub(super) fn gradient(node: &Node, tape: &mut Tape) {
    let [largest, sums, logits, targets] =
        <[TensorId; 4]>::try_from(node.inputs.as_slice()).expect("a loss names largest, sums, logits and targets");
    let dlogits = tape.gradient_for(logits);
    tape.push(Op::CrossEntropyGradient, &[logits, largest, sums, targets], &[dlogits]);
}
