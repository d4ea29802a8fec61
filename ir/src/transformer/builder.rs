//! Makes one layer kind.

use crate::graph::{Class, Context, Decay, Init, LayerKind, Node, Sizes, Tensor, TensorId};
use crate::model::{Family, Model};
use crate::op::Op;

/// Letters of positions where a sequence is seen as a whole.
pub(super) const SEQUENCE: &str = "bs";
/// The same of the sequence that a decoder looks at.
pub(super) const CONTEXT: &str = "bt";
/// The same where it is seen in windows.
pub(super) const WINDOWS: &str = "bws";

/// A layer kind while it is made. Letters of tensors with a value for each position are those behind the positions.
pub(super) struct Builder<'a> {
    model: &'a Model,
    sizes: Sizes,
    /// Letters of positions.
    rows: &'static str,
    tensors: Vec<Tensor>,
    nodes: Vec<Node>,
    context: Option<Context>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(model: &'a Model, sizes: &Sizes, rows: &'static str) -> Builder<'a> {
        Builder { model, sizes: sizes.clone(), rows, tensors: Vec::new(), nodes: Vec::new(), context: None }
    }

    /// Positions are from now on those of these letters.
    pub(super) fn turn_to(&mut self, rows: &'static str) {
        self.rows = rows;
    }

    /// Says what goes beside the residual stream.
    pub(super) fn beside(&mut self, context: Context) {
        self.context = Some(context);
    }

    /// Whether there are biases: of norms, too, which then take off the mean.
    fn has_biases(&self) -> bool {
        match self.model.family {
            Family::Gpt | Family::Bert | Family::Vit | Family::Swin => true,
            Family::Llama | Family::T5 => false,
        }
    }

    /// Whether norms stand behind sums, and not before products.
    pub(super) fn norms_sums(&self) -> bool {
        self.model.family == Family::Bert
    }

    fn tensor(&mut self, name: &str, dimensions: &str, class: Class) -> TensorId {
        self.tensors.push(Tensor { name: name.to_owned(), dimensions: dimensions.chars().collect(), class });
        TensorId(self.tensors.len() as u32 - 1)
    }

    /// A tensor with values for each position.
    pub(super) fn values(&mut self, name: &str, letters: &str, class: Class) -> TensorId {
        self.tensor(name, &format!("{}{letters}", self.rows), class)
    }

    /// The sum of losses.
    pub(super) fn loss(&mut self) -> TensorId {
        self.tensor("loss", "", Class::Loss)
    }

    pub(super) fn matrix(&mut self, name: &str, dimensions: &str, deviation: f64) -> TensorId {
        let class = Class::Parameter { init: Init::Normal { deviation }, decay: Decay::Decayed };
        self.tensor(name, dimensions, class)
    }

    fn vector(&mut self, name: &str, dimensions: &str, value: f64) -> TensorId {
        let class = Class::Parameter { init: Init::Constant { value }, decay: Decay::Kept };
        self.tensor(name, dimensions, class)
    }

    pub(super) fn push(&mut self, op: Op, inputs: &[TensorId], outputs: &[TensorId]) {
        self.nodes.push(Node { op, inputs: inputs.to_vec(), outputs: outputs.to_vec() });
    }

    /// The result of an operation, with values for each position.
    pub(super) fn apply(&mut self, op: Op, inputs: &[TensorId], name: &str, letters: &str) -> TensorId {
        let output = self.values(name, letters, Class::Activation);
        self.push(op, inputs, &[output]);
        output
    }

    pub(super) fn norm(&mut self, x: TensorId, name: &str) -> TensorId {
        let mut inputs = vec![x, self.vector(&format!("{name} weight"), "h", 1.0)];
        let mut outputs = vec![self.values(&format!("{name} result"), "h", Class::Activation)];
        if self.has_biases() {
            inputs.push(self.vector(&format!("{name} bias"), "h", 0.0));
            outputs.push(self.values(&format!("{name} mean"), "", Class::Statistic));
        }
        outputs.push(self.values(&format!("{name} inverse deviation"), "", Class::Statistic));
        self.push(Op::Norm(self.model.norm()), &inputs, &outputs);
        outputs[0]
    }

    /// A product with its own matrix and, where the family has any, its bias. `letters` are those of matrix and result.
    pub(super) fn product(&mut self, x: TensorId, name: &str, letters: [&str; 2], deviation: f64) -> TensorId {
        let y = self.plain_product(x, name, letters, deviation);
        if self.has_biases() { self.biased(y, name, letters[1]) } else { y }
    }

    /// The same without a bias.
    pub(super) fn plain_product(&mut self, x: TensorId, name: &str, letters: [&str; 2], deviation: f64) -> TensorId {
        let [matrix, result] = letters;
        let weight = self.matrix(&format!("{name} matrix"), matrix, deviation);
        self.apply(Op::MatMul, &[x, weight], &format!("{name} product"), result)
    }

    /// The sum of a product and a bias of its own, over all letters but those of positions.
    pub(super) fn biased(&mut self, y: TensorId, name: &str, letters: &str) -> TensorId {
        let bias = self.vector(&format!("{name} bias"), letters, 0.0);
        self.apply(Op::Bias, &[y, bias], &format!("{name} sum"), letters)
    }

    pub(super) fn finish(self, name: &str, input: Option<TensorId>, output: Option<TensorId>) -> LayerKind {
        let mut sizes = self.sizes.clone();
        let used = |letter: &char| self.tensors.iter().any(|tensor| tensor.dimensions.contains(letter));
        sizes.retain(|letter, _| used(letter));
        let Builder { tensors, nodes, context, .. } = self;
        LayerKind { name: name.to_owned(), sizes, tensors, nodes, input, output, context }
    }
}
