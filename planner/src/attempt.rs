//! One pass over outer choices: each is solved, the best answers are compiled and simulated whole.

use ir::plan::{Plan, Schedule};
use ir::units::{Bytes, Seconds};
use rayon::prelude::*;
use solver::{Shortage, Solved, lower_bound_below, quick_bound};

use crate::known::Known;
use crate::outer::Outer;
use crate::play::{Candidate, compared};
use crate::recipes::{Baseline, baselines};
use crate::rules::Rules;
use crate::search::{COMPARED_MIN, Coverage, Progress, Request, Sums};
use crate::space::{Setting, Space};
use crate::tie::Joins;

/// Outer choices that are opened side by side. Fixed, so that the answer does not depend on the number of threads.
const OPENED_AT_ONCE: usize = 4;

/// Outer choices that are opened before there is any answer for others to be measured against.
const OPENED_FIRST: usize = 2;

/// How far a search goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Reach {
    /// What cannot be among so many best estimates is left out.
    Best(usize),
    /// What cannot be below so many seconds is left out.
    Below(f64),
    /// Everything that may fit is tried, until enough does: for when none of the best estimates fitted.
    All,
}

impl Reach {
    /// What a plan may need by estimate, relative to what there is, to be tried nevertheless.
    fn roomiest(self) -> f64 {
        match self {
            Reach::Best(_) | Reach::Below(_) => 1.3,
            // Paddings of tiny models, which estimates cannot see together, come to more than half of what they hold.
            Reach::All => 3.0,
        }
    }
}

/// By how much a plan may be slower by estimate than the best, as a factor, to be compared with it: estimates are seldom
/// off by as much.
pub(crate) const NEAR: f64 = 1.045;

/// One pass over the outer choices, and what it found.
pub(crate) struct Attempt {
    /// Plans that fit, the best first.
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) baselines: Vec<Baseline>,
    pub(crate) shortages: Vec<Short>,
    pub(crate) effort: Coverage,
    pub(crate) sums: Sums,
}

impl Attempt {
    pub(crate) fn new(
        request: &Request<'_>,
        known: &Known,
        order: &[Bounded],
        reach: Reach,
        progress: Progress<'_>,
    ) -> Attempt {
        let (setting, rules) = (request.setting, &request.rules);
        let Estimates { estimates, shortages, mut effort, sums } =
            Estimates::new(request, known, order, reach, progress);
        let enough = match reach {
            Reach::Best(enough) => enough,
            Reach::All | Reach::Below(_) => COMPARED_MIN,
        };
        let ((mut candidates, simulated), baselines) =
            rayon::join(|| simulate_best(setting, rules, estimates, enough), || baselines(setting, request.batch));
        effort.simulated = simulated;
        // Recipes are plans too: one that was simulated faster than the answers of the search is the answer.
        let usual = baselines.iter().flat_map(|baseline| &baseline.outcome);
        candidates.extend(usual.filter(|it| rules.allow(setting.graph, &it.plan)).cloned());
        candidates.sort_by(|a, b| a.trace.step.0.total_cmp(&b.trace.step.0));
        let fastest = candidates.first().map_or(f64::INFINITY, |first| first.trace.step.0);
        let roomiest = setting.cluster.capacity().as_f64() * reach.roomiest();
        let mut near = near(&shortages, roomiest);
        if reach != Reach::All {
            near.truncate(TIGHTEST);
        }
        let tightest = tightest(setting, known, Tight { near, reach, roomiest, fastest });
        effort.simulated += tightest.len();
        let fitting = tightest.par_iter().filter_map(|plan| compared(setting, plan).ok());
        candidates.extend(fitting.filter(|tight| tight.trace.step.0 < fastest).collect::<Vec<Candidate>>());
        candidates.sort_by(|a, b| a.trace.step.0.total_cmp(&b.trace.step.0));
        candidates.dedup_by(|a, b| a.plan == b.plan);
        candidates.truncate(enough);
        Attempt { candidates, baselines, shortages, effort, sums }
    }
}

