//! The least that plans take, by outlines of their layers.

use std::collections::BTreeMap;

use ir::graph::KindId;
use ir::plan::{Plan, Strategy};
use solver::Costs;

use crate::costing::{Costing, Outlines};
use crate::play::Candidate;
use crate::space::Setting;
use crate::tie::Copies;

/// What layers take and hold at the least, by part, size of a microbatch, kind and strategy.
pub(crate) struct Least<'a> {
    setting: Setting<'a>,
    sizes: BTreeMap<(usize, u64, [u32; 2], Copies), Layers>,
}

#[derive(Default)]
struct Layers {
    outlines: Outlines,
    costs: BTreeMap<(KindId, Strategy), Costs>,
}

impl<'a> Least<'a> {
    pub(crate) fn new(setting: Setting<'a>) -> Self {
        Self { setting, sizes: BTreeMap::new() }
    }

    /// Seconds that no step of the plan can beat: each stage passes all microbatches, the first of them when it has
    /// passed the stages before, and the last goes back through those.
    pub(crate) fn step(&mut self, plan: &Plan) -> f64 {
        let (mut before, mut least) = (0.0, 0.0_f64);
        for stage in &plan.stages {
            let layers = stage.clone().map(|layer| layer as usize);
            let own: f64 = layers.map(|layer| self.costs(plan, layer, &plan.strategies[layer]).time_microbatch).sum();
            least = least.max(before + f64::from(plan.microbatches) * own);
            before += own;
        }
        least
    }

    /// Bytes that a stage of a plan needs if the plan differs from a known one, of as many stages, by what its layers
    /// hold.
    pub(crate) fn stage_peak(&mut self, known: &Candidate, plan: &Plan, stage: usize) -> f64 {
        let transient = known.trace.totals[stage].arena.as_f64() - self.held(&known.plan, stage);
        let grown = plan.microbatch_sequences() as f64 / known.plan.microbatch_sequences() as f64;
        self.held(plan, stage) + transient * grown
    }

    fn held(&mut self, plan: &Plan, stage: usize) -> f64 {
        let layers = plan.stages[stage].clone().map(|layer| layer as usize);
        layers.map(|layer| self.held_by(plan, layer, &plan.strategies[layer])).sum()
    }

    /// Bytes that a layer of a plan would hold under a strategy.
    pub(crate) fn held_by(&mut self, plan: &Plan, layer: usize, strategy: &Strategy) -> f64 {
        let (stage, stages) = (plan.stage_of(layer as u32) as u32, plan.stages.len() as u32);
        let in_flight = compiler::in_flight(plan.schedule, stages, stage, plan.microbatches);
        let costs = self.costs(plan, layer, strategy);
        costs.bytes_state as f64 + f64::from(in_flight) * costs.bytes_saved as f64
    }

    /// What a layer of a plan costs under a strategy, at the least.
    pub(crate) fn costs(&mut self, plan: &Plan, layer: usize, strategy: &Strategy) -> &Costs {
        let part = self.setting.part_of(plan, layer);
        let Setting { graph, costs: model, precision, .. } = self.setting.on_part(part);
        let (sequences, counts) = (plan.microbatch_sequences(), Costing::counts(plan.microbatches));
        let copies = Copies::of(plan.stages.len() as u32);
        let Layers { outlines, costs } = self.sizes.entry((part, sequences, counts, copies)).or_default();
        let kind = graph.layers[layer];
        costs.entry((kind, strategy.clone())).or_insert_with(|| {
            let costing = Costing { graph, model, precision, sequences, counts, copies };
            let layout = costing.layout(outlines, costing.junction(kind, strategy), strategy.ranks(), 0);
            costing.outline(outlines, kind, strategy, layout)
        })
    }
}
