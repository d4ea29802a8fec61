//! Finds plans: every outer choice is solved, the best are compiled and simulated whole.

use std::sync::Mutex;

use compiler::Violation;
use cost_model::{Detail, simulate};
use ir::plan::{Plan, Schedule};
use ir::program::Programs;
use ir::trace::Trace;
use ir::units::{Bytes, Seconds};
use rayon::prelude::*;

use crate::recipes::{Baseline, baselines};
use crate::solve::{Method, Shortage, Solved, lower_bound, solve};
use crate::space::{Outer, Setting, Space, outer_choices};

/// What is asked for.
#[derive(Clone)]
pub struct Request<'a> {
    /// The model, the devices and what work costs.
    pub setting: Setting<'a>,
    /// Sequences of a step.
    pub batch: u64,
    /// How problems are solved.
    pub method: Method,
    /// How many plans are simulated whole.
    pub keep: usize,
}

/// A plan with what it costs.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The plan.
    pub plan: Plan,
    /// Step time as the sum of its parts.
    pub estimated: Option<Seconds>,
    /// The simulated step, without events.
    pub trace: Trace,
    /// Its largest arena.
    pub peak: Bytes,
    /// Digest of its programs.
    pub digest: u64,
}

/// What was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effort {
    /// Outer choices: stages × microbatches.
    pub outer: usize,
    /// Of those, how many have a plan that fits by estimate.
    pub fitting: usize,
    /// Costs of a layer under a strategy.
    pub costs: usize,
    /// Plans that were simulated whole.
    pub simulated: usize,
}

/// The answer of a search.
#[derive(Clone, Debug)]
pub struct Found {
    /// Plans that fit, the fastest first; never empty.
    pub candidates: Vec<Candidate>,
    /// What usual recipes would do.
    pub baselines: Vec<Baseline>,
    /// What was looked at.
    pub effort: Effort,
}

/// Why there is no plan.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NoPlan {
    /// No outer choice has a legal strategy for every layer.
    #[error("no strategy is legal: a batch of {batch} sequences cannot be spread over {devices} devices")]
    NothingLegal {
        /// Sequences of a step.
        batch: u64,
        /// Devices of the cluster.
        devices: u32,
    },
    /// Nothing fits.
    #[error("no plan fits {}", Bytes(.shortage.capacity_bytes))]
    NothingFits {
        /// The outer choice that misses least.
        outer: Outer,
        /// What it needs.
        shortage: Shortage,
    },
}

/// How far a search is, for a progress bar.
pub type Progress<'a> = &'a (dyn Fn(usize, usize) + Sync);

/// The best plans for a request. `progress` is told outer choices done and to do.
pub fn search(request: &Request<'_>, progress: Progress<'_>) -> Result<Found, NoPlan> {
    let setting = request.setting;
    let outers = outer_choices(setting.graph, setting.cluster, request.batch);
    let done = Mutex::new(0);
    let spaces: Vec<Option<Space>> = outers
        .par_iter()
        .map(|outer| {
            let space = Space::new(setting, outer);
            let mut done = done.lock().expect("no holder of this lock panics");
            *done += 1;
            progress(*done, outers.len());
            space
        })
        .collect();
    let narrower = |space: Space| {
        let smaller = space.outer.degrees.iter().rev().skip(1).map(|&most| space.narrowed(most)).collect::<Vec<_>>();
        std::iter::once(Some(space)).chain(smaller).flatten()
    };
    let spaces: Vec<Space> = spaces.into_iter().flatten().flat_map(narrower).collect();
    if spaces.is_empty() {
        return Err(NoPlan::NothingLegal { batch: request.batch, devices: setting.cluster.device_count() });
    }
    let (estimates, shortages) = solve_all(request, &spaces);
    if estimates.is_empty() {
        let least = shortages.into_iter().min_by_key(|(_, shortage)| shortage.excess_bytes());
        let (index, shortage) = least.expect("a space without an answer has a shortage");
        return Err(NoPlan::NothingFits { outer: spaces[index].outer.clone(), shortage });
    }
    let fitting = estimates.len();
    let (mut candidates, simulated) = simulate_best(request, estimates);
    if candidates.is_empty() {
        // The estimate said that plans fit, the placed programs do not: what misses least is the honest answer.
        let shortage = shortage_of_tightest(&spaces);
        return Err(shortage);
    }
    let costs = spaces.iter().flat_map(|space| &space.problem.kinds).map(|kind| kind.strategies.len()).sum();
    let effort = Effort { outer: outers.len(), fitting, costs, simulated };
    let baselines = baselines(setting, request.batch);
    // Recipes are plans too: one that was simulated faster than the answers of the search is the answer.
    candidates.extend(baselines.iter().filter_map(|baseline| baseline.outcome.as_ref().ok().cloned()));
    candidates.sort_by(|a, b| a.trace.step.0.total_cmp(&b.trace.step.0));
    candidates.dedup_by(|a, b| a.plan == b.plan);
    candidates.truncate(request.keep);
    Ok(Found { candidates, baselines, effort })
}

/// Plans by estimate, best first, and what is missing where there is none.
type Estimates = (Vec<(Seconds, Plan)>, Vec<(usize, Shortage)>);

