//! Operations: a closed list. Each says how its results are joined when a dimension that it sums over is split, how
//! much work it is; sharding, programs and prices follow from that. Its gradient is the compiler's.

mod activation;
mod attention;
mod embed;
mod kind;
mod norm;
mod product;
mod update;

use std::collections::BTreeMap;

use crate::layout::Reduce;
use crate::units::Flops;

pub use activation::Activation;
pub use attention::{Pattern, QUERY_ROWS, Rotary, Rotation, Scaling};
pub use kind::OpKind;
pub use norm::{Norm, NormKind};
pub use product::{Product, Storage};
pub use update::UPDATE_CONSTANTS;

/// The size of each letter.
pub type Sizes = BTreeMap<char, u64>;

/// What is computed. Operands are named in the order of a node's inputs -> outputs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Op {
    /// tokens `b s`, table `v h` -> `b s h`.
    Embed,
    /// tokens `b s`, dy `b s h` -> dtable `v h`.
    EmbedGradient,
    /// x `b s h`, table `p h` -> `b s h`: adds row s of the table.
    Position,
    /// dy `b s h` -> dtable `p h`.
    PositionGradient,
    /// x `b s h`, weight `h`, (bias `h`) -> y `b s h`, (mean `b s`,) inverse deviation `b s`.
    Norm(Norm),
    /// dy, x, weight, (mean,) inverse deviation, (addend) -> dx + addend, dweight, (dbias).
    NormGradient(Norm),
    /// Product of two tensors; letters that the result lacks are summed over. A third tensor, if there is one, is an
    /// addend: of the shape and element of the result, and added before that is rounded.
    MatMul,
    /// x, bias over the last dimensions of x -> y.
    Bias,
    /// dy -> dbias.
    BiasGradient,
    /// qkv `b s g c d` -> the same with queries and keys turned by their position.
    Rotary(Rotary),
    /// qkv `b s g c d` -> y `b s g r d`, log-sum-exp `b s g r`.
    Attention(Pattern),
    /// dy, qkv, y, log-sum-exp -> dqkv.
    AttentionGradient(Pattern),
    /// q `b s g r d`, keys and values `b t g e d` of another sequence, all of which is seen -> y `b s g r d`,
    /// log-sum-exp `b s g r`.
    CrossAttention,
    /// dy, q, keys and values, y, log-sum-exp -> dq, and the gradient of keys and values.
    CrossAttentionGradient,
    /// x `b s f` (GELU, ReLU) or `b s e f` (SwiGLU) -> y `b s f`.
    Activation(Activation),
    /// dy, x -> dx.
    ActivationGradient(Activation),
    /// a, b -> a + b.
    Add,
    /// logits `b s v` -> largest of each row `b s`.
    RowMax,
    /// logits `b s v`, largest `b s`, targets `b s` -> sums `b s k`: of exponentials, and the target's logit.
    SumExp,
    /// largest `b s`, sums `b s k` -> loss: the sum over rows, added to what the output holds.
    CrossEntropy {
        /// Ranks that compute the same rows; the sum is divided by it, so that adding over all ranks is right.
        replicas: u32,
    },
    /// logits `b s v`, largest, sums, targets -> dlogits, of the mean loss over the step's tokens.
    CrossEntropyGradient,
    /// x `n` -> the sum of squares, added to what the output holds.
    SquareSum {
        /// Ranks that hold the same elements, as for `CrossEntropy`.
        replicas: u32,
    },
    /// parameters, gradients, moments 1 and 2, all `n`, the sum of squares of all gradients, constants `k` of the step
    /// ([`UPDATE_CONSTANTS`]) -> parameters, moments (decoupled weight decay); then parameters as they are computed
    /// with, where these are shorter.
    AdamW {
        /// Elements of the block that decay come first; so many.
        decayed: u64,
        /// Elements of the block without padding.
        length: u64,
    },
    /// -> zeros.
    Zero,
}

/// Whether an output is replaced or added to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Write {
    /// What was there is lost.
    #[default]
    Replace,
    /// The result is added to what was there.
    Accumulate,
}

impl Write {
    /// Both.
    pub const ALL: [Write; 2] = [Write::Replace, Write::Accumulate];

    /// Its word in profiles.
    pub const fn name(self) -> &'static str {
        match self {
            Write::Replace => "replace",
            Write::Accumulate => "accumulate",
        }
    }

    /// Which it is not.
    pub const fn other(self) -> Write {
        match self {
            Write::Replace => Write::Accumulate,
            Write::Accumulate => Write::Replace,
        }
    }
}

/// Whether a kernel adds another tensor to its first result; see [`Op::addend`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Addend {
    /// It does not.
    #[default]
    Absent,
    /// It does.
    Present,
}

impl Addend {
    /// Both.
    pub const ALL: [Addend; 2] = [Addend::Absent, Addend::Present];

    /// Its word in profiles.
    pub const fn name(self) -> &'static str {
        match self {
            Addend::Absent => "absent",
            Addend::Present => "present",
        }
    }

    /// Which it is not.
    pub const fn other(self) -> Addend {
        match self {
            Addend::Absent => Addend::Present,
            Addend::Present => Addend::Absent,
        }
    }
}

