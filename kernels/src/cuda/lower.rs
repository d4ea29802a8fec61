//! From an operation to what a device is asked to do for it.

use ir::op::{NormKind, Op};

use super::Error;
use super::lowered::{Lowered, Request, Work};
use crate::{activation, adamw, add, attention, bias, embed, fill, loss, norm, position, rotary, square_sum};

/// What a device does for this operation.
pub(crate) fn lower(request: Request<'_>) -> Result<Lowered, Error> {
    let mut lowered = match request.kernel.op {
        Op::MatMul => Ok(Lowered { works: vec![Work::Product], workspace: 0 }),
        Op::Embed => embed::cuda::forward(request),
        Op::EmbedGradient => embed::cuda::gradient(request),
        Op::Position => position::cuda::forward(request),
        Op::PositionGradient => position::cuda::gradient(request),
        Op::Norm(norm) => norm::cuda::forward(request, norm),
        Op::NormGradient(norm) => norm::cuda::gradient(request, norm.kind),
        Op::Bias => bias::cuda::forward(request),
        Op::BiasGradient => bias::cuda::gradient(request),
        Op::Rotary(rotary) => rotary::cuda::lower(request, rotary),
        Op::Attention(pattern) => attention::cuda::forward(request, pattern),
        Op::AttentionGradient(pattern) => attention::cuda::gradient(request, pattern),
        Op::CrossAttention | Op::CrossAttentionGradient => {
            Err(request.unsupported("GPUs have no kernel of it".to_owned()))
        }
        Op::Activation(activation) => activation::cuda::forward(request, activation),
        Op::ActivationGradient(activation) => activation::cuda::gradient(request, activation),
        Op::Add => add::cuda::lower(request),
        Op::RowMax => loss::cuda::row_max(request),
        Op::SumExp => loss::cuda::sum_exp(request),
        Op::CrossEntropy { replicas } => loss::cuda::cross_entropy(request, replicas),
        Op::CrossEntropyGradient => loss::cuda::gradient(request),
        Op::SquareSum { replicas } => square_sum::cuda::lower(request, replicas),
        Op::AdamW { decayed, length } => adamw::cuda::lower(request, decayed, length),
        Op::Zero => Ok(fill::cuda::zero(request)),
    }?;
    // A rank may hold nothing of a dimension; a grid without blocks cannot be launched.
    lowered.works.retain(|work| match work {
        Work::Launch(launch) => launch.grid.iter().all(|&blocks| blocks > 0),
        Work::Clear(clear) => clear.bytes > 0,
        Work::Product => request.output(0).elements() > 0,
    });
    Ok(lowered)
}

/// 1 for layer normalisation, 0 for root-mean-square: what its source is told.
pub(crate) fn has_mean(kind: NormKind) -> u64 {
    match kind {
        NormKind::Layer => 1,
        NormKind::RootMeanSquare => 0,
    }
}
