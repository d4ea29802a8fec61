//! Finds plans: every outer choice is solved, the best are compiled and simulated whole. First on all devices, then on
//! fewer, where that may be faster.

use std::collections::BTreeMap;

use ir::units::{Bytes, Seconds};
use solver::{Method, Shortage, Solved};

use crate::attempt::{Attempt, Bounded, Estimated, Estimates, Reach, Short, simulate_best};
use crate::known::Known;
use crate::outer::{Outer, on_fewer_devices, outer_choices_within};
use crate::play::Candidate;
use crate::rank::{confirm, deepen, refine_first};
use crate::recipes::Baseline;
use crate::refine::Judges;
use crate::rough::Rough;
use crate::rules::Rules;
use crate::space::{Setting, Space};

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
    /// What sums of costs prove.
    pub sums: Sums,
    /// What comes of using all devices.
    pub on_all: OnAll,
}

/// What comes of using all devices of a cluster.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OnAll {
    /// Step of the best plan on all of them, before small changes of it were tried.
    Best(Seconds),
    /// No plan is legal.
    Illegal,
    /// No plan fits.
    NothingFits,
}

/// What is known of plans by sums of costs: without what whole programs hide or wait for, with one layer gathered ahead,
/// and one forward, one backward.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sums {
    /// The least sum that a plan was found to have.
    pub best: Seconds,
    /// What no plan's sum is below.
    pub bound: Seconds,
}

impl Default for Sums {
    fn default() -> Self {
        Self { best: Seconds(f64::INFINITY), bound: Seconds(f64::INFINITY) }
    }
}

impl Sums {
    /// Some plans have no less.
    pub(crate) fn proven(&mut self, bound: f64) {
        self.bound = Seconds(self.bound.0.min(bound));
    }

    /// A plan has this.
    pub(crate) fn reached(&mut self, sum: f64) {
        self.best = Seconds(self.best.0.min(sum));
        self.proven(sum);
    }

    /// Those of more plans.
    fn and(&mut self, more: Sums) {
        self.reached(more.best.0);
        self.proven(more.bound.0);
    }

