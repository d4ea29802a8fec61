//! Tries to beat the planner: random models, devices and batches, and every single change of the plan that comes first.
//!
//! ```text
//! cargo run -p hetu-planner --example adversary -- [CASES [FIRST_SEED]]
//! ```
//!
//! Prints each case with the best single change of the answer, and in how many cases one is faster by more than 0.2 %.
//! The changes are its own, none of the planner's: another strategy for one layer or for all of a row, a cut by one
//! layer, other microbatches, `prefetch` or order of passes.
#![allow(clippy::print_stdout, reason = "a program whose results are printed")]

use compiler::compile;
use cost_model::{CostModel, Detail, simulate};
use hetu_planner::{Request, Rules, Setting, search};
use ir::cluster::Cluster;
use ir::graph::Graph;
use ir::model::Model;
use ir::plan::{Plan, Schedule, Strategy};
use ir::seed::{Draws, Seed};
use rayon::prelude::*;
use solver::Method;

const MODELS: [&str; 5] = ["gpt2-124m", "gpt3-1.3b", "gpt3-6.7b", "llama2-7b", "llama3-8b"];
const CLUSTERS: [&str; 12] = [
    "4xA100-40GB",
    "6xA100-80GB",
    "7xH100",
    "8xA100-80GB",
    "8xV100-32GB",
    "8xH100",
    "12xA100-80GB",
    "2x8xH100",
    "2x8xA100-40GB",
    "3x8xA100-80GB",
    "4x8xH100",
    "4x4xA100-80GB",
];
const BATCHES: [u64; 8] = [5, 8, 12, 16, 24, 32, 60, 64];

/// Changes of a case that are tried at most, drawn from all.
const CHANGES_MAX: usize = 150;

/// A change that saves more than this share of the step beats the answer.
const BEATEN: f64 = 0.002;

fn main() {
    let mut numbers = std::env::args().skip(1).map(|number| number.parse::<u64>().expect("a number"));
    let (cases, first) = (numbers.next().unwrap_or(30), numbers.next().unwrap_or(0));
    let outcomes: Vec<Option<f64>> = (first..first + cases).map(case).collect();
    let planned = outcomes.iter().flatten().count();
    let beaten = outcomes.iter().flatten().filter(|&&gain| gain > BEATEN).count();
    println!("{beaten} of {planned} answers are beaten by more than {:.1} %", BEATEN * 100.0);
}

/// Plans a random case and changes the answer. The share of the step that the best change saves; none without a plan.
fn case(seed: u64) -> Option<f64> {
    let mut draws = Draws::new(Seed(seed).derive_name("adversary"));
    let (name, devices, batch) = (*draws.pick(&MODELS), *draws.pick(&CLUSTERS), *draws.pick(&BATCHES));
    let model = Model::preset(name).expect("there is this preset");
    let cluster = Cluster::preset(devices).expect("there is this preset");
    let (graph, costs) = (model.graph(), CostModel::new(&cluster, None));
    let setting =
        Setting { graph: &graph, cluster: &cluster, costs: &costs, precision: model.training.precision, line: None };
    let request = Request { setting, batch, method: Method::DYNAMIC, keep: 16, rules: Rules::default() };
    let told = format!("seed {seed}: {name} on {devices}, batch {batch}");
    let Ok(found) = search(&request, &|_, _| {}) else {
        println!("{told}: no plan");
        return None;
    };
    let first = &found.candidates[0];
    let mut changes = changes(&graph, &cluster, &first.plan);
    while changes.len() > CHANGES_MAX {
        changes.swap_remove(draws.below(changes.len() as u64) as usize);
    }
    let step = |(what, plan): &(String, Plan)| {
        let programs = compile(&graph, &cluster, plan).ok()?;
        let trace = simulate(&programs, &costs, Detail::Totals).expect("verified programs do not deadlock");
        Some((trace.step.0, what.clone()))
    };
    let best = changes.par_iter().filter_map(step).min_by(|a, b| a.0.total_cmp(&b.0));
    let (gain, what) =
        best.map_or((0.0, "nothing fits".to_owned()), |(step, what)| (1.0 - step / first.trace.step.0, what));
    println!("{told}: {} with {} changes, best {:+.2} %: {what}", first.trace.step, changes.len(), -gain * 100.0);
    Some(gain)
}

/// Single changes of a plan that are legal.
fn changes(graph: &Graph, cluster: &Cluster, plan: &Plan) -> Vec<(String, Plan)> {
    let mut all = Vec::new();
    for prefetch in (0..9).filter(|&prefetch| prefetch != plan.prefetch) {
        all.push((format!("prefetch {prefetch}"), Plan { prefetch, ..plan.clone() }));
    }
    for microbatches in (1..=plan.batch as u32).filter(|&count| plan.batch.is_multiple_of(u64::from(count))) {
        all.push((format!("{microbatches} microbatches"), Plan { microbatches, ..plan.clone() }));
    }
    for schedule in [Schedule::AllForward, Schedule::OneForwardOneBackward] {
        all.push((format!("{schedule:?}"), Plan { schedule, ..plan.clone() }));
    }
    for stage in 1..plan.stages.len() {
        for start in [plan.stages[stage].start - 1, plan.stages[stage].start + 1] {
            let mut stages = plan.stages.clone();
            (stages[stage - 1].end, stages[stage].start) = (start, start);
            all.push((format!("stage {stage} from layer {start}"), Plan { stages, ..plan.clone() }));
        }
    }
    for (row, current) in plan.runs() {
        for layers in [row.clone(), row.start..row.start + 1, row.end - 1..row.end] {
            for other in others(graph, plan, layers.start, current) {
                let mut strategies = plan.strategies.clone();
                strategies[layers.start as usize..layers.end as usize].fill(other.clone());
                let what = format!("layers {}..{} {other:?}", layers.start, layers.end);
                all.push((what, Plan { strategies: tied(graph, plan, strategies), ..plan.clone() }));
            }
        }
    }
    all.retain(|(_, changed)| changed != plan && compiler::check(graph, cluster, changed).is_empty());
    all
}

fn others(graph: &Graph, plan: &Plan, layer: u32, current: &Strategy) -> Vec<Strategy> {
    let kind = &graph.kinds[graph.layers[layer as usize].index()];
    let mut all = compiler::strategies(kind, current.ranks(), plan.microbatch_sequences());
    all.retain(|other| other != current);
    all
}

/// Where one of two layers that share a matrix has changed, the other follows.
fn tied(graph: &Graph, plan: &Plan, mut strategies: Vec<Strategy>) -> Vec<Strategy> {
    if let Some(tie) = &graph.tie {
        let sides: Vec<usize> = tie.sides().map(|(layer, _)| layer.index()).collect();
        if let Some(&side) = sides.iter().find(|&&side| strategies[side] != plan.strategies[side]) {
            let changed = strategies[side].clone();
            sides.iter().for_each(|&side| strategies[side] = changed.clone());
        }
    }
    strategies
}
