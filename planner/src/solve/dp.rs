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
use super::ticks::{NEVER, Sort, Ticked};
use super::{Answer, Shortage, Solved};
use crate::problem::{Assignment, Problem};
use std::collections::BTreeMap;

pub(super) fn solve(problem: &Problem, upper: f64) -> Solved {
    let ticked = Ticked::new(problem);
    let groups = tie_groups(problem);
    let sorts: Vec<Sort> = problem.layers.iter().map(|&kind| Sort { kind, fixed: None }).collect();
    let fits = Bounds::new(&ticked, &sorts).objective(&ticked) < f64::INFINITY;
    let upper_ticks = upper / ticked.tick;
    let mut search =
        Search { problem, ticked: &ticked, groups, spans: Spans::default(), upper: upper_ticks, best: None };
    search.branch(sorts);
    match search.best {
        Some(assignment) => Solved::Found(Answer::scored(problem, assignment, f64::INFINITY)),
        None if fits && upper < f64::INFINITY => Solved::Stopped { bound: upper },
        None => Solved::Infeasible(Shortage::of(problem)),
    }
}

pub(super) fn lower_bound(problem: &Problem) -> f64 {
    let ticked = Ticked::new(problem);
    let sorts: Vec<Sort> = problem.layers.iter().map(|&kind| Sort { kind, fixed: None }).collect();
    Bounds::new(&ticked, &sorts).objective(&ticked) * ticked.tick * (1.0 - 1e-12)
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

/// What is shared by all branches.
struct Search<'a> {
    problem: &'a Problem,
    ticked: &'a Ticked,
    /// Layers that share a strategy.
    groups: Vec<Vec<usize>>,
    spans: Spans,
    /// Ticks of the best answer known, ours or the caller's.
    upper: f64,
    best: Option<Assignment>,
}

/// Relative difference of objectives below which two answers count as equal.
const TOLERANCE: f64 = 1e-12;

impl Search<'_> {
    /// Improves the best answer by the best one that keeps the ties, with the layers' sorts as given.
    fn branch(&mut self, sorts: Vec<Sort>) {
        let Some(chain) = self.relaxed(&sorts) else { return };
        let strategies = &chain.assignment.strategies;
        let broken =
            self.groups.iter().find(|group| group.iter().any(|&layer| strategies[layer] != strategies[group[0]]));
        let Some(group) = broken else {
            self.upper = chain.objective(self.ticked);
            self.best = Some(chain.assignment);
            return;
        };
        let mut children: Vec<(f64, Vec<Sort>)> = (0..self.problem.strategies(group[0]).len())
            .map(|strategy| {
                let mut sorts = sorts.clone();
                group.iter().for_each(|&layer| sorts[layer].fixed = Some(strategy));
                (Bounds::new(self.ticked, &sorts).objective(self.ticked), sorts)
            })
            .collect();
        children.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        for (bound, sorts) in children {
            if bound < self.upper {
                self.branch(sorts);
            }
        }
    }

    /// The best chain without regard to ties, if it is better than `upper`.
    fn relaxed(&mut self, sorts: &[Sort]) -> Option<Chain> {
        let bounds = Bounds::new(self.ticked, sorts);
        if bounds.objective(self.ticked) >= self.upper * (1.0 - TOLERANCE) {
            return None;
        }
        // A first answer on promising cuts narrows the search over all of them.
        let mut field = Field::new(self.ticked, sorts, &bounds);
        let mut best = Incumbent { upper: self.upper, chain: None };
        if let Some(cuts) = promising_cuts(&field) {
            field.open(&mut self.spans, Cuts::Only(&cuts), best.upper);
            self.descend(&field, &mut best);
        }
        field.open(&mut self.spans, Cuts::All, best.upper);
        self.descend(&field, &mut best);
        best.chain
    }

    /// Improves `best` by the best chain of the field: lowers the limit on the step until nothing better can follow.
    fn descend(&mut self, field: &Field<'_>, best: &mut Incumbent) {
        let mut limit = NEVER;
        while limit >= field.bounds.step_floor {
            let Some(chain) = self.fastest_chain(field, limit, best) else { return };
            // A better answer flows no faster than this one, so its step must make up for the rest.
            let affordable = best.upper * (1.0 - TOLERANCE) - chain.flow(self.ticked);
            limit = (chain.step - 1).min(affordable.floor() as i64);
        }
    }

    /// The chain with the least flow whose stages keep `limit` once a step, unless none can be better than `best`.
    /// Better answers that come up on the way are kept in `best`.
    fn fastest_chain(&mut self, field: &Field<'_>, limit: i64, best: &mut Incumbent) -> Option<Chain> {
        loop {
            let passages = field.best_chain(&self.spans, limit, best.upper)?;
            let unsettled: Vec<&Passage> =
                passages.iter().filter(|passage| !self.spans.is_settled(passage, limit)).collect();
            for passage in &unsettled {
                self.spans.settle(field, passage, limit);
            }
            let Some(chain) = self.spans.assemble(&passages, limit) else { continue };
            best.offer(&chain, self.ticked);
            if unsettled.is_empty() {
                return Some(chain);
            }
        }
    }
}

/// The best chain so far, and the value that a better one must beat.
struct Incumbent {
    upper: f64,
    chain: Option<Chain>,
}

impl Incumbent {
    fn offer(&mut self, chain: &Chain, ticked: &Ticked) {
        let objective = chain.objective(ticked);
        if objective < self.upper * (1.0 - TOLERANCE) {
            self.upper = objective;
            self.chain = Some(chain.clone());
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
