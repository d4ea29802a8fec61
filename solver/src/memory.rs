//! The least memory that layers need together: for ruling ranges out, and for saying by how much nothing fits.

use crate::{Problem, StageScore};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Why nothing fits: the way of cutting the layers into stages that comes closest, and the stage where it fails.
///
/// "Closest" means that the largest excess of any stage is as small as can be. Ties between layers are ignored
/// here, so where ties alone are the reason, the excess is zero.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shortage {
    /// The stage with the largest excess.
    pub stage: usize,
    /// Its first layer.
    pub start: usize,
    /// One past its last layer.
    pub end: usize,
    /// What the stage would need; the largest of the three parts is the one to reduce. The times are left at zero.
    pub need: StageScore,
    /// What the stage has.
    pub capacity_bytes: u64,
}

impl Shortage {
    /// Bytes missing.
    pub fn excess_bytes(&self) -> u64 {
        self.need.bytes().saturating_sub(self.capacity_bytes)
    }

    /// The shortage of the closest cuts, by a dynamic program over stages and layers.
    pub(crate) fn of(problem: &Problem) -> Self {
        let (layers, stages) = (problem.layers.len(), problem.stages.len());
        let mut tables: Vec<LeastMemory> = Vec::new();
        for (index, stage) in problem.stages.iter().enumerate() {
            match problem.stages[..index].iter().position(|other| other.in_flight == stage.in_flight) {
                Some(same) => tables.push(tables[same].clone()),
                None => tables.push(LeastMemory::new(&demands(problem, stage.in_flight), &problem.layers)),
            }
        }
        // Signed: where every stage fits, the closest cuts leave most room.
        let excess = |stage: usize, range: Range<usize>| -> i128 {
            tables[stage].bytes(range) as i128 - i128::from(problem.stages[stage].capacity_bytes)
        };
        let mut reached: Vec<Option<i128>> = vec![None; layers + 1];
        reached[0] = Some(i128::MIN);
        let mut starts = vec![vec![0; layers + 1]; stages];
        for (stage, starts) in starts.iter_mut().enumerate() {
            let mut next: Vec<Option<i128>> = vec![None; layers + 1];
            for (start, before) in reached.iter().enumerate().filter_map(|(start, r)| r.map(|before| (start, before))) {
                for end in start + 1..=layers - (stages - 1 - stage) {
                    let worst = excess(stage, start..end).max(before);
                    if next[end].is_none_or(|least| worst < least) {
                        next[end] = Some(worst);
                        starts[end] = start;
                    }
                }
            }
            reached = next;
        }
        let mut ranges = vec![0..0; stages];
        let mut end = layers;
        for stage in (0..stages).rev() {
            ranges[stage] = starts[stage][end]..end;
            end = ranges[stage].start;
        }
        let worst = (0..stages).max_by_key(|&stage| (excess(stage, ranges[stage].clone()), stages - stage));
        let stage = worst.expect("a checked problem has a stage");
        let Range { start, end } = ranges[stage].clone();
        Self::in_stage(problem, stage, start..end)
    }

    /// The shortage of given cuts: of the stage that misses most.
    pub(crate) fn of_cuts(problem: &Problem, cuts: &[usize]) -> Self {
        let end = |stage: usize| cuts.get(stage + 1).copied().unwrap_or(problem.layers.len());
        let shortages = (0..cuts.len()).map(|stage| Self::in_stage(problem, stage, cuts[stage]..end(stage)));
        let worst = shortages.max_by_key(|it| (it.excess_bytes(), cuts.len() - it.stage));
        worst.expect("a checked problem has a stage")
    }

    fn in_stage(problem: &Problem, stage: usize, layers: Range<usize>) -> Self {
        let Range { start, end } = layers;
        let need = need(problem, stage, layers);
        Self { stage, start, end, need, capacity_bytes: problem.stages[stage].capacity_bytes }
    }
}

