//! Whatever plans of a model ask the cost model for on GPUs is in the catalogue that is measured.

use std::collections::BTreeMap;

use cost_model::{CostModel, Detail, simulate};
use hetu_profiler::catalogue::{Catalogue, label};
use ir::cluster::Cluster;
use ir::model::{Bias, Embeddings, Family, Model, Precision, Training};
use ir::plan::{Plan, Recompute, Schedule, Sequence, Shard, Strategy};
use ir::profile::{Profile, Sample, Work};
use ir::program::{Action, Programs};
use ir::units::{Bytes, Seconds};

fn model(family: Family, precision: Precision) -> Model {
    Model {
        format: 1,
        name: "small".to_owned(),
        family,
        layers: 4,
        hidden: 64,
        heads: 4,
        key_value_heads: (family == Family::Llama).then_some(4),
        feed_forward: 128,
        vocabulary: 64,
        sequence: 16,
        embeddings: Embeddings::Untied,
        rotary_base: 10_000.0,
        rotary_scaling: None,
        images: None,
        decoder: None,
        head_size: None,
        attention_bias: Bias::Absent,
        norm_epsilon: 1e-5,
        training: Training {
            batch: 8,
            precision,
            learning_rate: 1e-3,
            warmup_steps: 0,
            weight_decay: 0.1,
            gradient_norm_max: 1.0,
            betas: [0.9, 0.95],
            epsilon: 1e-8,
        },
    }
}

/// Every strategy of four ranks in one stage, and of two ranks in two stages; one rank in four.
fn plans(model: &Model) -> Vec<Plan> {
    let graph = model.graph();
    let count = graph.layers.len() as u32;
    let mut plans = Vec::new();
    for (stages, ranks) in [(1, 4), (2, 2), (4, 1), (1, 2), (2, 1)] {
        for microbatches in [1, 2, 4] {
            let sequences = model.training.batch / u64::from(microbatches);
            // Strategies that all kinds of layers may have.
            let mut all = compiler::strategies(&graph.kinds[0], ranks, sequences);
            for kind in &graph.kinds[1..] {
                let other = compiler::strategies(kind, ranks, sequences);
                all.retain(|strategy| other.contains(strategy));
            }
            let cut = |stage: u32| count * stage / stages;
            plans.extend(all.into_iter().map(|strategy| Plan {
                batch: model.training.batch,
                microbatches,
                schedule: Schedule::OneForwardOneBackward,
                precision: model.training.precision,
                stages: (0..stages).map(|stage| cut(stage)..cut(stage + 1)).collect(),
                strategies: vec![strategy; count as usize],
                prefetch: 1,
            }));
        }
    }
    plans
}

/// Everything that is priced in these programs.
fn works(programs: &Programs) -> BTreeMap<Work, ()> {
    let mut works = BTreeMap::new();
    for role in programs.roles() {
        for instr in &role.code {
            if let Action::Compute(id) = instr.action {
                works.extend(programs.fragment(id).kernels.iter().map(|kernel| (kernel.work(), ())));
            }
        }
    }
    works
}

#[test]
fn what_plans_ask_for_was_measured() {
    let mut cluster = Cluster::preset("4xH100").unwrap();
    cluster.device.memory = Bytes(80 << 30);
    for family in [Family::Llama, Family::Gpt] {
        for precision in [Precision::Mixed, Precision::Full] {
            let model = model(family, precision);
            let known = Catalogue::of_model(&model, &cluster).works();
            let sample = |work: &Work| Sample {
                work: work.clone(),
                median: Seconds(1e-5),
                spread: Seconds(0.0),
                runs: 1,
                way: None,
            };
            let profile = Profile { samples: known.iter().map(sample).collect(), ..Profile::new("H100") };
            let costs = CostModel::new(&cluster, Some(&profile));
            let graph = model.graph();
            let mut tried = 0;
            for plan in plans(&model) {
                let Ok(programs) = compiler::compile(&graph, &cluster, &plan) else { continue };
                tried += 1;
                for (work, ()) in works(&programs) {
                    assert!(known.contains(&work), "{} of {plan:?}", label(&work));
                }
                let trace = simulate(&programs, &costs, Detail::Totals).unwrap();
                let [measured, interpolated, modelled] = trace.shares.map(|share| share.0);
                assert!(measured > 0.0 && modelled == 0.0, "{:?} of {plan:?}", trace.shares);
                // Exchanges of a size between others: gradient norms over stages, and joins of several axes.
                assert!(interpolated <= 0.05 * measured, "{:?} of {plan:?}", trace.shares);
            }
            assert!(tried > 20, "only {tried} plans");
        }
    }
}

#[test]
fn strategies_of_every_kind_are_among_the_plans() {
    let all = plans(&model(Family::Llama, Precision::Mixed));
    let any = |is_it: &dyn Fn(&Strategy) -> bool| all.iter().any(|plan| is_it(&plan.strategies[0]));
    assert!(any(&|it| it.shard == Shard::Parameters) && any(&|it| it.sequence == Sequence::Split));
    assert!(any(&|it| it.recompute == Recompute::Nothing) && any(&|it| it.recompute != Recompute::Nothing));
    assert!(any(&|it| it.data == 2 && it.tensor == 2) && any(&|it| it.tensor == 4));
}
