//! What a run should take: compiled and simulated as its software runs it.

use compiler::{LayerBatch, LayerBytes, Violation, in_flight, layer_bytes};
use cost_model::{CostModel, Detail, Interval, simulate};
use ir::graph::{Graph, KindId};
use ir::plan::{Plan, Recompute, Sequence};
use ir::profile::Route;
use ir::program::Programs;
use ir::software::{Gradients, Host, Rates, Scores, Software};
use ir::units::{Bytes, Seconds};

use super::rows::Row;
use super::run::{Run, run};

/// What was predicted for a row.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    /// Of a step.
    pub(super) step: Seconds,
    /// Between which a measured step is expected in nine of ten cases.
    pub(super) interval: Interval,
    /// What the fullest device holds: the arena, and what the software holds beside it.
    pub(super) allocated: Bytes,
    /// The same with what the driver counts besides.
    pub(super) shown: Bytes,
    /// What the first stage holds by formulas that count blocks alone: without the state of embeddings.
    pub(super) blocks: Bytes,
    /// The device's name.
    device: String,
    /// The micro batch that was predicted.
    pub(super) micro_batch: u64,
    /// Parts of the step in which the slowest rank computes, exchanges or moves something, or waits.
    pub(super) parts: [f64; 3],
    /// Whether something was replaced by what is nearest.
    pub(super) approximated: bool,
}

impl Outcome {
    /// The device without its memory: `A100` of `A100-80GB`.
    pub(super) fn device_kind(&self) -> &str {
        self.device.split('-').next().unwrap_or_default()
    }
}

/// A row whose programs are compiled. They are the same whatever rates and times its software has.
pub(super) struct Prepared {
    run: Run,
    graph: Graph,
    /// Of each plan that is tried: its steps, or why it has none.
    steps: Vec<Result<Steps, String>>,
}

/// The row with its programs; else what is wrong with it.
pub(super) fn prepare(row: &Row, software: Option<&Software>) -> Result<Prepared, String> {
    let run = run(row, software)?;
    let graph = run.model.graph();
    let steps = |plan: &Plan| steps(&graph, plan, &run.software).map_err(|violations| words(&violations));
    let steps = run.plans.iter().map(steps).collect();
    Ok(Prepared { run, graph, steps })
}

impl Prepared {
    /// The software that the row is run by.
    pub(super) fn software(&self) -> &Software {
        &self.run.software
    }

    /// The prediction with these rates and times of the host.
    pub(super) fn outcome_with(&self, row: &Row, (rates, host): (Rates, Host)) -> Result<Outcome, String> {
        let software = Software { rates, host, ..self.run.software.clone() };
        let costs = CostModel::new(&self.run.cluster, None).run_by(&software);
        let capacity = self.run.cluster.device.memory;
        let mut best: Option<Outcome> = None;
        let mut wrong = None;
        for (plan, steps) in self.run.plans.iter().zip(&self.steps) {
            let outcome =
                steps.as_ref().map_err(String::clone).and_then(|steps| self.outcome(row, plan, steps, &costs));
            match outcome {
                Err(what) => wrong = Some(what),
                Ok(outcome) => {
                    let fits = |outcome: &Outcome| outcome.allocated <= capacity;
                    let better =
                        best.as_ref().is_none_or(|best| (!fits(best), best.step.0) > (!fits(&outcome), outcome.step.0));
                    if better {
                        best = Some(outcome);
                    }
                }
            }
        }
        best.ok_or_else(|| wrong.unwrap_or_else(|| "there is no plan".to_owned()))
    }

    fn outcome(&self, row: &Row, plan: &Plan, steps: &Steps, costs: &CostModel) -> Result<Outcome, String> {
        let Prepared { run, graph, .. } = self;
        let played = played(plan, steps, costs);
        let parts = row.interleave.unwrap_or(1);
        let step =
            if parts > 1 && row.stages > 1 { interleaved(run, plan, costs, &played, parts) } else { played.step };
        let fullest = (0..plan.stages.len()).map(|stage| of_stage(run, graph, plan, (stage, steps.live[stage], parts)));
        let stages = fullest.collect::<Result<Vec<f64>, String>>()?;
        let fullest = stages.iter().copied().fold(0.0, f64::max);
        let allocated = Bytes((fullest * (1.0 + run.software.memory.unused)) as u64);
        let blocks = stages[0] - bytes_of(graph, plan, 0)?.state.as_f64();
        Ok(Outcome {
            step,
            interval: costs.interval_around(step),
            allocated,
            shown: allocated + run.cluster.device.reserved,
            blocks: Bytes(blocks.max(0.0) as u64),
            device: run.cluster.device.name.clone(),
            micro_batch: plan.microbatch_sequences() / u64::from(row.data),
            parts: played.parts,
            approximated: row.micro_batch.is_none() || parts > 1,
        })
    }
}

/// The prediction of a row; else what is wrong with it.
pub(super) fn predict(row: &Row, software: Option<&Software>) -> Result<Outcome, String> {
    let prepared = prepare(row, software)?;
    let Software { rates, host, .. } = *prepared.software();
    prepared.outcome_with(row, (rates, host))
}

fn words(violations: &[Violation]) -> String {
    violations.first().map_or_else(String::new, Violation::to_string)
}

struct Played {
    step: Seconds,
    /// What one microbatch more takes.
    growth: Seconds,
    parts: [f64; 3],
}

