//! What each strategy costs a layer, in two steps.
//!
//! [`Costing::outline`] says how fast layers of a kind can follow each other if nothing slows them: the least that one
//! can cost.
//! [`Costing::costs`] takes small programs of the same compiler, played by the same simulator: a layer's cost is the
//! difference that it makes between two layers and three, for two microbatches and for three. So gathers ahead of
//! their use and reductions beside the backward pass of a neighbour count as in the whole.

use std::collections::BTreeMap;

use compiler::{BodyAction, LayerBatch, LayerOutline, Sample, boundary_exchanges, compile_samples, layer_outline};
use cost_model::{CostModel, Detail, Group, simulate};
use ir::cluster::Execution;
use ir::graph::{Graph, KindId};
use ir::mesh::Mesh;
use ir::model::Precision;
use ir::plan::{Plan, Recompute, Schedule, Sequence, Shard, Strategy};
use ir::program::Collective;
use ir::units::Bytes;

use crate::period::{Delays, Service};
use crate::problem::Costs;

/// What all costs of one search have in common.
#[derive(Clone, Copy)]
pub(crate) struct Costing<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) model: &'a CostModel,
    pub(crate) precision: Precision,
    /// Sequences of a microbatch.
    pub(crate) sequences: u64,
    /// Microbatches of the small programs: the first and the last of a step differ from those between, so times of a
    /// microbatch are taken from the second to the third where there is more than one.
    pub(crate) counts: [u32; 2],
}

impl Costing<'_> {
    /// For steps of so many microbatches.
    pub(crate) fn counts(microbatches: u32) -> [u32; 2] {
        if microbatches == 1 { [1, 2] } else { [2, 3] }
    }
}

/// Layers ahead at which sharded parameters are gathered.
pub(crate) const PREFETCH: u32 = 1;

/// Time of a microbatch, and of what happens once a step.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    microbatch: f64,
    step: f64,
}

/// How the residual stream lies at the ends of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LayoutClass {
    pub(crate) tensor: u32,
    pub(crate) sequence: Sequence,
}

impl LayoutClass {
    pub(crate) fn of(strategy: &Strategy) -> LayoutClass {
        LayoutClass { tensor: strategy.tensor, sequence: strategy.sequence }
    }

    /// The strategy with this layout that keeps everything.
    fn plain(self, ranks: u32) -> Strategy {
        Strategy {
            data: ranks / self.tensor,
            tensor: self.tensor,
            sequence: self.sequence,
            shard: Shard::Nothing,
            recompute: Recompute::Nothing,
        }
    }
}

/// Pairs of equal layers, which many layers are compared with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bases {
    pairs: BTreeMap<(KindId, Strategy), Played>,
}

/// A few layers: step time for each count of microbatches, and peak memory.
#[derive(Clone, Copy, Debug)]
struct Played {
    steps: [f64; 2],
    peak: Bytes,
}