/// What solving the problems of outer choices gives.
pub(crate) struct Estimates {
    /// Plans by estimate, the fastest first.
    pub(crate) estimates: Vec<Estimated>,
    /// What fits by no estimate.
    shortages: Vec<Short>,
    pub(crate) effort: Coverage,
    pub(crate) sums: Sums,
}

impl Estimates {
    pub(crate) fn new(
        request: &Request<'_>,
        known: &Known,
        order: &[Bounded],
        reach: Reach,
        progress: Progress<'_>,
    ) -> Estimates {
        let (mut estimates, mut shortages): (Vec<Estimated>, Vec<Short>) = Default::default();
        let (mut effort, mut sums) = (Coverage::default(), Sums::default());
        let (first, others) = order.split_at(order.len().min(OPENED_FIRST));
        let mut done = 0;
        for chunk in std::iter::once(first).chain(others.chunks(OPENED_AT_ONCE)) {
            progress(done, order.len());
            done += chunk.len();
            let step_of = |rank: usize| estimates.get(rank).map_or(f64::INFINITY, |it: &Estimated| it.step.0);
            let upper = match reach {
                Reach::Best(compared) => step_of(compared - 1).min(step_of(0) * NEAR),
                Reach::Below(upper) => upper,
                Reach::All => f64::INFINITY,
            };
            let (open, closed): (Vec<_>, Vec<_>) = chunk.iter().partition(|it| it.bound < upper);
            closed.iter().for_each(|it| sums.proven(it.bound));
            let opened: Vec<Opened> =
                open.par_iter().filter_map(|it| Opened::new(request, known, &it.outer, upper)).collect();
            for outcome in opened {
                effort.fitting += usize::from(!outcome.estimates.is_empty());
                outcome.estimates.iter().for_each(|estimate| sums.reached(estimate.step.0));
                sums.proven(outcome.bound);
                estimates.extend(outcome.estimates);
                shortages.extend(outcome.shortage);
            }
            estimates.sort_by(|a, b| a.step.0.total_cmp(&b.step.0));
            estimates.dedup_by(|a, b| a.plan == b.plan);
        }
        Estimates { estimates, shortages, effort, sums }
    }
}

/// An outer choice that has a space.
pub(crate) struct Bounded {
    pub(crate) outer: Outer,
    /// Seconds that none of its plans can beat.
    pub(crate) bound: f64,
}

impl Bounded {
    /// Those of outer choices that have a space, the best bound first.
    pub(crate) fn sorted(setting: Setting<'_>, known: &Known, outers: Vec<Outer>) -> Vec<Bounded> {
        let bounded = |outer: Outer| {
            let bound = quick_bound(&Space::fastest(setting, known, &outer)?.bounding());
            Some(Bounded { outer, bound })
        };
        let mut order: Vec<Bounded> = outers.into_par_iter().filter_map(bounded).collect();
        order.sort_by(|a, b| a.bound.total_cmp(&b.bound));
        order
    }
}

/// A plan and its step as the sum of its parts.
pub(crate) struct Estimated {
    pub(crate) step: Seconds,
    pub(crate) plan: Plan,
}

/// An outer choice that does not fit by estimate.
pub(crate) struct Short {
    pub(crate) outer: Outer,
    pub(crate) shortage: Shortage,
}

/// How many such plans are tried.
const TIGHTEST: usize = 8;

/// Outer choices that fit by no estimate but miss little, those that miss least first: their programs may fit, as not
/// all layers need most at once.
fn near(shortages: &[Short], roomiest: f64) -> Vec<&Short> {
    let mut near: Vec<&Short> = shortages.iter().collect();
    near.retain(|it| it.shortage.need.bytes() as f64 <= roomiest);
    near.sort_by_key(|it| it.shortage.need.bytes());
    near
}

