//! Lower bounds on what ranges of layers cost in a stage, and on what is before and after them.
//!
//! A range's bound is the linear relaxation of "choose a strategy per layer, minimise time, fit the memory": for any
//! price λ per byte, the least over all limits on the largest transient of `Σ min(time + λ · bytes) − λ · (capacity −
//! transient)`, with each minimum over the strategies under the limit, is below the time of every choice that fits.
//! The prices tried are slopes of some layer's trade of time for bytes. Costs between layouts inside the range are
//! left out. Layers count by their sorts, so that ranges of equal layers are bounded once for each length.

use super::ticks::{Choice, NEVER, Sort, StageClass, StepTime, Ticked};
use crate::memory::{Demand, LeastMemory};
use std::ops::{Range, RangeInclusive};

/// The least sum and the least maximum of the ticks that some stages take, each by itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeastTicks {
    pub(crate) sum: i64,
    pub(crate) peak: i64,
}

impl LeastTicks {
    const NOTHING: Self = Self { sum: 0, peak: 0 };
    const UNKNOWN: Self = Self { sum: NEVER, peak: NEVER };

    /// Also possible: a stage that takes `time` beside others.
    fn or_with(&mut self, time: i64, others: Self) {
        self.sum = self.sum.min(time.saturating_add(others.sum)).min(NEVER);
        self.peak = self.peak.min(time.max(others.peak));
    }
}

/// Bounds for one choice of sorts for the layers.
pub(crate) struct Bounds {
    layers: usize,
    /// Per stage class and start: least ticks for one microbatch of ranges of one layer, two and so on, as long as they
    /// count.
    time: Vec<Vec<Vec<i64>>>,
    /// Per stage class and layer: least ticks once a step of all layers before.
    step_before: Vec<Vec<i64>>,
    /// Per stage class and layer: least ticks of a cut in front of it.
    cut: Vec<Vec<i64>>,
    /// Of the stages before, at `stage * (layers + 1) + first layer`.
    before: Vec<LeastTicks>,
    /// Of this stage and those after, at the same place.
    after: Vec<LeastTicks>,
    /// Least ticks once a step of the slowest stage, over all cuts.
    pub(crate) step_floor: i64,
    /// The part of `step_floor` that comes on top of the times per microbatch.
    pub(crate) step_apart: i64,
    /// Whether ranges that fit count as if they did not.
    pub(crate) scope: Scope,
}

/// Which ranges have bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All that fit.
    All,
    /// Those short enough to be part of an answer that is good enough.
    Short,
}

impl Bounds {
    /// Ranges that are part of no answer below `upper` ticks count as if they did not fit.
    pub(crate) fn new(ticked: &Ticked, sorts: &[Sort], upper: f64) -> Self {
        let layers = sorts.len();
        let stages = ticked.stages.len();
        let mut scope = Scope::All;
        let time = (0..ticked.classes.len()).map(|class| {
            let (times, of_class) = range_times(ticked, class, sorts, upper);
            if of_class == Scope::Short {
                scope = Scope::Short;
            }
            times
        });
        let time = time.collect();
        let step_before = ticked.classes.iter().map(|class| running_steps(class, sorts)).collect();
        let cut =
            ticked.classes.iter().map(|class| sorts.iter().map(|&sort| least_cut(class, sort)).collect()).collect();
        let edge = vec![LeastTicks::UNKNOWN; (stages + 1) * (layers + 1)];
        let (before, after) = (edge.clone(), edge);
        let mut bounds = Self { layers, time, step_before, cut, before, after, step_floor: 0, step_apart: 0, scope };
        bounds.chain(ticked);
        bounds
    }

    /// Least ticks for one microbatch of `start..end` in stage `stage`; [`NEVER`] if it cannot fit.
    pub(crate) fn time(&self, ticked: &Ticked, stage: usize, start: usize, end: usize) -> i64 {
        let longer = &self.time[ticked.stages[stage]][start];
        longer.get(end - start - 1).copied().unwrap_or(NEVER)
    }

    /// Least ticks once a step of `start..end` in stage `stage`.
    pub(crate) fn step(&self, ticked: &Ticked, stage: usize, start: usize, end: usize) -> i64 {
        let before = &self.step_before[ticked.stages[stage]];
        before[end] - before[start]
    }

    /// Least sum and least maximum over the stages before `stage`, when it starts at `start`.
    pub(crate) fn before(&self, stage: usize, start: usize) -> LeastTicks {
        self.before[stage * (self.layers + 1) + start]
    }

    /// Least sum and least maximum over the stages from `stage` on, when it starts at `start`.
    pub(crate) fn after(&self, stage: usize, start: usize) -> LeastTicks {
        self.after[stage * (self.layers + 1) + start]
    }

    /// Ticks that no step can beat; infinite if nothing fits, or nothing of what is in scope.
    pub(crate) fn objective(&self, ticked: &Ticked) -> f64 {
        let LeastTicks { sum, peak } = self.after(0, 0);
        if sum >= NEVER { f64::INFINITY } else { sum as f64 + ticked.repeats * peak as f64 + self.step_apart as f64 }
    }

