//! The layers of a plan, compiled: equal ones once.

use std::collections::BTreeMap;

use ir::plan::{Plan, Strategy};
use ir::program::FragmentId;

use crate::layer::block::BlockPlan;
use crate::layer::library::Library;
use crate::layer::shape::clear_scalars;
use crate::layer::{Layer, Setting, layer};

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
        let mut keys: BTreeMap<(u32, &Strategy), usize> = BTreeMap::new();
        let mut distinct: Vec<Layer> = Vec::new();
        let mut plans = Vec::new();
        let mut of = Vec::new();
        for (kind, strategy) in setting.graph.layers.iter().zip(&plan.strategies) {
            let index = *keys.entry((kind.0, strategy)).or_insert_with(|| {
                distinct.push(layer(setting, *kind, strategy, library));
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
