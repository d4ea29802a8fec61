//! A decoder-only transformer as a graph: embedding, blocks, head.

use crate::graph::{Class, Decay, Graph, Init, KindId, LayerId, LayerKind, Node, Sizes, Tensor, TensorId, Tie};
use crate::model::{Bias, Embeddings, Family, Model};
use crate::op::{Activation, Norm, NormKind, Op, Pattern, Rotary, Rotation};

/// Standard deviation of initial matrices (Radford et al. 2019).
const DEVIATION: f64 = 0.02;

impl Model {
    /// The model as a graph.
    pub fn graph(&self) -> Graph {
        let embedding = embedding(self);
        let block = block(self);
        let head = head(self);
        let last = LayerId(self.layers + 1);
        let tie = (self.embeddings == Embeddings::Tied)
            .then(|| Tie { owner: (LayerId(0), find(&embedding, "table")), user: (last, find(&head, "matrix")) });
        let mut layers = vec![KindId(1); self.layers as usize + 2];
        layers[0] = KindId(0);
        layers[last.index()] = KindId(2);
        let kinds = vec![embedding, block, head];
        Graph { name: self.name.clone(), kinds, layers, tie, sequence: self.sequence, vocabulary: self.vocabulary }
    }

    fn sizes(&self) -> Sizes {
        let queries = self.heads / self.groups();
        [
            ('s', self.sequence),
            ('h', self.hidden),
            ('g', self.groups()),
            ('r', queries),
            ('c', queries + 2),
            ('d', self.head()),
            ('f', self.feed_forward),
            ('e', 2),
            ('v', self.vocabulary),
            ('p', self.sequence),
            ('k', 2),
        ]
        .into()
    }

    fn norm(&self) -> Norm {
        let kind = match self.family {
            Family::Gpt => NormKind::Layer,
            Family::Llama => NormKind::RootMeanSquare,
        };
        Norm { kind, epsilon: self.norm_epsilon }
    }
}

fn find(kind: &LayerKind, name: &str) -> TensorId {
    let (id, _) = kind.parameters().find(|(_, tensor)| tensor.name == name).expect("the kind has this parameter");
    id
}

fn embedding(model: &Model) -> LayerKind {
    let mut layer = Builder::new(model);
    let tokens = layer.tensor("tokens", "bs", Class::Tokens);
    let table = layer.matrix("table", "vh", DEVIATION);
    let mut x = layer.apply(Op::Embed, &[tokens, table], "embedded", "bsh");
    if model.family == Family::Gpt {
        let positions = layer.matrix("positions", "ph", DEVIATION);
        x = layer.apply(Op::Position, &[x, positions], "placed", "bsh");
    }
    layer.finish("embedding", None, Some(x))
}

fn block(model: &Model) -> LayerKind {
    let mut layer = Builder::new(model);
    // Products that end in the residual stream start smaller, by the number of them (Radford et al. 2019, §2.3).
    let small = DEVIATION / (2.0 * f64::from(model.layers)).sqrt();
    let x = layer.tensor("x", "bsh", Class::Activation);
    let normed = layer.norm(x, "attention norm");
    let mut qkv = layer.product(normed, "attention in", ["gcdh", "bsgcd"], DEVIATION);
    if model.attention_bias == Bias::Present {
        qkv = layer.biased(qkv, "attention in", "bsgcd");
    }
    if model.family == Family::Llama {
        let (base, scaling) = (model.rotary_base, model.rotary_scaling);
        let rotary = Rotary { base, scaling, rotation: Rotation::Forward };
        qkv = layer.apply(Op::Rotary(rotary), &[qkv], "turned", "bsgcd");
    }
    let attended = layer.tensor("attended", "bsgrd", Class::Activation);
    let log_sum_exp = layer.tensor("log-sum-exp", "bsgr", Class::Statistic);
    layer.push(Op::Attention(Pattern::Causal), &[qkv], &[attended, log_sum_exp]);
    let projected = layer.product(attended, "attention out", ["hgrd", "bsh"], small);
    let middle = layer.apply(Op::Add, &[x, projected], "middle", "bsh");
    let normed = layer.norm(middle, "feed-forward norm");
    let (inner, activation) = match model.family {
        Family::Gpt => (layer.product(normed, "feed-forward in", ["fh", "bsf"], DEVIATION), Activation::Gelu),
        Family::Llama => (layer.product(normed, "feed-forward in", ["efh", "bsef"], DEVIATION), Activation::SwiGlu),
    };
    let active = layer.apply(Op::Activation(activation), &[inner], "active", "bsf");
    let projected = layer.product(active, "feed-forward out", ["hf", "bsh"], small);
    let y = layer.apply(Op::Add, &[middle, projected], "y", "bsh");
    layer.finish("block", Some(x), Some(y))
}

