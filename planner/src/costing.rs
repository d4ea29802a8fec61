//! What each strategy costs a layer, in two steps.
//!
//! [`Costing::outline`] says how fast layers of a kind can follow each other if nothing slows them: the least that one
//! can cost.
//! [`Costing::costs`] takes small programs of the same compiler, played by the same simulator: a layer's cost is the
//! difference that it makes between two layers and three, for two microbatches and for three. So gathers ahead of
//! their use and reductions beside the backward pass of a neighbour count as in the whole.

use std::collections::BTreeMap;

use compiler::{
    BodyAction, LayerBatch, LayerBytes, LayerOutline, Sample, Shelf, boundary_exchanges, can_repeat, compile_samples,
    layer_outline, may_cut, stream_sizes,
};
use cost_model::{CostModel, Detail, Group, simulate_draft};
use ir::cluster::Execution;
use ir::graph::{Graph, KindId};
use ir::mesh::Mesh;
use ir::model::Precision;
use ir::plan::{Plan, Recompute, Schedule, Sequence, Shard, Strategy};
use ir::program::{Collective, Draft};
use ir::units::Bytes;
use solver::Costs;

use crate::period::{Delays, Service};
use crate::tie::{Copies, Joining};

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
    /// Where layers are that share a matrix.
    pub(crate) copies: Copies,
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

/// How what goes between layers lies, and how large it is: as large as what this kind takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Junction {
    /// The first of all kinds that take as much.
    pub(crate) of: KindId,
    pub(crate) class: LayoutClass,
}

/// A layout class of a space.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// Its place in the problem.
    pub(crate) index: usize,
    pace: Pace,
}

/// What sets the pace of blocks in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// Their work and exchanges.
    Streams,
    /// The host, which issues them.
    Host,
}

/// Outlines that were made for one costing, and what they were made of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outlines {
    /// Pairs of equal layers, which many layers are compared with.
    pairs: BTreeMap<(KindId, Strategy), Played>,
    /// Layers that were compiled.
    shelf: Shelf,
    /// By kind and strategy, whatever is sharded.
    known: BTreeMap<(KindId, Strategy), Outlined>,
}

/// What is asked of an outline.
#[derive(Clone, Debug)]
struct Outlined {
    /// Of the forward and of the backward pass.
    delays: [Delays; 2],
    /// Seconds in which the host issues what the layer does.
    issue: f64,
    bytes: BTreeMap<Shard, LayerBytes>,
    /// Of layers that share a matrix.
    joining: BTreeMap<Shard, Joining>,
}

/// A few layers: step time for each count of microbatches, and peak memory.
#[derive(Clone, Copy, Debug)]
struct Played {
    steps: [f64; 2],
    peak: Bytes,
}