/// Solves the problems in the order of their bounds, so that most need not be solved to the end.
fn solve_all(request: &Request<'_>, spaces: &[Space]) -> Estimates {
    let mut order: Vec<(f64, usize)> =
        spaces.par_iter().enumerate().map(|(index, space)| (lower_bound(&space.problem), index)).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let mut found: Vec<(Seconds, usize, Plan)> = Vec::new();
    let mut shortages = Vec::new();
    for (bound, index) in order {
        found.sort_by(|a, b| a.0.0.total_cmp(&b.0.0).then(a.1.cmp(&b.1)));
        let upper = found.get(request.keep - 1).map_or(f64::INFINITY, |worst| worst.0.0);
        if bound >= upper {
            continue;
        }
        let method = match &request.method {
            Method::DynamicProgram { .. } => Method::DynamicProgram { upper },
            other => other.clone(),
        };
        match solve(&spaces[index].problem, &method) {
            Solved::Found(answer) => {
                let plan = spaces[index].plan(&answer.assignment, request.setting.precision);
                found.push((Seconds(answer.objective), index, plan));
            }
            Solved::Infeasible(shortage) => shortages.push((index, shortage)),
            Solved::Stopped { .. } => {}
        }
    }
    found.sort_by(|a, b| a.0.0.total_cmp(&b.0.0).then(a.1.cmp(&b.1)));
    let mut seen: Vec<Plan> = Vec::new();
    found.retain(|(_, _, plan)| {
        let is_new = !seen.contains(plan);
        if is_new {
            seen.push(plan.clone());
        }
        is_new
    });
    (found.into_iter().map(|(time, _, plan)| (time, plan)).collect(), shortages)
}

/// Compiles and simulates plans from the best estimate on, until `keep` of them fit.
fn simulate_best(request: &Request<'_>, estimates: Vec<(Seconds, Plan)>) -> (Vec<Candidate>, usize) {
    let with_twins: Vec<(Option<Seconds>, Plan)> = estimates
        .into_iter()
        .flat_map(|(time, plan)| {
            let twins = twins(request.setting, &plan);
            std::iter::once((Some(time), plan)).chain(twins.into_iter().map(|twin| (None, twin)))
        })
        .collect();
    let mut candidates: Vec<Candidate> = Vec::new();
    let mut simulated = 0;
    for chunk in with_twins.chunks(request.keep) {
        let played: Vec<Option<Candidate>> = chunk
            .par_iter()
            .map(|(estimated, plan)| {
                candidate(request.setting, plan).ok().map(|found| Candidate { estimated: *estimated, ..found })
            })
            .collect();
        simulated += chunk.len();
        candidates.extend(played.into_iter().flatten());
        if candidates.len() >= request.keep {
            break;
        }
    }
    candidates.sort_by(|a, b| a.trace.step.0.total_cmp(&b.trace.step.0));
    candidates.truncate(request.keep);
    (candidates, simulated)
}

/// Plans that the estimate cannot tell from this one, or takes for a little worse: the other schedule, and the
/// commonest strategy for all layers.
fn twins(setting: Setting<'_>, plan: &Plan) -> Vec<Plan> {
    let mut twins = Vec::new();
    if plan.stages.len() > 1 {
        twins.push(Plan { schedule: Schedule::AllForward, ..plan.clone() });
    }
    let counts = plan.counts();
    let commonest = counts.iter().max_by_key(|(_, count)| **count).map(|(strategy, _)| (*strategy).clone());
    let uniform =
        Plan { strategies: vec![commonest.expect("a plan has layers"); plan.strategies.len()], ..plan.clone() };
    if uniform != *plan && compiler::check(setting.graph, setting.cluster, &uniform).is_empty() {
        twins.push(uniform);
    }
    twins
}

/// Compiles and simulates one plan.
pub fn candidate(setting: Setting<'_>, plan: &Plan) -> Result<Candidate, Vec<Violation>> {
    let programs = compiler::compile(setting.graph, setting.cluster, plan)?;
    Ok(played(setting, plan, &programs))
}

/// Simulates programs of a plan.
pub fn played(setting: Setting<'_>, plan: &Plan, programs: &Programs) -> Candidate {
    let trace = simulate(programs, setting.costs, Detail::Totals).expect("verified programs do not deadlock");
    Candidate { plan: plan.clone(), estimated: None, trace, peak: programs.peak(), digest: programs.digest() }
}

fn shortage_of_tightest(spaces: &[Space]) -> NoPlan {
    let tight = |space: &Space| {
        let mut problem = space.problem.clone();
        for stage in &mut problem.stages {
            stage.capacity_bytes = 1;
        }
        match solve(&problem, &Method::DynamicProgram { upper: f64::INFINITY }) {
            Solved::Infeasible(shortage) => Some((space.outer.clone(), shortage)),
            Solved::Found(_) | Solved::Stopped { .. } => None,
        }
    };
    let least = spaces.iter().filter_map(tight).min_by_key(|(_, shortage)| shortage.need.bytes());
    let (outer, mut shortage) = least.expect("nothing fits one byte");
    shortage.capacity_bytes = spaces[0].problem.stages[0].capacity_bytes;
    NoPlan::NothingFits { outer, shortage }
}
