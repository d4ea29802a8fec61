//! Operations with what their names do not say, both ways.

use std::fmt::Write as _;

use super::word::{Line, Result, Word};
use crate::op::{Activation, Norm, NormKind, Op, Pattern, Rotary, Rotation};

/// One of each name.
const KNOWN: [Op; 26] = [
    Op::Embed,
    Op::EmbedGradient,
    Op::Position,
    Op::PositionGradient,
    Op::Norm(norm(NormKind::Layer)),
    Op::Norm(norm(NormKind::RootMeanSquare)),
    Op::NormGradient(norm(NormKind::Layer)),
    Op::NormGradient(norm(NormKind::RootMeanSquare)),
    Op::MatMul,
    Op::Bias,
    Op::BiasGradient,
    Op::Rotary(Rotary { base: 0.0, rotation: Rotation::Forward }),
    Op::Attention(Pattern::Causal),
    Op::AttentionGradient(Pattern::Causal),
    Op::Activation(Activation::Gelu),
    Op::Activation(Activation::SwiGlu),
    Op::ActivationGradient(Activation::Gelu),
    Op::ActivationGradient(Activation::SwiGlu),
    Op::Add,
    Op::RowMax,
    Op::SumExp,
    Op::CrossEntropy { replicas: 0 },
    Op::CrossEntropyGradient,
    Op::SquareSum { replicas: 0 },
    Op::AdamW { decayed: 0, length: 0 },
    Op::Zero,
];

const fn norm(kind: NormKind) -> Norm {
    Norm { kind, epsilon: 0.0 }
}

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
            write!(text, " base={:?} rotation={}", rotary.base, rotation_name(rotary.rotation))
        }
        Op::Attention(pattern) | Op::AttentionGradient(pattern) => write!(text, " pattern={}", pattern_name(*pattern)),
        Op::CrossEntropy { replicas } | Op::SquareSum { replicas } => write!(text, " replicas={replicas}"),
        Op::AdamW { decayed, length } => write!(text, " decayed={decayed} length={length}"),
        Op::Activation(_)
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
    let word = line.word();
    let op = find(word)?;
    Ok(match op {
        Op::Norm(norm) => Op::Norm(Norm { epsilon: line.field("epsilon")?.number()?, ..norm }),
        Op::NormGradient(norm) => Op::NormGradient(Norm { epsilon: line.field("epsilon")?.number()?, ..norm }),
        Op::Rotary(_) => {
            let base = line.field("base")?.number()?;
            let known = [Rotation::Forward, Rotation::Inverse];
            let rotation = line.field("rotation")?.named("a rotation", &known, rotation_name)?;
            Op::Rotary(Rotary { base, rotation })
        }
        Op::Attention(_) => Op::Attention(pattern(line)?),
        Op::AttentionGradient(_) => Op::AttentionGradient(pattern(line)?),
        Op::CrossEntropy { .. } => Op::CrossEntropy { replicas: line.field("replicas")?.number()? },
        Op::SquareSum { .. } => Op::SquareSum { replicas: line.field("replicas")?.number()? },
        Op::AdamW { .. } => {
            let decayed = line.field("decayed")?.number()?;
            Op::AdamW { decayed, length: line.field("length")?.number()? }
        }
        Op::Activation(_)
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
        | Op::Zero => op,
    })
}

fn pattern(line: &mut Line<'_>) -> Result<Pattern> {
    line.field("pattern")?.named("a pattern", &[Pattern::Causal, Pattern::Full], pattern_name)
}

fn find(word: Word<'_>) -> Result<Op> {
    KNOWN.iter().find(|op| op.name() == word.text).copied().ok_or_else(|| {
        let names: Vec<&str> = KNOWN.iter().map(Op::name).collect();
        word.unknown("an operation", &names)
    })
}
