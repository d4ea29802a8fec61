//! The exact dynamic program.
//!
//! Fix a limit on what any stage does once a step. Then the fastest strategies of a span of layers, given the
//! layouts at its two ends, are best both for the sum over stages and for the slowest stage, so stages are chained
//! by labels of just these two numbers. Spans are costly to solve and most are never part of a good chain. So the
//! chain is first made of lower bounds; the spans on the best chain are solved; and this repeats until the best
//! chain consists of solved spans, which is then the optimum. Around it, the limit on the step is lowered as long as
//! something better can follow, and ties are decided by branching on the strategy that the tied layers share.

use super::bound::{Bounds, ends};
use super::chain::{Cuts, Field, Passage, Spans};
use super::effort::Effort;
use super::ticks::{NEVER, Sort, Steps, Ticked};
use super::{Answer, Shortage, Solved};
use crate::problem::{Assignment, Problem};
use std::collections::BTreeMap;

pub(super) fn solve(problem: &Problem, upper: f64, gap: f64, effort: u64) -> Solved {
    let [apart, blended] = [Steps::Apart, Steps::Blended].map(|steps| Ticked::new(problem, steps));
    let tick = apart.tick;
    let sorts = untied(problem);
    let mut search = Search {
        problem,
        apart: &apart,
        blended: &blended,
        groups: tie_groups(problem),
        spans_apart: Spans::new(gap / 2.0),
        spans_blended: Spans::new(gap / 2.0),
        best: Incumbent { upper: upper / tick, assignment: None, gap },
        effort: Effort::new(effort),
        unproven: f64::INFINITY,
    };
    let bounds = Bounds::new(&blended, &sorts);
    let fits = bounds.objective(&blended) < f64::INFINITY;
    search.branch(sorts, &bounds);
    let bound = search.best.proven().min(search.unproven) * tick;
    match search.best.assignment {
        Some(assignment) => Solved::Found(Answer::scored(problem, assignment, bound)),
        None if fits && bound < f64::INFINITY => Solved::Stopped { bound },
        None => Solved::Infeasible(Shortage::of(problem)),
    }
}

pub(super) fn lower_bound(problem: &Problem) -> f64 {
    let ticked = Ticked::new(problem, Steps::Blended);
    Bounds::new(&ticked, &untied(problem)).objective(&ticked) * ticked.tick * (1.0 - TOLERANCE)
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
        group.iter().all(|&layer| problem.strategies(layer)[one].matches(&problem.strategies(layer)[other]))
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
    effort: Effort,
    /// Ticks that no answer can beat in the parts of the search that were given up.
    unproven: f64,
}

/// The best answer so far.
#[derive(Clone)]
struct Incumbent {
    /// Ticks that an answer must beat.
    upper: f64,
    assignment: Option<Assignment>,
    /// By how much a next answer must be better.
    gap: f64,
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

    /// What no answer lies below that was left out for not being better.
    fn proven(&self) -> f64 {
        if self.assignment.is_some() { self.upper * (1.0 - self.gap) } else { self.upper }
    }

    /// What an answer must lie below to count as better.
    fn target(&self) -> f64 {
        let gap = if self.assignment.is_some() { self.gap.max(TOLERANCE) } else { TOLERANCE };
        self.upper * (1.0 - gap)
    }
}