impl Op {
    /// Behind how many inputs an addend may stand: a tensor of the shape and element of the first result, which is
    /// added to that before it is rounded. None if the operation takes no addend.
    pub fn addend(&self) -> Option<usize> {
        self.kind().addend()
    }

    /// How results of ranks that each summed over a part are joined.
    pub fn reduce(&self) -> Reduce {
        if matches!(self, Op::RowMax) { Reduce::Max } else { Reduce::Sum }
    }

    /// How its outputs are written where nothing else asks for more.
    pub fn write(&self) -> Write {
        if matches!(self, Op::CrossEntropy { .. } | Op::SquareSum { .. }) { Write::Accumulate } else { Write::Replace }
    }

    /// Whether an output may take the very place of an input.
    pub fn works_in_place(&self) -> bool {
        matches!(self, Op::Add | Op::AdamW { .. })
    }

    /// How many of a node's inputs its kernel reads: the loss names its logits and targets only for its gradient.
    pub fn reads(&self, inputs: usize) -> usize {
        if matches!(self, Op::CrossEntropy { .. }) { 2 } else { inputs }
    }

    /// The operation where `ranks` hold each of its sums: these are then divided by it, so that adding over all ranks
    /// is right. Other operations stay as they are.
    pub fn with_replicas(mut self, ranks: u32) -> Op {
        if let Op::CrossEntropy { replicas } | Op::SquareSum { replicas } = &mut self {
            *replicas = ranks;
        }
        self
    }

    /// Letters of which it must know where its part begins.
    pub fn offsets(&self) -> &'static [char] {
        match self {
            Op::Embed | Op::EmbedGradient | Op::SumExp | Op::CrossEntropyGradient => &['v'],
            Op::Position | Op::PositionGradient | Op::Rotary(_) => &['s'],
            Op::AdamW { .. } => &['n'],
            Op::Norm(_)
            | Op::NormGradient(_)
            | Op::MatMul
            | Op::Bias
            | Op::BiasGradient
            | Op::Attention(_)
            | Op::AttentionGradient(_)
            | Op::CrossAttention
            | Op::CrossAttentionGradient
            | Op::Activation(_)
            | Op::ActivationGradient(_)
            | Op::Add
            | Op::RowMax
            | Op::CrossEntropy { .. }
            | Op::SquareSum { .. }
            | Op::Zero => &[],
        }
    }

    /// Letters that must be whole on every rank: queries of attention see all keys of their sequence.
    pub fn whole_letters(&self) -> &'static [char] {
        if matches!(self, Op::Attention(_) | Op::AttentionGradient(_)) { &['s'] } else { &[] }
    }

    /// Whether its result costs no product to compute again. Selective recomputation drops these.
    pub fn is_cheap(&self) -> bool {
        matches!(self, Op::Norm(_) | Op::Activation(_))
    }

    /// Numbers that the kernel may write beside its results while it runs.
    pub fn workspace(&self, sizes: &Sizes) -> u64 {
        match self {
            Op::Attention(_) | Op::AttentionGradient(_) => attention::workspace(sizes),
            Op::CrossAttention | Op::CrossAttentionGradient => attention::cross_workspace(sizes),
            Op::Embed
            | Op::EmbedGradient
            | Op::Position
            | Op::PositionGradient
            | Op::Norm(_)
            | Op::NormGradient(_)
            | Op::MatMul
            | Op::Bias
            | Op::BiasGradient
            | Op::Rotary(_)
            | Op::Activation(_)
            | Op::ActivationGradient(_)
            | Op::Add
            | Op::RowMax
            | Op::SumExp
            | Op::CrossEntropy { .. }
            | Op::CrossEntropyGradient
            | Op::SquareSum { .. }
            | Op::AdamW { .. }
            | Op::Zero => 0,
        }
    }

    /// Floating-point operations on a part with these sizes of all its letters.
    pub fn flops(&self, sizes: &Sizes) -> Flops {
        let elements: u64 = sizes.values().product();
        match self {
            Op::MatMul => product::flops(sizes),
            Op::Attention(pattern) => pattern.flops(sizes),
            Op::AttentionGradient(pattern) => pattern.gradient_flops(sizes),
            Op::CrossAttention => attention::cross_flops(sizes),
            Op::CrossAttentionGradient => attention::cross_flops(sizes) * attention::GRADIENT_WORK,
            Op::Zero => Flops(0.0),
            Op::Embed | Op::EmbedGradient | Op::Position | Op::PositionGradient => embed::flops(sizes),
            Op::Bias | Op::BiasGradient | Op::Add | Op::RowMax => Flops(elements as f64),
            Op::Norm(_) | Op::NormGradient(_) | Op::Rotary(_) | Op::SumExp | Op::CrossEntropyGradient => {
                Flops(8.0 * elements as f64)
            }
            Op::Activation(_) | Op::ActivationGradient(_) => Flops(10.0 * elements as f64),
            Op::CrossEntropy { .. } | Op::SquareSum { .. } => Flops(2.0 * elements as f64),
            Op::AdamW { .. } => update::flops(sizes),
        }
    }
}