    /// Cuts that look good by the bounds alone: from the first stage on, always the end with the least bound.
    pub(crate) fn promising_cuts(&self, ticked: &Ticked) -> Option<Vec<usize>> {
        let stages = ticked.stages.len();
        let mut cuts = vec![0];
        let mut slowest = 0;
        for stage in 0..stages - 1 {
            let start = cuts[stage];
            let worth = |end: usize| {
                let time = self.crossing_time(ticked, stage, start..end);
                let LeastTicks { sum, peak } = self.after(stage + 1, end);
                let bound = time as f64 + sum as f64 + ticked.repeats * time.max(peak).max(slowest) as f64;
                (bound, time, end)
            };
            let fitting = ends(stage, start, stages, self.layers)
                .map(worth)
                .filter(|&(_, time, end)| time < NEVER && self.after(stage + 1, end).sum < NEVER);
            let (_, time, end) = fitting.min_by(|(one, ..), (other, ..)| one.total_cmp(other))?;
            slowest = slowest.max(time);
            cuts.push(end);
        }
        Some(cuts)
    }

    /// Fills `before`, `after` and `step_floor` from the ranges.
    fn chain(&mut self, ticked: &Ticked) {
        let (layers, stages) = (self.layers, ticked.stages.len());
        let at = |stage: usize, layer: usize| stage * (layers + 1) + layer;
        let mut steps = vec![NEVER; (stages + 1) * (layers + 1)];
        self.before[0] = LeastTicks::NOTHING;
        self.after[at(stages, layers)] = LeastTicks::NOTHING;
        steps[0] = 0;
        for stage in 0..stages {
            let starts = if stage == 0 { 0..=0 } else { stage..=layers - (stages - stage) };
            for start in starts {
                for end in ends(stage, start, stages, layers) {
                    let time = self.crossing_time(ticked, stage, start..end);
                    // Longer ones do not fit either.
                    if time >= NEVER {
                        break;
                    }
                    let step = self.step(ticked, stage, start, end).max(steps[at(stage, start)]);
                    let other = self.before[at(stage, start)];
                    self.before[at(stage + 1, end)].or_with(time, other);
                    steps[at(stage + 1, end)] = steps[at(stage + 1, end)].min(step);
                }
            }
        }
        for stage in (0..stages).rev() {
            let starts = if stage == 0 { 0..=0 } else { stage..=layers - (stages - stage) };
            for start in starts {
                for end in ends(stage, start, stages, layers) {
                    let time = self.crossing_time(ticked, stage, start..end);
                    if time >= NEVER {
                        break;
                    }
                    let other = self.after[at(stage + 1, end)];
                    self.after[at(stage, start)].or_with(time, other);
                }
            }
        }
        self.step_floor = steps[at(stages, layers)];
        self.step_apart = match ticked.steps {
            StepTime::Apart => self.step_floor,
            StepTime::Blended => 0,
        };
    }

    /// A range's time with the least that its cuts can cost.
    pub(crate) fn crossing_time(&self, ticked: &Ticked, stage: usize, range: Range<usize>) -> i64 {
        let cut = &self.cut[ticked.stages[stage]];
        let before = if range.start > 0 { cut[range.start] } else { 0 };
        let after = if range.end < self.layers { cut[range.end] } else { 0 };
        (self.time(ticked, stage, range.start, range.end) + before + after).min(NEVER)
    }
}

fn least_cut(class: &StageClass, sort: Sort) -> i64 {
    class.choices(sort).iter().map(|choice| class.boundary[choice.layout]).min().unwrap_or(0)
}

