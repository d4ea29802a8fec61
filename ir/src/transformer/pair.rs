//! An encoder and a decoder: blocks that read, a border, and blocks that write and look at what was read.
//!
//! Biases of scores by distance are left out: a table of 32 numbers a head (Raffel et al. 2020, §2.1).

use super::builder::{Builder, CONTEXT, SEQUENCE};
use super::text::{DEVIATION, attention, block, feed_forward, head, norm_before, small};
use crate::graph::{Class, Context, KindId, LayerKind, TensorId};
use crate::model::{Decoder, Model};
use crate::op::{Op, Pattern};

/// The name of the layer between encoder and decoder.
const BORDER: &str = "border";

/// All layers: kinds, and the kind of each layer.
pub(super) fn layers(model: &Model, decoder: Decoder) -> (Vec<LayerKind>, Vec<KindId>) {
    let mut kinds = vec![embedding(model), block(model, &model.sizes(), SEQUENCE, "encoder block"), border(model)];
    let mut layers = vec![KindId(1); model.layers as usize + 1];
    layers[0] = KindId(0);
    layers.push(KindId(2));
    if decoder.layers > 1 {
        layers.extend(vec![KindId(kinds.len() as u32); decoder.layers as usize - 1]);
        kinds.push(decoder_block(model, "decoder block", Context::Passes));
    }
    // Behind it nobody looks at the encoder, so its gradient begins there.
    let last = decoder_block(model, "last decoder block", Context::Ends);
    for kind in [last, head(model, &model.decoder_sizes(decoder), SEQUENCE)] {
        layers.push(KindId(kinds.len() as u32));
        kinds.push(kind);
    }
    (kinds, layers)
}

/// Where among the layers the border is, with its table.
pub(super) fn table(kinds: &[LayerKind], layers: &[KindId]) -> Option<(usize, TensorId)> {
    let at = layers.iter().position(|kind| kinds[kind.index()].name == BORDER)?;
    Some((at, super::find(&kinds[layers[at].index()], "table")))
}

/// Tokens that are read, as rows of a table.
fn embedding(model: &Model) -> LayerKind {
    let mut layer = Builder::new(model, &model.sizes(), SEQUENCE);
    let tokens = layer.values("source", "", Class::Source);
    let table = layer.matrix("table", "vh", DEVIATION);
    let x = layer.apply(Op::Embed, &[tokens, table], "embedded", "h");
    layer.finish("embedding", None, Some(x))
}

/// Takes what comes of the encoder, which becomes the context, and begins the decoder with the tokens written so far.
fn border(model: &Model) -> LayerKind {
    let mut layer = Builder::new(model, &model.border_sizes(), CONTEXT);
    let x = layer.values("x", "h", Class::Activation);
    let context = layer.norm(x, "norm");
    layer.beside(Context::Begins(context));
    layer.turn_to(SEQUENCE);
    let tokens = layer.values("tokens", "", Class::Tokens);
    let table = layer.matrix("table", "vh", DEVIATION);
    let y = layer.apply(Op::Embed, &[tokens, table], "embedded", "h");
    layer.finish(BORDER, Some(x), Some(y))
}

/// Attention to what was written, attention to what was read, and feed-forward.
fn decoder_block(model: &Model, name: &str, part: fn(TensorId) -> Context) -> LayerKind {
    let mut layer = Builder::new(model, &model.border_sizes(), SEQUENCE);
    let x = layer.values("x", "h", Class::Activation);
    layer.turn_to(CONTEXT);
    let context = layer.values("context", "h", Class::Activation);
    layer.beside(part(context));
    layer.turn_to(SEQUENCE);
    let middle = attention(&mut layer, model, Pattern::Causal, x);
    let looked = cross_attention(&mut layer, model, [middle, context]);
    let y = feed_forward(&mut layer, model, looked);
    layer.finish(name, Some(x), Some(y))
}

/// What a sequence sees of the context, added to it.
fn cross_attention(layer: &mut Builder<'_>, model: &Model, [x, context]: [TensorId; 2]) -> TensorId {
    let normed = norm_before(layer, x, "cross-attention norm");
    let queries = layer.product(normed, "cross-attention query", ["grdh", "grd"], DEVIATION);
    layer.turn_to(CONTEXT);
    let keys_and_values = layer.product(context, "cross-attention key-value", ["gedh", "ged"], DEVIATION);
    layer.turn_to(SEQUENCE);
    let attended = layer.values("cross-attended", "grd", Class::Activation);
    let log_sum_exp = layer.values("cross log-sum-exp", "gr", Class::Statistic);
    layer.push(Op::CrossAttention, &[queries, keys_and_values], &[attended, log_sum_exp]);
    let projected = layer.product(attended, "cross-attention out", ["hgrd", "h"], small(model));
    layer.apply(Op::Add, &[x, projected], "looked", "h")
}
