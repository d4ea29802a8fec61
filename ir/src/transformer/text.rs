//! The layers that models of text have, and models of images, too, but for the embedding.

use super::builder::{Builder, SEQUENCE};
use crate::graph::{Class, LayerKind, Sizes, TensorId};
use crate::model::{Bias, Family, Model};
use crate::op::{Activation, Op, Pattern, Rotary, Rotation};

/// Standard deviation of initial matrices (Radford et al. 2019).
pub(super) const DEVIATION: f64 = 0.02;

/// Tokens as rows of a table.
pub(super) fn embedding(model: &Model) -> LayerKind {
    let mut layer = Builder::new(model, &model.sizes(), SEQUENCE);
    let tokens = layer.values("tokens", "", Class::Tokens);
    let table = layer.matrix("table", "vh", DEVIATION);
    let mut x = layer.apply(Op::Embed, &[tokens, table], "embedded", "h");
    if model.family != Family::Llama {
        let positions = layer.matrix("positions", "ph", DEVIATION);
        x = layer.apply(Op::Position, &[x, positions], "placed", "h");
    }
    x = norm_behind(&mut layer, x, "norm");
    layer.finish("embedding", None, Some(x))
}

/// Attention and feed-forward.
pub(super) fn block(model: &Model, sizes: &Sizes, rows: &'static str, name: &str) -> LayerKind {
    let mut layer = Builder::new(model, sizes, rows);
    let x = layer.values("x", "h", Class::Activation);
    let middle = attention(&mut layer, model, model.pattern(), x);
    let y = feed_forward(&mut layer, model, middle);
    layer.finish(name, Some(x), Some(y))
}

/// Products that end in the residual stream start smaller, by the number of them (Radford et al. 2019, §2.3).
pub(super) fn small(model: &Model) -> f64 {
    DEVIATION / (2.0 * f64::from(model.layers)).sqrt()
}

/// What a sequence sees of itself, added to it.
pub(super) fn attention(layer: &mut Builder<'_>, model: &Model, pattern: Pattern, x: TensorId) -> TensorId {
    let normed = norm_before(layer, x, "attention norm");
    let mut qkv = layer.product(normed, "attention in", ["gcdh", "gcd"], DEVIATION);
    if model.attention_bias == Bias::Present {
        qkv = layer.biased(qkv, "attention in", "gcd");
    }
    if model.family == Family::Llama {
        let (base, scaling) = (model.rotary_base, model.rotary_scaling);
        let rotary = Rotary { base, scaling, rotation: Rotation::Forward };
        qkv = layer.apply(Op::Rotary(rotary), &[qkv], "turned", "gcd");
    }
    let attended = layer.values("attended", "grd", Class::Activation);
    let log_sum_exp = layer.values("log-sum-exp", "gr", Class::Statistic);
    layer.push(Op::Attention(pattern), &[qkv], &[attended, log_sum_exp]);
    let projected = layer.product(attended, "attention out", ["hgrd", "h"], small(model));
    let middle = layer.apply(Op::Add, &[x, projected], "middle", "h");
    norm_behind(layer, middle, "attention norm")
}

/// Two products and a function between them, added to what they read.
pub(super) fn feed_forward(layer: &mut Builder<'_>, model: &Model, middle: TensorId) -> TensorId {
    let normed = norm_before(layer, middle, "feed-forward norm");
    let (activation, letters) = match model.family {
        Family::Gpt | Family::Bert | Family::Vit | Family::Swin => (Activation::Gelu, ["fh", "f"]),
        Family::Llama => (Activation::SwiGlu, ["efh", "ef"]),
        Family::T5 => (Activation::Relu, ["fh", "f"]),
    };
    let inner = layer.product(normed, "feed-forward in", letters, DEVIATION);
    let active = layer.apply(Op::Activation(activation), &[inner], "active", "f");
    let projected = layer.product(active, "feed-forward out", ["hf", "h"], small(model));
    let y = layer.apply(Op::Add, &[middle, projected], "y", "h");
    norm_behind(layer, y, "feed-forward norm")
}

/// A token or a class for each position, and the loss.
pub(super) fn head(model: &Model, sizes: &Sizes, rows: &'static str) -> LayerKind {
    let mut layer = Builder::new(model, sizes, rows);
    let (x, normed) = match model.family {
        Family::Gpt | Family::Llama | Family::Vit | Family::Swin | Family::T5 => {
            let x = layer.values("x", "h", Class::Activation);
            (x, layer.norm(x, "norm"))
        }
        // Before tokens are told apart, they pass one more product (Devlin et al. 2019, as published with its weights).
        Family::Bert => {
            let x = layer.values("x", "j", Class::Activation);
            let turned = layer.product(x, "transform", ["hj", "h"], DEVIATION);
            let active = layer.apply(Op::Activation(Activation::Gelu), &[turned], "active", "h");
            (x, layer.norm(active, "norm"))
        }
    };
    let targets = layer.values("targets", "", Class::Targets);
    let matrix = layer.matrix("matrix", "vh", DEVIATION);
    let logits = layer.apply(Op::MatMul, &[normed, matrix], "logits", "v");
    let largest = layer.values("largest", "", Class::Statistic);
    layer.push(Op::RowMax, &[logits], &[largest]);
    let sums = layer.values("sums", "k", Class::Statistic);
    layer.push(Op::SumExp, &[logits, largest, targets], &[sums]);
    let loss = layer.loss();
    layer.push(Op::CrossEntropy { replicas: 1 }, &[largest, sums, logits, targets], &[loss]);
    layer.finish("head", Some(x), None)
}

/// The norm of what a product reads, where norms stand before products.
pub(super) fn norm_before(layer: &mut Builder<'_>, x: TensorId, name: &str) -> TensorId {
    if layer.norms_sums() { x } else { layer.norm(x, name) }
}

/// The norm of a sum, where norms stand behind sums.
fn norm_behind(layer: &mut Builder<'_>, x: TensorId, name: &str) -> TensorId {
    if layer.norms_sums() { layer.norm(x, name) } else { x }
}
