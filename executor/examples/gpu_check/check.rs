//! Cases, one after the other: losses and norms beside those of CPU ranks.

use std::collections::BTreeMap;
use std::time::Instant;

use hetu_executor::{Backend, Batch, Session, Settings, StepResult};
use ir::graph::Graph;
use ir::model::{Model, Precision};
use ir::plan::{Plan, Shard};
use ir::program::{Action, Programs};
use ir::seed::{Draws, Seed};
use ir::trace::Trace;
use ir::units::Seconds;
use ir::ways::Ways;

use crate::cases::{Case, Kind, data, even, model};
use crate::speed::speed;
use crate::{FAILED, MARK, Options, Target};

const STEPS: usize = 20;
/// The largest relative difference of a loss.
const BOUND_F32: f64 = 1e-4;
const BOUND_BF16: f64 = 1e-2;
/// A step without progress for so long has failed.
const PATIENCE: Seconds = Seconds(60.0);

pub(crate) fn run(options: &Options, cases: &[Case], from: usize) {
    let mut expected = BTreeMap::new();
    for (index, case) in cases.iter().enumerate().skip(from) {
        println!("{MARK}{index}");
        let line = match case.kind {
            Kind::Check => check(options, case, &mut expected),
            Kind::Speed => speed(case),
        };
        println!("{:<78} {}", case.name(), line.unwrap_or_else(|wrong| format!("{FAILED}: {wrong}")));
    }
}

pub(crate) fn compiled(graph: &Graph, plan: &Plan) -> Result<Programs, String> {
    compiler::compile_unlimited(graph, plan).map_err(|all| {
        let first: Vec<String> = all.iter().take(2).map(ToString::to_string).collect();
        format!("the plan is not legal: {}", first.join("; "))
    })
}

pub(crate) fn load(model: &Model, programs: &Programs, backend: Backend) -> Result<Session, String> {
    let (training, ways) = (model.training.clone(), Ways::default());
    let settings = Settings { training, steps: 100, backend, ways, patience: PATIENCE };
    Session::load(programs, &settings, Seed(7)).map_err(|error| error.to_string())
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Plain,
    Traced,
}

/// The same two batches by turns: what a training learns of them shows whether its updates are right.
pub(crate) fn step(model: &Model, batch: u64, session: &mut Session, step: Step) -> Result<StepResult, String> {
    let mut draws = Draws::new(Seed(session.steps_done() % 2));
    let count = batch * model.sequence + 1;
    let tokens: Vec<i32> = (0..count).map(|_| draws.below(model.vocabulary) as i32).collect();
    let batch = Batch { inputs: &tokens[..tokens.len() - 1], patches: &[], source: &[], targets: &tokens[1..] };
    let result = match step {
        Step::Plain => session.step(batch),
        Step::Traced => session.step_traced(batch),
    };
    result.map_err(|fault| fault.to_string())
}

/// Losses and norms of all steps; the last one traced.
pub(crate) fn train(
    model: &Model,
    programs: &Programs,
    backend: Backend,
) -> Result<(Vec<[f64; 2]>, Option<Trace>), String> {
    let mut session = load(model, programs, backend)?;
    let mut numbers = Vec::new();
    let mut trace = None;
    for number in 1..=STEPS {
        let kind = if number == STEPS { Step::Traced } else { Step::Plain };
        let result = step(model, model.training.batch, &mut session, kind)?;
        numbers.push([result.loss, result.gradient_norm]);
        trace = result.trace;
    }
    Ok((numbers, trace))
}

pub(crate) type Expected = BTreeMap<(String, bool, String), Vec<[f64; 2]>>;

pub(crate) fn check(options: &Options, case: &Case, expected: &mut Expected) -> Result<String, String> {
    let model = model(case.model);
    let graph = model.graph();
    let programs = compiled(&graph, &case.plan)?;
    let is_large = model.hidden > 64;
    // A large model takes long on one thread a rank: all its plans are held to one of many ranks.
    let (what, reference) = if is_large {
        let strategies = vec![data(8, Shard::Optimizer); case.plan.strategies.len()];
        let layers = case.plan.strategies.len() as u32;
        let plan = Plan { microbatches: 1, stages: even(layers, 1), strategies, ..case.plan.clone() };
        ("data 8".to_owned(), compiled(&graph, &plan)?)
    } else {
        (case.what.clone(), programs.clone())
    };
    let key = (case.model.to_owned(), case.precision == Precision::Mixed, what);
    if !expected.contains_key(&key) {
        let (numbers, _) = train(&model, &reference, Backend::Threads)?;
        expected.insert(key.clone(), numbers);
    }
    let expected = &expected[&key];
    let backend = match options.target {
        Target::Gpus => Backend::Cuda { issue: case.issue },
        Target::Cpu => Backend::Shuffle { seed: 1 },
    };
    let begin = Instant::now();
    let (found, trace) = train(&model, &programs, backend)?;
    let took = begin.elapsed().as_secs_f64();
    let off = |step: usize, index: usize| {
        let off = ((found[step][index] - expected[step][index]) / expected[step][index]).abs();
        if off.is_nan() { f64::INFINITY } else { off }
    };
    let most = |index: usize| (0..STEPS).map(|step| off(step, index)).fold(0.0, f64::max);
    let bound = match case.precision {
        Precision::Full => BOUND_F32,
        Precision::Mixed => BOUND_BF16,
    };
    let (losses, norms, first_norm) = (most(0), most(1), off(0, 1));
    let trace = trace.ok_or("the traced step has no trace")?;
    let mut line = format!("loss {losses:.1e}, norm {first_norm:.1e} at first, to {norms:.1e} ({took:.1} s)");
    if let Some(wrong) = wrong(&programs, &trace) {
        line += &format!(" {FAILED}: {wrong}");
    } else if losses > bound || first_norm > bound {
        let [first, last] = [found.first(), found.last()].map(|it| it.map_or(f64::NAN, |it| it[0]));
        let [should_first, should_last] = [expected.first(), expected.last()].map(|it| it.map_or(f64::NAN, |it| it[0]));
        line += &format!(
            " {FAILED}: over {bound:.0e}; losses {first:.5} .. {last:.5}, \
             expected {should_first:.5} .. {should_last:.5}"
        );
    }
    Ok(line)
}

/// What is wrong with the trace of a step.
pub(crate) fn wrong(programs: &Programs, trace: &Trace) -> Option<String> {
    let takes_time = |action: &Action| match action {
        Action::Compute(_) | Action::Exchange(_) | Action::Send(_) | Action::Receive(_) => true,
        Action::Free | Action::Signal(_) | Action::Wait(_) => false,
    };
    let ranks = 0..programs.mesh().rank_count();
    let count: usize =
        ranks.map(|rank| programs.role_of(rank).code.iter().filter(|instr| takes_time(&instr.action)).count()).sum();
    if trace.events.len() != count {
        return Some(format!("the trace has {} events, not {count}", trace.events.len()));
    }
    let is_inside = |start: f64, end: f64| 0.0 <= start && start <= end && end <= 1.1 * trace.step.0 + 1e-4;
    let outside = trace.events.iter().find(|event| !is_inside(event.start.0, event.end.0))?;
    Some(format!("an event of rank {} runs from {} to {} of {}", outside.rank, outside.start, outside.end, trace.step))
}
