//! The fastest strategies for one range of layers in one stage, under the stage's memory and a limit on what happens
//! once a step: a quick estimate, and the exact answer.
//!
//! The largest transient is guessed — every value it may have is looked at, few of them closely — which leaves one
//! sum per resource and a [`Relaxation`], whose bound and quick route are the estimate. For the exact answer, the
//! labels of a dynamic program are cut at a bound that starts just above the relaxation and widens until an answer
//! lies below it; what lies below is then the optimum, and few labels were ever made.

use super::allowance::Allowance;
use super::labels::{Below, fastest_below};
use super::relaxation::{Ends, Limits, Menus, Prices, Relaxation};
use super::ticks::{Choice, Sort, StageClass, undominated};

/// Strategies for a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    /// Ticks for one microbatch, with what the cuts cost.
    pub(crate) time: i64,
    /// Ticks once a step.
    pub(crate) step: i64,
    pub(crate) strategies: Vec<usize>,
}

/// What is known of the fastest point of a range.
#[derive(Clone, Debug)]
pub(crate) struct Estimate {
    /// No point takes fewer ticks.
    pub(crate) bound: i64,
    /// The fastest one seen.
    pub(crate) point: Option<Point>,
}

/// A range of layers to choose strategies for.
pub(crate) struct LayerRange<'a> {
    class: &'a StageClass,
    ends: Ends,
    /// The most ticks once a step.
    step_limit: i64,
    /// For each layer, its entry in `lists`.
    layers: Vec<usize>,
    /// How many layers have each list.
    counts: Vec<f64>,
    /// The choices of each sort, by transient.
    lists: Vec<Vec<Choice>>,
    /// Relative difference of times that does not matter.
    tolerance: f64,
}

/// A guess of the largest transient that may hold the fastest point.
struct Guess<'a> {
    bound: f64,
    relaxation: Relaxation<'a>,
}

/// What a look at all guesses says.
struct Survey<'a> {
    /// Those that matter, the best bound first.
    guesses: Vec<Guess<'a>>,
    /// The least bound of those that do not, as their points are hardly better than the one that was seen.
    skipped: f64,
    estimate: Estimate,
}

impl<'a> LayerRange<'a> {
    pub(crate) fn new(class: &'a StageClass, sorts: &[Sort], ends: Ends, step_limit: i64, tolerance: f64) -> Self {
        let mut distinct = sorts.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        let layers: Vec<usize> =
            sorts.iter().map(|sort| distinct.binary_search(sort).expect("every sort is listed")).collect();
        let mut counts = vec![0.0; distinct.len()];
        layers.iter().for_each(|&list| counts[list] += 1.0);
        let by_transient = |&sort: &Sort| {
            let fits = |choice: &&Choice| choice.bytes.saturating_add(choice.transient) <= class.capacity;
            let mut choices: Vec<Choice> = class.choices(sort).iter().filter(fits).copied().collect();
            choices.sort_by_key(|choice| choice.transient);
            choices
        };
        let lists = distinct.iter().map(by_transient).collect();
        Self { class, ends, step_limit, layers, counts, lists, tolerance }
    }

    /// What is quickly seen; none if nothing fits.
    pub(crate) fn estimate(&self, effort: &mut Allowance) -> Option<Estimate> {
        let survey = self.survey(effort)?;
        Some(self.crossing(survey.estimate))
    }

    /// The fastest point, or as good an estimate as the effort allows; none if nothing fits.
    pub(crate) fn solve(&self, effort: &mut Allowance) -> Option<Estimate> {
        let survey = self.survey(effort)?;
        let estimate = self.widen(survey, effort)?;
        Some(self.crossing(estimate))
    }

    /// Adds what the cuts cost.
    fn crossing(&self, estimate: Estimate) -> Estimate {
        let layouts = [self.ends.first, self.ends.next];
        let cost = layouts.into_iter().flatten().map(|layout| self.class.boundary[layout]).sum::<i64>();
        let point = estimate.point.map(|point| Point { time: point.time + cost, ..point });
        Estimate { bound: estimate.bound + cost, point }
    }

