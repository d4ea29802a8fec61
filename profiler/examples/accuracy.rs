//! Holds predictions against measurements: simulates and executes plans of a model with a profile of this machine, on
//! its GPUs if the cluster has such, else on CPU ranks.
//!
//! `accuracy MODEL PROFILE CLUSTER [STEPS [PLAN…]]` prints for each plan, or for those whose names contain one of the
//! texts (a text that ends with `.yaml` is the file of another plan), the predicted and the measured time of a step (median, quartiles) and memory of a device. `RECORDED=1` replays
//! recorded steps, `TOTALS=1` shows where time goes.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "an example that prints a table or ends")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use cost_model::{CostModel, Detail, simulate};
use executor::{Backend, Batch, Issue, Session, Settings};
use ir::cluster::{Cluster, Execution};
use ir::model::Model;
use ir::plan::{Plan, Recompute, Schedule, Sequence, Shard, Strategy};
use ir::program::{Action, Programs, Stream};
use ir::seed::{Draws, Seed};
use ir::trace::{Totals, Trace};
use ir::units::{Bytes, Seconds};
use ir::ways::Ways;
use kernels::cuda::Device;

/// GPUs are steady after so many seconds under load.
const WARM: f64 = 2.0;

fn main() {
    executor::prepare_gpus();
    let arguments: Vec<String> = std::env::args().collect();
    let text = |index: usize| std::fs::read_to_string(&arguments[index]).unwrap();
    let model = ir::file::parse_model(&text(1), "model").unwrap();
    let profile = ir::file::parse_profile(&text(2), "profile").unwrap();
    let cluster = ir::file::parse_cluster(&text(3), "cluster").unwrap();
    let steps: usize = arguments.get(4).map_or(15, |steps| steps.parse().unwrap());
    let wanted = arguments.get(5..).unwrap_or_default();
    let costs = CostModel::new(&cluster, Some(&profile));
    println!("{}", profile.source);
    println!(
        "{:<38} {:>10} {:>10} {:>21} {:>7}   {:>10} {:>10} {:>7}",
        "plan", "predicted", "measured", "quartiles", "error", "memory", "used", "error"
    );
    let (mut times, mut memories) = (Vec::new(), Vec::new());
    for (name, plan) in wanted_plans(&model, &cluster, wanted) {
        let programs = match compiler::compile(&model.graph(), &cluster, &plan) {
            Ok(programs) => programs,
            Err(error) => {
                println!("{name:<38} not possible: {error:?}");
                continue;
            }
        };
        let predicted = simulate(&programs, &costs, Detail::Events).unwrap();
        let ways = costs.ways(&programs.draft().fragments);
        match measured(&model, &cluster, (&programs, &ways), steps) {
            Ok(measured) => {
                // Of the first rank, whose device is asked.
                let role = programs.draft().role(0);
                let met: BTreeSet<Stream> =
                    role.code.iter().map(|instr| instr.stream).filter(|&stream| stream != Stream::Compute).collect();
                let memory = role.arena + profile.reserved_for(met.len() as u64);
                let [time_error, memory_error] = compared(&name, &programs, (&predicted, memory), &measured);
                times.extend(time_error.map(f64::abs));
                memories.extend(memory_error.map(f64::abs));
            }
            Err(error) => println!("{name:<38} failed: {error}"),
        }
    }
    for (what, errors) in [("time", times), ("memory", memories)] {
        if !errors.is_empty() {
            let mean = errors.iter().sum::<f64>() / errors.len() as f64 * 100.0;
            let largest = errors.iter().copied().fold(0.0, f64::max) * 100.0;
            println!("{what}: {} plans, mean error {mean:.1} %, largest {largest:.1} %", errors.len());
        }
    }
}

/// Prints a plan's line, and gives the relative errors of its time and memory.
fn compared(
    name: &str,
    programs: &Programs,
    (predicted, memory): (&Trace, Bytes),
    measured: &Measured,
) -> [Option<f64>; 2] {
    let Measured { seconds, used, trace } = measured;
    let [low, median, high] = [1, 2, 3].map(|quarter| seconds[(seconds.len() - 1) * quarter / 4]);
    let error = predicted.step.0 / median - 1.0;
    let memory_error = used.map(|used| memory.as_f64() / used.as_f64() - 1.0);
    let quartiles = format!("{:.1} … {:.1}", Seconds(low), Seconds(high));
    let percent = |error: f64| format!("{:+.1}%", error * 100.0);
    println!(
        "{name:<38} {:>10.1} {:>10.1} {quartiles:>21} {:>7}   {memory:>10} {:>10} {:>7}",
        predicted.step,
        Seconds(median),
        percent(error),
        used.map_or(String::new(), |used| used.to_string()),
        memory_error.map_or(String::new(), percent)
    );
    if std::env::var_os("TOTALS").is_some() {
        show("predicted", predicted);
        show("measured", trace);
        by_name(programs, predicted, trace);
    }
    [Some(error), memory_error]
}

