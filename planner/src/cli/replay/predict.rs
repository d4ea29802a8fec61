//! What a run should take: compiled and simulated as its software runs it.

use compiler::{Violation, in_flight};
use cost_model::{CostModel, Detail, simulate};
use ir::graph::Graph;
use ir::plan::{Plan, Recompute, Sequence};
use ir::profile::Route;
use ir::software::{Scores, Software};
use ir::units::{Bytes, Seconds};

use super::rows::Row;
use super::run::{Run, run};

/// What was predicted for a row.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    /// Of a step.
    pub(super) step: Seconds,
    /// What the fullest device holds: the arena, and what the software holds beside it.
    pub(super) allocated: Bytes,
    /// The same with what the driver counts besides.
    pub(super) shown: Bytes,
    /// The micro batch that was predicted.
    pub(super) micro_batch: u64,
    /// Parts of the step in which the slowest rank computes, exchanges or moves something, or waits.
    pub(super) parts: [f64; 3],
    /// Whether something was replaced by what is nearest.
    pub(super) approximated: bool,
}

/// The prediction of a row; else what is wrong with it.
pub(super) fn predict(row: &Row, software: Option<&str>) -> Result<Outcome, String> {
    let run = run(row, software)?;
    let graph = run.model.graph();
    let capacity = run.cluster.device.memory;
    let outcomes = run.plans.iter().map(|plan| outcome(row, &run, &graph, plan));
    let mut best: Option<Outcome> = None;
    let mut wrong = None;
    for outcome in outcomes {
        match outcome {
            Err(what) => wrong = Some(what),
            Ok(outcome) => {
                let fits = |outcome: &Outcome| outcome.allocated <= capacity;
                let better = best.as_ref().is_none_or(|best| {
                    (!fits(best), best.step.0) > (!fits(&outcome), outcome.step.0)
                });
                if better {
                    best = Some(outcome);
                }
            }
        }
    }
    best.ok_or_else(|| wrong.unwrap_or_else(|| "there is no plan".to_owned()))
}

fn outcome(row: &Row, run: &Run, graph: &Graph, plan: &Plan) -> Result<Outcome, String> {
    let costs = CostModel::new(&run.cluster, None).run_by(&run.software);
    let played = played(graph, plan, &costs, &run.software).map_err(|violations| words(&violations))?;
    let parts = row.interleave.unwrap_or(1);
    let step = if parts > 1 && row.stages > 1 { interleaved(run, plan, &costs, &played, parts) } else { played.step };
    let of_stage = |(stage, live): (usize, &Bytes)| live.0 + held(run, graph, plan, (stage, parts)).0;
    let fullest = played.live.iter().enumerate().map(of_stage).max().expect("there are stages");
    let allocated = Bytes((fullest as f64 * (1.0 + run.software.memory.unused)) as u64);
    Ok(Outcome {
        step,
        allocated,
        shown: allocated + run.cluster.device.reserved,
        micro_batch: plan.microbatch_sequences() / u64::from(row.data),
        parts: played.parts,
        approximated: row.micro_batch.is_none() || parts > 1,
    })
}

fn words(violations: &[Violation]) -> String {
    violations.first().map_or_else(String::new, Violation::to_string)
}

struct Played {
    step: Seconds,
    /// What one microbatch more takes.
    growth: Seconds,
    /// The most that lives at once on a rank of each stage.
    live: Vec<Bytes>,
    parts: [f64; 3],
}

/// Steps with more microbatches than this and four for each stage are not simulated whole.
const WHOLE_MAX: u32 = 8;

