//! Models and plans that the tests of the passes use.

mod placement;

use ir::graph::KindId;
use ir::model::{Bias, Embeddings, Family, Model, Precision, Training};
use ir::plan::{Plan, Recompute, Schedule, Sequence, Shard, Strategy};
use ir::program::{Action, Programs};

use crate::layer::Purpose;
use crate::memory::place::Effort;
use crate::{Manner, Sample, Shelf, USUAL, compile_samples, compile_unlimited, draft};

/// A Llama of two blocks that compiles at once.
pub(crate) fn tiny() -> Model {
    Model {
        format: 1,
        name: "tiny".to_owned(),
        family: Family::Llama,
        layers: 2,
        hidden: 16,
        heads: 4,
        key_value_heads: Some(2),
        feed_forward: 24,
        vocabulary: 32,
        sequence: 8,
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
            precision: Precision::Full,
            learning_rate: 1e-3,
            warmup_steps: 0,
            weight_decay: 0.1,
            gradient_norm_max: 1.0,
            betas: [0.9, 0.95],
            epsilon: 1e-8,
        },
    }
}

pub(crate) fn plan(stages: &[u32], strategies: Vec<Strategy>) -> Plan {
    let mut start = 0;
    let ranges = stages.iter().map(|&count| {
        start += count;
        start - count..start
    });
    Plan {
        batch: 8,
        microbatches: 2,
        schedule: Schedule::OneForwardOneBackward,
        precision: Precision::Full,
        stages: ranges.collect(),
        strategies,
        prefetch: 1,
    }
}

/// A strategy that keeps everything.
pub(crate) fn strategy(data: u32, tensor: u32) -> Strategy {
    Strategy { data, tensor, sequence: Sequence::Whole, shard: Shard::Nothing, recompute: Recompute::Nothing }
}

#[test]
fn every_strategy_compiles_to_valid_programs() {
    for family in [Family::Llama, Family::Gpt] {
        for embeddings in [Embeddings::Untied, Embeddings::Tied] {
            let model = Model { family, embeddings, ..tiny() };
            let graph = model.graph();
            for stages in [vec![4], vec![2, 2], vec![1, 2, 1]] {
                for strategy in crate::strategies(&graph.kinds[1], 4, 4) {
                    if strategy.tensor > 2 {
                        continue;
                    }
                    let plan = plan(&stages, vec![strategy.clone(); 4]);
                    if let Err(defects) = compile_unlimited(&graph, &plan) {
                        panic!(
                            "{family:?} {embeddings:?} {stages:?} {strategy:?}: {:#?}",
                            &defects[..defects.len().min(5)]
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn a_few_layers_compile_alone() {
    let graph = tiny().graph();
    for kinds in [vec![1, 1], vec![0, 1, 1], vec![1, 1, 2]] {
        let kinds: Vec<KindId> = kinds.into_iter().map(KindId).collect();
        let part = graph.part(&kinds);
        for strategy in crate::strategies(&graph.kinds[1], 2, 4) {
            let plan = plan(&[kinds.len() as u32], vec![strategy; kinds.len()]);
            compile_unlimited(&part, &plan).expect("layers alone are valid");
        }
    }
}

#[test]
fn samples_are_the_beginnings_of_a_plan() {
    let graph = tiny().graph();
    let mut shelf = Shelf::default();
    for strategy in crate::strategies(&graph.kinds[1], 4, 4) {
        let whole = plan(&[4], vec![strategy.clone(); 4]);
        for (layers, microbatches) in [(2, 1), (3, 1), (3, 2), (4, 5)] {
            let sample = Sample { layers, microbatches };
            let samples = [Sample { layers: 4, microbatches: 1 }, sample];
            let drafts = compile_samples(&mut shelf, &graph, &whole, &samples);
            let sampled = drafts.expect("the plan is legal").swap_remove(1);
            let sampled = Programs::verified(sampled, ir::units::Bytes(u64::MAX)).expect("samples are programs");
            let alone = Plan {
                batch: whole.microbatch_sequences() * u64::from(microbatches),
                microbatches,
                stages: vec![0..layers],
                strategies: whole.strategies[..layers as usize].to_vec(),
                ..whole.clone()
            };
            let part = graph.part(&graph.layers[..layers as usize]);
            let fresh = draft(&part, &alone, Purpose::Training, Manner { effort: Effort::Least, ..USUAL });
            let fresh = Programs::verified(fresh.expect("the plan is legal"), ir::units::Bytes(u64::MAX));
            let alone = compile_unlimited(&part, &alone).expect("the plan is legal");
            // Of a beginning, the library still names what the other layers do.
            if layers == 4 {
                assert_eq!(sampled.digest(), fresh.expect("drafts are programs").digest(), "{strategy:?}");
            }
            assert_eq!(sampled.roles()[0].live_bound, alone.roles()[0].live_bound);
            let work = |programs: &Programs| {
                let code = programs.roles()[0].code.iter();
                code.filter(|instr| !matches!(instr.action, Action::Signal(_) | Action::Wait(_))).count()
            };
            assert_eq!(work(&sampled), work(&alone));
        }
    }
}
