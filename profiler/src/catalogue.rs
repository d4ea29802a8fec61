//! What to measure: the kernels, exchanges and transfers of every legal strategy of a model, each once.

use std::collections::{BTreeMap, BTreeSet};

use compiler::{compile_unlimited, strategies};
use ir::cluster::Cluster;
use ir::graph::{Graph, KindId, LayerKind};
use ir::layout::Exchange;
use ir::model::{Embeddings, Family, Model, Precision, Training};
use ir::op::Op;
use ir::plan::{Plan, Recompute, Schedule, Shard, Strategy};
use ir::profile::Work;
use ir::program::{Action, Collective, Kernel, Phase, Programs};
use ir::units::{Bytes, Flops, Seconds};

/// Rates by which work is put in order before anything was measured: those of a slow core.
const FLOPS_PER_SECOND: f64 = 30e9;
const BYTES_PER_SECOND: f64 = 5e9;

/// Everything that is worth measuring.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    /// Programs with kernels that those before them have not.
    pub(crate) parts: Vec<Part>,
    /// Exchanges, each with a collective that does it, in a group of so many.
    pub(crate) exchanges: BTreeMap<Work, (Collective, u32)>,
    /// Sizes of what goes from stage to stage.
    pub(crate) transfers: BTreeSet<Bytes>,
    /// How much each kernel computes and moves.
    pub(crate) amounts: BTreeMap<Work, Amount>,
}

/// An exchange, with a collective that does it in a group of so many.
pub(crate) type Listed<'a> = (&'a Work, &'a (Collective, u32));

/// What a kernel computes, and what it reads and writes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Amount {
    pub(crate) flops: Flops,
    pub(crate) bytes: Bytes,
}

/// A few layers with one strategy.
#[derive(Clone, Debug)]
pub(crate) struct Part {
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
        catalogue.sort();
        catalogue
    }

    /// What small models of both families are made of, from which other work can be interpolated.
    pub fn general(cluster: &Cluster) -> Catalogue {
        let mut catalogue = Catalogue::default();
        general_models().iter().for_each(|model| catalogue.add(model, cluster));
        catalogue.sort();
        catalogue
    }

    /// Only what `keep` wants, by label.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        for part in &mut self.parts {
            part.kernels.retain(|(_, work)| keep(&label(work)));
        }
        self.parts.retain(|part| !part.kernels.is_empty());
        self.exchanges.retain(|work, _| keep(&label(work)));
        self.transfers.retain(|&bytes| keep(&label(&transfer(bytes))));
    }

    /// All work, in order.
    pub fn works(&self) -> BTreeSet<Work> {
        let kernels = self.parts.iter().flat_map(|part| part.kernels.iter().map(|(_, work)| work.clone()));
        kernels
            .chain(self.exchanges.keys().cloned())
            .chain(self.transfers.iter().map(|&bytes| transfer(bytes)))
            .collect()
    }

    /// Exchanges in an order that can be broken off: kinds and groups in turn, and of each the smallest, the largest,
    /// then halfway between, so that what is left lies between what was measured.
    pub(crate) fn exchanges(&self) -> Vec<Listed<'_>> {
        let mut groups: BTreeMap<(String, u32), Vec<Listed<'_>>> = BTreeMap::new();
        for (work, exchange) in &self.exchanges {
            let kind = exchange.0.exchange.name().to_owned();
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
        let mut known: BTreeSet<(Section, Work)> = BTreeSet::new();
        for sequences in divisors(model.training.batch) {
            for ranks in divisors(u64::from(ranks_all)).map(|ranks| ranks as u32) {
                let all = strategies(&graph.kinds[inner], ranks, sequences);
                // Recomputation does the same work, only more often.
                for strategy in all.into_iter().filter(|strategy| strategy.recompute == Recompute::Nothing) {
                    let layers = layers(&graph, KindId(inner as u32), &strategy, sequences);
                    self.add_part(&graph, (&layers, &strategy, sequences), cluster.capacity(), &mut known);
                    if strategy.shard == Shard::Nothing && 2 * ranks <= ranks_all {
                        self.add_crossing(&graph, KindId(inner as u32), &strategy, sequences);
                    }
                }
            }
        }
    }

    fn add_part(
        &mut self,
        graph: &Graph,
        (layers, strategy, sequences): (&[KindId], &Strategy, u64),
        capacity: Bytes,
        known: &mut BTreeSet<(Section, Work)>,
    ) {
        let stages = std::iter::once(0..layers.len() as u32).collect();
        let plan = plan(stages, strategy, layers.len(), sequences);
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
                *expected.entry(section).or_insert(Seconds::ZERO) += amount.expected();
                let work = kernel.work();
                self.amounts.insert(work.clone(), amount);
                kernels.insert((section, work));
            }
        }
        if !kernels.is_subset(known) {
            known.extend(kernels.iter().cloned());
            self.parts.push(Part { programs, vocabulary: graph.vocabulary, kernels, expected });
        }
    }

    /// What goes from one stage to the next.
    fn add_crossing(&mut self, graph: &Graph, inner: KindId, strategy: &Strategy, sequences: u64) {
        let plan = plan(vec![0..1, 1..2], strategy, 2, sequences);
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

    /// What takes longest comes first.
    fn sort(&mut self) {
        let total = |part: &Part| part.expected.values().map(|time| time.0).sum::<f64>();
        self.parts.sort_by(|a, b| total(b).total_cmp(&total(a)));
    }
}