/// Outer choices whose tightest plans are wanted.
struct Tight<'a> {
    near: Vec<&'a Short>,
    reach: Reach,
    /// Bytes that a plan may need by estimate.
    roomiest: f64,
    /// Seconds that it must be able to stay below.
    fastest: f64,
}

/// Of each of these the plan that needs least; if all is tried, for each way of sharding and
/// each limit on what is computed again.
fn tightest(setting: Setting<'_>, known: &Known, tight: Tight<'_>) -> Vec<Plan> {
    let Tight { near, reach, roomiest, fastest } = tight;
    let plans = |short: &Short| {
        let spaces = match reach {
            Reach::All => Space::apart(setting, known, &short.outer),
            Reach::Best(_) | Reach::Below(_) => Space::new(setting, known, &short.outer).into_iter().collect(),
        };
        let plans = spaces.into_iter().filter_map(|space| {
            let space = space.offering(Bytes(roomiest as u64));
            if lower_bound_below(&space.bounding(), fastest) < fastest { space.tightest(setting) } else { None }
        });
        plans.collect::<Vec<Plan>>()
    };
    near.into_par_iter().flat_map_iter(plans).collect()
}

/// What came of one outer choice.
struct Opened {
    estimates: Vec<Estimated>,
    shortage: Option<Short>,
    /// Seconds that none of its plans can beat.
    bound: f64,
}

impl Opened {
    /// Solves the problem of an outer choice, and narrower ones. None if some layer has no legal strategy.
    fn new(request: &Request<'_>, known: &Known, outer: &Outer, upper: f64) -> Option<Opened> {
        let whole = Space::new(request.setting, known, outer)?;
        let mut bound = lower_bound_below(&whole.bounding(), upper);
        let mut opened = Opened { estimates: Vec::new(), shortage: None, bound };
        let mut next = Some(whole);
        let mut degrees: Vec<u32> = outer.degrees.clone();
        degrees.pop();
        let mut is_whole = true;
        while let Some(mut space) = next {
            if bound < upper {
                let solved = space.solve(request.setting, &request.method.below(upper));
                // Narrower ones are part of the first.
                if std::mem::replace(&mut is_whole, false) && request.setting.line.is_none() {
                    opened.bound = opened.bound.max(proven(&solved));
                }
                match solved {
                    Solved::Found(answer) => {
                        let plan = space.plan(&answer.assignment, request.setting.precision);
                        let used = plan.strategies.iter().map(|strategy| strategy.tensor).max().unwrap_or(1);
                        // The answer of a space is that of all narrower ones that have its degrees.
                        degrees.retain(|&most| most < used);
                        let step = answer.objective + Joins::of(request.setting, known, &space.outer, &plan).more;
                        opened.estimates.push(Estimated { step: Seconds(step), plan });
                    }
                    Solved::Infeasible(shortage) => {
                        opened.shortage = Some(Short { outer: outer.clone(), shortage });
                        return Some(opened);
                    }
                    Solved::Stopped { .. } => {}
                }
            }
            next = degrees.pop().and_then(|most| space.narrowed(most));
            bound = next.as_ref().map_or(bound, |space| lower_bound_below(&space.bounding(), upper));
        }
        Some(opened)
    }
}

/// Seconds that no assignment can beat, as far as a solver went.
fn proven(solved: &Solved) -> f64 {
    match solved {
        Solved::Found(answer) => answer.bound,
        Solved::Infeasible(_) => f64::INFINITY,
        Solved::Stopped { bound } => *bound,
    }
}

/// A plan to be compared.
struct Compared {
    /// Its step by estimate, or that of the plan of which it is a twin.
    near: Seconds,
    estimated: Option<Seconds>,
    plan: Plan,
}

/// Plans that are compiled side by side. Fixed, so that the answer does not depend on the number of threads.
const COMPARED_AT_ONCE: usize = 8;

