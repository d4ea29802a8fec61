//! What plans take as the sum of the costs of their layers, the same sum that they were first chosen by.

use std::collections::BTreeMap;

use ir::graph::KindId;
use ir::plan::{Plan, Schedule, Strategy};
use ir::profile::Route;
use solver::Costs;

use crate::costing::{Costing, LayoutClass};
use crate::known::Known;
use crate::outer::Outer;
use crate::rules::Rules;
use crate::space::{Setting, costing, crossing_route};
use crate::tie::{Copies, Joins};

/// What is known of layers in a search, as far as plans ask for it.
pub(crate) struct Sum<'a> {
    setting: Setting<'a>,
    known: &'a Known,
    costs: BTreeMap<Size, BTreeMap<(KindId, Strategy), Costs>>,
}

/// Part, ranks of a stage, sequences of a microbatch, and how many of these costs are taken from.
type Size = (usize, u32, u64, [u32; 2], Copies);

impl<'a> Sum<'a> {
    pub(crate) fn new(setting: Setting<'a>, known: &'a Known) -> Self {
        Self { setting, known, costs: BTreeMap::new() }
    }

    /// Seconds of a step.
    pub(crate) fn step(&mut self, plan: &Plan) -> f64 {
        let outer = outer_of(plan);
        let (mut sum, mut slowest, mut once) = (0.0, 0.0_f64, 0.0_f64);
        let (joins, last) = (Joins::of(self.setting, self.known, &outer, plan), plan.stages.len() - 1);
        for stage in 0..=last {
            let [microbatch, step] = self.stage(plan, &outer, stage);
            sum += microbatch;
            slowest = slowest.max(microbatch);
            once = once.max(if stage == 0 || stage == last { step + joins.least } else { step });
        }
        sum + f64::from(plan.microbatches - 1) * slowest + once + joins.more
    }

    /// Seconds of a microbatch, and once a step.
    fn stage(&mut self, plan: &Plan, outer: &Outer, stage: usize) -> [f64; 2] {
        let layers = plan.stages[stage].start as usize..plan.stages[stage].end as usize;
        let part = self.setting.part(stage);
        let (kinds, strategies) = (&self.setting.graph.layers, &plan.strategies);
        let (mut microbatch, mut step) = (0.0, 0.0);
        let mut start = layers.start;
        while start < layers.end {
            let is_same = |&layer: &usize| kinds[layer] == kinds[start] && strategies[layer] == strategies[start];
            let end = (start..layers.end).take_while(is_same).last().map_or(start, |last| last + 1);
            let [more, more_once] = self.layer(outer, part, kinds[start], &strategies[start]);
            microbatch += more * (end - start) as f64;
            step += more_once * (end - start) as f64;
            start = end;
        }
        let costing = costing(self.setting.on_part(part), outer);
        let junction = |layer: usize| costing.junction(kinds[layer], &strategies[layer]);
        let layers_known = self.known.of(part, outer);
        for layer in layers.clone().filter(|&layer| layer + 1 < strategies.len()) {
            if LayoutClass::of(&strategies[layer]) != LayoutClass::of(&strategies[layer + 1]) {
                let ends = [junction(layer), junction(layer + 1)];
                microbatch += layers_known.open().transition(&costing, outer.ranks, ends);
            }
        }
        let setting = self.setting.on_part(part);
        let route = if outer.stages > 1 { crossing_route(setting.cluster, outer) } else { Route::Inside };
        let ends = [(layers.start, stage.checked_sub(1)), (layers.end, Some(stage + 1))];
        for (cut, beside) in ends.into_iter().filter(|&(cut, _)| cut > 0 && cut < strategies.len()) {
            let is_same_part = beside.is_none_or(|beside| self.setting.part(beside) == part);
            microbatch += match setting.line.filter(|_| !is_same_part) {
                None => costing.crossing(junction(cut), outer.ranks, route),
                Some(line) => {
                    let bridge = Costing { model: line.parts.costs.bridge(part), ..costing };
                    bridge.crossing(junction(cut), outer.ranks, Route::Between)
                }
            };
        }
        [microbatch, step]
    }

    /// The same of a layer.
    fn layer(&mut self, outer: &Outer, part: usize, kind: KindId, strategy: &Strategy) -> [f64; 2] {
        let size = (part, outer.ranks, outer.sequences, Costing::counts(outer.microbatches), Copies::of(outer.stages));
        let of_size = self.costs.entry(size).or_default();
        let costs = of_size.entry((kind, strategy.clone())).or_insert_with(|| {
            let costing = costing(self.setting.on_part(part), outer);
            self.known.of(part, outer).open().costs_of(&costing, kind, strategy)
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
