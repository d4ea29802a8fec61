//! What each operation writes on the tape of the backward pass.

mod activation;
mod attention;
mod embed;
mod loss;
mod norm;
mod product;
mod tape;

use ir::graph::Node;
use ir::op::Op;

pub(crate) use tape::Tape;

/// Writes the gradient of `node` on the tape. Does nothing where nothing depends on its result.
pub(crate) fn gradient(node: &Node, tape: &mut Tape) {
    match node.op {
        Op::Embed => embed::gradient(node, tape),
        Op::Position => embed::position_gradient(node, tape),
        Op::Norm(norm) => norm::gradient(norm, node, tape),
        Op::MatMul => product::gradient(node, tape),
        Op::Bias => product::bias_gradient(node, tape),
        Op::Rotary(rotary) => attention::rotary_gradient(rotary, node, tape),
        Op::Attention(pattern) => attention::gradient(pattern, node, tape),
        Op::CrossAttention => attention::cross_gradient(node, tape),
        Op::Activation(activation) => activation::gradient(activation, node, tape),
        Op::Add => activation::add_gradient(node, tape),
        Op::CrossEntropy { .. } => loss::gradient(node, tape),
        // The gradient of the loss goes round these two: see `loss::gradient`.
        Op::RowMax | Op::SumExp => {}
        Op::EmbedGradient
        | Op::PositionGradient
        | Op::NormGradient(_)
        | Op::BiasGradient
        | Op::AttentionGradient(_)
        | Op::CrossAttentionGradient
        | Op::ActivationGradient(_)
        | Op::CrossEntropyGradient
        | Op::SquareSum { .. }
        | Op::AdamW { .. }
        | Op::Zero => panic!("{} has no gradient: it is not part of a model", node.op.name()),
    }
}
