//! What to measure: the kernels, exchanges and transfers of every legal strategy of a model, each once.

use std::collections::{BTreeMap, BTreeSet};

use compiler::{compile_unlimited, strategies};
use ir::cluster::{Cluster, Execution};
use ir::graph::{Graph, KindId, LayerKind};
use ir::model::{Model, Precision};
use ir::op::{Addend, Write};
use ir::plan::{Plan, Recompute, Schedule, Shard, Strategy};
use ir::profile::Work;
use ir::program::{Action, Collective, Phase, Programs};
use ir::units::{Bytes, Seconds};

use crate::amount::{Amount, Pace};
use crate::general;

/// Everything that is worth measuring.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    /// Programs with kernels that those before them have not.
    pub(crate) excerpts: Vec<Excerpt>,
    /// Exchanges, each with a collective that does it, in a group of so many.
    pub(crate) exchanges: BTreeMap<Work, (Collective, u32)>,
    /// Sizes of what goes from stage to stage.
    pub(crate) transfers: BTreeSet<Bytes>,
    /// How much each kernel computes and moves.
    pub(crate) amounts: BTreeMap<Work, Amount>,
}

/// An exchange, with a collective that does it in a group of so many.
pub(crate) type Listed<'a> = (&'a Work, &'a (Collective, u32));

/// A few layers with one strategy.
#[derive(Clone, Debug)]
pub(crate) struct Excerpt {
    pub(crate) programs: Programs,
    pub(crate) vocabulary: u64,
    /// Its kernels, by when they run.
    pub(crate) kernels: BTreeSet<(Section, Work)>,
    /// What each section may take, by a rough guess.
    pub(crate) expected: BTreeMap<Section, Seconds>,
}

/// A part of a step that may be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Section {
    /// Forward and backward passes.
    Passes,
    /// What happens once a step.
    Update,
}

/// What all excerpts of a model have in common.
#[derive(Clone, Copy)]
struct Setting<'a> {
    graph: &'a Graph,
    precision: Precision,
    pace: Pace,
    capacity: Bytes,
}

impl Section {
    pub(crate) fn of(phase: Phase) -> Section {
        match phase {
            Phase::Forward | Phase::Backward => Section::Passes,
            Phase::Update => Section::Update,
        }
    }
}

impl Catalogue {
    /// What plans of `model` on up to all ranks of `cluster` are made of, for every count of microbatches. Work
    /// that needs more memory than a rank has is left out.
    pub fn of_model(model: &Model, cluster: &Cluster) -> Catalogue {
        let mut catalogue = Catalogue::default();
        catalogue.add(model, cluster);
        catalogue.sort(cluster.device.execution);
        catalogue
    }

    /// What small models of both families are made of, from which other work can be interpolated.
    pub fn general(cluster: &Cluster) -> Catalogue {
        let mut catalogue = Catalogue::default();
        general::models(cluster.device.execution).iter().for_each(|model| catalogue.add(model, cluster));
        catalogue.sort(cluster.device.execution);
        catalogue
    }

