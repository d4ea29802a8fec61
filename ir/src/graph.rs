//! The graph of a model: layers of a few kinds, each a list of operations on tensors with named dimensions.
//!
//! A dimension is a letter: `b` batch, `s` sequence, `h` hidden, `g` groups of heads that share a key and a value,
//! `r` queries of a group, `c` = r + 2 rows of a packed query-key-value, `d` head size, `f` feed-forward width,
//! `e` its two halves (gate and up), `v` vocabulary, `p` positions, `k` the two sums of a softmax, `n` elements of
//! a flat block, `w` windows of a sequence, whose tokens `s` then are, `i` numbers of a patch, `j` the width that a
//! product changes `h` from or into, `t` tokens of the sequence that a decoder looks at.
//!
//! A kind has sizes of its own: a sequence may be shorter and wider from one layer to the next. What one layer gives
//! and the next takes has as many numbers, in one order, whatever letters each has for it. Beside it may go a
//! [`Context`], which layers read and hand on as it is.

use std::collections::BTreeSet;

use crate::op::Op;
use crate::seed::Seed;
use crate::units::Bytes;

pub use crate::op::Sizes;

macro_rules! index {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u32);
        impl $name {
            /// As an index into a list.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}
pub(crate) use index;

index!(
    /// A tensor of a layer kind.
    TensorId
);
index!(
    /// A kind of layer of a graph.
    KindId
);
index!(
    /// A layer of a graph, in order.
    LayerId
);

/// How a number is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Element {
    /// 32-bit floating point.
    F32,
    /// 16-bit floating point with the exponent of `F32`.
    Bf16,
    /// 32-bit integer: a token.
    I32,
}

impl Element {
    /// All of them.
    pub const ALL: [Element; 3] = [Element::F32, Element::Bf16, Element::I32];

    /// Bytes that one takes.
    pub fn bytes(self) -> u64 {
        match self {
            Element::F32 | Element::I32 => 4,
            Element::Bf16 => 2,
        }
    }

    /// Its word in programs and profiles.
    pub const fn name(self) -> &'static str {
        match self {
            Element::F32 => "f32",
            Element::Bf16 => "bf16",
            Element::I32 => "i32",
        }
    }
}

/// How a parameter starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Normal with mean zero.
    Normal {
        /// Its standard deviation.
        deviation: f64,
    },
    /// The same value everywhere.
    Constant {
        /// That value.
        value: f64,
    },
}

impl Init {
    /// The value of the element at `index` of the whole, unsplit parameter.
    pub fn value(self, seed: Seed, index: u64) -> f32 {
        match self {
            Init::Normal { deviation } => (seed.normal(index) * deviation) as f32,
            Init::Constant { value } => value as f32,
        }
    }
}

/// Whether weight decay acts on a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Decay {
    /// It does: matrices and tables.
    Decayed,
    /// It does not: norms and biases.
    Kept,
}

/// What a tensor is for; this decides its type and where it lives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Class {
    /// Trained.
    Parameter {
        /// How it starts.
        init: Init,
        /// Whether it decays.
        decay: Decay,
    },
    /// The gradient of a parameter, summed over microbatches.
    ParameterGradient {
        /// That parameter.
        of: TensorId,
    },
    /// Computed from the batch.
    Activation,
    /// Computed from the batch, always `F32`.
    Statistic,
    /// Inputs of the step.
    Tokens,
    /// Inputs of the step that are numbers: patches of images.
    Patches,
    /// Inputs of the step that an encoder reads, where a decoder reads tokens, too.
    Source,
    /// What the step should have predicted.
    Targets,
    /// The sum of the losses of all tokens.
    Loss,
}

/// A tensor of a layer kind: every dimension has a name.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Unique in its kind.
    pub name: String,
    /// One letter a dimension, slowest first.
    pub dimensions: Vec<char>,
    /// What it is for.
    pub class: Class,
}

impl Tensor {
    /// Elements of the whole tensor.
    pub fn elements(&self, sizes: &Sizes) -> u64 {
        self.dimensions.iter().map(|letter| sizes[letter]).product()
    }
}

/// One operation with its operands.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What is computed.
    pub op: Op,
    /// What is read, in the order that the operation defines.
    pub inputs: Vec<TensorId>,
    /// What is written.
    pub outputs: Vec<TensorId>,
}

/// What goes from layer to layer beside the residual stream: made once, read by all layers behind, changed by none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// The layer makes it for those behind.
    Begins(TensorId),
    /// The layer reads it, and those behind do, too.
    Passes(TensorId),
    /// The layer is the last that reads it.
    Ends(TensorId),
}

impl Context {
    /// The tensor, if it comes from the layer before.
    pub fn taken(self) -> Option<TensorId> {
        match self {
            Context::Begins(_) => None,
            Context::Passes(tensor) | Context::Ends(tensor) => Some(tensor),
        }
    }