/// What each strategy of each kind demands.
fn demands(problem: &Problem, in_flight: u32) -> Vec<Vec<Demand>> {
    let in_flight = u64::from(in_flight);
    let demand = |costs: &crate::Costs| Demand {
        bytes: costs.bytes_state.saturating_add(costs.bytes_saved.saturating_mul(in_flight)),
        transient: costs.bytes_transient,
    };
    problem.kinds.iter().map(|kind| kind.strategies.iter().map(demand).collect()).collect()
}

/// The parts of the least need of `range` in `stage`.
fn need(problem: &Problem, stage: usize, range: Range<usize>) -> StageScore {
    let in_flight = problem.stages[stage].in_flight;
    let demands = demands(problem, in_flight);
    let limit = LeastMemory::new(&demands, &problem.layers).best(range.clone()).1;
    let mut need = StageScore::default();
    for layer in range {
        let allowed = demands[problem.layers[layer]].iter().enumerate().filter(|(_, demand)| demand.transient <= limit);
        let least = allowed.min_by_key(|(_, demand)| demand.bytes).expect("the limit leaves each layer a strategy").0;
        let costs = &problem.strategies(layer)[least];
        need.bytes_state = need.bytes_state.saturating_add(costs.bytes_state);
        need.bytes_saved = need.bytes_saved.saturating_add(costs.bytes_saved.saturating_mul(u64::from(in_flight)));
        need.bytes_transient = need.bytes_transient.max(costs.bytes_transient);
    }
    need
}

/// What a strategy demands of a stage's memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Demand {
    /// Adds up over layers.
    pub(crate) bytes: u64,
    /// Counts once, for the layer where it is largest.
    pub(crate) transient: u64,
}

/// The least memory of any range of layers.
///
/// Whichever layer has the largest transient, the others may go up to it for free. So for every value that the
/// largest may have, the least sum of the rest is a difference of running sums.
#[derive(Clone, Debug)]
pub(crate) struct LeastMemory {
    /// Every value that the largest transient may have, ascending.
    limits: Vec<u64>,
    /// For each limit and layer, the sum of the least bytes of the layers before; `WITHOUT` for a layer that has
    /// no strategy under the limit.
    before: Vec<Vec<u128>>,
}

/// More than any sum of real demands.
const WITHOUT: u128 = 1 << 96;

impl LeastMemory {
    /// From the demands of each kind of layer, and the kind of each layer.
    pub(crate) fn new(kinds: &[Vec<Demand>], layers: &[usize]) -> Self {
        let mut all: Vec<u64> = kinds.iter().flatten().map(|demand| demand.transient).collect();
        all.sort_unstable();
        all.dedup();
        let (mut limits, mut before) = (Vec::new(), Vec::new());
        let mut last: Vec<u128> = Vec::new();
        for limit in all {
            let allowed = |kind: &Vec<Demand>| {
                let allowed = kind.iter().filter(|demand| demand.transient <= limit);
                allowed.map(|demand| u128::from(demand.bytes)).min().unwrap_or(WITHOUT)
            };
            let least: Vec<u128> = kinds.iter().map(allowed).collect();
            // A larger limit that frees nothing is of no use.
            if least == last {
                continue;
            }
            let mut sum = 0;
            let running = layers.iter().map(|&kind| {
                sum += least[kind];
                sum
            });
            before.push(std::iter::once(0).chain(running).collect());
            limits.push(limit);
            last = least;
        }
        Self { limits, before }
    }

    /// The least bytes of `range`.
    pub(crate) fn bytes(&self, range: Range<usize>) -> u128 {
        self.best(range).0
    }

    /// The least bytes of `range`, and the limit on transients under which they are reached.
    fn best(&self, range: Range<usize>) -> (u128, u64) {
        let under =
            |(sums, &limit): (&Vec<u128>, &u64)| (sums[range.end] - sums[range.start] + u128::from(limit), limit);
        let best = self.before.iter().zip(&self.limits).map(under).min();
        best.expect("every layer has a strategy")
    }
}
