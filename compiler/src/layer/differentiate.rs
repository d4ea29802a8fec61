//! Pass 1: the backward pass of a layer kind, written by its operations.

use std::collections::{BTreeMap, BTreeSet};

use ir::graph::{LayerKind, Node, Tensor, TensorId};

use crate::gradient::{Tape, gradient};
use crate::layer::spread::{Spread, Step};

/// A layer kind with its backward pass.
#[derive(Clone, Debug)]
pub(crate) struct Differentiated {
    /// Tensors of both passes; those of the kind come first.
    pub(crate) tensors: Vec<Tensor>,
    /// The backward pass, in order.
    pub(crate) backward: Vec<Node>,
    /// The gradient of the layer's output, which the layer behind brings.
    pub(crate) output_gradient: Option<TensorId>,
    /// The gradient of the layer's input, for the layer before.
    pub(crate) input_gradient: Option<TensorId>,
    /// The gradient of a context that goes to the layer behind, which brings it.
    pub(crate) context_output_gradient: Option<TensorId>,
    /// The gradient of a context that comes from the layer before: of what this layer and all behind read of it.
    pub(crate) context_input_gradient: Option<TensorId>,
    /// The gradient of each parameter.
    pub(crate) parameter_gradients: BTreeMap<TensorId, TensorId>,
}

/// Asks every operation, last first, for its gradient.
pub(crate) fn differentiate(kind: &LayerKind) -> Differentiated {
    if let Some(node) = kind.misplaced() {
        panic!("layer kind {}: {} stands before what it reads", kind.name, node.op.name());
    }
    let mut tape = Tape::new(kind);
    let output_gradient = kind.output.map(|output| tape.gradient_for(output));
    let context_output_gradient = kind.context_given().map(|context| tape.gradient_for(context));
    for node in kind.nodes.iter().rev() {
        gradient(node, &mut tape);
    }
    let input_gradient = kind.input.and_then(|input| tape.gradient_of(input));
    let context_input_gradient = kind.context_taken().and_then(|context| tape.gradient_of(context));
    let (tensors, backward, parameter_gradients) = tape.finish();
    Differentiated {
        tensors,
        backward,
        output_gradient,
        input_gradient,
        context_output_gradient,
        context_input_gradient,
        parameter_gradients,
    }
}

/// The parameters whose gradients a backward pass writes by one kernel.
pub(crate) fn written_once(backward: &Spread, differentiated: &Differentiated) -> BTreeSet<TensorId> {
    let writes = |gradient: TensorId| {
        let written = backward.steps.iter().flat_map(|step| match step {
            Step::Kernel { outputs, .. } => outputs.as_slice(),
            Step::Exchange { .. } => &[],
        });
        written.filter(|value| backward.values[value.0].tensor == gradient).count()
    };
    let once = differentiated.parameter_gradients.iter().filter(|&(_, &gradient)| writes(gradient) == 1);
    once.map(|(&id, _)| id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::tiny;

    #[test]
    #[should_panic(expected = "stands before what it reads")]
    fn operations_must_stand_in_the_order_of_their_data() {
        let mut kind = tiny().graph().kinds.remove(1);
        assert_eq!(kind.misplaced(), None);
        kind.nodes.swap(0, 1);
        differentiate(&kind);
    }

    #[test]
    fn every_parameter_has_a_gradient() {
        for kind in tiny().graph().kinds {
            let gradients = differentiate(&kind).parameter_gradients;
            assert_eq!(gradients.len(), kind.parameters().count(), "{}", kind.name);
        }
    }
}
