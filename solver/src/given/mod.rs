//! Problems whose stages are given, solved exactly.
//!
//! What tied layers share is decided first: each choice leaves stages that meet only in the objective. A stage is then
//! a knapsack of layers in groups of equals, so that only counts matter, and its linear relaxation is tight: it is off
//! by less than one layer. Choices are opened in the order of their bounds. Of each, the fastest way of every stage is
//! found; where gradient exchanges stay hidden, these are the answer. Where not, stages list all trades of time per
//! microbatch for time per step that can still be better, and the lists are combined.

mod stage;

#[cfg(feature = "ilp")]
pub(crate) mod integer;

use crate::dynamic::ties::{shared_strategies, tie_groups};
use crate::posed::{Posed, StageTimes, StepRule};
use crate::{Answer, Assignment, Solved};
use stage::{Effort, Fill, GivenStage, Load};

/// When to stop.
pub(crate) struct Limits {
    /// Seconds that an answer must beat.
    pub(crate) upper: f64,
    /// Relative difference that does not matter.
    pub(crate) gap: f64,
    /// Steps of the search.
    pub(crate) effort: u64,
}

/// Relative difference below which two times count as equal.
const TOLERANCE: f64 = 1e-12;

pub(crate) fn solve(posed: &Posed, cuts: &[usize], limits: Limits) -> Solved {
    let field = Field::new(posed, cuts);
    let mut search = Search {
        field: &field,
        upper: limits.upper,
        gap: limits.gap.max(TOLERANCE),
        effort: Effort(limits.effort),
        best: None,
        unproven: f64::INFINITY,
    };
    let choices = field.bounded_choices();
    let fits = choices.first().is_some_and(|(bound, _)| bound.is_finite());
    for (bound, shared) in &choices {
        if *bound >= search.target() {
            break;
        }
        if search.effort.is_spent() {
            search.unproven = search.unproven.min(*bound);
            break;
        }
        search.open(shared);
    }
    let skipped = if search.gap > TOLERANCE { search.upper * (1.0 - search.gap) } else { search.upper };
    let mut proven = search.unproven.min(skipped);
    if !field.is_monotone() {
        proven = proven.min(choices.first().map_or(f64::INFINITY, |(bound, _)| *bound));
    }
    match search.best {
        Some(assignment) => {
            let objective = posed.score(&assignment).expect("a solver's assignment keeps every rule").objective;
            Solved::Found(Answer { assignment, objective, bound: proven.min(objective) })
        }
        None if fits && proven.is_finite() => Solved::Stopped { bound: proven },
        None => Solved::Infeasible(posed.shortage(cuts)),
    }
}

pub(crate) fn lower_bound(posed: &Posed, cuts: &[usize]) -> f64 {
    let choices = Field::new(posed, cuts).bounded_choices();
    choices.first().map_or(f64::INFINITY, |(bound, _)| bound * (1.0 - TOLERANCE))
}

/// The problem, stage by stage.
struct Field<'a> {
    posed: &'a Posed,
    cuts: &'a [usize],
    stages: Vec<GivenStage>,
    /// Layers that share a strategy.
    ties: Vec<Vec<usize>>,
}

impl<'a> Field<'a> {
    fn new(posed: &'a Posed, cuts: &'a [usize]) -> Self {
        let problem = &posed.problem;
        let ties = tie_groups(problem);
        let is_tied = |layer: usize| ties.iter().any(|group| group.contains(&layer));
        let end = |stage: usize| cuts.get(stage + 1).copied().unwrap_or(problem.layers.len());
        let stages = (0..cuts.len())
            .map(|stage| {
                let open = (cuts[stage]..end(stage)).filter(|&layer| !is_tied(layer));
                GivenStage::new(problem, stage, open)
            })
            .collect();
        Self { posed, cuts, stages, ties }
    }

    /// What ties may share, as a strategy for each group, and what no assignment with it is below; the least first.
    fn bounded_choices(&self) -> Vec<(f64, Vec<usize>)> {
        let mut choices: Vec<Vec<usize>> = vec![Vec::new()];
        for group in &self.ties {
            let shared = shared_strategies(&self.posed.problem, group);
            let with = |choice: Vec<usize>| shared.iter().map(move |&it| [choice.as_slice(), &[it]].concat());
            choices = choices.into_iter().flat_map(with).collect();
        }
        let bounded = |choice: Vec<usize>| (self.bound(&self.loads(&choice)), choice);
        let mut choices: Vec<(f64, Vec<usize>)> = choices.into_iter().map(bounded).collect();
        choices.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        choices
    }

    /// What tied layers put on each stage.
    fn loads(&self, shared: &[usize]) -> Vec<Load> {
        let problem = &self.posed.problem;
        let mut loads = vec![Load::default(); self.stages.len()];
        for (group, &strategy) in self.ties.iter().zip(shared) {
            for &layer in group {
                let stage = self.cuts.partition_point(|&cut| cut <= layer) - 1;
                loads[stage].add(&problem.strategies(layer)[strategy], &problem.stages[stage]);
            }
        }
        loads
    }

    fn bound(&self, loads: &[Load]) -> f64 {
        let times: Option<Vec<f64>> =
            self.stages.iter().zip(loads).map(|(stage, load)| Some(load.time + stage.least_time(load)?)).collect();
        times.map_or(f64::INFINITY, |times| self.flow(&times))
    }

