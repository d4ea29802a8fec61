//! Finds plans: every outer choice is solved, the best are compiled and simulated whole.

use ir::plan::{Plan, Schedule};
use ir::units::{Bytes, Seconds};
use rayon::prelude::*;
use solver::{Method, Shortage, Solved, lower_bound};

use crate::play::{Candidate, compared};
use crate::rank::{confirm_first, prefer_plain, refine_first};
use crate::recipes::{Baseline, baselines};
use crate::rules::Rules;
use crate::space::{Outer, Setting, Space, outer_choices_within};

/// What is asked for.
#[derive(Clone)]
pub struct Request<'a> {
    /// The model, the devices and what work costs.
    pub setting: Setting<'a>,
    /// Sequences of a step.
    pub batch: u64,
    /// How problems are solved.
    pub method: Method,
    /// How many plans are listed at most. It never decides whether there is one, nor, up to 16, which.
    pub keep: usize,
    /// What plans may be.
    pub rules: Rules,
}

/// What was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Outer choices: stages × microbatches.
    pub outer: usize,
    /// Of those, how many have a plan that fits by estimate.
    pub fitting: usize,
    /// Costs of a layer under a strategy that were simulated.
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
    pub effort: Coverage,
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
        outer: Box<Outer>,
        /// What it needs.
        shortage: Shortage,
    },
}

/// How far a search is, for a progress bar.
pub type Progress<'a> = &'a (dyn Fn(usize, usize) + Sync);

/// Outer choices that are opened side by side. Fixed, so that the answer does not depend on the number of threads.
const OPENED_AT_ONCE: usize = 4;

/// The best plans for a request. `progress` is told outer choices done and to do.
pub fn search(request: &Request<'_>, progress: Progress<'_>) -> Result<Found, NoPlan> {
    let setting = request.setting;
    let outers = outer_choices_within(setting.graph, setting.cluster, request.batch, &request.rules);
    let order = ordered(setting, &outers);
    if order.is_empty() {
        return Err(NoPlan::NothingLegal { batch: request.batch, devices: setting.cluster.device_count() });
    }
    let mut attempt = Attempt::new(request, &order, Reach::Best(request.keep.max(COMPARED_MIN)), progress);
    if attempt.candidates.is_empty() && attempt.left_out {
        attempt = Attempt::new(request, &order, Reach::All, progress);
    }
    progress(order.len(), order.len());
    let Attempt { mut candidates, baselines, shortages, mut effort, .. } = attempt;
    if candidates.is_empty() {
        return Err(nothing_fits(request, &order, shortages));
    }
    effort.outer = outers.len();
    candidates.truncate(request.keep);
    Ok(Found { candidates, baselines, effort })
}

/// How many plans are compared at least, simulated, however few are listed.
pub(crate) const COMPARED_MIN: usize = 16;

/// How far a search goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// What cannot be among so many best estimates is left out.
    Best(usize),
    /// Everything that may fit is tried, until enough does: for when none of the best estimates fitted.
    All,
}

/// One pass over the outer choices, and what it found.
struct Attempt {
    /// Plans that fit, the best first.
    candidates: Vec<Candidate>,
    baselines: Vec<Baseline>,
    shortages: Vec<Short>,
    effort: Coverage,
    /// Whether something that may fit was not tried.
    left_out: bool,
}

impl Attempt {
    fn new(request: &Request<'_>, order: &[Bounded<'_>], reach: Reach, progress: Progress<'_>) -> Attempt {
        let (setting, rules) = (request.setting, &request.rules);
        let (estimates, shortages, mut effort) = estimated(request, order, reach, progress);
        let mut left_out = matches!(reach, Reach::Best(compared) if estimates.len() >= compared);
        let enough = match reach {
            Reach::Best(enough) => enough,
            Reach::All => COMPARED_MIN,
        };
        let ((mut candidates, simulated), baselines) =
            rayon::join(|| simulate_best(setting, rules, estimates, enough), || baselines(setting, request.batch));
        effort.simulated = simulated;
        // Recipes are plans too: one that was simulated faster than the answers of the search is the answer.
        let usual = baselines.iter().flat_map(|baseline| &baseline.outcome);
        candidates.extend(usual.filter(|it| rules.allow(setting.graph, &it.plan)).cloned());
        candidates.sort_by(|a, b| a.trace.step.0.total_cmp(&b.trace.step.0));
        let fastest = candidates.first().map_or(f64::INFINITY, |first| first.trace.step.0);
        let mut near = near(setting, &shortages);
        if reach != Reach::All {
            left_out |= near.len() > TIGHTEST;
            near.truncate(TIGHTEST);
        }
        let tightest = tightest(setting, near, fastest);
        effort.simulated += tightest.len();
        let fitting = tightest.par_iter().filter_map(|plan| compared(setting, plan).ok());
        candidates.extend(fitting.filter(|tight| tight.trace.step.0 < fastest).collect::<Vec<Candidate>>());
        candidates.sort_by(|a, b| a.trace.step.0.total_cmp(&b.trace.step.0));
        candidates.dedup_by(|a, b| a.plan == b.plan);
        candidates.truncate(enough);
        effort.simulated += refine_first(setting, rules, &mut candidates);
        prefer_plain(&mut candidates);
        confirm_first(setting, &mut candidates);
        Attempt { candidates, baselines, shortages, effort, left_out }
    }
}