/// A step that is simulated, and a shorter one that says how it grows.
struct Steps {
    long: Programs,
    /// Microbatches of the long one.
    microbatches: u32,
    /// The short one, and how many microbatches fewer it has.
    short: Option<(Programs, u32)>,
    /// The most that lives at once on a rank of each stage.
    live: Vec<Bytes>,
}

/// Steps with more microbatches than this and four for each stage are not simulated whole.
const WHOLE_MAX: u32 = 8;

/// Of very many microbatches two shorter steps are simulated: between its warm-up and its end a pipeline repeats
/// itself, so time grows evenly.
fn steps(graph: &Graph, plan: &Plan, software: &Software) -> Result<Steps, Vec<Violation>> {
    let compiled = |microbatches: u32| {
        let batch = plan.microbatch_sequences() * u64::from(microbatches);
        compiler::compile_as(graph, &Plan { microbatches, batch, ..plan.clone() }, software)
    };
    let stages = plan.stages.len() as u32;
    let microbatches = WHOLE_MAX.max(2 * stages + 2).min(plan.microbatches);
    let long = compiled(microbatches)?;
    let needs_growth = plan.microbatches > microbatches || (stages > 1 && microbatches > 1);
    let fewer = (microbatches / 4).max(1);
    let short =
        if needs_growth && microbatches > fewer { Some((compiled(microbatches - fewer)?, fewer)) } else { None };
    let live = long.roles().iter().map(|role| role.live_bound).collect();
    Ok(Steps { long, microbatches, short, live })
}

/// Simulates a step.
fn played(plan: &Plan, steps: &Steps, costs: &CostModel) -> Played {
    let trace =
        |programs: &Programs| simulate(programs, costs, Detail::Totals).expect("verified programs do not deadlock");
    let more = trace(&steps.long);
    let growth = match &steps.short {
        Some((short, fewer)) => Seconds((more.step.0 - trace(short).step.0) / f64::from(*fewer)),
        None => Seconds(more.step.0 / f64::from(steps.microbatches)),
    };
    let busiest = more.totals.iter().max_by(|a, b| a.compute.0.total_cmp(&b.compute.0)).expect("there are ranks");
    let share = |time: f64| (time / more.step.0).clamp(0.0, 1.0);
    let parts =
        [share(busiest.compute.0), share(more.step.0 - busiest.compute.0 - busiest.idle.0), share(busiest.idle.0)];
    let step = Seconds(more.step.0 + growth.0 * f64::from(plan.microbatches - steps.microbatches));
    Played { step, growth, parts }
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

/// What a rank of a stage holds: what lives in its programs, and what the software holds beside that.
fn of_stage(run: &Run, graph: &Graph, plan: &Plan, (stage, live, parts): (usize, Bytes, u32)) -> Result<f64, String> {
    let stages = plan.stages.len() as u32;
    let layers = plan.stages[stage].clone();
    let blocks = layers.end.min(run.model.layers + 1) - layers.start.max(1);
    let strategy = &plan.strategies[1];
    let block = bytes_of(graph, plan, 1)?;
    let flight = f64::from(in_flight(plan.schedule, stages, stage as u32, plan.microbatches));
    let passes = f64::from(blocks) * flight;
    // Interleaved, a rank is further ahead (Narayanan et al. 2021, §2.2): it holds so many passes over a part of it.
    let ahead = f64::from((stages - 1 - stage as u32) * 2 + (parts - 1) * stages + 1) / f64::from(parts);
    let ahead = ahead.min(f64::from(plan.microbatches));
    let more = if parts > 1 { (ahead / flight - 1.0).max(0.0) } else { 0.0 };
    let beside = beside(run, plan);
    let kept = if strategy.recompute == Recompute::Full { 1.0 } else { passes * (1.0 + more) };
    let in_order = live.as_f64() + passes * more * block.saved.as_f64();
    let resident = match run.software.memory.gradients {
        Gradients::Made => 0.0,
        Gradients::Resident => {
            let ends = if stage == 0 { bytes_of(graph, plan, 0)?.state.as_f64() } else { 0.0 };
            ends + f64::from(blocks) * block.state.as_f64() + passes * (1.0 + more) * block.saved.as_f64()
        }
    };
    Ok(in_order.max(resident) + kept * beside)
}

/// What a layer of a kind holds on a rank: 0 is the first layer, 1 a block.
fn bytes_of(graph: &Graph, plan: &Plan, kind: u32) -> Result<LayerBytes, String> {
    let batch = LayerBatch { sequences: plan.microbatch_sequences(), precision: plan.precision };
    let strategy = &plan.strategies[kind as usize];
    layer_bytes(graph, KindId(kind), strategy, batch).map_err(|violation| violation.to_string())
}

/// What the software holds of a block's pass beside the programs.
fn beside(run: &Run, plan: &Plan) -> f64 {
    let held = run.software.memory;
    let strategy = &plan.strategies[1];
    let sequences = (plan.microbatch_sequences() / u64::from(strategy.data)) as f64;
    let tokens = sequences * run.model.sequence as f64;
    let tensor = f64::from(strategy.tensor);
    let scores = match run.software.attention {
        Scores::Stored => tokens * run.model.sequence as f64 * run.model.heads as f64 / tensor * held.score,
        Scores::Fused | Scores::Repeated => 0.0,
    };
    let split = if strategy.sequence == Sequence::Split { tensor } else { 1.0 };
    scores + tokens * run.model.hidden as f64 / split * held.residual
}
