//! Plans change where a model is trained, not what comes of it: losses and gradient norms of all strategies are those
//! of a single rank, and both backends give the same bits.

#[allow(unreachable_pub, reason = "a module of each test that uses it")]
mod common;

use common::{model, plan, single};
use hetu_executor::{Alone, Backend, Batch, Folder, Identity, Session, Settings, StepResult};
use ir::cluster::Cluster;
use ir::graph::Graph;
use ir::model::{Embeddings, Family, Model, Precision};
use ir::plan::{Plan, Recompute, Sequence, Shard, Strategy};
use ir::program::Programs;
use ir::seed::{Draws, Seed};
use ir::units::Seconds;
use ir::ways::Ways;
use tempfile::TempDir;

const STEPS: usize = 3;
/// Plans add the same numbers in other orders.
const TOLERANCE: f64 = 1e-5;

fn compiled(graph: &Graph, plan: &Plan) -> Programs {
    compiler::compile_unlimited(graph, plan).unwrap_or_else(|all| panic!("{plan:?}: {:#?}", &all[..all.len().min(3)]))
}

/// The results of some steps on random tokens, each a function of the step alone.
fn train(model: &Model, programs: &Programs, backend: Backend) -> Vec<StepResult> {
    let mut session = load(model, programs, backend, Seed(7));
    (0..STEPS).map(|_| step(model, &mut session)).collect()
}

fn load(model: &Model, programs: &Programs, backend: Backend, seed: Seed) -> Session {
    let (training, ways) = (model.training.clone(), Ways::default());
    let settings = Settings { training, steps: 10, backend, ways, patience: Seconds(60.0) };
    Session::load(programs, &settings, seed).expect("the programs load")
}

fn step(model: &Model, session: &mut Session) -> StepResult {
    let mut draws = Draws::new(Seed(session.steps_done()));
    let count = model.training.batch * model.sequence + 1;
    let tokens: Vec<i32> = (0..count).map(|_| draws.below(model.vocabulary) as i32).collect();
    let batch = Batch { inputs: &tokens[..tokens.len() - 1], patches: &[], source: &[], targets: &tokens[1..] };
    session.step(batch).unwrap_or_else(|fault| panic!("{fault}"))
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

/// Spread and sharded as far as can be, on eight ranks.
fn spread() -> Plan {
    let strategy = Strategy { data: 2, tensor: 2, sequence: Sequence::Split, shard: Shard::Parameters, ..single() };
    plan(&[2, 2], vec![strategy; 4])
}

#[test]
fn a_training_goes_on_under_another_plan_as_if_nothing_had_happened() {
    let model = model(Family::Gpt, Embeddings::Tied);
    let graph = model.graph();
    let [alone, spread] = [plan(&[4], vec![single(); 4]), spread()].map(|plan| compiled(&graph, &plan));
    let expected = numbers(&train(&model, &alone, Backend::Threads));
    let checkpoints = Checkpoints::new();
    for (first, second) in [(&alone, &spread), (&spread, &alone)] {
        let mut session = load(&model, first, Backend::Shuffle { seed: 3 }, Seed(7));
        let mut results = vec![step(&model, &mut session), step(&model, &mut session)];
        checkpoints.save(&session);
        let mut session = load(&model, second, Backend::Shuffle { seed: 4 }, Seed(8));
        checkpoints.resume(&mut session);
        results.push(step(&model, &mut session));
        assert_near(&numbers(&results), &expected, "resumed");
    }
}

/// A folder of checkpoints that goes with the test.
struct Checkpoints {
    folder: Folder,
    _place: TempDir,
}

impl Checkpoints {
    fn new() -> Checkpoints {
        let place = tempfile::tempdir().expect("a folder can be made");
        Checkpoints { folder: Folder::open(place.path(), &mut Alone).expect("it is new"), _place: place }
    }

    fn save(&self, session: &Session) {
        self.folder.save(session, &Identity::default(), &mut Alone).expect("a checkpoint is written");
    }

    fn resume(&self, session: &mut Session) {
        self.folder.resume(session, (&Identity::default(), &[]), &mut Alone).expect("a checkpoint is read");
    }
}

#[test]
fn a_training_goes_on_in_the_other_precision() {
    let model = model(Family::Llama, Embeddings::Tied);
    let graph = model.graph();
    let full = compiled(&graph, &plan(&[4], vec![single(); 4]));
    let mixed = compiled(&graph, &Plan { precision: Precision::Mixed, ..spread() });
    let checkpoints = Checkpoints::new();
    for (first, second) in [(&full, &mixed), (&mixed, &full)] {
        let mut session = load(&model, first, Backend::Threads, Seed(7));
        (0..2).for_each(|_| drop(step(&model, &mut session)));
        checkpoints.save(&session);
        let before = session.tensors();
        let expected = step(&model, &mut session);
        let mut session = load(&model, second, Backend::Shuffle { seed: 4 }, Seed(8));
        checkpoints.resume(&mut session);
        assert_eq!(session.tensors(), before, "values and moments are kept to the bit");
        let found = step(&model, &mut session);
        let difference = ((found.loss - expected.loss) / expected.loss).abs();
        assert!(difference < 1e-3 && difference > 0.0, "{difference}: {found:?} is not {expected:?}");
    }
}

#[test]
fn parameters_in_16_bits_are_the_rounding_of_their_master() {
    let model = model(Family::Gpt, Embeddings::Tied);
    for strategy in [single(), Strategy { data: 2, shard: Shard::Optimizer, ..single() }] {
        let plan = Plan { precision: Precision::Mixed, ..plan(&[2, 2], vec![strategy; 4]) };
        let programs = compiled(&model.graph(), &plan);
        let mut session = load(&model, &programs, Backend::Threads, Seed(7));
        let first = step(&model, &mut session);
        let checkpoints = Checkpoints::new();
        checkpoints.save(&session);
        let mut resumed = load(&model, &programs, Backend::Threads, Seed(8));
        checkpoints.resume(&mut resumed);
        // A checkpoint has the master only; those computed with are rounded from it when it is read.
        let [expected, found] = [&mut session, &mut resumed].map(|session| numbers(&[step(&model, session)]));
        assert!(expected[0] < first.loss, "it learns: {expected:?}");
        assert_eq!(found, expected);
    }
}

#[test]
fn an_evaluation_gives_the_loss_that_the_next_step_will_have() {
    let model = model(Family::Llama, Embeddings::Tied);
    let graph = model.graph();
    let cluster = Cluster::preset("8xH200").expect("there is this preset");
    for precision in [Precision::Full, Precision::Mixed] {
        let plan = Plan { precision, ..spread() };
        let evaluation = compiler::compile_evaluation(&graph, &cluster, &plan).expect("the plan is right");
        let mut training = load(&model, &compiled(&graph, &plan), Backend::Threads, Seed(7));
        step(&model, &mut training);
        let mut evaluation = load(&model, &evaluation, Backend::Shuffle { seed: 1 }, Seed(8));
        // One step ahead, as the training is.
        step(&model, &mut evaluation);
        for _ in 0..2 {
            evaluation.copy_parameters(&training).unwrap();
            let [expected, found] = [&mut training, &mut evaluation].map(|session| step(&model, session).loss);
            assert_near(&[found], &[expected], "loss");
        }
    }
}