    /// Whether a step never gets shorter when a stage gets longer. By the rule of the ends it might: work of a stage in
    /// the middle may count for nothing and still hide the exchange of a later stage, if that is longer than all the
    /// work before it. Then less than the optimum may be found, and only the bound of flows is proven.
    fn is_monotone(&self) -> bool {
        let problem = &self.posed.problem;
        let most_step = |layer: usize| problem.strategies(layer).iter().map(|it| it.time_step).fold(0.0, f64::max);
        let least_time =
            |layer: usize| problem.strategies(layer).iter().map(|it| it.time_microbatch).fold(f64::INFINITY, f64::min);
        let layers = |stage: usize| self.cuts[stage]..self.cuts.get(stage + 1).copied().unwrap_or(problem.layers.len());
        let sum =
            |stage: usize, of: &dyn Fn(usize) -> f64| layers(stage).map(of).sum::<f64>() * problem.stages[stage].speed;
        let hides =
            |stage: usize| sum(stage, &most_step) <= (0..stage).map(|before| sum(before, &least_time)).sum::<f64>();
        self.posed.step == StepRule::Slowest || (2..self.stages.len()).all(hides)
    }

    fn flow(&self, times: &[f64]) -> f64 {
        self.posed.step.flow(times, self.posed.problem.microbatches)
    }

    fn seconds(&self, loads: &[Load], fills: &[&Fill]) -> f64 {
        let times: Vec<StageTimes> = loads
            .iter()
            .zip(fills)
            .map(|(load, fill)| StageTimes {
                time: load.time + fill.time,
                tied: load.time,
                step: load.step + fill.step,
            })
            .collect();
        self.posed.step.seconds(&times, self.posed.problem.microbatches)
    }

    fn assignment(&self, shared: &[usize], fills: &[&Fill]) -> Assignment {
        let mut strategies = vec![0; self.posed.problem.layers.len()];
        for (group, &strategy) in self.ties.iter().zip(shared) {
            group.iter().for_each(|&layer| strategies[layer] = strategy);
        }
        for (stage, fill) in self.stages.iter().zip(fills) {
            stage.write(fill, &mut strategies);
        }
        Assignment { cuts: self.cuts.to_vec(), strategies }
    }
}

/// What is shared by all choices.
struct Search<'a> {
    field: &'a Field<'a>,
    /// Seconds of the best answer, or that one must beat.
    upper: f64,
    gap: f64,
    effort: Effort,
    best: Option<Assignment>,
    /// Seconds that no answer can beat in what was given up.
    unproven: f64,
}

impl Search<'_> {
    /// What an answer must lie below to count as better.
    fn target(&self) -> f64 {
        let gap = if self.best.is_some() { self.gap } else { TOLERANCE };
        self.upper * (1.0 - gap)
    }

    fn offer(&mut self, shared: &[usize], loads: &[Load], fills: &[&Fill]) {
        let seconds = self.field.seconds(loads, fills);
        if seconds < self.target() {
            self.upper = seconds;
            self.best = Some(self.field.assignment(shared, fills));
        }
    }

    /// Improves the best answer by the best one under a choice.
    fn open(&mut self, shared: &[usize]) {
        let field = self.field;
        let loads = field.loads(shared);
        let mut fastest = Vec::new();
        for (stage, load) in field.stages.iter().zip(&loads) {
            match stage.fastest(load, &mut self.effort) {
                Some(fill) => fastest.push(fill),
                None => return self.give_up(field.bound(&loads)),
            }
        }
        self.offer(shared, &loads, &fastest.iter().collect::<Vec<&Fill>>());
        let least: Vec<f64> = fastest.iter().zip(&loads).map(|(fill, load)| load.time + fill.time).collect();
        if self.effort.is_spent() {
            return self.give_up(field.bound(&loads));
        }
        let bound = field.flow(&least);
        if bound >= self.target() {
            return;
        }
        let target = self.target();
        let lists: Vec<Vec<Fill>> = (0..loads.len())
            .map(|index| {
                let is_open = |time: f64| {
                    let mut times = least.clone();
                    times[index] = loads[index].time + time;
                    field.flow(&times) < target
                };
                field.stages[index].trades(&loads[index], &is_open, &mut self.effort)
            })
            .collect();
        self.combine(Choice { shared, loads: &loads, lists: &lists }, &mut Vec::new(), &mut least.clone());
        if self.effort.is_spent() {
            self.give_up(bound);
        }
    }

    /// Tries all combinations of what stages list that can be better. `times` has the listed times of the stages that
    /// are chosen, and the least times of the others.
    fn combine<'l>(&mut self, choice: Choice<'l>, chosen: &mut Vec<&'l Fill>, times: &mut [f64]) {
        let stage = chosen.len();
        let Some(list) = choice.lists.get(stage) else { return self.offer(choice.shared, choice.loads, chosen) };
        let least = times[stage];
        for fill in list {
            times[stage] = choice.loads[stage].time + fill.time;
            // Lists ascend in time.
            if self.field.flow(times) >= self.target() || !self.effort.spend() {
                break;
            }
            chosen.push(fill);
            self.combine(choice, chosen, times);
            chosen.pop();
        }
        times[stage] = least;
    }

    fn give_up(&mut self, bound: f64) {
        if self.effort.is_spent() {
            self.unproven = self.unproven.min(bound);
        }
    }
}

/// What a choice leaves to combine.
#[derive(Clone, Copy)]
struct Choice<'l> {
    shared: &'l [usize],
    loads: &'l [Load],
    lists: &'l [Vec<Fill>],
}
