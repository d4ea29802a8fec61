//! One stage: layers in groups of equals, each with ways to be done, under the memory that tied layers leave.

use crate::{Costs, Problem, Stage};

/// Steps of the search that are left.
pub(crate) struct Effort(pub(crate) u64);

impl Effort {
    /// Takes one; false if none is left.
    pub(crate) fn spend(&mut self) -> bool {
        self.0 = self.0.saturating_sub(1);
        self.0 > 0
    }

    pub(crate) fn is_spent(&self) -> bool {
        self.0 == 0
    }
}

/// What something puts on a stage.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Load {
    /// Seconds for one microbatch.
    pub(crate) time: f64,
    /// Seconds once a step.
    pub(crate) step: f64,
    pub(crate) bytes: u64,
}

impl Load {
    pub(crate) fn add(&mut self, costs: &Costs, stage: &Stage) {
        self.time += costs.time_microbatch * stage.speed;
        self.step += costs.time_step * stage.speed;
        let saved = costs.bytes_saved.saturating_mul(u64::from(stage.in_flight));
        self.bytes = self.bytes.saturating_add(costs.bytes_state.saturating_add(saved));
    }
}

/// A way to do a layer.
#[derive(Clone, Copy, Debug)]
struct Way {
    strategy: usize,
    load: Load,
}

/// Layers of one kind.
struct Group {
    layers: Vec<usize>,
    /// Ways that no other one matches in everything, the fastest first.
    ways: Vec<Way>,
    /// `trades[w]`: of the ways from `w` on, those at corners of the trade of bytes for time, the smallest first.
    trades: Vec<Vec<Load>>,
}

/// A stage whose layers are given.
pub(crate) struct GivenStage {
    groups: Vec<Group>,
    capacity: u64,
}

/// How a stage is filled.
#[derive(Clone, Debug)]
pub(crate) struct Fill {
    /// Seconds for one microbatch, without tied layers.
    pub(crate) time: f64,
    /// Seconds once a step, without tied layers.
    pub(crate) step: f64,
    /// `counts[group]`: of each way how many layers.
    counts: Vec<Vec<usize>>,
}

/// Relative difference below which two times count as equal.
const TOLERANCE: f64 = 1e-13;

impl GivenStage {
    /// Stage `stage` of `problem` with the layers that are not tied.
    pub(crate) fn new(problem: &Problem, stage: usize, layers: impl Iterator<Item = usize>) -> Self {
        let offered = &problem.stages[stage];
        let mut kinds: Vec<(usize, Vec<usize>)> = Vec::new();
        for layer in layers {
            let kind = problem.layers[layer];
            match kinds.iter_mut().find(|(other, _)| *other == kind) {
                Some((_, same)) => same.push(layer),
                None => kinds.push((kind, vec![layer])),
            }
        }
        let group = |(kind, layers): (usize, Vec<usize>)| {
            let load = |costs: &Costs| {
                let mut load = Load::default();
                load.add(costs, offered);
                load
            };
            Group::new(layers, problem.kinds[kind].strategies.iter().map(load).collect())
        };
        Self { groups: kinds.into_iter().map(group).collect(), capacity: offered.capacity_bytes }
    }

    /// Seconds that no way to fill the stage beside `load` is below; none if nothing fits.
    pub(crate) fn least_time(&self, load: &Load) -> Option<f64> {
        let room = self.capacity.checked_sub(load.bytes)?;
        let rest = Rest { group: 0, way: 0, count: self.groups.first().map_or(0, |group| group.layers.len()), room };
        self.relaxed(rest)
    }

    /// The fill of least time beside `load`; none if nothing fits, or the effort is spent.
    pub(crate) fn fastest(&self, load: &Load, effort: &mut Effort) -> Option<Fill> {
        let mut visitor = Visitor {
            stage: self,
            effort,
            is_open: &|time, found: &[Fill]| found.first().is_none_or(|best| time < best.time * (1.0 - TOLERANCE)),
            keep: &|fill, found: &mut Vec<Fill>| *found = vec![fill],
            found: Vec::new(),
        };
        visitor.start(self.capacity.checked_sub(load.bytes)?);
        visitor.found.pop()
    }

    /// All fills beside `load` of which no other one is as good in both times, the fastest first; without those whose
    /// time is not open.
    pub(crate) fn trades(&self, load: &Load, is_open: &dyn Fn(f64) -> bool, effort: &mut Effort) -> Vec<Fill> {
        let Some(room) = self.capacity.checked_sub(load.bytes) else { return Vec::new() };
        let mut visitor = Visitor {
            stage: self,
            effort,
            is_open: &|time, _| is_open(time),
            keep: &|fill: Fill, found: &mut Vec<Fill>| {
                let matches = |one: &Fill, other: &Fill| one.time <= other.time && one.step <= other.step;
                if !found.iter().any(|other| matches(other, &fill)) {
                    found.retain(|other| !matches(&fill, other));
                    found.push(fill);
                }
            },
            found: Vec::new(),
        };
        visitor.start(room);
        let mut found = visitor.found;
        found.sort_by(|one, other| one.time.total_cmp(&other.time).then(one.step.total_cmp(&other.step)));
        found
    }

    /// Writes the strategies of its layers.
    pub(crate) fn write(&self, fill: &Fill, strategies: &mut [usize]) {
        for (group, counts) in self.groups.iter().zip(&fill.counts) {
            let used = group.ways.iter().zip(counts).flat_map(|(way, &count)| std::iter::repeat_n(way.strategy, count));
            group.layers.iter().zip(used).for_each(|(&layer, strategy)| strategies[layer] = strategy);
        }
    }

