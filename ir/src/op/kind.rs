//! Which operation, without its constants: what programs, profiles and tables name it by.

use super::{Activation, NormKind, Op};

/// An operation without its constants: kernels of one kind and shape take the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "as in `Op`")]
pub enum OpKind {
    Embed,
    EmbedGradient,
    Position,
    PositionGradient,
    Norm(NormKind),
    NormGradient(NormKind),
    MatMul,
    Bias,
    BiasGradient,
    Rotary,
    Attention,
    AttentionGradient,
    CrossAttention,
    CrossAttentionGradient,
    Activation(Activation),
    ActivationGradient(Activation),
    Add,
    RowMax,
    SumExp,
    CrossEntropy,
    CrossEntropyGradient,
    SquareSum,
    AdamW,
    Zero,
}

impl OpKind {
    /// All kinds.
    pub const ALL: [OpKind; 30] = [
        OpKind::Embed,
        OpKind::EmbedGradient,
        OpKind::Position,
        OpKind::PositionGradient,
        OpKind::Norm(NormKind::Layer),
        OpKind::Norm(NormKind::RootMeanSquare),
        OpKind::NormGradient(NormKind::Layer),
        OpKind::NormGradient(NormKind::RootMeanSquare),
        OpKind::MatMul,
        OpKind::Bias,
        OpKind::BiasGradient,
        OpKind::Rotary,
        OpKind::Attention,
        OpKind::AttentionGradient,
        OpKind::CrossAttention,
        OpKind::CrossAttentionGradient,
        OpKind::Activation(Activation::Gelu),
        OpKind::Activation(Activation::Relu),
        OpKind::Activation(Activation::SwiGlu),
        OpKind::ActivationGradient(Activation::Gelu),
        OpKind::ActivationGradient(Activation::Relu),
        OpKind::ActivationGradient(Activation::SwiGlu),
        OpKind::Add,
        OpKind::RowMax,
        OpKind::SumExp,
        OpKind::CrossEntropy,
        OpKind::CrossEntropyGradient,
        OpKind::SquareSum,
        OpKind::AdamW,
        OpKind::Zero,
    ];

    /// Behind how many inputs an addend may stand, see [`Op::addend`].
    pub fn addend(self) -> Option<usize> {
        match self {
            OpKind::MatMul => Some(2),
            OpKind::NormGradient(NormKind::RootMeanSquare) => Some(4),
            OpKind::NormGradient(NormKind::Layer) => Some(5),
            OpKind::Embed
            | OpKind::EmbedGradient
            | OpKind::Position
            | OpKind::PositionGradient
            | OpKind::Norm(_)
            | OpKind::Bias
            | OpKind::BiasGradient
            | OpKind::Rotary
            | OpKind::Attention
            | OpKind::AttentionGradient
            | OpKind::CrossAttention
            | OpKind::CrossAttentionGradient
            | OpKind::Activation(_)
            | OpKind::ActivationGradient(_)
            | OpKind::Add
            | OpKind::RowMax
            | OpKind::SumExp
            | OpKind::CrossEntropy
            | OpKind::CrossEntropyGradient
            | OpKind::SquareSum
            | OpKind::AdamW
            | OpKind::Zero => None,
        }
    }

    /// Its word in programs, profiles and tables.
    pub const fn name(self) -> &'static str {
        match self {
            OpKind::Embed => "embed",
            OpKind::EmbedGradient => "embed-gradient",
            OpKind::Position => "position",
            OpKind::PositionGradient => "position-gradient",
            OpKind::Norm(NormKind::Layer) => "layer-norm",
            OpKind::Norm(NormKind::RootMeanSquare) => "rms-norm",
            OpKind::NormGradient(NormKind::Layer) => "layer-norm-gradient",
            OpKind::NormGradient(NormKind::RootMeanSquare) => "rms-norm-gradient",
            OpKind::MatMul => "matmul",
            OpKind::Bias => "bias",
            OpKind::BiasGradient => "bias-gradient",
            OpKind::Rotary => "rotary",
            OpKind::Attention => "attention",
            OpKind::AttentionGradient => "attention-gradient",
            OpKind::CrossAttention => "cross-attention",
            OpKind::CrossAttentionGradient => "cross-attention-gradient",
            OpKind::Activation(Activation::Gelu) => "gelu",
            OpKind::Activation(Activation::Relu) => "relu",
            OpKind::Activation(Activation::SwiGlu) => "swiglu",
            OpKind::ActivationGradient(Activation::Gelu) => "gelu-gradient",
            OpKind::ActivationGradient(Activation::Relu) => "relu-gradient",
            OpKind::ActivationGradient(Activation::SwiGlu) => "swiglu-gradient",
            OpKind::Add => "add",
            OpKind::RowMax => "row-max",
            OpKind::SumExp => "sum-exp",
            OpKind::CrossEntropy => "cross-entropy",
            OpKind::CrossEntropyGradient => "cross-entropy-gradient",
            OpKind::SquareSum => "square-sum",
            OpKind::AdamW => "adamw",
            OpKind::Zero => "zero",
        }
    }
}

impl Op {
    /// Which operation it is.
    pub fn kind(&self) -> OpKind {
        match self {
            Op::Embed => OpKind::Embed,
            Op::EmbedGradient => OpKind::EmbedGradient,
            Op::Position => OpKind::Position,
            Op::PositionGradient => OpKind::PositionGradient,
            Op::Norm(norm) => OpKind::Norm(norm.kind),
            Op::NormGradient(norm) => OpKind::NormGradient(norm.kind),
            Op::MatMul => OpKind::MatMul,
            Op::Bias => OpKind::Bias,
            Op::BiasGradient => OpKind::BiasGradient,
            Op::Rotary(_) => OpKind::Rotary,
            Op::Attention(_) => OpKind::Attention,
            Op::AttentionGradient(_) => OpKind::AttentionGradient,
            Op::CrossAttention => OpKind::CrossAttention,
            Op::CrossAttentionGradient => OpKind::CrossAttentionGradient,
            Op::Activation(activation) => OpKind::Activation(*activation),
            Op::ActivationGradient(activation) => OpKind::ActivationGradient(*activation),
            Op::Add => OpKind::Add,
            Op::RowMax => OpKind::RowMax,
            Op::SumExp => OpKind::SumExp,
            Op::CrossEntropy { .. } => OpKind::CrossEntropy,
            Op::CrossEntropyGradient => OpKind::CrossEntropyGradient,
            Op::SquareSum { .. } => OpKind::SquareSum,
            Op::AdamW { .. } => OpKind::AdamW,
            Op::Zero => OpKind::Zero,
        }
    }

    /// Its word in programs, profiles and tables.
    pub fn name(&self) -> &'static str {
        self.kind().name()
    }
}