    /// Only what `keep` wants, by label.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        for excerpt in &mut self.excerpts {
            excerpt.kernels.retain(|(_, work)| keep(&label(work)));
        }
        self.excerpts.retain(|excerpt| !excerpt.kernels.is_empty());
        self.exchanges.retain(|work, _| keep(&label(work)));
        self.transfers.retain(|&bytes| keep(&label(&transfer(bytes))));
    }

    /// All work, in order.
    pub fn works(&self) -> BTreeSet<Work> {
        let kernels = self.excerpts.iter().flat_map(|excerpt| excerpt.kernels.iter().map(|(_, work)| work.clone()));
        kernels
            .chain(self.exchanges.keys().cloned())
            .chain(self.transfers.iter().map(|&bytes| transfer(bytes)))
            .collect()
    }

    /// Exchanges in an order that can be broken off: kinds and groups in turn, and of each the smallest, the largest,
    /// then halfway between, so that what is left lies between what was measured.
    pub(crate) fn exchanges(&self) -> Vec<Listed<'_>> {
        let mut groups: BTreeMap<(&str, u32), Vec<Listed<'_>>> = BTreeMap::new();
        for (work, exchange) in &self.exchanges {
            let kind = exchange.0.exchange.name();
            groups.entry((kind, exchange.1)).or_default().push((work, exchange));
        }
        let mut turns: Vec<_> = Vec::new();
        for (group, list) in groups.into_values().enumerate() {
            turns.extend(halving(list.len()).into_iter().enumerate().map(|(turn, index)| (turn, group, list[index])));
        }
        turns.sort_by_key(|&(turn, group, _)| (turn, group));
        turns.into_iter().map(|(_, _, exchange)| exchange).collect()
    }

    fn add(&mut self, model: &Model, cluster: &Cluster) {
        let graph = model.graph();
        let inner = graph.kinds.iter().position(is_inner).expect("a model has inner layers");
        let ranks_all = cluster.device_count();
        let precision = model.training.precision;
        let pace = Pace::of(&cluster.device, precision);
        let setting = Setting { graph: &graph, precision, pace, capacity: cluster.capacity() };
        let mut known: BTreeSet<(Section, Work)> = BTreeSet::new();
        for sequences in divisors(model.training.batch) {
            for ranks in divisors(u64::from(ranks_all)).map(|ranks| ranks as u32) {
                let all = strategies(&graph.kinds[inner], ranks, sequences);
                // Recomputation does the same work, only more often.
                for strategy in all.into_iter().filter(|strategy| strategy.recompute == Recompute::Nothing) {
                    let layers = layers(&graph, KindId(inner as u32), &strategy, sequences);
                    self.add_excerpt(setting, (&layers, &strategy, sequences), &mut known);
                    if strategy.shard == Shard::Nothing && 2 * ranks <= ranks_all {
                        self.add_crossing(setting, KindId(inner as u32), &strategy, sequences);
                    }
                }
            }
        }
    }

    fn add_excerpt(
        &mut self,
        setting: Setting<'_>,
        (layers, strategy, sequences): (&[KindId], &Strategy, u64),
        known: &mut BTreeSet<(Section, Work)>,
    ) {
        let stages = std::iter::once(0..layers.len() as u32).collect();
        let Setting { graph, precision, pace, capacity } = setting;
        let plan = plan(stages, strategy, layers.len(), sequences, precision);
        let Ok(programs) = compile_unlimited(&graph.part(layers), &plan) else { return };
        if programs.peak() > capacity {
            return;
        }
        self.add_exchanges(&programs);
        let mut kernels = BTreeSet::new();
        let mut expected = BTreeMap::new();
        for instr in &programs.roles()[0].code {
            let Action::Compute(id) = instr.action else { continue };
            let section = Section::of(instr.span.phase);
            for kernel in &programs.fragment(id).kernels {
                let amount = Amount::of(kernel);
                *expected.entry(section).or_insert(Seconds::ZERO) += amount.expected(pace);
                let work = kernel.work();
                self.amounts.insert(work.clone(), amount);
                kernels.insert((section, work));
            }
        }
        if !kernels.is_subset(known) {
            known.extend(kernels.iter().cloned());
            self.excerpts.push(Excerpt { programs, vocabulary: graph.vocabulary, kernels, expected });
        }
    }

    /// What goes from one stage to the next.
    fn add_crossing(&mut self, setting: Setting<'_>, inner: KindId, strategy: &Strategy, sequences: u64) {
        let Setting { graph, precision, .. } = setting;
        let plan = plan(vec![0..1, 1..2], strategy, 2, sequences, precision);
        let Ok(programs) = compile_unlimited(&graph.part(&[inner, inner]), &plan) else { return };
        self.add_exchanges(&programs);
        for role in programs.roles() {
            for instr in &role.code {
                if let Action::Send(_) = instr.action {
                    self.transfers.insert(role.buffers[role.operands(instr)[0].index()].bytes);
                }
            }
        }
    }

    fn add_exchanges(&mut self, programs: &Programs) {
        for role in programs.roles() {
            for instr in &role.code {
                let Action::Exchange(id) = instr.action else { continue };
                let collective = programs.collective(id);
                let ranks = programs.mesh().extent(collective.exchange.axes().iter().copied().collect());
                if ranks > 1 {
                    let entry = self.exchanges.entry(exchange(collective, ranks));
                    entry.or_insert_with(|| (collective.clone(), ranks));
                }
            }
        }
    }

    /// On CPU ranks what takes longest comes first: it is what a step takes. On GPUs it comes last: microbatches of that
    /// size seldom fit, and the same work in smaller ones says more of them than the other way round.
    fn sort(&mut self, execution: Execution) {
        let total = |excerpt: &Excerpt| excerpt.expected.values().map(|time| time.0).sum::<f64>();
        self.excerpts.sort_by(|a, b| total(b).total_cmp(&total(a)));
        if execution == Execution::Concurrent {
            self.excerpts.reverse();
        }
    }
}

