//! Operations with what their names do not say, both ways.

use std::fmt::Write as _;

use super::word::{Line, Result};
use crate::op::{Norm, Op, OpKind, Pattern, Rotary, Rotation, Scaling};

fn rotation_name(rotation: Rotation) -> &'static str {
    match rotation {
        Rotation::Forward => "forward",
        Rotation::Inverse => "inverse",
    }
}

fn pattern_name(pattern: Pattern) -> &'static str {
    match pattern {
        Pattern::Causal => "causal",
        Pattern::Full => "full",
    }
}

/// Its name and its attributes.
pub(super) fn print(op: &Op) -> String {
    let mut text = op.name().to_owned();
    let written = match op {
        Op::Norm(norm) | Op::NormGradient(norm) => write!(text, " epsilon={:?}", norm.epsilon),
        Op::Rotary(rotary) => {
            let Rotary { base, scaling, rotation } = rotary;
            let scaled = scaling.map_or(String::new(), |scaling| {
                let Scaling { factor, low_frequency_factor: low, high_frequency_factor: high, original_sequence } =
                    scaling;
                format!(" factor={factor:?} low={low:?} high={high:?} original={original_sequence}")
            });
            write!(text, " base={base:?} rotation={}{scaled}", rotation_name(*rotation))
        }
        Op::Attention(pattern) | Op::AttentionGradient(pattern) => write!(text, " pattern={}", pattern_name(*pattern)),
        Op::CrossEntropy { replicas } | Op::SquareSum { replicas } => write!(text, " replicas={replicas}"),
        Op::AdamW { decayed, length } => write!(text, " decayed={decayed} length={length}"),
        Op::CrossAttention
        | Op::CrossAttentionGradient
        | Op::Activation(_)
        | Op::ActivationGradient(_)
        | Op::Embed
        | Op::EmbedGradient
        | Op::Position
        | Op::PositionGradient
        | Op::MatMul
        | Op::Bias
        | Op::BiasGradient
        | Op::Add
        | Op::RowMax
        | Op::SumExp
        | Op::CrossEntropyGradient
        | Op::Zero => Ok(()),
    };
    written.expect("a string takes all that is written to it");
    text
}

/// An operation and its attributes, from the next words.
pub(super) fn parse(line: &mut Line<'_>) -> Result<Op> {
    Ok(match line.word().named("an operation", &OpKind::ALL, OpKind::name)? {
        OpKind::Embed => Op::Embed,
        OpKind::EmbedGradient => Op::EmbedGradient,
        OpKind::Position => Op::Position,
        OpKind::PositionGradient => Op::PositionGradient,
        OpKind::Norm(kind) => Op::Norm(Norm { kind, epsilon: line.field("epsilon")?.number()? }),
        OpKind::NormGradient(kind) => Op::NormGradient(Norm { kind, epsilon: line.field("epsilon")?.number()? }),
        OpKind::MatMul => Op::MatMul,
        OpKind::Bias => Op::Bias,
        OpKind::BiasGradient => Op::BiasGradient,
        OpKind::Rotary => {
            let base = line.field("base")?.number()?;
            let known = [Rotation::Forward, Rotation::Inverse];
            let rotation = line.field("rotation")?.named("a rotation", &known, rotation_name)?;
            Op::Rotary(Rotary { base, scaling: scaling(line)?, rotation })
        }
        OpKind::Attention => Op::Attention(pattern(line)?),
        OpKind::AttentionGradient => Op::AttentionGradient(pattern(line)?),
        OpKind::CrossAttention => Op::CrossAttention,
        OpKind::CrossAttentionGradient => Op::CrossAttentionGradient,
        OpKind::Activation(activation) => Op::Activation(activation),
        OpKind::ActivationGradient(activation) => Op::ActivationGradient(activation),
        OpKind::Add => Op::Add,
        OpKind::RowMax => Op::RowMax,
        OpKind::SumExp => Op::SumExp,
        OpKind::CrossEntropy => Op::CrossEntropy { replicas: line.field("replicas")?.number()? },
        OpKind::CrossEntropyGradient => Op::CrossEntropyGradient,
        OpKind::SquareSum => Op::SquareSum { replicas: line.field("replicas")?.number()? },
        OpKind::AdamW => {
            let decayed = line.field("decayed")?.number()?;
            Op::AdamW { decayed, length: line.field("length")?.number()? }
        }
        OpKind::Zero => Op::Zero,
    })
}

fn scaling(line: &mut Line<'_>) -> Result<Option<Scaling>> {
    let Some(factor) = line.field_if_any("factor") else { return Ok(None) };
    Ok(Some(Scaling {
        factor: factor.number()?,
        low_frequency_factor: line.field("low")?.number()?,
        high_frequency_factor: line.field("high")?.number()?,
        original_sequence: line.field("original")?.number()?,
    }))
}

fn pattern(line: &mut Line<'_>) -> Result<Pattern> {
    line.field("pattern")?.named("a pattern", &[Pattern::Causal, Pattern::Full], pattern_name)
}
