//! Layers that were compiled, kept for other programs of the same model: what is asked about a layer, its outline and
//! samples of a few of it, goes through passes 1 to 4 once, and so do strategies that differ in sharding alone.

use std::collections::BTreeMap;

use ir::graph::{Element, KindId, TensorId};
use ir::plan::{Shard, Strategy};
use ir::program::{CollectiveId, FragmentId};

use crate::layer::fragment::{Body, BodyAction};
use crate::layer::library::Library;
use crate::layer::{Layer, Setting, layer, tied_parameter};

/// Compiled layers of one model, for training as it is done here.
#[derive(Clone, Debug, Default)]
pub struct Shelf {
    made: BTreeMap<Key, Made>,
}

/// What a layer's passes follow from, beside the model.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    kind: KindId,
    /// Without its sharding.
    strategy: Strategy,
    mesh: Vec<u32>,
    sequences: u64,
    compute: Element,
    tied: Option<TensorId>,
}

#[derive(Clone, Debug)]
struct Made {
    layer: Layer,
    /// What its bodies name.
    library: Library,
}

impl Shelf {
    /// What [`layer`] makes, with fragments and collectives added to `library` in the same order.
    pub(crate) fn layer(
        &mut self,
        setting: Setting<'_>,
        kind: KindId,
        strategy: &Strategy,
        library: &mut Library,
    ) -> Layer {
        let unsharded = Strategy { shard: Shard::Nothing, ..strategy.clone() };
        let key = Key {
            kind,
            strategy: unsharded.clone(),
            mesh: setting.mesh.sizes().to_vec(),
            sequences: setting.sequences,
            compute: setting.compute,
            tied: tied_parameter(setting.graph, kind),
        };
        let made = self.made.entry(key).or_insert_with(|| {
            let mut library = Library::default();
            Made { layer: layer(setting, kind, &unsharded, &mut library), library }
        });
        let mut layer = made.layer.clone();
        layer.reshard(setting.mesh, strategy.shard);
        let first = library.fragments.len() as u32;
        library.fragments.extend_from_slice(&made.library.fragments);
        let collectives = library.collectives.join(made.library.collectives.clone());
        let bodies = [&mut layer.forward, &mut layer.backward].into_iter().chain(&mut layer.backward_anew);
        bodies.for_each(|body| rename(body, first, &collectives));
        layer
    }
}

/// Gives a body the names that fragments and collectives have in another library.
fn rename(body: &mut Body, first: u32, collectives: &[CollectiveId]) {
    for step in &mut body.steps {
        step.action = match step.action {
            BodyAction::Compute(id) => BodyAction::Compute(FragmentId(first + id.0)),
            BodyAction::Exchange(id, axis) => BodyAction::Exchange(collectives[id.index()], axis),
        };
    }
}
