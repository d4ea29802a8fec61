//! The exact dynamic program.
//!
//! Fix a limit on what any stage does once a step. Then the fastest strategies of a span of layers, given the
//! layouts at its two ends, are best both for the sum over stages and for the slowest stage, so stages are chained
//! by labels of just these two numbers. Spans are costly to solve and most are never part of a good chain. So the
//! chain is first made of lower bounds; the spans on the best chain are solved; and this repeats until the best
//! chain consists of solved spans, which is then the optimum. Around it, the limit on the step is lowered as long as
//! something better can follow, and ties are decided by branching on the strategy that the tied layers share.

use super::bound::{Bounds, ends};
use super::chain::{Chain, Cuts, Field, Passage, Spans};
use super::ticks::{NEVER, Sort, Steps, Ticked};
use super::{Answer, Shortage, Solved};
use crate::problem::{Assignment, Problem};
use std::collections::BTreeMap;

pub(super) fn solve(problem: &Problem, upper: f64) -> Solved {
    let views = [Steps::Apart, Steps::Blended].map(|steps| Ticked::new(problem, steps));
    let [apart, blended] = &views;
    let tick = apart.tick;
    let sorts = untied(problem);
    let mut search = Search {
        problem,
        apart,
        blended,
        groups: tie_groups(problem),
        spans_apart: Spans::default(),
        spans_blended: Spans::default(),
        best: Incumbent { upper: upper / tick, assignment: None },
    };
    let bounds = search.bounds(&sorts);
    let fits = bounds.objective < f64::INFINITY;
    search.branch(sorts, &bounds);
    match search.best.assignment {
        Some(assignment) => Solved::Found(Answer::scored(problem, assignment, f64::INFINITY)),
        None if fits && upper < f64::INFINITY => Solved::Stopped { bound: upper },
        None => Solved::Infeasible(Shortage::of(problem)),
    }
}

pub(super) fn lower_bound(problem: &Problem) -> f64 {
    let sorts = untied(problem);
    let bound = |steps: Steps| {
        let ticked = Ticked::new(problem, steps);
        Bounds::new(&ticked, &sorts).objective(&ticked) * ticked.tick * (1.0 - TOLERANCE)
    };
    bound(Steps::Apart).max(bound(Steps::Blended))
}

/// The layers' sorts before any tie is decided.
fn untied(problem: &Problem) -> Vec<Sort> {
    problem.layers.iter().map(|&kind| Sort { kind, fixed: None }).collect()
}

/// Sets of layers that share a strategy, each of two or more.
fn tie_groups(problem: &Problem) -> Vec<Vec<usize>> {
    let mut group_of: Vec<usize> = (0..problem.layers.len()).collect();
    for &(first, second) in &problem.ties {
        let (kept, gone) = (group_of[first], group_of[second]);
        group_of.iter_mut().filter(|group| **group == gone).for_each(|group| *group = kept);
    }
    let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (layer, &group) in group_of.iter().enumerate() {
        groups.entry(group).or_default().push(layer);
    }
    groups.into_values().filter(|group| group.len() > 1).collect()
}

/// Strategies that tied layers may share: without those that another one matches in every cost of every layer.
fn shared_strategies(problem: &Problem, group: &[usize]) -> Vec<usize> {
    let matches = |one: usize, other: usize| {
        group.iter().all(|&layer| {
            let (one, other) = (&problem.strategies(layer)[one], &problem.strategies(layer)[other]);
            one.layout == other.layout
                && one.time_microbatch <= other.time_microbatch
                && one.time_step <= other.time_step
                && one.bytes_state <= other.bytes_state
                && one.bytes_saved <= other.bytes_saved
                && one.bytes_transient <= other.bytes_transient
        })
    };
    let count = problem.strategies(group[0]).len();
    let beaten = |other: usize| (0..count).any(|one| matches(one, other) && (one < other || !matches(other, one)));
    (0..count).filter(|&strategy| !beaten(strategy)).collect()
}

/// What is shared by all branches.
struct Search<'a> {
    problem: &'a Problem,
    /// The problem as it is.
    apart: &'a Ticked,
    /// The problem whose objective is a lower bound without a maximum over steps.
    blended: &'a Ticked,
    /// Layers that share a strategy.
    groups: Vec<Vec<usize>>,
    spans_apart: Spans,
    spans_blended: Spans,
    /// The best that keeps the ties.
    best: Incumbent,
}

/// The bounds of both views of the problem.
struct BothBounds {
    apart: Bounds,
    blended: Bounds,
    /// Ticks that no answer can beat.
    objective: f64,
}

/// The best answer so far.
#[derive(Clone)]
struct Incumbent {
    /// Ticks that an answer must beat.
    upper: f64,
    assignment: Option<Assignment>,
}

/// Relative difference of objectives below which two answers count as equal.
const TOLERANCE: f64 = 1e-12;

impl Incumbent {
    fn offer(&mut self, objective: f64, assignment: &Assignment) {
        if objective < self.target() {
            self.upper = objective;
            self.assignment = Some(assignment.clone());
        }
    }

    /// What an answer must lie below to count as better.
    fn target(&self) -> f64 {
        self.upper * (1.0 - TOLERANCE)
    }
}