    /// How far from the bound the best sum may be, relative to it.
    pub fn gap(&self) -> f64 {
        if self.best.0 > 0.0 && self.best.0.is_finite() { (self.best.0 - self.bound.0) / self.best.0 } else { 0.0 }
    }
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

/// How many plans are compared at least, simulated, however few are listed.
pub(crate) const COMPARED_MIN: usize = 16;

/// The best plans for a request. `progress` is told outer choices done and to do.
pub fn search(request: &Request<'_>, progress: Progress<'_>) -> Result<Found, NoPlan> {
    let (setting, known) = (request.setting, Known::default());
    let order = |outers| Bounded::sorted(setting, &known, outers);
    let mut on_all = OnAll::Illegal;
    let choices = outer_choices_within(setting.graph, setting.cluster, request.batch, &request.rules);
    let fewer = on_fewer_devices(setting.graph, setting.cluster, request.batch, &request.rules);
    let (outer_count, mut order_all) = (choices.len() + fewer.len(), order(choices));
    let mut attempt = attempted(request, &known, &order_all, progress);
    if let Some(first) = attempt.candidates.first() {
        on_all = OnAll::Best(first.trace.step);
        let idle = on_fewer(request, &known, fewer, first.trace.step);
        attempt.effort.fitting += idle.effort.fitting;
        attempt.effort.simulated += idle.simulated;
        attempt.sums.and(idle.sums);
        attempt.candidates.extend(idle.candidates);
    } else {
        if !order_all.is_empty() {
            on_all = OnAll::NothingFits;
        }
        let order_fewer = order(fewer);
        let Attempt { shortages, .. } = attempt;
        attempt = attempted(request, &known, &order_fewer, progress);
        attempt.shortages.extend(shortages);
        order_all.extend(order_fewer);
    }
    progress(1, 1);
    if order_all.is_empty() {
        return Err(NoPlan::NothingLegal { batch: request.batch, devices: setting.cluster.device_count() });
    }
    let Attempt { mut candidates, baselines, shortages, mut effort, sums, .. } = attempt;
    effort.simulated += finish(request, &known, &mut candidates);
    if candidates.is_empty() {
        return Err(nothing_fits(request, &known, &order_all, shortages));
    }
    (effort.outer, effort.costs) = (outer_count, known.cost_count());
    Ok(Found { candidates, baselines, effort, sums, on_all })
}

/// The best plans of outer choices: of those with the best estimates, or of all if none of these fits.
fn attempted(request: &Request<'_>, known: &Known, order: &[Bounded], progress: Progress<'_>) -> Attempt {
    let attempt = Attempt::new(request, known, order, Reach::Best(request.keep.max(COMPARED_MIN)), progress);
    if attempt.candidates.is_empty() && !order.is_empty() {
        return Attempt::new(request, known, order, Reach::All, progress);
    }
    attempt
}

/// What was found with devices idle.
struct Idle {
    candidates: Vec<Candidate>,
    simulated: usize,
    effort: Coverage,
    sums: Sums,
}

/// Outer choices whose bounds are made at once.
const BOUNDED_AT_ONCE: usize = 32;

/// Plans that are compared for each count of devices.
const BY_COUNT: usize = 3;

/// Plans that leave devices idle and are faster by estimate than `best`, simulated.
fn on_fewer(request: &Request<'_>, known: &Known, outers: Vec<Outer>, best: Seconds) -> Idle {
    let setting = request.setting;
    let mut idle = Idle { candidates: Vec::new(), simulated: 0, effort: Coverage::default(), sums: Sums::default() };
    let rough = Rough::new(setting);
    let mut order: Vec<Bounded> =
        outers.into_iter().map(|outer| Bounded { bound: rough.bound(&outer), outer }).collect();
    order.sort_by(|a, b| a.bound.total_cmp(&b.bound));
    let open = order.partition_point(|it| it.bound < best.0);
    order[open..].iter().for_each(|it| idle.sums.proven(it.bound));
    order.truncate(open);
    let mut estimates: Vec<Estimated> = Vec::new();
    for chunk in order.chunks(BOUNDED_AT_ONCE) {
        let outers = chunk.iter().map(|it| it.outer.clone()).collect();
        let order = Bounded::sorted(setting, known, outers);
        let found = Estimates::new(request, known, &order, Reach::Below(best.0), &|_, _| {});
        idle.effort.fitting += found.effort.fitting;
        idle.sums.and(found.sums);
        estimates.extend(found.estimates);
    }
    estimates.sort_by(|a, b| a.step.0.total_cmp(&b.step.0));
    let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
    estimates.retain(|estimate| {
        let count = counts.entry(estimate.plan.rank_count()).or_default();
        *count += 1;
        *count <= BY_COUNT
    });
    (idle.candidates, idle.simulated) = simulate_best(setting, &request.rules, estimates, COMPARED_MIN);
    idle.candidates.retain(|candidate| candidate.trace.step.0 < best.0);
    idle
}

/// Sorts plans, makes the first of them as good as small changes can, and drops what does not fit. Returns how many
/// plans were simulated for that.
fn finish(request: &Request<'_>, known: &Known, candidates: &mut Vec<Candidate>) -> usize {
    let setting = request.setting;
    candidates.sort_by(|a, b| a.trace.step.0.total_cmp(&b.trace.step.0));
    let simulated = refine_first(&mut Judges::new(setting, &request.rules, known), candidates);
    confirm(setting, candidates, request.keep);
    let deepened = deepen(setting, candidates);
    candidates.truncate(request.keep.max(1));
    simulated + deepened
}

/// What misses least. Where estimates fitted and the placed programs did not, that is the tightest plan of all.
fn nothing_fits(request: &Request<'_>, known: &Known, order: &[Bounded], shortages: Vec<Short>) -> NoPlan {
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
        let outlines = order.iter().filter_map(|it| tight(Space::new(setting, known, &it.outer)?));
        least(outlines.collect())
    });
    let outer = found.expect("nothing fits one byte").outer;
    let mut space = Space::new(setting, known, &outer).expect("the outer choice has a space");
    space.complete(setting);
    let Short { outer, mut shortage } = tight(space).expect("nothing fits one byte");
    shortage.capacity_bytes = setting.cluster.capacity().0;
    NoPlan::NothingFits { outer: Box::new(outer), shortage }
}
