//! Kinds of work by names that a reader of papers knows: "attention and output product" instead of "block backward 3".
//!
//! A name follows from the letters of the factors of products (see `ir::transformer`), so it is the same for every
//! strategy, and layers of unlike strategies are one kind of work.

use ir::op::{Op, Rotation};
use ir::program::{Fragment, Kernel, Operand, Phase};

/// What a kernel is part of, in the order of a forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Embedding,
    QueryKeyValue,
    Attention,
    AttentionOut,
    FeedForwardIn,
    FeedForwardOut,
    HeadProduct,
    Loss,
    Norm,
    Activation,
    Bias,
    Sum,
    GradientNorm,
    Update,
    Zero,
}

/// Those that together are a block.
const BLOCK: [Part; 5] =
    [Part::QueryKeyValue, Part::Attention, Part::AttentionOut, Part::FeedForwardIn, Part::FeedForwardOut];

/// What a fragment does, without its pass. One without kernels keeps the name that it has in programs.
pub(crate) fn fragment_name(fragment: &Fragment) -> String {
    let mut parts: Vec<Part> = fragment.kernels.iter().map(part).collect();
    parts.sort_unstable();
    parts.dedup();
    let large: Vec<Part> = parts.iter().copied().filter(|part| *part <= Part::Loss).collect();
    if BLOCK.iter().all(|part| large.contains(part)) {
        return "whole block".to_owned();
    }
    // What is small beside a product is not told where there is one.
    let told = if large.is_empty() { &parts } else { &large };
    let words: Vec<&str> = match told[..] {
        [] => return fragment.name.clone(),
        [Part::FeedForwardIn, Part::FeedForwardOut] => vec!["feed-forward products"],
        [.., Part::FeedForwardIn, Part::FeedForwardOut] => {
            let before = told[..told.len() - 2].iter().map(|part| part.name());
            before.chain(["feed-forward products"]).collect()
        }
        [..] => told.iter().map(|part| part.name()).collect(),
    };
    match words.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, before)) => format!("{} and {last}", before.join(", ")),
        None => fragment.name.clone(),
    }
}

/// The pass in which a fragment runs, and what is unlike the others of that pass: where gradients begin their sum they
/// replace what was there, which only the first microbatch does.
pub(crate) fn pass_name(fragment: &Fragment, phase: Phase) -> &'static str {
    let is_first = fragment.name.contains(" anew ");
    match (phase, is_again(fragment), is_first) {
        (Phase::Forward, _, _) => "forward",
        (Phase::Update, _, _) => "update",
        (Phase::Backward, false, false) => "backward",
        (Phase::Backward, false, true) => "backward of the first microbatch",
        (Phase::Backward, true, false) => "backward with recomputation",
        (Phase::Backward, true, true) => "backward with recomputation, of the first microbatch",
    }
}

/// Whether it has work of the forward pass.
fn is_again(fragment: &Fragment) -> bool {
    fragment.kernels.iter().any(|kernel| match kernel.op {
        Op::Norm(_) | Op::Attention(_) | Op::CrossAttention | Op::Activation(_) => true,
        Op::Rotary(rotary) => rotary.rotation == Rotation::Forward,
        Op::Embed
        | Op::EmbedGradient
        | Op::Position
        | Op::PositionGradient
        | Op::NormGradient(_)
        | Op::MatMul
        | Op::Bias
        | Op::BiasGradient
        | Op::AttentionGradient(_)
        | Op::CrossAttentionGradient
        | Op::ActivationGradient(_)
        | Op::Add
        | Op::RowMax
        | Op::SumExp
        | Op::CrossEntropy { .. }
        | Op::CrossEntropyGradient
        | Op::SquareSum { .. }
        | Op::AdamW { .. }
        | Op::Zero => false,
    })
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Part::Embedding => "embedding",
            Part::QueryKeyValue => "query-key-value product",
            Part::Attention => "attention",
            Part::AttentionOut => "output product",
            Part::FeedForwardIn => "first feed-forward product",
            Part::FeedForwardOut => "second feed-forward product",
            Part::HeadProduct => "head product",
            Part::Loss => "loss",
            Part::Norm => "norm",
            Part::Activation => "activation",
            Part::Bias => "bias",
            Part::Sum => "residual sum",
            Part::GradientNorm => "norm of gradients",
            Part::Update => "AdamW",
            Part::Zero => "zeros",
        }
    }
}

