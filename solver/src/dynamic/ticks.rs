//! A [`Problem`] made ready for exact sums: times as integers, dominated strategies gone, equal stages merged.
//!
//! Sums of floats depend on their order, so two orders of the same strategies would look like two different
//! partial answers, neither better than the other. Times are therefore counted in ticks, 2⁻⁶⁰ of the longest
//! possible step; equal sums are then equal.

use crate::{Costs, Problem, Stage};

/// A cost too large to be part of an answer; small enough that adding a few does not overflow.
pub(crate) const NEVER: i64 = i64::MAX / 4;

/// A strategy as one class of stages sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    /// Ticks for one microbatch.
    pub(crate) time: i64,
    /// Ticks once a step.
    pub(crate) step: i64,
    /// State, and saved tensors of all microbatches in flight.
    pub(crate) bytes: u64,
    /// Extra bytes while the layer runs.
    pub(crate) transient: u64,
    pub(crate) layout: usize,
    /// Index among the kind's strategies.
    pub(crate) strategy: usize,
}

impl Choice {
    /// Whether nothing is lost by taking `self` wherever `other` is taken.
    fn dominates(&self, other: &Self) -> bool {
        self.layout == other.layout
            && self.time <= other.time
            && self.step <= other.step
            && self.bytes <= other.bytes
            && self.transient <= other.transient
    }
}

/// Drops choices that another one dominates; of equal ones the first stays.
pub(crate) fn undominated(choices: &[Choice]) -> Vec<Choice> {
    let mut kept: Vec<Choice> = Vec::new();
    for choice in choices {
        if !kept.iter().any(|other| other.dominates(choice)) {
            kept.retain(|other| !choice.dominates(other));
            kept.push(*choice);
        }
    }
    kept
}

fn undominated_of(choices: &[Choice], useful: &[bool]) -> Vec<Choice> {
    let kept = choices.iter().zip(useful).filter_map(|(&choice, &useful)| useful.then_some(choice));
    undominated(&kept.collect::<Vec<_>>())
}

/// For each strategy, whether no other one matches it in every cost, whatever the stage.
fn useful(strategies: &[Costs]) -> Vec<bool> {
    let beaten = |index: usize| (0..strategies.len()).any(|other| beats(strategies, other, index));
    (0..strategies.len()).map(|index| !beaten(index)).collect()
}

fn beats(strategies: &[Costs], one: usize, other: usize) -> bool {
    strategies[one].matches(&strategies[other]) && (one < other || !strategies[other].matches(&strategies[one]))
}

/// A kind of layer, or one strategy of it where a tie has been decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Sort {
    pub(crate) kind: usize,
    pub(crate) fixed: Option<usize>,
}

/// Stages with equal numbers, and all costs as they see them.
#[derive(Clone, Debug)]
pub(crate) struct StageClass {
    pub(crate) capacity: u64,
    /// Choices of each kind, undominated.
    kinds: Vec<Vec<Choice>>,
    /// Every strategy of each kind, also the dominated ones.
    strategies: Vec<Vec<Choice>>,
    /// Ticks from one layout class to another.
    pub(crate) transitions: Vec<Vec<i64>>,
    /// Ticks for crossing a cut to a layer of each layout class.
    pub(crate) boundary: Vec<i64>,
}

impl StageClass {
    /// The class of `stage`, with `rate` of each strategy's time once a step added to its time per microbatch.
    fn new(problem: &Problem, stage: &Stage, tick: f64, rate: f64, useful: &[Vec<bool>]) -> Self {
        let ticks = |seconds: f64| (seconds * stage.speed / tick).round() as i64;
        let in_flight = u64::from(stage.in_flight);
        let choices = |kind: &crate::Kind| -> Vec<Choice> {
            let numbered = kind.strategies.iter().enumerate();
            numbered
                .map(|(strategy, costs)| Choice {
                    time: ticks(costs.time_microbatch + rate * costs.time_step),
                    step: ticks(costs.time_step),
                    bytes: costs.bytes_state.saturating_add(costs.bytes_saved.saturating_mul(in_flight)),
                    transient: costs.bytes_transient,
                    layout: costs.layout,
                    strategy,
                })
                .collect()
        };
        let strategies: Vec<Vec<Choice>> = problem.kinds.iter().map(choices).collect();
        Self {
            capacity: stage.capacity_bytes,
            kinds: strategies.iter().zip(useful).map(|(all, useful)| undominated_of(all, useful)).collect(),
            strategies,
            transitions: problem.transitions.iter().map(|row| row.iter().map(|&s| ticks(s)).collect()).collect(),
            boundary: problem.boundary.iter().map(|&s| ticks(s)).collect(),
        }
    }

