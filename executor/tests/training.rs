//! Plans change where a model is trained, not what comes of it: losses and gradient norms of all strategies are those
//! of a single rank, and both backends give the same bits.

#[allow(unreachable_pub, reason = "a module of each test that uses it")]
mod common;

use common::{model, plan, single};
use hetu_executor::{Backend, Batch, Session, Settings, StepResult};
use ir::graph::Graph;
use ir::model::{Embeddings, Family, Model};
use ir::plan::{Plan, Recompute, Sequence, Shard, Strategy};
use ir::program::Programs;
use ir::seed::{Draws, Seed};
use ir::units::Seconds;

const STEPS: usize = 3;
/// Plans add the same numbers in other orders.
const TOLERANCE: f64 = 1e-5;

fn compiled(graph: &Graph, plan: &Plan) -> Programs {
    compiler::compile_unlimited(graph, plan).unwrap_or_else(|all| panic!("{plan:?}: {:#?}", &all[..all.len().min(3)]))
}

/// The results of some steps on random tokens, each a function of the step alone.
fn train(model: &Model, programs: &Programs, backend: Backend) -> Vec<StepResult> {
    let settings = Settings { training: model.training.clone(), steps: 10, backend, patience: Seconds(60.0) };
    let mut session = Session::load(programs, &settings, Seed(7)).expect("the programs load");
    let step = |number: usize| {
        let mut draws = Draws::new(Seed(number as u64));
        let count = model.training.batch * model.sequence + 1;
        let tokens: Vec<i32> = (0..count).map(|_| draws.below(model.vocabulary) as i32).collect();
        let batch = Batch { inputs: &tokens[..tokens.len() - 1], targets: &tokens[1..] };
        session.step(batch).unwrap_or_else(|fault| panic!("{fault}"))
    };
    (0..STEPS).map(step).collect()
}

fn numbers(results: &[StepResult]) -> Vec<f64> {
    results.iter().flat_map(|result| [result.loss, result.gradient_norm]).collect()
}

#[track_caller]
fn assert_near(found: &[f64], expected: &[f64], what: &str) {
    let near = |(found, expected): (&f64, &f64)| (found - expected).abs() <= TOLERANCE * expected.abs();
    assert!(found.iter().zip(expected).all(near), "{what}:\n{found:?} are not\n{expected:?}");
}

#[test]
fn every_plan_trains_as_a_single_rank_does() {
    for (family, embeddings) in [
        (Family::Llama, Embeddings::Untied),
        (Family::Llama, Embeddings::Tied),
        (Family::Gpt, Embeddings::Untied),
        (Family::Gpt, Embeddings::Tied),
    ] {
        let model = model(family, embeddings);
        let graph = model.graph();
        let alone = compiled(&graph, &plan(&[4], vec![single(); 4]));
        let expected = numbers(&train(&model, &alone, Backend::Shuffle { seed: 0 }));
        assert!((expected[0] - 32f64.ln()).abs() < 0.05, "a new model knows nothing: {expected:?}");
        for stages in [vec![4], vec![2, 2], vec![1, 2, 1]] {
            for (index, strategy) in compiler::strategies(&graph.kinds[1], 4, 4).into_iter().enumerate() {
                if strategy.tensor > 2 {
                    continue;
                }
                let what = format!("{family:?} {embeddings:?} {stages:?} {strategy:?}");
                let programs = compiled(&graph, &plan(&stages, vec![strategy; 4]));
                let found = train(&model, &programs, Backend::Shuffle { seed: index as u64 });
                assert_near(&numbers(&found), &expected, &what);
            }
        }
    }
}

#[test]
fn both_backends_and_all_seeds_give_the_same_bits() {
    let model = model(Family::Llama, Embeddings::Tied);
    let strategy = Strategy {
        data: 2,
        tensor: 2,
        sequence: Sequence::Split,
        shard: Shard::Parameters,
        recompute: Recompute::Selective,
    };
    let programs = compiled(&model.graph(), &plan(&[2, 2], vec![strategy; 4]));
    let bits =
        |backend| -> Vec<u64> { numbers(&train(&model, &programs, backend)).into_iter().map(f64::to_bits).collect() };
    let expected = bits(Backend::Threads);
    for seed in 0..20 {
        assert_eq!(bits(Backend::Shuffle { seed }), expected, "seed {seed}");
    }
}
