//! The tape on which operations write their gradients.

use std::collections::BTreeMap;

use ir::graph::{Class, LayerKind, Node, Tensor, TensorId};
use ir::op::Op;

/// The backward pass of one layer kind while it is written.
#[derive(Clone, Debug)]
pub(crate) struct Tape {
    tensors: Vec<Tensor>,
    nodes: Vec<Node>,
    contributions: BTreeMap<TensorId, Vec<TensorId>>,
    parameter_gradients: BTreeMap<TensorId, TensorId>,
}

impl Tape {
    /// An empty tape for `kind`.
    pub(crate) fn new(kind: &LayerKind) -> Tape {
        Tape {
            tensors: kind.tensors.clone(),
            nodes: Vec::new(),
            contributions: BTreeMap::new(),
            parameter_gradients: BTreeMap::new(),
        }
    }

    /// Adds an operation to the backward pass.
    pub(crate) fn push(&mut self, op: Op, inputs: &[TensorId], outputs: &[TensorId]) {
        self.nodes.push(Node { op, inputs: inputs.to_vec(), outputs: outputs.to_vec() });
    }

    /// The gradient of `tensor`: the sum of all contributions so far. None if nothing depends on it.
    pub(crate) fn gradient_of(&mut self, tensor: TensorId) -> Option<TensorId> {
        let parts = self.contributions.get(&tensor)?.clone();
        let mut sum = parts[0];
        for &part in &parts[1..] {
            let next = self.fresh(tensor);
            self.push(Op::Add, &[sum, part], &[next]);
            sum = next;
        }
        self.contributions.insert(tensor, vec![sum]);
        Some(sum)
    }

    /// A new tensor that contributes to the gradient of `of`, or the one tensor that collects it for a parameter.
    pub(crate) fn gradient_for(&mut self, of: TensorId) -> TensorId {
        if !matches!(self.tensors[of.index()].class, Class::Parameter { .. }) {
            let fresh = self.fresh(of);
            self.contribute(of, fresh);
            return fresh;
        }
        if let Some(&gradient) = self.parameter_gradients.get(&of) {
            return gradient;
        }
        let gradient = self.add(of, Class::ParameterGradient { of });
        self.parameter_gradients.insert(of, gradient);
        gradient
    }

    /// Whether a tensor comes from outside of the model.
    pub(crate) fn is_input_of_step(&self, tensor: TensorId) -> bool {
        matches!(self.tensors[tensor.index()].class, Class::Patches)
    }

    /// Says that `gradient` is a contribution to the gradient of `tensor`, without an operation.
    pub(crate) fn contribute(&mut self, tensor: TensorId, gradient: TensorId) {
        self.contributions.entry(tensor).or_default().push(gradient);
    }

    /// A new activation with the dimensions of `like`.
    pub(crate) fn fresh(&mut self, like: TensorId) -> TensorId {
        self.add(like, Class::Activation)
    }

    /// All tensors, the operations, and the gradient of each parameter.
    pub(crate) fn finish(self) -> (Vec<Tensor>, Vec<Node>, BTreeMap<TensorId, TensorId>) {
        (self.tensors, self.nodes, self.parameter_gradients)
    }

    fn add(&mut self, like: TensorId, class: Class) -> TensorId {
        let id = TensorId(self.tensors.len() as u32);
        let of = &self.tensors[like.index()];
        let name = format!("gradient {} of {}", id.0, of.name);
        self.tensors.push(Tensor { name, dimensions: of.dimensions.clone(), class });
        id
    }
}
