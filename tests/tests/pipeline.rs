//! From a model and a cluster to a training: the planner's best plan compiles to the programs that it predicted, and
//! these run.

use cost_model::CostModel;
use executor::Backend;
use hetu_tests::notation::alone;
use hetu_tests::training::{compiled, course};
use ir::cluster::Cluster;
use ir::file::parse_model;
use planner::{Request, Rules, Setting, search};
use solver::Method;

const MODEL: &str = include_str!("../../examples/models/tiny-llama.yaml");

#[test]
fn the_best_plan_is_found_and_trains() {
    let mut model = parse_model(MODEL, "tiny-llama.yaml").expect("an example is valid");
    // Fewer and shorter sequences, so that two steps are soon done.
    (model.training.batch, model.sequence) = (8, 32);
    let graph = model.graph();
    let cluster = Cluster::preset("4xCPU").expect("there is this preset");
    let costs = CostModel::new(&cluster, None);
    let setting =
        Setting { graph: &graph, cluster: &cluster, costs: &costs, precision: model.training.precision, line: None };
    let method = Method::DYNAMIC;
    let request = Request { setting, batch: model.training.batch, method, keep: 2, rules: Rules::default() };
    let found = search(&request, &|_, _| {}).expect("there is a plan");
    let best = &found.candidates[0];
    // Ranks share two cores: two may be as fast as four.
    assert!((2..=cluster.device_count()).contains(&best.plan.rank_count()));

    let programs = compiler::compile(&graph, &cluster, &best.plan).expect("what was found compiles");
    assert_eq!((programs.digest(), programs.peak()), (best.digest, best.peak), "what was simulated is what runs");
    let found = course(&model, &programs, Backend::Threads, 2);
    let loss = found.losses[0];
    assert!((loss - (model.vocabulary as f64).ln()).abs() < 0.1, "a new model knows nothing: {loss}");
    let one_rank = compiled(&graph, &alone(model.training.batch, graph.layers.len()));
    let expected = course(&model, &one_rank, Backend::Threads, 2);
    let [losses, norms] = found.distance(&expected);
    assert!(losses < 1e-5 && norms < 1e-4, "it trains as one rank does: {found:?} is not {expected:?}");
}

#[test]
fn a_search_gives_the_same_plans_again() {
    let model = hetu_tests::specimen::llama();
    let graph = model.graph();
    let cluster = Cluster::preset("4xCPU").expect("there is this preset");
    let costs = CostModel::new(&cluster, None);
    let setting =
        Setting { graph: &graph, cluster: &cluster, costs: &costs, precision: model.training.precision, line: None };
    let plans = || {
        let method = Method::DYNAMIC;
        let request = Request { setting, batch: model.training.batch, method, keep: 4, rules: Rules::default() };
        let found = search(&request, &|_, _| {}).expect("there is a plan");
        let told = found.candidates.into_iter().map(|it| (it.plan, it.trace.step.0.to_bits(), it.digest));
        told.collect::<Vec<_>>()
    };
    assert_eq!(plans(), plans());
}