fn head(model: &Model) -> LayerKind {
    let mut layer = Builder::new(model);
    let x = layer.tensor("x", "bsh", Class::Activation);
    let targets = layer.tensor("targets", "bs", Class::Targets);
    let normed = layer.norm(x, "norm");
    let matrix = layer.matrix("matrix", "vh", DEVIATION);
    let logits = layer.apply(Op::MatMul, &[normed, matrix], "logits", "bsv");
    let largest = layer.tensor("largest", "bs", Class::Statistic);
    layer.push(Op::RowMax, &[logits], &[largest]);
    let sums = layer.tensor("sums", "bsk", Class::Statistic);
    layer.push(Op::SumExp, &[logits, largest, targets], &[sums]);
    let loss = layer.tensor("loss", "", Class::Loss);
    layer.push(Op::CrossEntropy { replicas: 1 }, &[largest, sums, logits, targets], &[loss]);
    layer.finish("head", Some(x), None)
}

/// Makes one layer kind.
struct Builder<'a> {
    model: &'a Model,
    tensors: Vec<Tensor>,
    nodes: Vec<Node>,
}

impl<'a> Builder<'a> {
    fn new(model: &'a Model) -> Builder<'a> {
        Builder { model, tensors: Vec::new(), nodes: Vec::new() }
    }

    fn tensor(&mut self, name: &str, dimensions: &str, class: Class) -> TensorId {
        self.tensors.push(Tensor { name: name.to_owned(), dimensions: dimensions.chars().collect(), class });
        TensorId(self.tensors.len() as u32 - 1)
    }

    fn matrix(&mut self, name: &str, dimensions: &str, deviation: f64) -> TensorId {
        let class = Class::Parameter { init: Init::Normal { deviation }, decay: Decay::Decayed };
        self.tensor(name, dimensions, class)
    }

    fn vector(&mut self, name: &str, dimensions: &str, value: f64) -> TensorId {
        let class = Class::Parameter { init: Init::Constant { value }, decay: Decay::Kept };
        self.tensor(name, dimensions, class)
    }

    fn push(&mut self, op: Op, inputs: &[TensorId], outputs: &[TensorId]) {
        self.nodes.push(Node { op, inputs: inputs.to_vec(), outputs: outputs.to_vec() });
    }

    fn apply(&mut self, op: Op, inputs: &[TensorId], name: &str, dimensions: &str) -> TensorId {
        let output = self.tensor(name, dimensions, Class::Activation);
        self.push(op, inputs, &[output]);
        output
    }

    fn norm(&mut self, x: TensorId, name: &str) -> TensorId {
        let mut inputs = vec![x, self.vector(&format!("{name} weight"), "h", 1.0)];
        let mut outputs = vec![self.tensor(&format!("{name} result"), "bsh", Class::Activation)];
        if self.model.family == Family::Gpt {
            inputs.push(self.vector(&format!("{name} bias"), "h", 0.0));
            outputs.push(self.tensor(&format!("{name} mean"), "bs", Class::Statistic));
        }
        outputs.push(self.tensor(&format!("{name} inverse deviation"), "bs", Class::Statistic));
        self.push(Op::Norm(self.model.norm()), &inputs, &outputs);
        outputs[0]
    }

    /// A product with its own matrix and, in the GPT family, its bias. `letters` are those of matrix and result.
    fn product(&mut self, x: TensorId, name: &str, letters: [&str; 2], deviation: f64) -> TensorId {
        let [matrix, result] = letters;
        let weight = self.matrix(&format!("{name} matrix"), matrix, deviation);
        let y = self.apply(Op::MatMul, &[x, weight], &format!("{name} product"), result);
        match self.model.family {
            Family::Llama => y,
            Family::Gpt => self.biased(y, name, result),
        }
    }

    /// The sum of a product and a bias of its own, over all letters but those of tokens.
    fn biased(&mut self, y: TensorId, name: &str, result: &str) -> TensorId {
        let letters: String = result.chars().filter(|&letter| letter != 'b' && letter != 's').collect();
        let bias = self.vector(&format!("{name} bias"), &letters, 0.0);
        self.apply(Op::Bias, &[y, bias], &format!("{name} sum"), result)
    }

    fn finish(self, name: &str, input: Option<TensorId>, output: Option<TensorId>) -> LayerKind {
        let mut sizes = self.model.sizes();
        let used = |letter: &char| self.tensors.iter().any(|tensor| tensor.dimensions.contains(letter));
        sizes.retain(|letter, _| used(letter));
        LayerKind { name: name.to_owned(), sizes, tensors: self.tensors, nodes: self.nodes, input, output }
    }
}