impl Search<'_> {
    /// Improves the best answer by the best one that keeps the ties, with the layers' sorts as given. `bounds` are
    /// those of the blended view.
    fn branch(&mut self, sorts: Vec<Sort>, bounds: &Bounds) {
        let Some((objective, assignment)) = self.relaxed(&sorts, bounds) else { return };
        let strategies = &assignment.strategies;
        let broken = self.groups.iter().find(|group| group.iter().any(|&l| strategies[l] != strategies[group[0]]));
        let Some(group) = broken else {
            self.best.offer(objective, &assignment);
            return;
        };
        let mut children: Vec<(f64, Bounds, Vec<Sort>)> = shared_strategies(self.problem, group)
            .into_iter()
            .map(|strategy| {
                let mut sorts = sorts.clone();
                group.iter().for_each(|&layer| sorts[layer].fixed = Some(strategy));
                let bounds = Bounds::new(self.blended, &sorts);
                (bounds.objective(self.blended), bounds, sorts)
            })
            .collect();
        children.sort_by(|(one, ..), (other, ..)| one.total_cmp(other));
        for (bound, bounds, sorts) in children {
            if self.effort.is_spent() && self.best.assignment.is_some() {
                self.unproven = self.unproven.min(bound);
                return;
            }
            self.branch(sorts, &bounds);
        }
    }

    /// The best assignment without regard to ties and its ticks, if it is better than the best that keeps them.
    fn relaxed(&mut self, sorts: &[Sort], bounds: &Bounds) -> Option<(f64, Assignment)> {
        let mut best = Incumbent { upper: self.best.target(), assignment: None, gap: self.best.gap };
        if bounds.objective(self.blended) >= best.target() {
            return None;
        }
        let mut blended = Field::new(self.blended, sorts, bounds);
        // A first answer on promising cuts narrows the search over all of them.
        if let Some(cuts) = promising_cuts(&blended) {
            blended.open(&mut self.spans_blended, Cuts::Only(&cuts), best.target());
            self.fastest_chain(&blended, NEVER, &mut best);
        }
        blended.open(&mut self.spans_blended, Cuts::All, best.target());
        match self.fastest_chain(&blended, NEVER, &mut best) {
            Fastest::Settled(chain) => self.lower_steps(&blended, chain, &mut best),
            Fastest::Unsettled { flow } => self.give_up(flow),
            Fastest::Nothing => (),
        }
        best.assignment.map(|assignment| (best.upper, assignment))
    }

    /// Notes that answers of `bound` ticks and more were not looked at.
    fn give_up(&mut self, bound: f64) {
        self.unproven = self.unproven.min(bound);
    }

    /// Looks for better answers under ever lower limits on the step. `chain` is the fastest of the blended view, so
    /// no answer is better than its flow.
    fn lower_steps(&mut self, blended: &Field<'_>, chain: Chain, best: &mut Incumbent) {
        let bounds = Bounds::new(self.apart, blended.sorts);
        let mut apart = Field::new(self.apart, blended.sorts, &bounds);
        apart.open(&mut self.spans_apart, Cuts::All, best.target());
        let (mut limit, mut least) = (NEVER, chain.flow);
        while limit >= bounds.step_floor && least < best.target() {
            let chain = match self.fastest_chain(&apart, limit, best) {
                Fastest::Settled(chain) => chain,
                Fastest::Unsettled { flow } => return self.give_up(least.max(flow + bounds.step_apart as f64)),
                Fastest::Nothing => return,
            };
            // Answers with a larger step than this chain's flow no faster. They are worse, but for the tolerance.
            let slower = chain.flow + chain.step as f64;
            if slower < best.target() {
                self.give_up(least.max(slower));
            }
            // A better answer flows no faster than this one, so its step must make up for the rest.
            let affordable = best.target() - chain.flow;
            limit = (chain.step - 1).min(affordable.floor() as i64);
            match self.fastest_chain(blended, limit, best) {
                Fastest::Settled(chain) => least = chain.flow,
                Fastest::Unsettled { flow } => return self.give_up(least.max(flow)),
                Fastest::Nothing => return,
            }
        }
    }

    /// The chain with the least flow whose stages keep `limit` once a step. Answers that come up on the way are kept
    /// in `best`.
    fn fastest_chain(&mut self, field: &Field<'_>, limit: i64, best: &mut Incumbent) -> Fastest {
        let spans = match field.ticked.steps {
            Steps::Apart => &mut self.spans_apart,
            Steps::Blended => &mut self.spans_blended,
        };
        loop {
            let Some(outline) = field.best_chain(spans, limit, best.target()) else { return Fastest::Nothing };
            let passages = &outline.passages;
            let unsettled: Vec<&Passage> =
                passages.iter().filter(|passage| !spans.is_settled(passage, limit)).collect();
            for passage in &unsettled {
                spans.settle(field, passage, limit, &mut self.effort);
            }
            let assembled = spans.assemble(passages, limit);
            if let Some((assignment, _)) = &assembled {
                best.offer(self.problem.objective(assignment) / self.apart.tick, assignment);
            }
            // Without a limit, every span that fits has a point, so that an answer is found before giving up.
            if self.effort.is_spent() && (assembled.is_some() || limit < NEVER) {
                return Fastest::Unsettled { flow: outline.flow };
            }
            if let Some((_, step)) = assembled
                && unsettled.is_empty()
            {
                return Fastest::Settled(Chain { flow: outline.flow, step });
            }
        }
    }
}

/// What is found of the fastest chain under a limit.
enum Fastest {
    Settled(Chain),
    /// The effort was spent before. No chain has a smaller flow.
    Unsettled {
        flow: f64,
    },
    /// None can be better than the best answer.
    Nothing,
}

/// A chain whose spans are settled.
struct Chain {
    /// Ticks that no other chain under its limit can beat: of one microbatch through the pipeline and the others
    /// behind it, at the pace of the slowest stage.
    flow: f64,
    /// Ticks once a step of its slowest stage.
    step: i64,
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
