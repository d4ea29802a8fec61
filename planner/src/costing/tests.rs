//! The outline against what it bounds: small simulated programs, and whole ones.

use ir::cluster::Cluster;
use ir::model::{Bias, Embeddings, Family, Model, Training};
use ir::seed::{Draws, Seed};

use cost_model::simulate;

use super::*;

const CLUSTERS: [&str; 6] = ["4xCPU", "8xA100-80GB", "2x4xH100", "8xH200", "8xV100-32GB", "4x2xA100-40GB"];

/// A random model on random devices, one stage, and the microbatches of its step.
struct Case {
    seed: u64,
    model: Model,
    cluster: Cluster,
    sequences: u64,
    microbatches: u32,
}

impl Case {
    fn new(seed: u64) -> Case {
        let mut draws = Draws::new(Seed(seed).derive_name("outline"));
        let scale = *draws.pick(&[1, 4, 16, 64]);
        let groups = *draws.pick(&[2, 4, 8]);
        let heads = groups * draws.pick(&[1, 2]);
        let cluster =
            Cluster::preset(CLUSTERS[draws.below(CLUSTERS.len() as u64) as usize]).expect("there is this preset");
        let model = Model {
            format: 1,
            name: "random".to_owned(),
            family: *draws.pick(&[Family::Gpt, Family::Llama]),
            layers: 3,
            hidden: heads * draws.pick(&[4, 8]) * scale,
            heads,
            key_value_heads: (groups != heads).then_some(groups),
            feed_forward: 16 * scale * draws.pick(&[1, 3, 8]),
            vocabulary: 64 * draws.pick(&[1, 3, 20]) * scale,
            sequence: 8 * scale * draws.pick(&[1, 2]),
            embeddings: *draws.pick(&[Embeddings::Tied, Embeddings::Untied]),
            rotary_base: 10_000.0,
            rotary_scaling: None,
            images: None,
            decoder: None,
            head_size: None,
            attention_bias: Bias::Absent,
            norm_epsilon: 1e-5,
            training: Training {
                batch: 1,
                precision: *draws.pick(&[Precision::Full, Precision::Mixed]),
                learning_rate: 1e-3,
                warmup_steps: 0,
                weight_decay: 0.1,
                gradient_norm_max: 1.0,
                betas: [0.9, 0.95],
                epsilon: 1e-8,
            },
        };
        let sequences = u64::from(cluster.device_count()) * draws.pick(&[1, 2]);
        Case { seed, model, cluster, sequences, microbatches: *draws.pick(&[1, 2, 4]) }
    }

    fn costing<'a>(&self, graph: &'a Graph, model: &'a CostModel) -> Costing<'a> {
        let (precision, counts) = (self.model.training.precision, Costing::counts(self.microbatches));
        let copies = Copies::of(1);
        Costing { graph, model, precision, sequences: self.sequences, counts, copies }
    }

    /// All strategies of a kind that a plan may have: the other kinds have the same tensor degree.
    fn strategies(&self, graph: &Graph, kind: KindId) -> Vec<Strategy> {
        let of = |kind: KindId| {
            compiler::strategies(&graph.kinds[kind.index()], self.cluster.device_count(), self.sequences)
        };
        let mut all = of(kind);
        for other in (0..graph.kinds.len() as u32).map(KindId) {
            let degrees: Vec<u32> = of(other).iter().map(|strategy| strategy.tensor).collect();
            all.retain(|strategy| degrees.contains(&strategy.tensor));
        }
        all
    }
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Case { seed, model, cluster, sequences, microbatches } = self;
        write!(f, "seed {seed}: {microbatches} × {sequences} sequences on {}, {model:?}", cluster.name)
    }
}

/// How far, relative to a block, a difference of short samples may lie below the outline: host and device wait for
/// each other in turn there.
const SHORT: f64 = 0.05;

#[test]
fn no_layer_costs_less_than_its_outline() {
    let (mut count, mut below) = (0, 0);
    for case in (0..10).map(Case::new) {
        let graph = case.model.graph();
        let model = CostModel::new(&case.cluster, None);
        let costing = case.costing(&graph, &model);
        let mut outlines = Outlines::default();
        for kind in (0..graph.kinds.len() as u32).map(KindId) {
            for strategy in case.strategies(&graph, kind) {
                let layout = costing.layout(&mut outlines, costing.junction(kind, &strategy), strategy.ranks(), 0);
                let outline = costing.outline(&mut outlines, kind, &strategy, layout);
                let seen = costing.layer_times(&mut outlines, kind, &strategy).microbatch;
                let exact = costing.costs(&mut outlines, kind, &strategy, &outline);
                let block = costing.outline(&mut outlines, costing.beside(kind), &strategy, layout).time_microbatch;
                let least = outline.time_microbatch - SHORT * block;
                assert!(seen >= least, "{case}: kind {kind:?}, {strategy:?}: {seen} s below {outline:?}");
                assert!(exact.time_microbatch >= outline.time_microbatch, "{case}: {strategy:?}");
                assert!(exact.bytes_state + exact.bytes_saved >= outline.bytes_state + outline.bytes_saved);
                count += 1;
                below += u32::from(seen < outline.time_microbatch * (1.0 - 1e-9));
            }
        }
    }
    assert!(count > 1000 && below * 33 < count, "{below} of {count} differences lie below their outlines");
}

#[test]
fn no_program_is_faster_than_its_outlines() {
    for case in (0..30).map(Case::new) {
        let graph = case.model.graph();
        let model = CostModel::new(&case.cluster, None);
        let costing = case.costing(&graph, &model);
        let layers = graph.layers.len();
        let mut outlines = Outlines::default();
        for strategy in case.strategies(&graph, costing.beside(KindId(0))) {
            let plan = Plan {
                batch: case.sequences * u64::from(case.microbatches),
                microbatches: case.microbatches,
                schedule: Schedule::OneForwardOneBackward,
                precision: case.model.training.precision,
                stages: std::iter::once(0..layers as u32).collect(),
                strategies: vec![strategy.clone(); layers],
                prefetch: PREFETCH,
            };
            let programs = compiler::compile_unlimited(&graph, &plan).expect("the plan is legal");
            let step = simulate(&programs, &model, Detail::Totals).expect("verified programs end").step.0;
            let layout = costing.layout(&mut outlines, costing.junction(KindId(0), &strategy), strategy.ranks(), 0);
            let time = |&kind: &KindId| costing.outline(&mut outlines, kind, &strategy, layout).time_microbatch;
            let least: f64 = graph.layers.iter().map(time).sum();
            let least = least * f64::from(case.microbatches);
            assert!(step >= least * (1.0 - 1e-9), "{case}: {strategy:?}: {step} s, not {least} s");
        }
    }
}