/// Where stage `stage` may end when it starts at `start`, leaving a layer for each stage after it.
pub(crate) fn ends(stage: usize, start: usize, stages: usize, layers: usize) -> RangeInclusive<usize> {
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

/// The bounds of ranges that a stage of the class can have, from each start on, up to the longest one whose least memory
/// does not exceed the capacity, and which does not make a step of `upper` ticks.
fn range_times(ticked: &Ticked, class: usize, sorts: &[Sort], upper: f64) -> (Vec<Vec<i64>>, Scope) {
    let (layers, stages) = (sorts.len(), &ticked.stages);
    let first = if stages[0] == class { 0 } else { 1 };
    let last = if stages[stages.len() - 1] == class { layers } else { layers - 1 };
    // The first stage starts nowhere else.
    let starts = if stages[1..].contains(&class) { first..last } else { 0..1 };
    let longest = layers + 1 - stages.len();
    let duals = Duals::new(&ticked.classes[class], sorts);
    let run_starts = run_starts(sorts);
    let mut times: Vec<Vec<i64>> = vec![Vec::new(); layers + 1];
    let mut scope = Scope::All;
    for start in starts {
        let mut counts = vec![0.0; duals.sort_count];
        let mut price = 0;
        let run = run_starts[start].max(first);
        for end in start + 1..=last.min(start + longest) {
            counts[duals.sorts[end - 1]] += 1.0;
            // Within a run of equal layers, only the length matters.
            let time = if run < start && run_starts[end - 1] <= run {
                times[run].get(end - start - 1).copied().unwrap_or(NEVER)
            } else if duals.memory.bytes(start..end) <= u128::from(duals.capacity) {
                duals.climb(&counts, &mut price) as i64
            } else {
                NEVER
            };
            if time >= NEVER {
                break;
            }
            // Longer ranges take no less.
            if (1.0 + ticked.repeats) * time as f64 >= upper {
                scope = Scope::Short;
                break;
            }
            times[start].push(time);
        }
    }
    (times, scope)
}

/// For each layer, the first of the run of equal ones that it belongs to.
fn run_starts(sorts: &[Sort]) -> Vec<usize> {
    let mut start = 0;
    (0..sorts.len())
        .map(|layer| {
            if sorts[layer] != sorts[start] {
                start = layer;
            }
            start
        })
        .collect()
}

/// The Lagrange duals of "choose strategies, fit the memory" at several prices per byte.
struct Duals {
    capacity: u64,
    memory: LeastMemory,
    /// For each layer, the place of its sort among the distinct ones.
    sorts: Vec<usize>,
    sort_count: usize,
    prices: Vec<f64>,
    /// For each price, every largest transient worth its room.
    limits: Vec<Vec<PricedLimit>>,
}

/// What layers cost at a price, if no transient exceeds a limit.
struct PricedLimit {
    /// What the transient's room costs.
    transient: f64,
    /// Least `time + price · bytes` of each sort.
    costs: Vec<f64>,
}

impl Duals {
    fn new(class: &StageClass, layers: &[Sort]) -> Self {
        let mut distinct = layers.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        let sorts: Vec<usize> =
            layers.iter().map(|sort| distinct.binary_search(sort).expect("every sort is listed")).collect();
        let fits = |choice: &&Choice| choice.bytes.saturating_add(choice.transient) <= class.capacity;
        let by_transient = |&sort: &Sort| {
            let mut choices: Vec<Choice> = class.choices(sort).iter().filter(fits).copied().collect();
            choices.sort_by_key(|choice| choice.transient);
            choices
        };
        let lists: Vec<Vec<Choice>> = distinct.iter().map(by_transient).collect();
        let demand = |choice: &Choice| Demand { bytes: choice.bytes, transient: choice.transient };
        let demands: Vec<Vec<Demand>> =
            distinct.iter().map(|&sort| class.choices(sort).iter().map(demand).collect()).collect();
        let memory = LeastMemory::new(&demands, &sorts);
        let prices = prices(&lists);
        let limits = prices.iter().map(|&price| limits(&lists, price)).collect();
        Self { capacity: class.capacity, memory, sorts, sort_count: distinct.len(), prices, limits }
    }

    /// The best bound for so many layers of each sort. It is concave in the price, so that the best price is found
    /// from any other one, uphill.
    fn climb(&self, counts: &[f64], at: &mut usize) -> f64 {
        let mut best = self.value(counts, *at);
        for ahead in [true, false] {
            loop {
                let next = if ahead { *at + 1 } else { at.wrapping_sub(1) };
                let Some(value) = (next < self.prices.len()).then(|| self.value(counts, next)) else { break };
                if value <= best {
                    break;
                }
                (best, *at) = (value, next);
            }
        }
        best.max(0.0)
    }

    fn value(&self, counts: &[f64], price: usize) -> f64 {
        let cost = |limit: &PricedLimit| {
            let layers = counts.iter().zip(&limit.costs).filter(|&(&count, _)| count > 0.0);
            limit.transient + layers.map(|(count, cost)| count * cost).sum::<f64>()
        };
        let least = self.limits[price].iter().map(cost).fold(f64::INFINITY, f64::min);
        let room = self.prices[price] * self.capacity as f64;
        // Rounding must not lift the bound above the truth.
        least - room - 1e-12 * (least + room)
    }
}

/// The limits on the largest transient at which some list, sorted by transient, becomes cheaper.
fn limits(lists: &[Vec<Choice>], price: f64) -> Vec<PricedLimit> {
    let mut limits: Vec<u64> = Vec::new();
    for list in lists {
        let mut least = f64::INFINITY;
        for choice in list {
            let cost = choice.time as f64 + price * choice.bytes as f64;
            if cost < least {
                least = cost;
                limits.push(choice.transient);
            }
        }
    }
    limits.sort_unstable();
    limits.dedup();
    let least = |list: &Vec<Choice>, limit: u64| {
        let under = list.iter().take_while(|choice| choice.transient <= limit);
        under.map(|choice| choice.time as f64 + price * choice.bytes as f64).fold(f64::INFINITY, f64::min)
    };
    let limit = |&limit: &u64| PricedLimit {
        transient: price * limit as f64,
        costs: lists.iter().map(|list| least(list, limit)).collect(),
    };
    limits.iter().map(limit).collect()
}

/// Prices per byte worth trying: zero, and the slopes of each list's lower hull of time over bytes.
fn prices(lists: &[Vec<Choice>]) -> Vec<f64> {
    let mut prices = vec![0.0];
    for list in lists {
        let mut points: Vec<(u64, i64)> = list.iter().map(|choice| (choice.bytes, choice.time)).collect();
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