fn part(kernel: &Kernel) -> Part {
    match kernel.op {
        Op::Embed | Op::EmbedGradient | Op::Position | Op::PositionGradient => Part::Embedding,
        Op::Norm(_) | Op::NormGradient(_) => Part::Norm,
        Op::MatMul => product(kernel),
        Op::Bias | Op::BiasGradient => Part::Bias,
        Op::Rotary(_)
        | Op::Attention(_)
        | Op::AttentionGradient(_)
        | Op::CrossAttention
        | Op::CrossAttentionGradient => Part::Attention,
        Op::Activation(_) | Op::ActivationGradient(_) => Part::Activation,
        Op::Add => Part::Sum,
        Op::RowMax | Op::SumExp | Op::CrossEntropy { .. } | Op::CrossEntropyGradient => Part::Loss,
        Op::SquareSum { .. } => Part::GradientNorm,
        Op::AdamW { .. } => Part::Update,
        Op::Zero => Part::Zero,
    }
}

/// Of which matrix a product or its gradient is: the operand that has no tokens.
fn product(kernel: &Kernel) -> Part {
    let letters = |operand: &Operand| -> Vec<char> { operand.dimensions.iter().map(|&(letter, _)| letter).collect() };
    let matrix = kernel.operands().map(letters).find(|letters| !letters.contains(&'b') && !letters.contains(&'s'));
    let matrix = matrix.unwrap_or_default();
    let has = |letter| matrix.contains(&letter);
    if has('v') {
        Part::HeadProduct
    } else if has('c') {
        Part::QueryKeyValue
    } else if has('r') {
        Part::AttentionOut
    } else if has('e') || matrix.first() == Some(&'f') {
        Part::FeedForwardIn
    } else {
        Part::FeedForwardOut
    }
}

#[cfg(test)]
mod tests {
    use ir::graph::Element;
    use ir::op::Pattern;
    use ir::program::Output;
    use ir::units::Bytes;

    use super::*;

    /// An operation on operands with these letters; the last is its result.
    fn kernel(op: Op, operands: &[&str]) -> Kernel {
        let operand = |letters: &&str| Operand {
            binding: 0,
            offset: 0,
            element: Element::F32,
            dimensions: letters.chars().map(|letter| (letter, 2)).collect(),
        };
        let (result, inputs) = operands.split_last().expect("an operation has a result");
        let output = Output { operand: operand(result), write: op.write() };
        let inputs = inputs.iter().map(operand).collect();
        Kernel { op, inputs, outputs: vec![output], offsets: Vec::new(), workspace: None }
    }

    fn fragment(name: &str, kernels: Vec<Kernel>) -> Fragment {
        Fragment { name: name.to_owned(), bindings: Vec::new(), kernels, scratch: None, scratch_bound: Bytes::ZERO }
    }

    #[test]
    fn products_are_known_by_their_matrix_in_every_pass() {
        let product = |operands: &[&str]| fragment_name(&fragment("x", vec![kernel(Op::MatMul, operands)]));
        for operands in [["bsh", "gcdh", "bsgcd"], ["bsgcd", "gcdh", "bsh"], ["bsgcd", "bsh", "gcdh"]] {
            assert_eq!(product(&operands), "query-key-value product");
        }
        assert_eq!(product(&["bsgrd", "hgrd", "bsh"]), "output product");
        assert_eq!(product(&["bsh", "fh", "bsf"]), "first feed-forward product");
        assert_eq!(product(&["bsf", "fh", "bsh"]), "first feed-forward product", "its gradient");
        assert_eq!(product(&["bsf", "hf", "bsh"]), "second feed-forward product");
        assert_eq!(product(&["bsh", "vh", "bsv"]), "head product");
    }

    #[test]
    fn parts_are_told_together_and_the_first_microbatch_apart() {
        let gradient = Op::AttentionGradient(Pattern::Causal);
        let kernels = vec![kernel(gradient, &["bsgrd", "bsgcd"]), kernel(Op::MatMul, &["bsh", "hgrd", "bsgrd"])];
        let first = fragment("block backward anew 3", kernels);
        assert_eq!(fragment_name(&first), "attention and output product");
        assert_eq!(pass_name(&first, Phase::Backward), "backward of the first microbatch");
        let again = fragment("block backward 3", vec![kernel(Op::Attention(Pattern::Causal), &["bsgcd", "bsgrd"])]);
        assert_eq!(pass_name(&again, Phase::Backward), "backward with recomputation");
        let matrices =
            [["bsh", "gcdh", "bsgcd"], ["bsgrd", "hgrd", "bsh"], ["bsh", "efh", "bsef"], ["bsf", "hf", "bsh"]];
        let products = matrices.map(|operands| kernel(Op::MatMul, &operands));
        assert_eq!(
            fragment_name(&fragment("x", products.to_vec())),
            "query-key-value product, output product and feed-forward products"
        );
        let whole = products.into_iter().chain(again.kernels).collect();
        assert_eq!(fragment_name(&fragment("block forward 0", whole)), "whole block");
    }
}