impl Amount {
    fn of(kernel: &Kernel) -> Amount {
        // Of a table, only the rows of the tokens are touched: each number is read and written.
        let is_lookup = matches!(kernel.op, Op::Embed | Op::EmbedGradient);
        let flops = kernel.flops();
        let bytes = if is_lookup { Bytes((flops.0 * 8.0) as u64) } else { kernel.bytes() };
        Amount { flops, bytes }
    }

    fn expected(self) -> Seconds {
        Seconds(1e-6 + self.flops.0 / FLOPS_PER_SECOND + self.bytes.as_f64() / BYTES_PER_SECOND)
    }
}

/// What a transfer is looked up by.
pub(crate) fn transfer(bytes: Bytes) -> Work {
    Work::Transfer { route: ir::profile::Route::Inside, bytes }
}

/// A work in words, for tables and `--only`.
pub fn label(work: &Work) -> String {
    match work {
        Work::Kernel { op, element, shape } => format!("{op} {element} {shape}"),
        Work::Exchange { kind, ranks, bytes, .. } => format!("{kind} {bytes} among {ranks}"),
        Work::Transfer { bytes, .. } => format!("transfer {bytes}"),
        Work::Copy { bytes } => format!("copy {bytes}"),
    }
}

/// What a collective is looked up by; all its ranks share the one node.
fn exchange(collective: &Collective, ranks: u32) -> Work {
    match collective.exchange {
        Exchange::Slice { .. } => Work::Copy { bytes: collective.destination_bytes(ranks) },
        Exchange::AllReduce { .. }
        | Exchange::ReduceScatter { .. }
        | Exchange::AllGather { .. }
        | Exchange::AllToAll { .. } => Work::Exchange {
            kind: collective.exchange.name().to_owned(),
            ranks,
            ranks_per_node: ranks,
            bytes: collective.whole_bytes(ranks),
        },
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
fn plan(stages: Vec<std::ops::Range<u32>>, strategy: &Strategy, layers: usize, sequences: u64) -> Plan {
    Plan {
        batch: 2 * sequences,
        microbatches: 2,
        schedule: Schedule::OneForwardOneBackward,
        precision: Precision::Full,
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

/// Widths from 128 to 1024, sequences from 64 to 512.
fn general_models() -> Vec<Model> {
    let sizes = [(128, 64), (256, 256), (512, 128), (1024, 512)];
    let of = |family| sizes.map(|(hidden, sequence)| general_model(family, hidden, sequence));
    [Family::Llama, Family::Gpt].into_iter().flat_map(of).collect()
}

fn general_model(family: Family, hidden: u64, sequence: u64) -> Model {
    Model {
        format: 1,
        name: format!("general-{hidden}"),
        family,
        layers: 2,
        hidden,
        heads: hidden / 32,
        key_value_heads: None,
        feed_forward: if family == Family::Gpt { 4 * hidden } else { 3 * hidden },
        vocabulary: 1024,
        sequence,
        embeddings: Embeddings::Untied,
        rotary_base: 10_000.0,
        norm_epsilon: 1e-5,
        training: Training {
            batch: 4,
            precision: Precision::Full,
            learning_rate: 1e-3,
            warmup_steps: 0,
            weight_decay: 0.1,
            gradient_norm_max: 1.0,
            betas: [0.9, 0.95],
        },
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn small() -> Model {
        Model { hidden: 64, heads: 4, sequence: 16, vocabulary: 32, ..general_model(Family::Llama, 64, 16) }
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
            let plan = plan(stages, &strategy, count, 2);
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
        assert!(!catalogue.parts.is_empty());
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