impl Search<'_> {
    fn bounds(&self, sorts: &[Sort]) -> BothBounds {
        let [apart, blended] = [self.apart, self.blended].map(|ticked| Bounds::new(ticked, sorts));
        let objective = apart.objective(self.apart).max(blended.objective(self.blended));
        BothBounds { apart, blended, objective }
    }

    /// Improves the best answer by the best one that keeps the ties, with the layers' sorts as given.
    fn branch(&mut self, sorts: Vec<Sort>, bounds: &BothBounds) {
        let Some((objective, assignment)) = self.relaxed(&sorts, bounds) else { return };
        let strategies = &assignment.strategies;
        let broken = self.groups.iter().find(|group| group.iter().any(|&l| strategies[l] != strategies[group[0]]));
        let Some(group) = broken else {
            self.best.offer(objective, &assignment);
            return;
        };
        let mut children: Vec<(BothBounds, Vec<Sort>)> = shared_strategies(self.problem, group)
            .into_iter()
            .map(|strategy| {
                let mut sorts = sorts.clone();
                group.iter().for_each(|&layer| sorts[layer].fixed = Some(strategy));
                (self.bounds(&sorts), sorts)
            })
            .collect();
        children.sort_by(|(one, _), (other, _)| one.objective.total_cmp(&other.objective));
        for (bounds, sorts) in children {
            self.branch(sorts, &bounds);
        }
    }

    /// The best assignment without regard to ties and its ticks, if it is better than the best that keeps them.
    fn relaxed(&mut self, sorts: &[Sort], bounds: &BothBounds) -> Option<(f64, Assignment)> {
        let mut best = Incumbent { upper: self.best.upper, assignment: None };
        if bounds.objective >= best.target() {
            return None;
        }
        let mut blended = Field::new(self.blended, sorts, &bounds.blended);
        let mut apart = Field::new(self.apart, sorts, &bounds.apart);
        // A first answer on promising cuts narrows the search over all of them.
        if let Some(cuts) = promising_cuts(&blended) {
            blended.open(&mut self.spans_blended, Cuts::Only(&cuts), best.upper);
            self.fastest_chain(&blended, NEVER, &mut best);
        }
        blended.open(&mut self.spans_blended, Cuts::All, best.upper);
        let mut limit = NEVER;
        while limit >= bounds.apart.step_floor {
            // Nothing that keeps the limit is better than the blended chain's value.
            if self
                .fastest_chain(&blended, limit, &mut best)
                .is_none_or(|chain| chain.flow(self.blended) >= best.target())
            {
                break;
            }
            if limit == NEVER {
                apart.open(&mut self.spans_apart, Cuts::All, best.upper);
            }
            let Some(chain) = self.fastest_chain(&apart, limit, &mut best) else { break };
            // A better answer flows no faster than this one, so its step must make up for the rest.
            let affordable = best.target() - chain.flow(self.apart);
            limit = (chain.step - 1).min(affordable.floor() as i64);
        }
        best.assignment.map(|assignment| (best.upper, assignment))
    }

    /// The chain with the least flow whose stages keep `limit` once a step, unless none can be better than `best`.
    /// Better answers that come up on the way are kept in `best`.
    fn fastest_chain(&mut self, field: &Field<'_>, limit: i64, best: &mut Incumbent) -> Option<Chain> {
        let spans = match field.ticked.steps {
            Steps::Apart => &mut self.spans_apart,
            Steps::Blended => &mut self.spans_blended,
        };
        loop {
            let passages = field.best_chain(spans, limit, best.target())?;
            let unsettled: Vec<&Passage> =
                passages.iter().filter(|passage| !spans.is_settled(passage, limit)).collect();
            for passage in &unsettled {
                spans.settle(field, passage, limit);
            }
            let Some(chain) = spans.assemble(&passages, limit) else { continue };
            best.offer(self.problem.objective(&chain.assignment) / self.apart.tick, &chain.assignment);
            if unsettled.is_empty() {
                return Some(chain);
            }
        }
    }
}

/// Cuts that look good by the bounds alone: from the first stage on, always the end with the least bound.
fn promising_cuts(field: &Field<'_>) -> Option<Vec<usize>> {
    let (ticked, bounds) = (field.ticked, field.bounds);
    let (layers, stages) = (field.sorts.len(), ticked.stages.len());
    let mut cuts = vec![0];
    let mut slowest = 0;
    for stage in 0..stages - 1 {
        let start = cuts[stage];
        let worth = |end: usize| {
            let time = bounds.crossing_time(ticked, stage, start..end);
            let (sum, peak) = bounds.after(stage + 1, end);
            let bound = time as f64 + sum as f64 + ticked.repeats * time.max(peak).max(slowest) as f64;
            (bound, time, end)
        };
        let fitting = ends(stage, start, stages, layers)
            .map(worth)
            .filter(|&(_, time, end)| time < NEVER && bounds.after(stage + 1, end).0 < NEVER);
        let (_, time, end) = fitting.min_by(|(one, ..), (other, ..)| one.total_cmp(other))?;
        slowest = slowest.max(time);
        cuts.push(end);
    }
    Some(cuts)
}