    /// What a layer of this sort can do.
    pub(crate) fn choices(&self, sort: Sort) -> &[Choice] {
        match sort.fixed {
            None => &self.kinds[sort.kind],
            Some(strategy) => &self.strategies[sort.kind][strategy..=strategy],
        }
    }
}

/// A problem in ticks.
#[derive(Clone, Debug)]
pub(crate) struct Ticked {
    /// Seconds of one tick.
    pub(crate) tick: f64,
    pub(crate) classes: Vec<StageClass>,
    /// The class of each stage.
    pub(crate) stages: Vec<usize>,
    pub(crate) layout_count: usize,
    /// `m − 1`: how often the slowest stage counts beyond its place in the sum.
    pub(crate) repeats: f64,
    /// Whether the step's time is part of the times per microbatch.
    pub(crate) steps: StepTime,
}

/// Where a [`Ticked`] problem counts what happens once a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StepTime {
    /// Apart, as the objective does.
    Apart,
    /// Blended into the time per microbatch at the rate `1 / (m − 1 + p)`. The objective with blended times
    /// `Y_s = T_s + rate · U_s` and no other term is a lower bound of the true one, since
    /// `max U ≥ rate · Σ U_s + (m − 1) · rate · max U` and `max T + rate · max U ≥ max Y`. With one stage it is
    /// the true one.
    Blended,
}

impl Ticked {
    pub(crate) fn new(problem: &Problem, steps: StepTime) -> Self {
        let tick = tick(problem);
        let mut distinct: Vec<&Stage> = Vec::new();
        let mut stages = Vec::new();
        for stage in &problem.stages {
            let class = distinct.iter().position(|&other| other == stage).unwrap_or_else(|| {
                distinct.push(stage);
                distinct.len() - 1
            });
            stages.push(class);
        }
        let repeats = f64::from(problem.microbatches - 1);
        let rate = match steps {
            StepTime::Apart => 0.0,
            StepTime::Blended => 1.0 / (repeats + problem.stages.len() as f64),
        };
        let useful: Vec<Vec<bool>> = problem.kinds.iter().map(|kind| useful(&kind.strategies)).collect();
        let class = |stage| StageClass::new(problem, stage, tick, rate, &useful);
        let classes = distinct.into_iter().map(class).collect();
        Self { tick, classes, stages, layout_count: problem.transitions.len(), repeats, steps }
    }

    /// The class that stage `stage` belongs to.
    pub(crate) fn class(&self, stage: usize) -> &StageClass {
        &self.classes[self.stages[stage]]
    }
}

/// 2⁻⁶⁰ of the longest step that any assignment could take, so that no sum of ticks overflows.
fn tick(problem: &Problem) -> f64 {
    let largest = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, f64::max);
    let speed = largest(&mut problem.stages.iter().map(|stage| stage.speed));
    let per_layer = |layer: usize| {
        let strategies = problem.strategies(layer);
        largest(&mut strategies.iter().map(|s| s.time_microbatch))
            + largest(&mut strategies.iter().map(|s| s.time_step))
    };
    let layers: f64 = (0..problem.layers.len()).map(per_layer).sum();
    let crossing = largest(&mut problem.transitions.iter().flatten().copied())
        + 2.0 * largest(&mut problem.boundary.iter().copied());
    let longest = speed * (layers + problem.layers.len() as f64 * crossing);
    if longest > 0.0 { longest / (1_u64 << 60) as f64 } else { 1.0 }
}