fn show(name: &str, trace: &Trace) {
    for Totals { rank, compute, exchange, transfer, hidden, idle, .. } in &trace.totals {
        println!(
            "  {name:<10} rank {rank} compute {compute:.1} exchange {exchange:.1} transfer {transfer:.1} hidden \
             {hidden:.1} idle {idle:.1}"
        );
    }
    let [measured, interpolated, modelled] = trace.shares;
    println!("  {name:<10} rests on measured {measured:.1} interpolated {interpolated:.1} modelled {modelled:.1}");
}

/// The first rank's most costly work: how often, predicted and measured.
fn by_name(programs: &Programs, predicted: &Trace, measured: &Trace) {
    let mut rows: BTreeMap<String, (usize, [f64; 2])> = BTreeMap::new();
    for (column, trace) in [predicted, measured].into_iter().enumerate() {
        for event in trace.events.iter().filter(|event| event.rank == 0) {
            let name = match event.action {
                Action::Compute(id) => programs.fragment(id).name.clone(),
                Action::Exchange(id) => {
                    let collective = programs.collective(id);
                    let bytes = collective.source_bytes();
                    format!("{} {} {bytes}", collective.exchange.name(), collective.axis.name())
                }
                Action::Send(_) => "send".to_owned(),
                Action::Receive(_) => "receive".to_owned(),
                Action::Free | Action::Signal(_) | Action::Wait(_) => continue,
            };
            let (count, times) = rows.entry(name).or_default();
            *count += column;
            times[column] += (event.end - event.start).0;
        }
    }
    let mut rows: Vec<_> = rows.into_iter().collect();
    rows.sort_by(|(_, (_, a)), (_, (_, b))| b[1].total_cmp(&a[1]));
    for (name, (count, [predicted, measured])) in rows.iter().take(24) {
        println!("    {count:>5} x {name:<44} {:>9.2} ms predicted {:>9.2} measured", predicted * 1e3, measured * 1e3);
    }
}

/// What came of a plan.
struct Measured {
    /// Of steps, in order.
    seconds: Vec<f64>,
    /// Of the first GPU.
    used: Option<Bytes>,
    /// Of one more step.
    trace: Trace,
}

fn measured(
    model: &Model,
    cluster: &Cluster,
    (programs, ways): (&Programs, &Ways),
    steps: usize,
) -> Result<Measured, Box<dyn std::error::Error>> {
    let issue = if std::env::var_os("RECORDED").is_some() { Issue::Recorded } else { Issue::Eager };
    let (backend, device, warm) = match cluster.device.execution {
        Execution::Shared { .. } => (Backend::Threads, None, 0.0),
        Execution::Concurrent => (Backend::Cuda { issue }, Some(Device::open(0)?), WARM),
    };
    let (training, patience) = (model.training.clone(), Seconds(60.0));
    let settings = Settings { training, steps: 1000, backend, ways: ways.clone(), patience };
    let begin = Instant::now();
    let mut session = Session::load(programs, &settings, Seed(1))?;
    let loaded = begin.elapsed().as_secs_f64();
    let mut draws = Draws::new(Seed(2));
    let count = programs.draft().step.tokens() + 1;
    let tokens: Vec<i32> = (0..count).map(|_| draws.below(model.vocabulary) as i32).collect();
    let batch = Batch { inputs: &tokens[1..], patches: &[], source: &[], targets: &tokens[..tokens.len() - 1] };
    let first = Instant::now();
    session.step(batch)?;
    while first.elapsed().as_secs_f64() < warm {
        session.step(batch)?;
    }
    let used = match &device {
        Some(device) => Some(device.memory()?.saturating_sub(device.free_memory()?)),
        None => None,
    };
    println!("  loaded in {loaded:.1} s, first steps in {:.1} s", begin.elapsed().as_secs_f64() - loaded);
    let mut seconds = Vec::new();
    for _ in 0..steps {
        seconds.push(session.step(batch)?.time.0);
    }
    seconds.sort_by(f64::total_cmp);
    let trace = session.step_traced(batch)?.trace.expect("a traced step has a trace");
    Ok(Measured { seconds, used, trace })
}

const PLAIN: Strategy =
    Strategy { data: 1, tensor: 1, sequence: Sequence::Whole, shard: Shard::Nothing, recompute: Recompute::Nothing };

/// Strategies by what they split.
fn spread(data: u32, tensor: u32, shard: Shard) -> Strategy {
    let sequence = if tensor > 1 { Sequence::Split } else { Sequence::Whole };
    Strategy { data, tensor, sequence, shard, ..PLAIN }
}

/// The plans below that are wanted, then those of files.
fn wanted_plans(model: &Model, cluster: &Cluster, wanted: &[String]) -> Vec<(String, Plan)> {
    let mut plans = plans(model, cluster);
    plans.retain(|(name, _)| wanted.is_empty() || wanted.iter().any(|wanted| name.contains(wanted.as_str())));
    for path in wanted.iter().filter(|wanted| wanted.ends_with(".yaml")) {
        let file = ir::file::parse_plan(&std::fs::read_to_string(path).unwrap(), path).unwrap();
        plans.push((path.rsplit('/').next().unwrap_or(path).to_owned(), file.plan));
    }
    plans
}

