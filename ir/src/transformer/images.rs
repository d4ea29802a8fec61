//! The layers that only models of images have.
//!
//! Patches lie in memory as they are needed: those of a window, and the four that become one, are neighbours. Bringing
//! them there is a copy that nobody counts.

use super::builder::{Builder, SEQUENCE, WINDOWS};
use super::text::{DEVIATION, block, head};
use crate::graph::{Class, KindId, LayerKind};
use crate::model::{Images, Model};
use crate::op::Op;

/// Patches that become one of the next level.
const MERGED: u64 = 4;

/// Patches of images seen as a whole, by a product. The token of the class passes it, too.
pub(super) fn embedding(model: &Model) -> LayerKind {
    let mut layer = Builder::new(model, &model.sizes(), SEQUENCE);
    let patches = layer.values("patches", "i", Class::Patches);
    let x = layer.product(patches, "patch", ["hi", "h"], DEVIATION);
    let positions = layer.matrix("positions", "ph", DEVIATION);
    let x = layer.apply(Op::Position, &[x, positions], "placed", "h");
    layer.finish("embedding", None, Some(x))
}

/// All layers of a model with levels: kinds, and the kind of each layer.
pub(super) fn levels(model: &Model, images: &Images) -> (Vec<LayerKind>, Vec<KindId>) {
    let mut kinds = vec![window_embedding(model, images)];
    let mut layers = vec![KindId(0)];
    for (level, &blocks) in images.levels.iter().enumerate() {
        if level > 0 {
            layers.push(KindId(kinds.len() as u32));
            kinds.push(merge(model, images, level));
        }
        layers.extend(vec![KindId(kinds.len() as u32); blocks as usize]);
        kinds.push(block(model, &model.level_sizes(images, level), WINDOWS, &format!("level {} block", level + 1)));
    }
    layers.push(KindId(kinds.len() as u32));
    let last = images.levels.len().saturating_sub(1);
    kinds.push(head(model, &model.level_sizes(images, last), WINDOWS));
    (kinds, layers)
}

fn window_embedding(model: &Model, images: &Images) -> LayerKind {
    let mut layer = Builder::new(model, &model.level_sizes(images, 0), WINDOWS);
    let patches = layer.values("patches", "i", Class::Patches);
    let x = layer.product(patches, "patch", ["hi", "h"], DEVIATION);
    let x = layer.norm(x, "norm");
    layer.finish("embedding", None, Some(x))
}

/// Four patches, one behind the other, are one of four times the width, which a product halves.
fn merge(model: &Model, images: &Images, level: usize) -> LayerKind {
    let mut sizes = model.level_sizes(images, level);
    let width = sizes[&'h'];
    sizes.insert('j', width);
    sizes.insert('h', width / 2 * MERGED);
    let mut layer = Builder::new(model, &sizes, WINDOWS);
    let x = layer.values("x", "h", Class::Activation);
    let normed = layer.norm(x, "norm");
    let y = layer.plain_product(normed, "merge", ["jh", "j"], DEVIATION);
    layer.finish(&format!("level {} merge", level + 1), Some(x), Some(y))
}
