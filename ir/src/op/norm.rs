//! Normalisation over the hidden dimension.

use crate::graph::Node;
use crate::op::Op;
use crate::tape::Tape;

/// Which normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NormKind {
    /// Mean taken off, divided by the deviation, weight and bias (Ba, Kiros and Hinton 2016).
    Layer,
    /// Divided by the root of the mean square, weight only (Zhang and Sennrich 2019).
    RootMeanSquare,
}

/// A normalisation with its constant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Norm {
    /// Which one.
    pub kind: NormKind,
    /// Added to the variance.
    pub epsilon: f64,
}

impl Norm {
    /// dy, x, weight and the saved statistics give dx, dweight and, where there is a bias, dbias.
    pub(super) fn gradient(&self, node: &Node, tape: &mut Tape) {
        let Some(dy) = tape.gradient_of(node.outputs[0]) else { return };
        let mut inputs = vec![dy, node.inputs[0], node.inputs[1]];
        inputs.extend_from_slice(&node.outputs[1..]);
        let outputs: Vec<_> = node.inputs.iter().map(|&input| tape.gradient_for(input)).collect();
        tape.push(Op::NormGradient(*self), &inputs, &outputs);
    }
}