    /// The least time of what is left, if layers could be divided; none if it does not fit.
    fn relaxed(&self, rest: Rest) -> Option<f64> {
        let mut parts: Vec<(&[Load], usize)> = Vec::new();
        if let Some(group) = self.groups.get(rest.group)
            && rest.count > 0
        {
            parts.push((group.trades.get(rest.way)?, rest.count));
        }
        parts.extend(self.groups.iter().skip(rest.group + 1).map(|group| (&group.trades[0][..], group.layers.len())));
        let mut room = rest.room as f64;
        let mut time = 0.0;
        let mut trades: Vec<(f64, f64)> = Vec::new();
        for &(corners, count) in &parts {
            let count = count as f64;
            room -= count * corners[0].bytes as f64;
            time += count * corners[0].time;
            trades.extend(
                corners.windows(2).map(|pair| {
                    (count * (pair[1].bytes - pair[0].bytes) as f64, count * (pair[0].time - pair[1].time))
                }),
            );
        }
        if room < 0.0 {
            return None;
        }
        trades.sort_by(|one, other| (other.1 * one.0).total_cmp(&(one.1 * other.0)));
        for (bytes, saved) in trades {
            let share = if bytes > room { room / bytes } else { 1.0 };
            time -= share * saved;
            room -= share * bytes;
            if share < 1.0 {
                break;
            }
        }
        Some(time)
    }
}

impl Group {
    fn new(layers: Vec<usize>, loads: Vec<Load>) -> Self {
        let matches =
            |one: &Load, other: &Load| one.time <= other.time && one.step <= other.step && one.bytes <= other.bytes;
        let beaten = |index: usize| {
            let mut others = loads.iter().enumerate().filter(|(other, _)| *other != index);
            others.any(|(other, load)| matches(load, &loads[index]) && (other < index || !matches(&loads[index], load)))
        };
        let mut ways: Vec<Way> = (0..loads.len())
            .filter(|&strategy| !beaten(strategy))
            .map(|strategy| Way { strategy, load: loads[strategy] })
            .collect();
        ways.sort_by(|one, other| one.load.time.total_cmp(&other.load.time));
        let trades = (0..ways.len()).map(|way| corners(&ways[way..])).collect();
        Self { layers, ways, trades }
    }
}

/// The ways at corners of the lower hull of time over bytes, the smallest first.
fn corners(ways: &[Way]) -> Vec<Load> {
    let mut loads: Vec<Load> = ways.iter().map(|way| way.load).collect();
    loads.sort_by(|one, other| one.bytes.cmp(&other.bytes).then(one.time.total_cmp(&other.time)));
    let mut hull: Vec<Load> = Vec::new();
    for load in loads {
        if hull.last().is_some_and(|last| load.time >= last.time) {
            continue;
        }
        while let [.., before, last] = &hull[..] {
            let saved = |from: &Load| (from.time - load.time, (load.bytes - from.bytes) as f64);
            let ((whole, whole_bytes), (short, short_bytes)) = (saved(before), saved(last));
            // The last corner lies above the line from the one before it.
            if whole * short_bytes > short * whole_bytes {
                break;
            }
            hull.pop();
        }
        hull.push(load);
    }
    hull
}

/// What is left to fill: `count` layers of `group` by the ways from `way` on, and all groups behind it.
#[derive(Clone, Copy)]
struct Rest {
    group: usize,
    way: usize,
    count: usize,
    room: u64,
}

/// Visits fills whose bounds are open.
struct Visitor<'a> {
    stage: &'a GivenStage,
    effort: &'a mut Effort,
    /// Whether fills of at least this time are wanted, beside those found.
    is_open: &'a dyn Fn(f64, &[Fill]) -> bool,
    keep: &'a dyn Fn(Fill, &mut Vec<Fill>),
    found: Vec<Fill>,
}

impl Visitor<'_> {
    fn start(&mut self, room: u64) {
        let counts = self.stage.groups.iter().map(|group| vec![0; group.ways.len()]).collect();
        let count = self.stage.groups.first().map_or(0, |group| group.layers.len());
        self.visit(Rest { group: 0, way: 0, count, room }, &mut Fill { time: 0.0, step: 0.0, counts });
    }

    fn visit(&mut self, rest: Rest, fill: &mut Fill) {
        let groups = &self.stage.groups;
        let Some(group) = groups.get(rest.group) else { return (self.keep)(fill.clone(), &mut self.found) };
        if rest.count == 0 {
            let count = groups.get(rest.group + 1).map_or(0, |next| next.layers.len());
            return self.visit(Rest { group: rest.group + 1, way: 0, count, ..rest }, fill);
        }
        let Some(way) = group.ways.get(rest.way) else { return };
        let mut children: Vec<(f64, usize, Rest)> = (0..=rest.count)
            .filter_map(|count| {
                let room = rest.room.checked_sub(way.load.bytes.saturating_mul(count as u64))?;
                let rest = Rest { way: rest.way + 1, count: rest.count - count, room, ..rest };
                let time = fill.time + count as f64 * way.load.time;
                Some((time + self.stage.relaxed(rest)?, count, rest))
            })
            .collect();
        children.sort_by(|(one, ..), (other, ..)| one.total_cmp(other));
        let before = (fill.time, fill.step);
        for (bound, count, rest_of_it) in children {
            if !(self.is_open)(bound, &self.found) || !self.effort.spend() {
                break;
            }
            fill.time = before.0 + count as f64 * way.load.time;
            fill.step = before.1 + count as f64 * way.load.step;
            fill.counts[rest.group][rest.way] = count;
            self.visit(rest_of_it, fill);
        }
        fill.counts[rest.group][rest.way] = 0;
        (fill.time, fill.step) = before;
    }
}
