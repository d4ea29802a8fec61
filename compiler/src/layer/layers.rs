//! The layers of a plan, compiled: equal ones once.

use std::collections::BTreeMap;

use ir::graph::KindId;
use ir::plan::{Plan, Strategy};
use ir::program::FragmentId;

use crate::layer::block::BlockPlan;
use crate::layer::library::Library;
use crate::layer::shape::clear_scalars;
use crate::layer::shelf::Shelf;
use crate::layer::{Layer, Setting, layer};

/// What makes a layer, and adds to a library what it names.
type Make<'a> = dyn FnMut(KindId, &Strategy, &mut Library) -> Layer + 'a;

/// All layers of a plan, compiled; equal ones once.
pub(crate) struct Layers {
    /// The compiled layer of each layer.
    pub(crate) of: Vec<usize>,
    pub(crate) distinct: Vec<Layer>,
    /// For each distinct layer, its blocks.
    pub(crate) plans: Vec<Vec<BlockPlan>>,
    pub(crate) clear_scalars: FragmentId,
}

impl Layers {
    /// Passes 1 to 4 for every distinct pair of kind and strategy.
    pub(crate) fn new(setting: Setting<'_>, plan: &Plan, library: &mut Library) -> Layers {
        Layers::made(setting, plan, library, &mut |kind, strategy, library| layer(setting, kind, strategy, library))
    }

    /// The same with layers that are taken from a shelf, or put there.
    pub(crate) fn shelved(setting: Setting<'_>, plan: &Plan, library: &mut Library, shelf: &mut Shelf) -> Layers {
        Layers::made(setting, plan, library, &mut |kind, strategy, library| {
            shelf.layer(setting, kind, strategy, library)
        })
    }

    fn made(setting: Setting<'_>, plan: &Plan, library: &mut Library, make: &mut Make<'_>) -> Layers {
        let mut keys: BTreeMap<(u32, &Strategy), usize> = BTreeMap::new();
        let mut distinct: Vec<Layer> = Vec::new();
        let mut plans = Vec::new();
        let mut of = Vec::new();
        for (kind, strategy) in setting.graph.layers.iter().zip(&plan.strategies) {
            let index = *keys.entry((kind.0, strategy)).or_insert_with(|| {
                distinct.push(make(*kind, strategy, library));
                distinct.len() - 1
            });
            if index == plans.len() {
                let made = &distinct[index];
                let block = |template| BlockPlan::new(setting.mesh, made, template, (setting.compute, library));
                plans.push(made.blocks.iter().map(block).collect::<Vec<_>>());
            }
            of.push(index);
        }
        let clear_scalars = library.fragment(clear_scalars());
        Layers { of, distinct, plans, clear_scalars }
    }

    pub(crate) fn layer(&self, id: u32) -> &Layer {
        &self.distinct[self.of[id as usize]]
    }
}