/// What solving the problems of all outer choices gives: plans by estimate, the fastest first, and what fits by none.
fn estimated(
    request: &Request<'_>,
    order: &[Bounded<'_>],
    reach: Reach,
    progress: Progress<'_>,
) -> (Vec<Estimated>, Vec<Short>, Coverage) {
    let (mut estimates, mut shortages): (Vec<Estimated>, Vec<Short>) = Default::default();
    let mut effort = Coverage::default();
    for (index, chunk) in order.chunks(OPENED_AT_ONCE).enumerate() {
        progress(index * OPENED_AT_ONCE, order.len());
        let worst = match reach {
            Reach::Best(compared) => estimates.get(compared - 1),
            Reach::All => None,
        };
        let upper = worst.map_or(f64::INFINITY, |worst| worst.step.0);
        let open = chunk.par_iter().filter(|it| it.bound < upper);
        let opened: Vec<Opened> = open.filter_map(|it| Opened::new(request, it.outer, upper)).collect();
        for outcome in opened {
            effort.costs += outcome.costs;
            effort.fitting += usize::from(!outcome.estimates.is_empty());
            estimates.extend(outcome.estimates);
            shortages.extend(outcome.shortage);
        }
        estimates.sort_by(|a, b| a.step.0.total_cmp(&b.step.0));
        estimates.dedup_by(|a, b| a.plan == b.plan);
    }
    (estimates, shortages, effort)
}

/// An outer choice that has a space.
struct Bounded<'a> {
    outer: &'a Outer,
    /// Seconds that none of its plans can beat.
    bound: f64,
}

/// Those that have a space, the least bound first.
fn ordered<'a>(setting: Setting<'_>, outers: &'a [Outer]) -> Vec<Bounded<'a>> {
    let bounded = |outer| Some(Bounded { outer, bound: lower_bound(&Space::fastest(setting, outer)?.problem) });
    let mut order: Vec<Bounded<'_>> = outers.par_iter().filter_map(bounded).collect();
    order.sort_by(|a, b| a.bound.total_cmp(&b.bound));
    order
}

/// A plan and its step as the sum of its parts.
struct Estimated {
    step: Seconds,
    plan: Plan,
}

/// An outer choice that does not fit by estimate.
struct Short {
    outer: Outer,
    shortage: Shortage,
}

/// What a plan may need by estimate, relative to what there is, to be tried nevertheless.
const ROOMIEST: f64 = 1.3;

/// How many such plans are tried.
const TIGHTEST: usize = 8;

/// Outer choices that fit by no estimate but miss little, those that miss least first: their programs may fit, as not
/// all layers need most at once.
fn near<'a>(setting: Setting<'_>, shortages: &'a [Short]) -> Vec<&'a Short> {
    let roomiest = ROOMIEST * setting.cluster.capacity().as_f64();
    let mut near: Vec<&Short> = shortages.iter().collect();
    near.retain(|it| it.shortage.need.bytes() as f64 <= roomiest);
    near.sort_by_key(|it| it.shortage.need.bytes());
    near
}

/// Of each of these the plan that needs least, if it may be faster than `fastest`.
fn tightest(setting: Setting<'_>, near: Vec<&Short>, fastest: f64) -> Vec<Plan> {
    let roomiest = ROOMIEST * setting.cluster.capacity().as_f64();
    let plan = |short: &Short| {
        let space = Space::new(setting, &short.outer)?.offering(Bytes(roomiest as u64));
        if lower_bound(&space.problem) < fastest { space.tightest(setting) } else { None }
    };
    near.into_par_iter().filter_map(plan).collect()
}

/// What came of one outer choice.
struct Opened {
    estimates: Vec<Estimated>,
    shortage: Option<Short>,
    costs: usize,
}

impl Opened {
    /// Solves the problem of an outer choice, and narrower ones. None if some layer has no legal strategy.
    fn new(request: &Request<'_>, outer: &Outer, upper: f64) -> Option<Opened> {
        let mut next = Some(Space::new(request.setting, outer)?);
        let mut opened = Opened { estimates: Vec::new(), shortage: None, costs: 0 };
        let mut degrees = outer.degrees.iter().rev().skip(1);
        while let Some(mut space) = next {
            let before = space.simulated_count();
            if lower_bound(&space.problem) < upper {
                match space.solve(request.setting, &request.method.below(upper)) {
                    Solved::Found(answer) => {
                        let plan = space.plan(&answer.assignment, request.setting.precision);
                        opened.estimates.push(Estimated { step: Seconds(answer.objective), plan });
                    }
                    Solved::Infeasible(shortage) => opened.shortage = Some(Short { outer: outer.clone(), shortage }),
                    Solved::Stopped { .. } => {}
                }
            }
            opened.costs += space.simulated_count() - before;
            next = degrees.next().and_then(|&most| space.narrowed(most));
        }
        Some(opened)
    }
}