    /// Looks at all guesses of the largest transient.
    fn survey(&self, effort: &mut Allowance) -> Option<Survey<'_>> {
        let limits = self.transient_limits();
        let mut open: Vec<(f64, u64)> = limits.iter().map(|&limit| (0.0, limit)).collect();
        let mut guesses: Vec<Guess<'_>> = Vec::new();
        let mut point: Option<Point> = None;
        let mut skipped = f64::INFINITY;
        // The last one frees all choices, so its prices are a good start.
        while let Some((bound, limit)) = open.pop() {
            let target = point.as_ref().map_or(f64::INFINITY, |point| point.time as f64 * (1.0 - self.tolerance));
            if bound >= target {
                skipped = skipped.min(bound);
                continue;
            }
            effort.spend(ROUTES * self.layers.len() as u64);
            let Some(relaxation) = self.relaxation(limit) else { continue };
            let bound = bound.max(relaxation.bound());
            self.sharpen(&mut open, relaxation.prices);
            if let Some(route) = relaxation.quick_route()
                && point.as_ref().is_none_or(|point| route.totals.time < point.time)
            {
                let strategies = route.choices.iter().map(|choice| choice.strategy).collect();
                point = Some(Point { time: route.totals.time, step: route.totals.step, strategies });
            }
            guesses.push(Guess { bound, relaxation });
        }
        guesses.sort_by(|one, other| one.bound.total_cmp(&other.bound));
        let least = guesses.first()?.bound.min(skipped);
        let bound = (least.max(0.0) as i64).min(point.as_ref().map_or(i64::MAX, |point| point.time));
        Some(Survey { guesses, skipped, estimate: Estimate { bound, point } })
    }

    /// Lifts the bounds of transient limits by what they are at these prices without regard to layouts, and puts
    /// the least bound last.
    fn sharpen(&self, open: &mut [(f64, u64)], prices: Prices) {
        for (bound, limit) in open.iter_mut() {
            let least = |list: &Vec<Choice>| {
                let under = list.iter().take_while(|choice| choice.transient <= *limit);
                under.map(|choice| prices.of(choice)).fold(f64::INFINITY, f64::min)
            };
            let cost: f64 = self.lists.iter().zip(&self.counts).map(|(list, count)| count * least(list)).sum();
            let room = prices.byte * (self.class.capacity - *limit) as f64 + prices.step * self.step_limit as f64;
            *bound = bound.max(cost - room - 1e-12 * (cost + room));
        }
        open.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    }

    /// Every value that the largest transient of the layers may have.
    fn transient_limits(&self) -> Vec<u64> {
        let floor = self.lists.iter().filter_map(|list| list.first()).map(|choice| choice.transient).max();
        let floor = floor.unwrap_or(0);
        let all = self.lists.iter().flatten().map(|choice| choice.transient);
        let mut limits: Vec<u64> =
            all.filter(|&transient| transient >= floor && transient <= self.class.capacity).collect();
        limits.sort_unstable();
        limits.dedup();
        limits
    }

    fn relaxation(&self, transient: u64) -> Option<Relaxation<'_>> {
        let allowed = |list: &Vec<Choice>| {
            let under = list.iter().take_while(|choice| choice.transient <= transient);
            undominated(&under.map(|choice| Choice { transient: 0, ..*choice }).collect::<Vec<_>>())
        };
        let lists = self.lists.iter().map(allowed).collect();
        let menus = Menus { layers: &self.layers, lists };
        let limits = Limits { bytes: self.class.capacity - transient, step: self.step_limit };
        Relaxation::new(self.class, menus, self.ends, limits)
    }

    /// The best point of all guesses.
    fn widen(&self, survey: Survey<'_>, effort: &mut Allowance) -> Option<Estimate> {
        let Survey { guesses, skipped, estimate: Estimate { bound, mut point } } = survey;
        let mut proven = bound as f64;
        let count = self.layers.len() as f64;
        let mut width = 1.0 + FIRST_WIDTH * proven / (count * count);
        loop {
            let below = point.as_ref().map_or(f64::INFINITY, |point| point.time as f64);
            if proven >= below * (1.0 - self.tolerance) {
                return Some(Estimate { bound: proven.min(skipped) as i64, point });
            }
            let mut cut = (bound as f64 + width).min(below);
            let mut was_cut = false;
            for Guess { bound, relaxation } in &guesses {
                if *bound >= cut {
                    was_cut = true;
                    break;
                }
                let found = match fastest_below(relaxation, cut, effort) {
                    Below::Complete(found) => found,
                    Below::Cut(found) => {
                        was_cut = true;
                        found
                    }
                    Below::Spent => return Some(Estimate { bound: proven.min(skipped) as i64, point }),
                };
                if let Some(found) = found.filter(|found| point.as_ref().is_none_or(|point| found.time < point.time)) {
                    cut = cut.min(found.time as f64);
                    point = Some(found);
                }
            }
            if !was_cut || point.as_ref().is_some_and(|point| point.time as f64 <= cut) {
                let bound = point.as_ref()?.time.min(skipped as i64);
                return Some(Estimate { bound, point });
            }
            proven = cut;
            width *= WIDENING;
        }
    }
}

/// What a relaxation takes beside each layer's labels, in labels: about as many routes are looked for.
const ROUTES: u64 = 10;

/// How far above the relaxation the first cut lies, relative to it, times the square of the layer count: the more
/// layers can be combined, the closer their sums come to the relaxation.
const FIRST_WIDTH: f64 = 1e-2;

/// How much wider each next cut is.
const WIDENING: f64 = 2.5;