impl Excerpt {
    /// What its passes may take.
    pub(crate) fn passes(&self) -> Seconds {
        self.expected.get(&Section::Passes).copied().unwrap_or(Seconds::ZERO)
    }

    /// The sections with kernels of which so is said, and the seconds that they may take together.
    pub(crate) fn due(&self, is_due: impl Fn(&Work) -> bool) -> (BTreeSet<Section>, f64) {
        let sections: BTreeSet<Section> =
            self.kernels.iter().filter(|(_, work)| is_due(work)).map(|&(section, _)| section).collect();
        let expected = sections.iter().filter_map(|section| self.expected.get(section)).map(|time| time.0).sum();
        (sections, expected)
    }
}

/// What a transfer is looked up by.
pub(crate) fn transfer(bytes: Bytes) -> Work {
    Work::Transfer { route: ir::profile::Route::Inside, bytes }
}

/// A work in words, for tables and `--only`.
pub fn label(work: &Work) -> String {
    match work {
        Work::Kernel { op, element, shape, write, addend } => {
            let added = match write {
                Write::Replace => "",
                Write::Accumulate => " added",
            };
            let plus = match addend {
                Addend::Absent => "",
                Addend::Present => " plus",
            };
            format!("{} {} {shape}{added}{plus}", op.name(), element.name())
        }
        Work::Exchange { kind, ranks, bytes, .. } => format!("{} {bytes} among {ranks}", kind.name()),
        Work::Transfer { bytes, .. } => format!("transfer {bytes}"),
        Work::Copy { bytes } => format!("copy {bytes}"),
    }
}

/// What a collective is looked up by; all its ranks share the one node.
fn exchange(collective: &Collective, ranks: u32) -> Work {
    match collective.exchange.kind() {
        Some(kind) => Work::Exchange { kind, ranks, ranks_per_node: ranks, bytes: collective.whole_bytes(ranks) },
        None => Work::Copy { bytes: collective.destination_bytes(ranks) },
    }
}

fn is_inner(kind: &LayerKind) -> bool {
    kind.input.is_some() && kind.output.is_some()
}

/// An inner layer between the outer ones that may have the strategy too.
fn layers(graph: &Graph, inner: KindId, strategy: &Strategy, sequences: u64) -> Vec<KindId> {
    let may = |kind: &LayerKind| strategies(kind, strategy.ranks(), sequences).contains(strategy);
    let kinds = || graph.kinds.iter().enumerate().map(|(index, kind)| (KindId(index as u32), kind));
    let first = kinds().filter(|(_, kind)| kind.input.is_none() && may(kind)).map(|(id, _)| id);
    let last = kinds().filter(|(_, kind)| kind.output.is_none() && may(kind)).map(|(id, _)| id);
    first.chain([inner]).chain(last).collect()
}

/// Two microbatches, so that gradients are also added to those of the one before.
fn plan(
    stages: Vec<std::ops::Range<u32>>,
    strategy: &Strategy,
    layers: usize,
    sequences: u64,
    precision: Precision,
) -> Plan {
    Plan {
        batch: 2 * sequences,
        microbatches: 2,
        schedule: Schedule::OneForwardOneBackward,
        precision,
        stages,
        strategies: vec![strategy.clone(); layers],
        prefetch: 1,
    }
}