/// What misses least. Where estimates fitted and the placed programs did not, that is the tightest plan of all.
fn nothing_fits(request: &Request<'_>, order: &[Bounded<'_>], shortages: Vec<Short>) -> NoPlan {
    let setting = request.setting;
    let tight = |space: Space| {
        let mut space = space.offering(Bytes(1));
        match space.solve(setting, &Method::DYNAMIC) {
            Solved::Infeasible(shortage) => Some(Short { outer: space.outer, shortage }),
            Solved::Found(_) | Solved::Stopped { .. } => None,
        }
    };
    let least = |shortages: Vec<Short>| shortages.into_iter().min_by_key(|it| it.shortage.need.bytes());
    let found = least(shortages).or_else(|| {
        let outlines = order.iter().filter_map(|it| tight(Space::new(setting, it.outer)?));
        least(outlines.collect())
    });
    let outer = found.expect("nothing fits one byte").outer;
    let mut space = Space::new(setting, &outer).expect("the outer choice has a space");
    space.complete(setting);
    let Short { outer, mut shortage } = tight(space).expect("nothing fits one byte");
    shortage.capacity_bytes = setting.cluster.capacity().0;
    NoPlan::NothingFits { outer: Box::new(outer), shortage }
}

/// Compiles and simulates plans from the best estimate on, until so many of them fit.
fn simulate_best(
    setting: Setting<'_>,
    rules: &Rules,
    estimates: Vec<Estimated>,
    enough: usize,
) -> (Vec<Candidate>, usize) {
    let with_twins: Vec<(Option<Seconds>, Plan)> = estimates
        .into_iter()
        .flat_map(|Estimated { step, plan }| {
            let twins = twins(setting, &plan).into_iter().filter(|twin| rules.allow(setting.graph, twin));
            std::iter::once((Some(step), plan)).chain(twins.map(|twin| (None, twin)).collect::<Vec<_>>())
        })
        .collect();
    let mut candidates: Vec<Candidate> = Vec::new();
    let mut simulated = 0;
    for chunk in with_twins.chunks(enough) {
        let played: Vec<Option<Candidate>> = chunk
            .par_iter()
            .map(|(estimated, plan)| {
                compared(setting, plan).ok().map(|found| Candidate { estimated: *estimated, ..found })
            })
            .collect();
        simulated += chunk.len();
        candidates.extend(played.into_iter().flatten());
        if candidates.len() >= enough {
            break;
        }
    }
    candidates.sort_by(|a, b| a.trace.step.0.total_cmp(&b.trace.step.0));
    candidates.truncate(enough);
    (candidates, simulated)
}

/// Microbatches up to which the all-forward twin of a plan is looked at: it holds them all.
const ALL_FORWARD_MAX: u32 = 64;

/// Plans that the estimate cannot tell from this one, or takes for a little worse: the other schedule, and the
/// commonest strategy for all layers.
fn twins(setting: Setting<'_>, plan: &Plan) -> Vec<Plan> {
    let mut twins = Vec::new();
    if plan.stages.len() > 1 && plan.microbatches <= ALL_FORWARD_MAX {
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

#[cfg(test)]
mod tests {
    use cost_model::CostModel;
    use ir::cluster::Cluster;
    use ir::file::parse_model;

    use super::*;

    const MODEL: &str = include_str!("../../examples/models/llama3-8b.yaml");

    #[test]
    fn what_the_best_estimates_hide_is_found_when_none_of_them_fits() {
        let model = parse_model(MODEL, "llama3-8b.yaml").expect("an example is valid");
        let (graph, cluster) = (model.graph(), Cluster::preset("4xH100").expect("there is this preset"));
        let costs = CostModel::new(&cluster, None);
        let setting = Setting { graph: &graph, cluster: &cluster, costs: &costs, precision: model.training.precision };
        let request =
            Request { setting, batch: model.training.batch, method: Method::DYNAMIC, keep: 1, rules: Rules::default() };
        let outers = outer_choices_within(&graph, &cluster, request.batch, &request.rules);
        let order = ordered(setting, &outers);
        let one = Attempt::new(&request, &order, Reach::Best(1), &|_, _| {});
        assert!(one.candidates.is_empty() && one.left_out, "the best estimate does not fit");
        let all = Attempt::new(&request, &order, Reach::All, &|_, _| {});
        assert!(!all.candidates.is_empty() && !all.left_out);
    }
}
