//! What stands between products: activation functions and residual sums.

use crate::graph::Node;
use crate::op::Op;
use crate::tape::Tape;

/// Which function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Activation {
    /// Gaussian error linear unit, in its tanh form (Hendrycks and Gimpel 2016).
    Gelu,
    /// silu(gate) · up (Shazeer 2020).
    SwiGlu,
}

impl Activation {
    pub(super) fn gradient(self, node: &Node, tape: &mut Tape) {
        let Some(dy) = tape.gradient_of(node.outputs[0]) else { return };
        let dx = tape.gradient_for(node.inputs[0]);
        tape.push(Op::ActivationGradient(self), &[dy, node.inputs[0]], &[dx]);
    }
}

/// Both summands have the gradient of the sum; nothing is computed.
pub(super) fn add_gradient(node: &Node, tape: &mut Tape) {
    let Some(dy) = tape.gradient_of(node.outputs[0]) else { return };
    tape.contribute(node.inputs[0], dy);
    tape.contribute(node.inputs[1], dy);
}
