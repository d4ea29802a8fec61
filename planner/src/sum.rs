//! What plans take as the sum of the costs of their layers, the same sum that they were first chosen by.

use std::collections::BTreeMap;
use std::ops::Range;

use ir::graph::KindId;
use ir::plan::{Plan, Schedule, Strategy};
use ir::profile::Route;
use solver::Costs;

use crate::costing::{Costing, LayoutClass};
use crate::known::Known;
use crate::outer::Outer;
use crate::rules::Rules;
use crate::space::{Setting, costing, crossing_route};

/// What is known of layers in a search, as far as plans ask for it.
pub(crate) struct Sum<'a> {
    setting: Setting<'a>,
    known: &'a Known,
    costs: BTreeMap<Size, BTreeMap<(KindId, Strategy), Costs>>,
}

/// Ranks of a stage, sequences of a microbatch, and how many of these costs are taken from.
type Size = (u32, u64, [u32; 2]);

impl<'a> Sum<'a> {
    pub(crate) fn new(setting: Setting<'a>, known: &'a Known) -> Self {
        Self { setting, known, costs: BTreeMap::new() }
    }

    /// Seconds of a step.
    pub(crate) fn step(&mut self, plan: &Plan) -> f64 {
        let outer = outer_of(plan);
        let (mut sum, mut slowest, mut once) = (0.0, 0.0_f64, 0.0_f64);
        for stage in &plan.stages {
            let [microbatch, step] = self.stage(plan, &outer, stage.start as usize..stage.end as usize);
            sum += microbatch;
            slowest = slowest.max(microbatch);
            once = once.max(step);
        }
        sum + f64::from(plan.microbatches - 1) * slowest + once
    }

    /// Seconds of a microbatch, and once a step.
    fn stage(&mut self, plan: &Plan, outer: &Outer, layers: Range<usize>) -> [f64; 2] {
        let (kinds, strategies) = (&self.setting.graph.layers, &plan.strategies);
        let (mut microbatch, mut step) = (0.0, 0.0);
        let mut start = layers.start;
        while start < layers.end {
            let is_same = |&layer: &usize| kinds[layer] == kinds[start] && strategies[layer] == strategies[start];
            let end = (start..layers.end).take_while(is_same).last().map_or(start, |last| last + 1);
            let [more, more_once] = self.layer(outer, kinds[start], &strategies[start]);
            microbatch += more * (end - start) as f64;
            step += more_once * (end - start) as f64;
            start = end;
        }
        let costing = costing(self.setting, outer);
        let junction = |layer: usize| costing.junction(kinds[layer], &strategies[layer]);
        let layers_known = self.known.of(outer);
        for layer in layers.clone().filter(|&layer| layer + 1 < strategies.len()) {
            if LayoutClass::of(&strategies[layer]) != LayoutClass::of(&strategies[layer + 1]) {
                let ends = [junction(layer), junction(layer + 1)];
                microbatch += layers_known.open().transition(&costing, outer.ranks, ends);
            }
        }
        let route = if outer.stages > 1 { crossing_route(self.setting.cluster, outer) } else { Route::Inside };
        let cuts = [layers.start, layers.end].into_iter().filter(|&cut| cut > 0 && cut < strategies.len());
        microbatch += cuts.map(|cut| costing.crossing(junction(cut), outer.ranks, route)).sum::<f64>();
        [microbatch, step]
    }

    /// The same of a layer.
    fn layer(&mut self, outer: &Outer, kind: KindId, strategy: &Strategy) -> [f64; 2] {
        let size = (outer.ranks, outer.sequences, Costing::counts(outer.microbatches));
        let of_size = self.costs.entry(size).or_default();
        let costs = of_size.entry((kind, strategy.clone())).or_insert_with(|| {
            let costing = costing(self.setting, outer);
            let layers = self.known.of(outer);
            let mut layers = layers.open();
            let layout = costing.layout(&mut layers.outlines, costing.junction(kind, strategy), outer.ranks, 0);
            let outline = costing.outline(&mut layers.outlines, kind, strategy, layout);
            layers.costs(&costing, kind, strategy, &outline)
        });
        [costs.time_microbatch, costs.time_step]
    }
}

/// The outer choice that a plan belongs to, as far as costs depend on it.
fn outer_of(plan: &Plan) -> Outer {
    Outer {
        stages: plan.stages.len() as u32,
        ranks: plan.rank_count() / plan.stages.len() as u32,
        microbatches: plan.microbatches,
        sequences: plan.microbatch_sequences(),
        schedule: Schedule::OneForwardOneBackward,
        degrees: Vec::new(),
        rules: Rules::default(),
    }
}
