//! The last word on a plan: changes of single layers and cuts, compiled and simulated whole, as long as one helps.
//!
//! The estimate that a plan was chosen by adds up costs of layers. What it cannot see, an exchange that hides behind
//! another layer's work or memory that is free when it is needed, small changes find. Changes that cannot win are not
//! compiled: those that their layers, at the least that they need, make hardly faster, and those that only recompute
//! more.

use std::collections::BTreeMap;

use ir::graph::{Graph, KindId};
use ir::plan::{Plan, Strategy};
use rayon::prelude::*;

use crate::costing::{Costing, LayoutClass, Outlines};
use crate::play::{Candidate, EQUALLY_FAST, compared};
use crate::rules::Rules;
use crate::space::Setting;

/// How much may be simulated for one plan, in visits to layers: of eighty layers and one microbatch, fifty plans.
const VISITS_MAX: u64 = 4_000;

/// Changes that are tried at once. Fixed, so that the answer does not depend on the number of threads.
const TRIED_AT_ONCE: usize = 8;

/// A change must save this share of the step.
const WORTHWHILE: f64 = 1e-4;

/// A plan that no small change makes faster, or the best one found with the effort, and how many were simulated.
pub(crate) fn refined(setting: Setting<'_>, rules: &Rules, first: Candidate) -> (Candidate, usize) {
    let visits = first.plan.strategies.len() as u64 * u64::from(first.plan.microbatches.min(64));
    let most = (VISITS_MAX / visits) as usize;
    let mut best = first;
    let mut tried = 0;
    let mut least = LeastTimes::new(setting, &best.plan);
    loop {
        let before = best.trace.step.0;
        let mut changes = changes(setting, &best.plan);
        changes.retain(|plan| rules.allow(setting.graph, plan) && least.step(plan) < before * (1.0 - EQUALLY_FAST));
        for chunk in changes.chunks(TRIED_AT_ONCE) {
            if tried >= most {
                return (best, tried);
            }
            tried += chunk.len();
            let played = chunk.par_iter().filter_map(|plan| compared(setting, plan).ok());
            let played: Vec<Candidate> = played.collect();
            let faster = played.into_iter().min_by(|a, b| a.trace.step.0.total_cmp(&b.trace.step.0));
            if let Some(faster) = faster.filter(|it| it.trace.step.0 < best.trace.step.0 * (1.0 - WORTHWHILE)) {
                best = faster;
                break;
            }
        }
        if best.trace.step.0 >= before {
            return (best, tried);
        }
    }
}

/// Legal plans that differ from this one in a cut, or in the strategy of one row of equal layers, of its first or of
/// its last.
fn changes(setting: Setting<'_>, plan: &Plan) -> Vec<Plan> {
    let graph = setting.graph;
    let mut all = Vec::new();
    for stage in 1..plan.stages.len() {
        for start in [plan.stages[stage].start.wrapping_sub(1), plan.stages[stage].start + 1] {
            let mut stages = plan.stages.clone();
            (stages[stage - 1].end, stages[stage].start) = (start, start);
            if stages.iter().all(|stage| stage.start < stage.end) {
                all.push(Plan { stages, ..plan.clone() });
            }
        }
    }
    for row in rows(graph, plan) {
        let kind = &graph.kinds[graph.layers[row.start].index()];
        let current = &plan.strategies[row.start];
        let others = compiler::strategies(kind, current.ranks(), plan.microbatch_sequences());
        for other in others.iter().filter(|other| is_near(current, other) && !only_recomputes_more(current, other)) {
            let mut parts = vec![row.clone(), row.start..row.start + 1, row.end - 1..row.end];
            parts.dedup();
            all.extend(parts.into_iter().map(|part| changed(graph, plan, part, other)));
        }
    }
    all.retain(|plan| compiler::check(graph, setting.cluster, plan).is_empty());
    all
}

/// Strategies that differ in how a layer is cut, or in what it keeps.
fn is_near(one: &Strategy, other: &Strategy) -> bool {
    let is_cut_alike = one.tensor == other.tensor && one.sequence == other.sequence;
    let keeps_alike = one.shard == other.shard && one.recompute == other.recompute;
    is_cut_alike != keeps_alike
}

/// Whether it does all that the other does, and more: room alone makes no step faster.
fn only_recomputes_more(current: &Strategy, other: &Strategy) -> bool {
    current.recompute < other.recompute && *current == Strategy { recompute: current.recompute, ..other.clone() }
}

/// The least that layers can take, by kind and strategy.
struct LeastTimes<'a> {
    costing: Costing<'a>,
    outlines: Outlines,
    times: BTreeMap<(KindId, Strategy), f64>,
}

impl<'a> LeastTimes<'a> {
    /// For plans that differ from this one in cuts and strategies.
    fn new(setting: Setting<'a>, plan: &Plan) -> Self {
        let costing = Costing {
            graph: setting.graph,
            model: setting.costs,
            precision: setting.precision,
            sequences: plan.microbatch_sequences(),
            counts: Costing::counts(plan.microbatches),
        };
        Self { costing, outlines: Outlines::default(), times: BTreeMap::new() }
    }

    /// Seconds that no step of the plan can beat: each stage passes all microbatches, the first of them when it has
    /// passed the stages before, and the last goes back through those.
    fn step(&mut self, plan: &Plan) -> f64 {
        let (mut before, mut least) = (0.0, 0.0_f64);
        for stage in &plan.stages {
            let layers = stage.clone().map(|layer| layer as usize);
            let own: f64 = layers.map(|layer| self.time(layer, &plan.strategies[layer])).sum();
            least = least.max(before + f64::from(plan.microbatches) * own);
            before += own;
        }
        least
    }

    fn time(&mut self, layer: usize, strategy: &Strategy) -> f64 {
        let (costing, outlines, kind) = (self.costing, &mut self.outlines, self.costing.graph.layers[layer]);
        let outline = || {
            let layout = costing.layout(outlines, LayoutClass::of(strategy), strategy.ranks(), 0);
            costing.outline(outlines, kind, strategy, layout).time_microbatch
        };
        *self.times.entry((kind, strategy.clone())).or_insert_with(outline)
    }
}

fn changed(graph: &Graph, plan: &Plan, layers: std::ops::Range<usize>, strategy: &Strategy) -> Plan {
    let mut strategies = plan.strategies.clone();
    strategies[layers].fill(strategy.clone());
    if let Some(tie) = graph.tie {
        let sides = [tie.owner.0.index(), tie.user.0.index()];
        for (side, other) in [(sides[0], sides[1]), (sides[1], sides[0])] {
            if strategies[side] != plan.strategies[side] {
                strategies[other] = strategies[side].clone();
            }
        }
    }
    Plan { strategies, ..plan.clone() }
}

/// Rows of layers of one kind and strategy.
fn rows(graph: &Graph, plan: &Plan) -> Vec<std::ops::Range<usize>> {
    let mut rows: Vec<std::ops::Range<usize>> = Vec::new();
    for layer in 0..plan.strategies.len() {
        let is_same = |row: &std::ops::Range<usize>| {
            graph.layers[row.start] == graph.layers[layer] && plan.strategies[row.start] == plan.strategies[layer]
        };
        match rows.last_mut().filter(|row| is_same(row)) {
            Some(row) => row.end = layer + 1,
            None => rows.push(layer..layer + 1),
        }
    }
    rows
}