/// All indices of a list: the first, the last, then the middle of what is between.
fn halving(length: usize) -> Vec<usize> {
    let mut order: Vec<usize> = [0, length.saturating_sub(1)].into_iter().take(length).collect();
    let mut between = vec![(0, length.saturating_sub(1))];
    let mut next = 0;
    while let Some(&(first, last)) = between.get(next) {
        next += 1;
        if last > first + 1 {
            let middle = first.midpoint(last);
            order.push(middle);
            between.extend([(first, middle), (middle, last)]);
        }
    }
    order
}

fn divisors(number: u64) -> impl Iterator<Item = u64> {
    (1..=number).filter(move |divisor| number.is_multiple_of(*divisor))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use ir::model::Family;

    pub(crate) fn small() -> Model {
        Model {
            hidden: 64,
            heads: 4,
            sequence: 16,
            vocabulary: 32,
            ..general::model(Family::Llama, [64, 16], Precision::Full)
        }
    }

    pub(crate) fn cluster(ranks: u32) -> Cluster {
        let mut cluster = Cluster::preset("CPU").unwrap();
        cluster.devices_per_node = ranks;
        cluster
    }

    #[test]
    #[allow(clippy::wildcard_enum_match_arm, reason = "the test looks at kernels only")]
    fn the_catalogue_has_every_kernel_and_exchange_of_a_plan() {
        let model = small();
        let graph = model.graph();
        let works = Catalogue::of_model(&model, &cluster(4)).works();
        for strategy in strategies(&graph.kinds[1], 4, 2) {
            let count = graph.layers.len();
            let stages = std::iter::once(0..count as u32).collect();
            let plan = plan(stages, &strategy, count, 2, Precision::Full);
            let programs = compile_unlimited(&graph, &plan).unwrap();
            let code = programs.roles()[0].code.iter();
            let fragments = code.filter_map(|instr| match instr.action {
                Action::Compute(id) => Some(programs.fragment(id)),
                _ => None,
            });
            for kernel in fragments.flat_map(|fragment| &fragment.kernels) {
                assert!(works.contains(&kernel.work()), "{} of {strategy:?}", label(&kernel.work()));
            }
            for collective in &programs.draft().collectives {
                let ranks = programs.mesh().extent(collective.exchange.axes().iter().copied().collect());
                let work = exchange(collective, ranks);
                assert!(ranks == 1 || works.contains(&work), "{} of {strategy:?}", label(&work));
            }
        }
    }

    #[test]
    fn one_rank_exchanges_nothing() {
        let catalogue = Catalogue::of_model(&small(), &cluster(1));
        assert!(catalogue.exchanges.is_empty() && catalogue.transfers.is_empty());
        assert!(!catalogue.excerpts.is_empty());
    }

    #[test]
    fn halving_visits_all_and_the_ends_first() {
        for length in 0..40 {
            let mut order = halving(length);
            assert!(length < 2 || order[..2] == [0, length - 1]);
            order.sort_unstable();
            assert_eq!(order, (0..length).collect::<Vec<_>>());
        }
    }

    #[test]
    fn exchanges_are_visited_all_and_kinds_in_turn() {
        let catalogue = Catalogue::of_model(&small(), &cluster(4));
        let order = catalogue.exchanges();
        assert_eq!(order.iter().map(|(work, _)| *work).collect::<BTreeSet<_>>(), catalogue.exchanges.keys().collect());
        let first: BTreeSet<_> =
            order[..3].iter().map(|(_, (collective, ranks))| (collective.exchange.name(), ranks)).collect();
        assert_eq!(first.len(), 3);
    }

    #[test]
    fn only_what_is_wanted_is_kept() {
        let mut catalogue = Catalogue::of_model(&small(), &cluster(2));
        catalogue.retain(|label| label.starts_with("matmul"));
        let works = catalogue.works();
        assert!(!works.is_empty() && works.iter().all(|work| label(work).starts_with("matmul")));
    }
}