/// By how much a plan must be faster by estimate than the fastest that was simulated, as a factor, to be simulated though
/// enough are: what the first ones wait for, such as exchanges of stages whose ranks span nodes, stands in no estimate.
const AHEAD: f64 = 1.03;

/// No more plans than these are simulated for being so.
const COMPARED_MAX: usize = 320;

/// Compiles and simulates plans from the best estimate on, until so many of them fit, or the others are far behind.
pub(crate) fn simulate_best(
    setting: Setting<'_>,
    rules: &Rules,
    estimates: Vec<Estimated>,
    enough: usize,
) -> (Vec<Candidate>, usize) {
    let mut listed: Vec<Compared> = Vec::new();
    for Estimated { step, plan } in estimates {
        let twins = twins(setting, &plan).into_iter().filter(|twin| rules.allow(setting.graph, twin));
        let twins: Vec<Compared> = twins.map(|plan| Compared { near: step, estimated: None, plan }).collect();
        for one in std::iter::once(Compared { near: step, estimated: Some(step), plan }).chain(twins) {
            if listed.iter().all(|other| other.plan != one.plan) {
                listed.push(one);
            }
        }
    }
    let mut candidates: Vec<Candidate> = Vec::new();
    let mut simulated = 0;
    for (index, chunk) in listed.chunks(COMPARED_AT_ONCE).enumerate() {
        let fastest = candidates.iter().map(|each| each.trace.step.0).fold(f64::INFINITY, f64::min);
        let near: Vec<&Compared> = chunk.iter().filter(|it| it.near.0 < fastest * NEAR).collect();
        simulated += near.len();
        let played = near.into_par_iter().filter_map(|Compared { estimated, plan, .. }| {
            compared(setting, plan).ok().map(|found| Candidate { estimated: *estimated, ..found })
        });
        candidates.extend(played.collect::<Vec<Candidate>>());
        let fastest = candidates.iter().map(|each| each.trace.step.0).fold(f64::INFINITY, f64::min);
        let next = listed.get((index + 1) * COMPARED_AT_ONCE).map_or(f64::INFINITY, |it| it.near.0);
        let is_ahead = next * AHEAD < fastest && simulated < COMPARED_MAX;
        if candidates.len() >= enough && !is_ahead {
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
    if uniform != *plan && setting.check(&uniform).is_empty() {
        twins.push(uniform);
    }
    twins
}

#[cfg(test)]
mod tests {
    use cost_model::CostModel;
    use ir::cluster::Cluster;
    use ir::file::parse_model;
    use solver::Method;

    use super::*;
    use crate::outer::outer_choices;
    use crate::search::search;

    const MODEL: &str = include_str!("../../examples/models/llama3-8b.yaml");

    #[test]
    fn however_few_plans_are_listed_one_is_found_where_all_find_one() {
        let model = parse_model(MODEL, "llama3-8b.yaml").expect("an example is valid");
        let graph = model.graph();
        for gibibytes in [24, 36, 64] {
            let mut cluster = Cluster::preset("4xH100").expect("there is this preset");
            cluster.device.memory = Bytes(gibibytes << 30);
            let costs = CostModel::new(&cluster, None);
            let precision = model.training.precision;
            let setting = Setting { graph: &graph, cluster: &cluster, costs: &costs, precision, line: None };
            let request = Request { setting, batch: 64, method: Method::DYNAMIC, keep: 1, rules: Rules::default() };
            let known = Known::default();
            let order = Bounded::sorted(setting, &known, outer_choices(&graph, &cluster, request.batch));
            let all = Attempt::new(&request, &known, &order, Reach::All, &|_, _| {});
            let found = search(&request, &|_, _| {}).map_or(0, |found| found.candidates.len());
            assert_eq!(found, usize::from(!all.candidates.is_empty()), "{gibibytes} GiB");
        }
    }
}