/// Simulates a step. Of very many microbatches two shorter steps are simulated: between its warm-up and its end a
/// pipeline repeats itself, so time grows evenly.
fn played(graph: &Graph, plan: &Plan, costs: &CostModel, software: &Software) -> Result<Played, Vec<Violation>> {
    let short = |microbatches: u32| {
        let batch = plan.microbatch_sequences() * u64::from(microbatches);
        let programs = compiler::compile_as(graph, &Plan { microbatches, batch, ..plan.clone() }, software)?;
        let trace = simulate(&programs, costs, Detail::Totals).expect("verified programs do not deadlock");
        let live: Vec<Bytes> = programs.roles().iter().map(|role| role.live_bound).collect();
        Ok::<_, Vec<Violation>>((trace, live))
    };
    let stages = plan.stages.len() as u32;
    let long = WHOLE_MAX.max(2 * stages + 2).min(plan.microbatches);
    let (more, live) = short(long)?;
    let needs_growth = plan.microbatches > long || (stages > 1 && long > 1);
    let step = long - (long / 4).max(1);
    let growth = if needs_growth && step > 0 {
        let (less, _) = short(step)?;
        Seconds((more.step.0 - less.step.0) / f64::from(long - step))
    } else {
        Seconds(more.step.0 / f64::from(long))
    };
    let busiest = more.totals.iter().max_by(|a, b| a.compute.0.total_cmp(&b.compute.0)).expect("there are ranks");
    let share = |time: f64| (time / more.step.0).clamp(0.0, 1.0);
    let parts = [
        share(busiest.compute.0),
        share(more.step.0 - busiest.compute.0 - busiest.idle.0),
        share(busiest.idle.0),
    ];
    let step = Seconds(more.step.0 + growth.0 * f64::from(plan.microbatches - long));
    Ok(Played { step, growth, live, parts })
}

/// A step in which each rank has several parts of the model (Narayanan et al. 2021, §2.2): the pipeline fills and
/// drains in as many parts of the time, and every microbatch crosses that many cuts more.
fn interleaved(run: &Run, plan: &Plan, costs: &CostModel, played: &Played, parts: u32) -> Seconds {
    let stages = plan.stages.len() as f64;
    let saved = (1.0 - 1.0 / f64::from(parts)) * (stages - 1.0) * played.growth.0;
    let strategy = &plan.strategies[1];
    let share = if strategy.sequence == Sequence::Split { strategy.tensor } else { 1 };
    let numbers = plan.microbatch_sequences() * run.model.sequence * run.model.hidden;
    let bytes = Bytes(2 * numbers / u64::from(strategy.data * share));
    let on_node = strategy.ranks() * plan.stages.len() as u32 <= run.cluster.devices_per_node;
    let (time, _) = costs.price_transfer(bytes, if on_node { Route::Inside } else { Route::Between });
    let crossed = time.0 * 2.0 * f64::from(parts - 1) * f64::from(plan.microbatches);
    Seconds(played.step.0 - saved + crossed)
}

/// What the software holds beside the programs, on a rank of a stage.
fn held(run: &Run, graph: &Graph, plan: &Plan, (stage, parts): (usize, u32)) -> Bytes {
    let held = run.software.memory;
    let strategy = &plan.strategies[1];
    let stages = plan.stages.len() as u32;
    let layers = &plan.stages[stage];
    let blocks = layers.end.min(run.model.layers + 1) - layers.start.max(1);
    let flight = in_flight(plan.schedule, stages, stage as u32, plan.microbatches);
    // Interleaved, the first rank holds more of them (Korthikanti et al. 2022, §4.2.3).
    let more = if parts > 1 { 1.0 + f64::from(stages - 1) / (f64::from(stages) * f64::from(parts)) } else { 1.0 };
    let kept = match strategy.recompute {
        Recompute::Full => 1.0,
        Recompute::Nothing | Recompute::Selective => f64::from(blocks * flight) * more,
    };
    let sequences = (plan.microbatch_sequences() / u64::from(strategy.data)) as f64;
    let tokens = sequences * run.model.sequence as f64;
    let tensor = f64::from(strategy.tensor);
    let scores = tokens * run.model.sequence as f64 * run.model.heads as f64 / tensor;
    let scores = if run.software.attention == Scores::Stored { scores * kept * held.score } else { 0.0 };
    let split = if strategy.sequence == Sequence::Split { tensor } else { 1.0 };
    let residual = tokens * run.model.hidden as f64 / split * kept * held.residual;
    let parameters = graph.kinds[1].parameter_count() as f64 * f64::from(blocks) / tensor * held.parameter;
    Bytes((scores + residual + parameters).max(0.0) as u64)
}
