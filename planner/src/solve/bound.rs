//! Lower bounds on what spans of layers cost in a stage, and on what is before and after them.
//!
//! A span's bound is the linear relaxation of "choose a strategy per layer, minimise time, fit the memory": for any
//! price λ per byte, `Σ min(time + λ · bytes) − λ · (capacity − transient)` is below the time of every choice that
//! fits, and the best λ is a slope of some layer's trade of time for bytes. Costs between layouts inside the span
//! are left out. Sums for each λ run over all layers once, so a span costs one subtraction per λ.

use super::memory::{Demand, LeastMemory};
use super::ticks::{Choice, NEVER, Sort, StageClass, Steps, Ticked};
use std::ops::{Range, RangeInclusive};

/// Bounds for one choice of sorts for the layers.
pub(super) struct Bounds {
    layers: usize,
    /// Per stage class: least ticks for one microbatch of the span `start..end` at `start * (layers + 1) + end`.
    time: Vec<Vec<i64>>,
    /// Per stage class and layer: least ticks once a step of all layers before.
    step_before: Vec<Vec<i64>>,
    /// Per stage class and layer: least ticks of a cut in front of it.
    cut: Vec<Vec<i64>>,
    /// Least sum and least maximum of the stages before, at `stage * (layers + 1) + first layer`.
    before: Vec<(i64, i64)>,
    /// Least sum and least maximum of this stage and those after.
    after: Vec<(i64, i64)>,
    /// Least ticks once a step of the slowest stage, over all cuts.
    pub(super) step_floor: i64,
    /// The part of `step_floor` that comes on top of the times per microbatch.
    pub(super) step_apart: i64,
}

impl Bounds {
    pub(super) fn new(ticked: &Ticked, sorts: &[Sort]) -> Self {
        let layers = sorts.len();
        let stages = ticked.stages.len();
        let time = ticked.classes.iter().map(|class| span_times(class, sorts)).collect();
        let step_before = ticked.classes.iter().map(|class| running_steps(class, sorts)).collect();
        let cut =
            ticked.classes.iter().map(|class| sorts.iter().map(|&sort| least_cut(class, sort)).collect()).collect();
        let edge = vec![(NEVER, NEVER); (stages + 1) * (layers + 1)];
        let mut bounds =
            Self { layers, time, step_before, cut, before: edge.clone(), after: edge, step_floor: 0, step_apart: 0 };
        bounds.chain(ticked);
        bounds
    }

    /// Least ticks for one microbatch of `start..end` in stage `stage`; [`NEVER`] if it cannot fit.
    pub(super) fn time(&self, ticked: &Ticked, stage: usize, start: usize, end: usize) -> i64 {
        self.time[ticked.stages[stage]][start * (self.layers + 1) + end]
    }

    /// Least ticks once a step of `start..end` in stage `stage`.
    pub(super) fn step(&self, ticked: &Ticked, stage: usize, start: usize, end: usize) -> i64 {
        let before = &self.step_before[ticked.stages[stage]];
        before[end] - before[start]
    }

    /// Least sum and least maximum over the stages before `stage`, when it starts at `start`.
    pub(super) fn before(&self, stage: usize, start: usize) -> (i64, i64) {
        self.before[stage * (self.layers + 1) + start]
    }

    /// Least sum and least maximum over the stages from `stage` on, when it starts at `start`.
    pub(super) fn after(&self, stage: usize, start: usize) -> (i64, i64) {
        self.after[stage * (self.layers + 1) + start]
    }

    /// Ticks that no step can beat; infinite if nothing fits.
    pub(super) fn objective(&self, ticked: &Ticked) -> f64 {
        let (sum, peak) = self.after(0, 0);
        if sum >= NEVER { f64::INFINITY } else { sum as f64 + ticked.repeats * peak as f64 + self.step_apart as f64 }
    }

    /// Fills `before`, `after` and `step_floor` from the spans.
    fn chain(&mut self, ticked: &Ticked) {
        let (layers, stages) = (self.layers, ticked.stages.len());
        let at = |stage: usize, layer: usize| stage * (layers + 1) + layer;
        let least = |kept: &mut (i64, i64), time: i64, other: (i64, i64)| {
            kept.0 = kept.0.min(time.saturating_add(other.0)).min(NEVER);
            kept.1 = kept.1.min(time.max(other.1));
        };
        let mut steps = vec![NEVER; (stages + 1) * (layers + 1)];
        self.before[0] = (0, 0);
        self.after[at(stages, layers)] = (0, 0);
        steps[0] = 0;
        for stage in 0..stages {
            let starts = if stage == 0 { 0..=0 } else { stage..=layers - (stages - stage) };
            for start in starts {
                for end in ends(stage, start, stages, layers) {
                    let time = self.crossing_time(ticked, stage, start..end);
                    let step = self.step(ticked, stage, start, end).max(steps[at(stage, start)]);
                    let other = self.before[at(stage, start)];
                    least(&mut self.before[at(stage + 1, end)], time, other);
                    if time < NEVER {
                        steps[at(stage + 1, end)] = steps[at(stage + 1, end)].min(step);
                    }
                }
            }
        }
        for stage in (0..stages).rev() {
            let starts = if stage == 0 { 0..=0 } else { stage..=layers - (stages - stage) };
            for start in starts {
                for end in ends(stage, start, stages, layers) {
                    let time = self.crossing_time(ticked, stage, start..end);
                    let other = self.after[at(stage + 1, end)];
                    least(&mut self.after[at(stage, start)], time, other);
                }
            }
        }
        self.step_floor = steps[at(stages, layers)];
        self.step_apart = match ticked.steps {
            Steps::Apart => self.step_floor,
            Steps::Blended => 0,
        };
    }

