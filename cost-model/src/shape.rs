//! How much work a kernel of some shape is.

use ir::op::{OpKind, Product};
use ir::profile::LetterSizes;

/// Rows, columns and inner size of a product.
pub(crate) fn product_sizes(product: &Product) -> [f64; 3] {
    [product.rows, product.columns, product.inner].map(|size| size as f64)
}

/// The product of all sizes but those of `skipped`.
pub(crate) fn elements(sizes: &LetterSizes, skipped: &[char]) -> f64 {
    sizes.iter().filter(|(letter, _)| !skipped.contains(letter)).map(|(_, size)| size as f64).product()
}

/// What the time of a kernel other than a product grows with: elements that it passes over; for attention, pairs of
/// positions. Tables are looked up, not passed over, so their length does not count.
pub(crate) fn amount(op: OpKind, sizes: &LetterSizes) -> f64 {
    match op {
        OpKind::Attention | OpKind::AttentionGradient => {
            let [b, s, g, c, d] = ['b', 's', 'g', 'c', 'd'].map(|letter| sizes.size(letter) as f64);
            b * s * s * g * (c - 2.0).max(1.0) * d
        }
        OpKind::CrossAttention | OpKind::CrossAttentionGradient => elements(sizes, &['e']),
        OpKind::Embed | OpKind::EmbedGradient => elements(sizes, &['v']),
        OpKind::Position | OpKind::PositionGradient => elements(sizes, &['p']),
        // The numbers of a step are read once, however many elements there are.
        OpKind::AdamW => elements(sizes, &['k']),
        OpKind::Norm(_)
        | OpKind::NormGradient(_)
        | OpKind::MatMul
        | OpKind::Bias
        | OpKind::BiasGradient
        | OpKind::Rotary
        | OpKind::Activation(_)
        | OpKind::ActivationGradient(_)
        | OpKind::Add
        | OpKind::RowMax
        | OpKind::SumExp
        | OpKind::CrossEntropy
        | OpKind::CrossEntropyGradient
        | OpKind::SquareSum
        | OpKind::Zero => elements(sizes, &[]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_table_is_not_more_work() {
        let amount = |v| amount(OpKind::Embed, &[('b', 2), ('h', 8), ('s', 4), ('v', v)].into_iter().collect());
        assert_eq!(amount(100).to_bits(), amount(900).to_bits());
    }
}
