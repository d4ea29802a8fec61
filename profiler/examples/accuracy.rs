//! Holds predictions against measurements: simulates and executes plans of a model with a profile of this machine.
//!
//! `accuracy MODEL PROFILE CLUSTER [STEPS [PLAN…]]` prints, for each plan, or for the named ones, the predicted and the
//! measured time of a step.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "an example that prints a table or ends")]

use cost_model::{CostModel, Detail, simulate};
use executor::{Backend, Batch, Session, Settings};
use ir::model::Precision;
use ir::plan::{Plan, Recompute, Schedule, Sequence, Shard, Strategy};
use ir::program::Programs;
use ir::seed::{Draws, Seed};
use ir::trace::{Totals, Trace};
use ir::units::Seconds;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let text = |index: usize| std::fs::read_to_string(&arguments[index]).unwrap();
    let model = ir::file::parse_model(&text(1), "model").unwrap();
    let profile = ir::file::parse_profile(&text(2), "profile").unwrap();
    let cluster = ir::file::parse_cluster(&text(3), "cluster").unwrap();
    let steps: usize = arguments.get(4).map_or(9, |steps| steps.parse().unwrap());
    let costs = CostModel::new(&cluster, Some(&profile));
    let graph = model.graph();
    println!("{:<34} {:>10} {:>10} {:>9} {:>8}", "plan", "predicted", "measured", "spread", "error");
    let mut worst: f64 = 0.0;
    for (name, plan) in plans(graph.layers.len() as u32, model.training.batch) {
        if arguments.len() > 5 && !arguments[5..].iter().any(|wanted| wanted == name) {
            continue;
        }
        let programs = compiler::compile(&graph, &cluster, &plan).unwrap();
        let predicted = simulate(&programs, &costs, Detail::Totals).unwrap();
        let (times, trace) = measured(&model, &programs, steps);
        let median = times[times.len() / 2];
        let spread = (times[times.len() * 3 / 4] - times[times.len() / 4]) / 2.0;
        let error = predicted.step.0 / median - 1.0;
        worst = worst.max(error.abs());
        let (seconds, spread) = (Seconds(median), Seconds(spread));
        println!("{name:<34} {:>10.1} {seconds:>10.1} {spread:>9.1} {:>7.1}%", predicted.step, error * 100.0);
        if std::env::var_os("TOTALS").is_some() {
            show("predicted", &predicted);
            show("measured", &trace);
        }
    }
    println!("largest error {:.1} %", worst * 100.0);
}

fn show(name: &str, trace: &Trace) {
    for Totals { rank, compute, exchange, transfer, idle, .. } in &trace.totals {
        println!(
            "  {name:<10} rank {rank} compute {compute:.1} exchange {exchange:.1} transfer {transfer:.1} idle {idle:.1}"
        );
    }
}

/// Step times in order, and a traced step.
fn measured(model: &ir::model::Model, programs: &Programs, steps: usize) -> (Vec<f64>, Trace) {
    let backend = Backend::Threads;
    let settings = Settings { training: model.training.clone(), steps: 1000, backend, patience: Seconds(60.0) };
    let mut session = Session::load(programs, &settings, Seed(1)).unwrap();
    let mut draws = Draws::new(Seed(2));
    let count = model.training.batch * model.sequence + 1;
    let tokens: Vec<i32> = (0..count).map(|_| draws.below(model.vocabulary) as i32).collect();
    let batch = Batch { inputs: &tokens[1..], targets: &tokens[..tokens.len() - 1] };
    session.step(batch).unwrap();
    let mut times: Vec<f64> = (0..steps).map(|_| session.step(batch).unwrap().time.0).collect();
    times.sort_by(f64::total_cmp);
    let trace = session.step_traced(batch).unwrap().trace.unwrap();
    (times, trace)
}

fn plans(layers: u32, batch: u64) -> Vec<(&'static str, Plan)> {
    let strategy = |data, tensor, shard| {
        let sequence = if tensor > 1 { Sequence::Split } else { Sequence::Whole };
        Strategy { data, tensor, sequence, shard, recompute: Recompute::Nothing }
    };
    let plan = |stages: u32, microbatches, strategy: Strategy| {
        let cut = |stage| layers * stage / stages;
        Plan {
            batch,
            microbatches,
            schedule: Schedule::OneForwardOneBackward,
            precision: Precision::Full,
            stages: (0..stages).map(|stage| cut(stage)..cut(stage + 1)).collect(),
            strategies: vec![strategy; layers as usize],
            prefetch: 1,
        }
    };
    let whole = |tensor| Strategy { sequence: Sequence::Whole, ..strategy(1, tensor, Shard::Nothing) };
    vec![
        ("one rank", plan(1, 4, strategy(1, 1, Shard::Nothing))),
        ("data 2", plan(1, 2, strategy(2, 1, Shard::Nothing))),
        ("data 4", plan(1, 1, strategy(4, 1, Shard::Nothing))),
        ("data 4, parameters sharded", plan(1, 2, strategy(4, 1, Shard::Parameters))),
        ("tensor 4", plan(1, 2, whole(4))),
        ("tensor 2, sequence split", plan(1, 2, strategy(1, 2, Shard::Nothing))),
        ("pipeline 2", plan(2, 4, strategy(1, 1, Shard::Nothing))),
        ("pipeline 4", plan(4, 8, strategy(1, 1, Shard::Nothing))),
        ("data 2, tensor 2, sharded", plan(1, 2, strategy(2, 2, Shard::Gradients))),
        ("pipeline 2, data 2", plan(2, 4, strategy(2, 1, Shard::Optimizer))),
        ("pipeline 2, tensor 2", plan(2, 4, strategy(1, 2, Shard::Nothing))),
    ]
}