    /// A span's time with the least that its cuts can cost.
    pub(super) fn crossing_time(&self, ticked: &Ticked, stage: usize, span: Range<usize>) -> i64 {
        let cut = &self.cut[ticked.stages[stage]];
        let before = if span.start > 0 { cut[span.start] } else { 0 };
        let after = if span.end < self.layers { cut[span.end] } else { 0 };
        (self.time(ticked, stage, span.start, span.end) + before + after).min(NEVER)
    }
}

fn least_cut(class: &StageClass, sort: Sort) -> i64 {
    class.choices(sort).iter().map(|choice| class.boundary[choice.layout]).min().unwrap_or(0)
}

/// Where stage `stage` may end when it starts at `start`, leaving a layer for each stage after it.
pub(super) fn ends(stage: usize, start: usize, stages: usize, layers: usize) -> RangeInclusive<usize> {
    let left = stages - 1 - stage;
    if left == 0 { layers..=layers } else { start + 1..=layers - left }
}

fn running_steps(class: &StageClass, sorts: &[Sort]) -> Vec<i64> {
    let mut sum = 0;
    let least = |&sort: &Sort| class.choices(sort).iter().map(|choice| choice.step).min().unwrap_or(0);
    std::iter::once(0)
        .chain(sorts.iter().map(|sort| {
            sum += least(sort);
            sum
        }))
        .collect()
}

/// The bound of every span in a class of stages, [`NEVER`] where the least memory exceeds the capacity.
fn span_times(class: &StageClass, sorts: &[Sort]) -> Vec<i64> {
    let layers = sorts.len();
    let demand = |choice: &Choice| Demand { bytes: choice.bytes, transient: choice.transient };
    let demands: Vec<Vec<Demand>> =
        sorts.iter().map(|&sort| class.choices(sort).iter().map(demand).collect()).collect();
    let memory = LeastMemory::new(&demands);
    let prices = prices(class, sorts);
    let running: Vec<Vec<f64>> = prices.iter().map(|&price| running_costs(class, sorts, price)).collect();
    let transient: Vec<u64> =
        demands.iter().map(|all| all.iter().map(|demand| demand.transient).min().unwrap_or(0)).collect();
    let mut times = vec![NEVER; (layers + 1) * (layers + 1)];
    for start in 0..layers {
        let mut largest = 0;
        for end in start + 1..=layers {
            if memory.bytes(start..end) > u128::from(class.capacity) {
                break;
            }
            largest = largest.max(transient[end - 1]);
            let budget = class.capacity.saturating_sub(largest) as f64;
            let under = |(sums, &price): (&Vec<f64>, &f64)| {
                let (cost, room) = (sums[end] - sums[start], price * budget);
                // Rounding must not lift the bound above the truth.
                cost - room - 1e-12 * (sums[end].abs() + room)
            };
            let bound = running.iter().zip(&prices).map(under).fold(0.0, f64::max);
            times[start * (layers + 1) + end] = bound as i64;
        }
    }
    times
}

/// Running sums of the least `time + price · bytes` per layer.
fn running_costs(class: &StageClass, sorts: &[Sort], price: f64) -> Vec<f64> {
    let least = |&sort: &Sort| {
        let costs = class.choices(sort).iter().map(|choice| choice.time as f64 + price * choice.bytes as f64);
        costs.fold(f64::INFINITY, f64::min)
    };
    let mut sum = 0.0;
    std::iter::once(0.0)
        .chain(sorts.iter().map(|sort| {
            sum += least(sort);
            sum
        }))
        .collect()
}

/// Prices per byte worth trying: zero, and the slopes of each sort's lower hull of time over bytes.
fn prices(class: &StageClass, sorts: &[Sort]) -> Vec<f64> {
    let mut distinct = sorts.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    let mut prices = vec![0.0];
    for sort in distinct {
        let mut points: Vec<(u64, i64)> =
            class.choices(sort).iter().map(|choice| (choice.bytes, choice.time)).collect();
        points.sort_unstable();
        let mut here = points.first().copied();
        // From the smallest bytes on, always the steepest way down.
        while let Some((bytes, time)) = here {
            let slope = |&&(b, t): &&(u64, i64)| (time - t) as f64 / (b - bytes) as f64;
            let below = points.iter().filter(|&&(b, t)| b > bytes && t < time);
            here = below.max_by(|a, b| slope(a).total_cmp(&slope(b))).copied();
            prices.extend(here.as_ref().map(|point| slope(&point)));
        }
    }
    prices.sort_by(f64::total_cmp);
    prices.dedup();
    prices
}