impl Costing<'_> {
    /// What stands between a layer kind and those before it.
    pub(crate) fn junction(&self, kind: KindId, strategy: &Strategy) -> Junction {
        let size = |kind: KindId| stream_sizes(&self.graph.kinds[kind.index()]);
        let mut kinds = (0..self.graph.kinds.len() as u32).map(KindId);
        let of = kinds.find(|&other| size(other) == size(kind)).expect("the kind itself takes as much");
        Junction { of, class: LayoutClass::of(strategy) }
    }

    /// A layout class of layers on so many ranks, with its place in the problem.
    pub(crate) fn layout(&self, outlines: &mut Outlines, junction: Junction, ranks: u32, index: usize) -> Layout {
        let block = self.beside(junction.of);
        let block = self.outlined(outlines, block, &self.plain(block, junction.class, ranks));
        let [forward, backward] = &block.delays;
        let is_issued_slowly = forward.period() + backward.period() < block.issue;
        Layout { index, pace: if is_issued_slowly { Pace::Host } else { Pace::Streams } }
    }

    /// The least that a layer kind can cost under a strategy, whose boundary has this layout.
    pub(crate) fn outline(&self, outlines: &mut Outlines, kind: KindId, strategy: &Strategy, layout: Layout) -> Costs {
        let outline = self.outlined(outlines, kind, strategy);
        let bytes = &outline.bytes[&strategy.shard];
        let state =
            self.state_at_peak(bytes).saturating_sub(self.held_by_owner(kind, outline.joining.get(&strategy.shard)));
        Costs {
            time_microbatch: self.period(kind, outline, layout.pace),
            time_step: 0.0,
            bytes_state: state.0,
            bytes_saved: bytes.saved.0,
            bytes_transient: 0,
            layout: layout.index,
        }
    }

    fn outlined<'o>(&self, outlines: &'o mut Outlines, kind: KindId, strategy: &Strategy) -> &'o Outlined {
        let unsharded = Strategy { shard: Shard::Nothing, ..strategy.clone() };
        let Outlines { shelf, known, .. } = outlines;
        known.entry((kind, unsharded)).or_insert_with(|| {
            let outline = layer_outline(shelf, self.graph, kind, strategy, self.batch());
            let outline = outline.expect("a legal strategy has a mesh");
            let (delays, issue) = (self.delays(&outline), self.issue_time(&outline));
            Outlined { delays, issue, joining: self.joining_by_shard(&outline), bytes: outline.bytes }
        })
    }

    /// How a layer joins its gradients with those of others; none if it shares no matrix.
    pub(crate) fn joining(&self, outlines: &mut Outlines, kind: KindId, strategy: &Strategy) -> Option<Joining> {
        self.outlined(outlines, kind, strategy).joining.get(&strategy.shard).cloned()
    }

    /// Which part of a microbatch's time is its backward pass.
    pub(crate) fn backward_share(&self, outlines: &mut Outlines, kind: KindId, strategy: &Strategy) -> f64 {
        let [forward, backward] = &self.outlined(outlines, kind, strategy).delays;
        let (forward, backward) = (forward.period(), backward.period());
        if backward > 0.0 { backward / (forward + backward) } else { 0.0 }
    }

    /// What a layer holds besides its saved tensors when a stage holds most. In a step of one microbatch gradients come
    /// as saved tensors go: a layer has the larger of the two.
    fn state_at_peak(&self, bytes: &LayerBytes) -> Bytes {
        if self.counts[0] == 1 { bytes.state.saturating_sub(bytes.gradients.min(bytes.saved)) } else { bytes.state }
    }

    /// The least time of a microbatch. Passes of inner layers are rows of their own, while those of an outer layer
    /// follow upon each other. Beside blocks that wait for the host, an outer layer only adds to what is issued.
    fn period(&self, kind: KindId, outline: &Outlined, pace: Pace) -> f64 {
        let [forward, backward] = &outline.delays;
        if self.is_inner(kind) {
            return (forward.period() + backward.period()).max(outline.issue);
        }
        let period = forward.then(backward).period().max(backward.then(forward).period());
        match pace {
            Pace::Streams => period,
            Pace::Host => period.min(outline.issue),
        }
    }

    fn delays(&self, outline: &LayerOutline) -> [Delays; 2] {
        let exchanges = self.collective_times(&outline.mesh, &outline.collectives);
        let time = |action: BodyAction| match action {
            BodyAction::Compute(id) => self.model.price_fragment(&outline.fragments[id.index()]).0.0,
            BodyAction::Exchange(id, _) => exchanges[id.index()],
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
    pub(crate) fn costs(&self, outlines: &mut Outlines, kind: KindId, strategy: &Strategy, outline: &Costs) -> Costs {
        let times = self.layer_times(outlines, kind, strategy);
        // Of layers that follow each other, two are looked at, so that gathers ahead are seen.
        let (alone, count) = if can_repeat(&self.graph.kinds[kind.index()]) {
            (self.pair(outlines, kind, strategy).peak, 2)
        } else {
            (self.peak_alone(&mut outlines.shelf, kind, strategy), 1)
        };
        // Samples of one layer hold the whole of it.
        let shared = self.held_by_owner(kind, self.joining(outlines, kind, strategy).as_ref());
        let held = Bytes((outline.bytes_state + shared.0 + outline.bytes_saved) * count);
        Costs {
            // Samples are short: where work and host wait for each other in turn, less can be seen of a layer than a
            // long row of them takes.
            time_microbatch: times.microbatch.max(outline.time_microbatch),
            time_step: times.step,
            bytes_transient: alone.saturating_sub(held).0,
            ..outline.clone()
        }
    }

    fn batch(&self) -> LayerBatch {
        LayerBatch { sequences: self.sequences, precision: self.precision }
    }

    /// Seconds of each, alone.
    fn collective_times(&self, mesh: &Mesh, collectives: &[Collective]) -> Vec<f64> {
        let (per_node, ranks) = (self.model.cluster().devices_per_node, 0..mesh.ranks_per_stage());
        // Of many ranks, a group is costly to find, and most exchanges are over the same axes.
        let mut groups: BTreeMap<Vec<usize>, Group> = BTreeMap::new();
        let time = |collective: &Collective| {
            let exchange = &collective.exchange;
            let group = *groups
                .entry(exchange.axes().to_vec())
                .or_insert_with(|| Group::of(mesh, per_node, ranks.clone(), exchange.axes()));
            self.model.price_collective(collective, group.ranks, group.ranks_per_node).0.0
        };
        collectives.iter().map(time).collect()
    }

    fn layer_times(&self, outlines: &mut Outlines, kind: KindId, strategy: &Strategy) -> Times {
        let (base, with) = if can_repeat(&self.graph.kinds[kind.index()]) {
            let all = self.played(&mut outlines.shelf, &[(kind, strategy); 3], &[2, 3]);
            outlines.pairs.insert((kind, strategy.clone()), all[0]);
            (all[0], all[1])
        } else {
            let block = self.beside(kind);
            let plain = self.plain(block, LayoutClass::of(strategy), strategy.ranks());
            let mut layers = vec![(block, &plain); 2];
            let is_first = self.graph.kinds[kind.index()].input.is_none();
            layers.insert(if is_first { 0 } else { 2 }, (kind, strategy));
            match self.owner_beside(kind) {
                Some(owner) => {
                    layers.insert(0, (owner, strategy));
                    let base = self.played(&mut outlines.shelf, &layers[..3], &[3])[0];
                    (base, self.played(&mut outlines.shelf, &layers, &[4])[0])
                }
                None => (self.pair(outlines, block, &plain), self.played(&mut outlines.shelf, &layers, &[3])[0]),
            }
        };
        let microbatch = ((with.steps[1] - with.steps[0]) - (base.steps[1] - base.steps[0])).max(0.0);
        let step = (with.steps[0] - base.steps[0] - f64::from(self.counts[0]) * microbatch).max(0.0);
        Times { microbatch, step }
    }

    /// Seconds of a microbatch to go from one layout to another and back with the gradient: of what the layer behind
    /// takes. A kind that ends what one kind takes and begins what another does makes these unlike by itself.
    pub(crate) fn transition(&self, ranks: u32, [from, to]: [Junction; 2]) -> f64 {
        let takes = &self.graph.kinds[to.of.index()];
        let may_come = [from, to].iter().all(|end| may_cut(takes, end.class.tensor, end.class.sequence));
        if from.class == to.class || !may_come {
            return 0.0;
        }
        let way = |ends: [LayoutClass; 2]| {
            let [a, b] = ends.map(|class| class.plain(ranks));
            let (mesh, exchanges) =
                boundary_exchanges(self.graph, to.of, [&a, &b], self.batch()).expect("degrees of a space nest");
            self.collective_times(&mesh, &exchanges).into_iter().sum::<f64>()
        };
        way([from.class, to.class]) + way([to.class, from.class])
    }

    /// Seconds of a microbatch to send the residual stream to the next stage, and its gradient back.
    pub(crate) fn crossing(&self, Junction { of, class }: Junction, ranks: u32, route: ir::profile::Route) -> f64 {
        let split = match class.sequence {
            Sequence::Whole => 1,
            Sequence::Split => u64::from(class.tensor),
        };
        let element = if self.precision == Precision::Full { 4 } else { 2 };
        let numbers: u64 = stream_sizes(&self.graph.kinds[of.index()]).iter().sum();
        let sequences = self.sequences / u64::from(ranks / class.tensor);
        let bytes = Bytes(sequences * numbers * element / split);
        2.0 * self.model.price_transfer(bytes, route).0.0
    }

    /// Two equal layers alone.
    fn pair(&self, outlines: &mut Outlines, kind: KindId, strategy: &Strategy) -> Played {
        let Outlines { pairs, shelf, .. } = outlines;
        let make = || self.played(shelf, &[(kind, strategy); 2], &[2])[0];
        *pairs.entry((kind, strategy.clone())).or_insert_with(make)
    }

    /// Whether a kind has layers before and behind it.
    fn is_inner(&self, kind: KindId) -> bool {
        let of = &self.graph.kinds[kind.index()];
        of.input.is_some() && of.output.is_some()
    }

    /// The kind that one is compared beside: itself if layers of it follow each other, else the last such kind that
    /// comes before it in the model, or the first that comes behind.
    pub(crate) fn beside(&self, kind: KindId) -> KindId {
        let repeats = |kind: &&KindId| can_repeat(&self.graph.kinds[kind.index()]);
        let layers = &self.graph.layers;
        let at = layers.iter().position(|&other| other == kind).unwrap_or(0);
        let before = layers[..=at].iter().rev().find(repeats);
        *before.or_else(|| layers[at..].iter().find(repeats)).expect("a model has inner layers")
    }

    /// The strategy of a kind with this layout that keeps everything; with whole sequences if it cannot split them.
    fn plain(&self, kind: KindId, class: LayoutClass, ranks: u32) -> Strategy {
        let splits = may_cut(&self.graph.kinds[kind.index()], class.tensor, class.sequence);
        let sequence = if splits { class.sequence } else { Sequence::Whole };
        LayoutClass { sequence, ..class }.plain(ranks)
    }

    /// What one layer needs.
    fn peak_alone(&self, shelf: &mut Shelf, kind: KindId, strategy: &Strategy) -> Bytes {
        self.sampled(shelf, &[(kind, strategy)], &[Sample { layers: 1, microbatches: self.counts[0] }])[0].peak()
    }

    /// Plays programs of these layers alone: for each of `lengths`, the first so many of them.
    fn played(&self, shelf: &mut Shelf, layers: &[(KindId, &Strategy)], lengths: &[u32]) -> Vec<Played> {
        let sample = |&layers| self.counts.map(|microbatches| Sample { layers, microbatches });
        let samples: Vec<Sample> = lengths.iter().flat_map(sample).collect();
        let drafts = self.sampled(shelf, layers, &samples);
        let step = |draft| simulate_draft(draft, self.model, Detail::Totals).expect("samples do not deadlock").step.0;
        let played = drafts.chunks(self.counts.len());
        let played = played.map(|of| Played { steps: [step(&of[0]), step(&of[1])], peak: of[0].peak() });
        played.collect()
    }

    /// Programs of these layers alone.
    fn sampled(&self, shelf: &mut Shelf, layers: &[(KindId, &Strategy)], samples: &[Sample]) -> Vec<Draft> {
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
        let graph = Graph { tie: self.tie_of(&kinds), ..self.graph.part(&kinds) };
        compile_samples(shelf, &graph, &plan, samples).expect("legal strategies compile")
    }
}

#[cfg(test)]
mod tests;