    /// The tensor, if it goes to the layer behind.
    pub fn given(self) -> Option<TensorId> {
        match self {
            Context::Begins(tensor) | Context::Passes(tensor) => Some(tensor),
            Context::Ends(_) => None,
        }
    }

    /// The tensor.
    pub fn tensor(self) -> TensorId {
        match self {
            Context::Begins(tensor) | Context::Passes(tensor) | Context::Ends(tensor) => tensor,
        }
    }
}

/// A kind of layer: all layers of it are equal but for the values of their parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerKind {
    /// Its word in plans and tables.
    pub name: String,
    /// Sizes of all letters but `b`, which the plan decides.
    pub sizes: Sizes,
    /// All tensors.
    pub tensors: Vec<Tensor>,
    /// Operations, in order.
    pub nodes: Vec<Node>,
    /// What comes from the layer before; the first layer has none.
    pub input: Option<TensorId>,
    /// What goes to the layer behind; the last layer has none.
    pub output: Option<TensorId>,
    /// What goes beside it, if anything does.
    pub context: Option<Context>,
}

impl LayerKind {
    /// The tensor with this id.
    pub fn tensor(&self, id: TensorId) -> &Tensor {
        &self.tensors[id.index()]
    }

    /// The context that comes from the layer before, if any does.
    pub fn context_taken(&self) -> Option<TensorId> {
        self.context.and_then(Context::taken)
    }

    /// The context that goes to the layer behind, if any does.
    pub fn context_given(&self) -> Option<TensorId> {
        self.context.and_then(Context::given)
    }

    /// Whether it reads something from outside of the model: tokens, patches, or targets.
    pub fn reads_rows(&self) -> bool {
        self.tensors.iter().any(|tensor| match tensor.class {
            Class::Tokens | Class::Patches | Class::Source | Class::Targets => true,
            Class::Parameter { .. }
            | Class::ParameterGradient { .. }
            | Class::Activation
            | Class::Statistic
            | Class::Loss => false,
        })
    }

    /// Parameters, in order.
    pub fn parameters(&self) -> impl Iterator<Item = (TensorId, &Tensor)> {
        let all = self.tensors.iter().enumerate().map(|(index, tensor)| (TensorId(index as u32), tensor));
        all.filter(|(_, tensor)| matches!(tensor.class, Class::Parameter { .. }))
    }

    /// The first operation that reads what only it or a later one makes; none if operations stand in order.
    pub fn misplaced(&self) -> Option<&Node> {
        let mut to_come: BTreeSet<TensorId> = self.nodes.iter().flat_map(|node| &node.outputs).copied().collect();
        self.nodes.iter().find(|node| {
            let is_early = node.inputs.iter().any(|input| to_come.contains(input));
            to_come.retain(|tensor| !node.outputs.contains(tensor));
            is_early
        })
    }

    /// How many numbers are trained.
    pub fn parameter_count(&self) -> u64 {
        self.parameters().map(|(_, tensor)| tensor.elements(&self.sizes)).sum()
    }
}

/// Parameters of unlike layers that are one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tie {
    /// The layer and parameter that own it: the first of all.
    pub owner: (LayerId, TensorId),
    /// The layers and parameters that use it too, in order; at least one.
    pub users: Vec<(LayerId, TensorId)>,
}

impl Tie {
    /// The layers and parameters that are one, in order.
    pub fn sides(&self) -> impl Iterator<Item = (LayerId, TensorId)> {
        [self.owner].into_iter().chain(self.users.iter().copied())
    }
}

/// A model as layers in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    /// The model's name.
    pub name: String,
    /// The kinds of its layers.
    pub kinds: Vec<LayerKind>,
    /// The kind of each layer.
    pub layers: Vec<KindId>,
    /// Parameters that are one, if any are.
    pub tie: Option<Tie>,
    /// What a sequence is asked for: as many tokens as it has, or classes of the patches that come to the head.
    pub sequence: u64,
    /// Different tokens, or classes.
    pub vocabulary: u64,
}

impl Graph {
    /// The kind of a layer.
    pub fn kind(&self, layer: LayerId) -> &LayerKind {
        &self.kinds[self.layers[layer.index()].index()]
    }

    /// A few layers of the model alone, to ask what they cost: without what comes before and behind them.
    pub fn part(&self, layers: &[KindId]) -> Graph {
        Graph { layers: layers.to_vec(), tie: None, ..self.clone() }
    }

    /// How many numbers are trained; tied ones count once.
    pub fn parameter_count(&self) -> u64 {
        let all: u64 = self.layers.iter().map(|kind| self.kinds[kind.index()].parameter_count()).sum();
        let users = self.tie.iter().flat_map(|tie| &tie.users);
        let shared: u64 =
            users.map(|&(layer, tensor)| self.kind(layer).tensor(tensor).elements(&self.kind(layer).sizes)).sum();
        all - shared
    }

    /// What the parameters take at `element` each.
    pub fn parameter_bytes(&self, element: Element) -> Bytes {
        Bytes(self.parameter_count() * element.bytes())
    }
}