impl Costing<'_> {
    /// The least that a layer kind can cost under a strategy. `layout` is the class of its boundary.
    pub(crate) fn outline(&self, kind: KindId, strategy: &Strategy, layout: usize) -> Costs {
        let outline = layer_outline(self.graph, kind, strategy, self.batch()).expect("a legal strategy has a mesh");
        Costs {
            time_microbatch: self.period(kind, strategy, &outline),
            time_step: 0.0,
            bytes_state: outline.bytes.state.0,
            bytes_saved: outline.bytes.saved.0,
            bytes_transient: 0,
            layout,
        }
    }

    /// The least time of a microbatch. Passes of inner layers are rows of their own, while those of an outer layer
    /// follow upon each other. Beside blocks that wait for the host, an outer layer only adds to what is issued.
    fn period(&self, kind: KindId, strategy: &Strategy, outline: &LayerOutline) -> f64 {
        let [forward, backward] = self.delays(outline);
        if self.is_inner(kind) {
            return (forward.period() + backward.period()).max(self.issue_time(outline));
        }
        let period = forward.then(&backward).period().max(backward.then(&forward).period());
        let plain = LayoutClass::of(strategy).plain(strategy.ranks());
        let beside =
            layer_outline(self.graph, self.block(), &plain, self.batch()).expect("a plain strategy has a mesh");
        let [forward, backward] = self.delays(&beside);
        let hidden = forward.period() + backward.period() < self.issue_time(&beside);
        if hidden { period.min(self.issue_time(outline)) } else { period }
    }

    fn delays(&self, outline: &LayerOutline) -> [Delays; 2] {
        let time = |action: BodyAction| match action {
            BodyAction::Compute(id) => self.model.price_fragment(&outline.fragments[id.index()]).0.0,
            BodyAction::Exchange(id, _) => self.collective_time(&outline.mesh, &outline.collectives[id.index()]),
        };
        let service = match self.model.cluster().device.execution {
            Execution::Concurrent => Service::SideBySide,
            Execution::Shared { .. } => Service::OneThread,
        };
        [&outline.forward, &outline.backward].map(|pass| Delays::of(pass, service, &time))
    }

    /// Seconds in which the host issues what a layer does.
    fn issue_time(&self, outline: &LayerOutline) -> f64 {
        let count = |action: BodyAction| match action {
            BodyAction::Compute(id) => outline.fragments[id.index()].kernels.len(),
            BodyAction::Exchange(..) => 1,
        };
        let steps = outline.forward.steps.iter().chain(&outline.backward.steps);
        let issued: usize = steps.map(|step| count(step.action)).sum();
        issued as f64 * self.model.issue().0
    }

    /// The cost of a layer kind under a strategy with this outline.
    pub(crate) fn costs(&self, bases: &mut Bases, kind: KindId, strategy: &Strategy, outline: &Costs) -> Costs {
        let times = self.layer_times(bases, kind, strategy);
        // Samples are short: where work and host wait for each other in turn, less can be seen of a layer than a long
        // row of them takes.
        let microbatch = times.microbatch.max(outline.time_microbatch);
        // Of inner layers, two are looked at, so that gathers ahead are seen.
        let (alone, count) = if self.is_inner(kind) {
            (self.pair(bases, kind, strategy).peak, 2)
        } else {
            (self.played(&[(kind, strategy)], &[1])[0].peak, 1)
        };
        let held = Bytes((outline.bytes_state + outline.bytes_saved) * count);
        Costs {
            time_microbatch: microbatch,
            time_step: times.step,
            bytes_transient: alone.saturating_sub(held).0,
            ..outline.clone()
        }
    }

    fn batch(&self) -> LayerBatch {
        LayerBatch { sequences: self.sequences, precision: self.precision }
    }

    fn collective_time(&self, mesh: &Mesh, collective: &Collective) -> f64 {
        let (per_node, ranks) = (self.model.cluster().devices_per_node, 0..mesh.ranks_per_stage());
        let group = Group::of(mesh, per_node, ranks, collective.exchange.axes());
        self.model.price_collective(collective, group.ranks, group.ranks_per_node).0.0
    }

    fn layer_times(&self, bases: &mut Bases, kind: KindId, strategy: &Strategy) -> Times {
        let (base, with) = if self.is_inner(kind) {
            let all = self.played(&[(kind, strategy); 3], &[2, 3]);
            bases.pairs.insert((kind, strategy.clone()), all[0]);
            (all[0], all[1])
        } else {
            let plain = LayoutClass::of(strategy).plain(strategy.ranks());
            let mut layers = vec![(self.block(), &plain); 2];
            let is_first = self.graph.kinds[kind.index()].input.is_none();
            layers.insert(if is_first { 0 } else { 2 }, (kind, strategy));
            (self.pair(bases, self.block(), &plain), self.played(&layers, &[3])[0])
        };
        let microbatch = ((with.steps[1] - with.steps[0]) - (base.steps[1] - base.steps[0])).max(0.0);
        let step = (with.steps[0] - base.steps[0] - f64::from(self.counts[0]) * microbatch).max(0.0);
        Times { microbatch, step }
    }

    /// Seconds of a microbatch to go from one layout to another and back with the gradient.
    pub(crate) fn transition(&self, ranks: u32, ends: [LayoutClass; 2]) -> f64 {
        let [a, b] = ends.map(|class| class.plain(ranks));
        let way = |ends| {
            let (mesh, exchanges) =
                boundary_exchanges(self.graph, self.block(), ends, self.batch()).expect("degrees of a space nest");
            exchanges.iter().map(|collective| self.collective_time(&mesh, collective)).sum::<f64>()
        };
        if ends[0] == ends[1] { 0.0 } else { way([&a, &b]) + way([&b, &a]) }
    }

    /// Seconds of a microbatch to send the residual stream to the next stage, and its gradient back.
    pub(crate) fn crossing(&self, class: LayoutClass, ranks: u32, route: ir::profile::Route) -> f64 {
        let split = match class.sequence {
            Sequence::Whole => 1,
            Sequence::Split => u64::from(class.tensor),
        };
        let element = if self.precision == Precision::Full { 4 } else { 2 };
        let hidden = self.graph.kinds[self.block().index()].sizes[&'h'];
        let sequences = self.sequences / u64::from(ranks / class.tensor);
        let bytes = Bytes(sequences * self.graph.sequence * hidden * element / split);
        2.0 * self.model.price_transfer(bytes, route).0.0
    }

    /// Two equal layers alone.
    fn pair(&self, bases: &mut Bases, kind: KindId, strategy: &Strategy) -> Played {
        let make = || self.played(&[(kind, strategy); 2], &[2])[0];
        *bases.pairs.entry((kind, strategy.clone())).or_insert_with(make)
    }

    /// Whether a kind has layers before and behind it.
    fn is_inner(&self, kind: KindId) -> bool {
        let of = &self.graph.kinds[kind.index()];
        of.input.is_some() && of.output.is_some()
    }

    /// The inner kind that others are compared beside.
    fn block(&self) -> KindId {
        let mut kinds = (0..self.graph.kinds.len() as u32).map(KindId);
        kinds.find(|&kind| self.is_inner(kind)).expect("a model has inner layers")
    }

    /// Plays programs of these layers alone: for each of `lengths`, the first so many of them.
    fn played(&self, layers: &[(KindId, &Strategy)], lengths: &[u32]) -> Vec<Played> {
        let kinds: Vec<KindId> = layers.iter().map(|&(kind, _)| kind).collect();
        let plan = Plan {
            batch: self.sequences,
            microbatches: 1,
            schedule: Schedule::OneForwardOneBackward,
            precision: self.precision,
            stages: std::iter::once(0..layers.len() as u32).collect(),
            strategies: layers.iter().map(|&(_, strategy)| strategy.clone()).collect(),
            prefetch: PREFETCH,
        };
        let sample = |&layers| self.counts.map(|microbatches| Sample { layers, microbatches });
        let samples: Vec<Sample> = lengths.iter().flat_map(sample).collect();
        let programs = compile_samples(&self.graph.part(&kinds), &plan, &samples).expect("legal strategies compile");
        let step = |programs| {
            simulate(programs, self.model, Detail::Totals).expect("verified programs do not deadlock").step.0
        };
        let played = programs.chunks(self.counts.len());
        let played = played.map(|of| Played { steps: [step(&of[0]), step(&of[1])], peak: of[0].live_bound() });
        played.collect()
    }
}

#[cfg(test)]
mod tests;