/// Plans for as many ranks as the cluster has, and for fewer on CPU ranks.
fn plans(model: &Model, cluster: &Cluster) -> Vec<(String, Plan)> {
    let ranks = cluster.device_count();
    let of = |stages: u32, microbatches: u32, strategy: Strategy, name: &str| {
        let layers = model.graph().layers.len() as u32;
        let cut = |stage| layers * stage / stages;
        let plan = Plan {
            batch: model.training.batch,
            microbatches,
            schedule: Schedule::OneForwardOneBackward,
            precision: model.training.precision,
            stages: (0..stages).map(|stage| cut(stage)..cut(stage + 1)).collect(),
            strategies: vec![strategy; layers as usize],
            prefetch: 1,
        };
        (name.to_owned(), plan)
    };
    match cluster.device.execution {
        Execution::Shared { .. } => {
            cores().into_iter().map(|(s, m, strategy, name)| of(s, m, strategy, name)).collect()
        }
        Execution::Concurrent => {
            let all = gpus(ranks).into_iter();
            let fitting = all.filter(|(stages, _, strategy, _)| stages * strategy.ranks() == ranks);
            fitting
                .map(|(stages, rows, strategy, name)| {
                    let sequences = rows * u64::from(strategy.data);
                    let microbatches = (model.training.batch / sequences).max(1) as u32;
                    of(stages, microbatches, strategy, &format!("{name}, {microbatches} microbatches"))
                })
                .collect()
        }
    }
}

/// Stages, microbatches, strategy and name.
fn cores() -> Vec<(u32, u32, Strategy, &'static str)> {
    let whole = |tensor| Strategy { tensor, ..PLAIN };
    vec![
        (1, 4, PLAIN, "one rank"),
        (1, 2, spread(2, 1, Shard::Nothing), "data 2"),
        (1, 1, spread(4, 1, Shard::Nothing), "data 4"),
        (1, 2, spread(4, 1, Shard::Parameters), "data 4, parameters sharded"),
        (1, 2, whole(4), "tensor 4"),
        (1, 2, spread(1, 2, Shard::Nothing), "tensor 2, sequence split"),
        (2, 4, PLAIN, "pipeline 2"),
        (4, 8, PLAIN, "pipeline 4"),
        (1, 2, spread(2, 2, Shard::Gradients), "data 2, tensor 2, sharded"),
        (2, 4, spread(2, 1, Shard::Optimizer), "pipeline 2, data 2"),
        (2, 4, spread(1, 2, Shard::Nothing), "pipeline 2, tensor 2"),
    ]
}

/// Stages, sequences of a rank and microbatch, strategy and name: for all of `ranks`, and mixes where there are enough.
fn gpus(ranks: u32) -> Vec<(u32, u64, Strategy, &'static str)> {
    let half = ranks / 2;
    let again = |recompute, strategy: Strategy| Strategy { recompute, ..strategy };
    let whole = |data, tensor| Strategy { sequence: Sequence::Whole, ..spread(data, tensor, Shard::Nothing) };
    let mut all = vec![
        (1, 4, spread(ranks, 1, Shard::Nothing), "data"),
        (1, 2, spread(ranks, 1, Shard::Nothing), "data, small"),
        (1, 4, spread(ranks, 1, Shard::Optimizer), "data, ZeRO-1"),
        (1, 4, spread(ranks, 1, Shard::Gradients), "data, ZeRO-2"),
        (1, 4, spread(ranks, 1, Shard::Parameters), "data, ZeRO-3"),
        (1, 2, spread(ranks, 1, Shard::Parameters), "data, ZeRO-3, small"),
        (1, 4, again(Recompute::Full, spread(ranks, 1, Shard::Optimizer)), "data, ZeRO-1, recompute all"),
        (1, 4, again(Recompute::Selective, spread(ranks, 1, Shard::Parameters)), "data, ZeRO-3, recompute cheap"),
        (1, 4, whole(1, ranks), "tensor, whole sequence"),
        (1, 4, spread(1, ranks, Shard::Nothing), "tensor, split sequence"),
        (1, 8, spread(1, ranks, Shard::Nothing), "tensor, split sequence, large"),
        (ranks, 2, PLAIN, "pipeline"),
        (ranks, 1, PLAIN, "pipeline, small"),
        (ranks, 2, again(Recompute::Full, PLAIN), "pipeline, recompute all"),
    ];
    let mixes = [
        (1, 4, spread(half, 2, Shard::Optimizer), "data and tensor 2, ZeRO-1"),
        (1, 4, whole(half, 2), "data and tensor 2, whole sequence"),
        (2, 2, spread(half, 1, Shard::Optimizer), "pipeline 2 and data, ZeRO-1"),
        (2, 2, spread(half, 1, Shard::Parameters), "pipeline 2 and data, ZeRO-3"),
        (2, 2, spread(1, half, Shard::Nothing), "pipeline 2 and tensor"),
    ];
    all.extend(mixes.into_iter().filter(|_| half > 1));
    all
}
