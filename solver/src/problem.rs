//! The planner's search as bare numbers: which layers form a stage, and which strategy each layer uses.
//!
//! A [`Problem`] is one outer choice of a training plan — pipeline degree, microbatch count and schedule are
//! fixed — with every cost filled in. It knows nothing about models or devices, so a solver can be checked
//! against another one on random numbers. [`Problem::score`] is the one truth about objective and feasibility;
//! every solver's answer is scored by it.
//!
//! The objective is the time of one training step under a synchronous pipeline with a flush:
//!
//! `Σ_s T_s + (m − 1) · max_s T_s + max_s U_s`
//!
//! with `m` microbatches, `T_s` the forward and backward time of one microbatch in stage `s` and `U_s` what
//! stage `s` does once a step. With equal stages it is the `(m + p − 1) · T` of GPipe and 1F1B (Narayanan et al.
//! 2021, §2.2); with unequal ones, the slowest stage runs back to back and every other stage is passed once.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

/// Times that sums and solvers can bear; the largest is 30,000 years.
const SECONDS: RangeInclusive<f64> = 0.0..=1e12;
/// The same of factors of stages.
const SPEEDS: RangeInclusive<f64> = 1e-6..=1e6;

/// What one strategy costs one layer, per device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Costs {
    /// Seconds for forward and backward of one microbatch, without what happens once a step.
    pub time_microbatch: f64,
    /// Seconds once a step: the part of the gradient exchange that is not hidden, and the update.
    pub time_step: f64,
    /// Bytes resident through the step: parameters, gradients, optimizer state.
    pub bytes_state: u64,
    /// Bytes kept from forward to backward for one microbatch.
    pub bytes_saved: u64,
    /// Extra bytes at the peak while this layer runs; one layer runs at a time.
    pub bytes_transient: u64,
    /// Class of the layout in which the layer takes and leaves its activations; an index into
    /// [`Problem::transitions`].
    pub layout: usize,
}

impl Costs {
    /// Whether nothing is lost by taking `self` wherever `other` is taken.
    pub(crate) fn matches(&self, other: &Self) -> bool {
        self.layout == other.layout
            && self.time_microbatch <= other.time_microbatch
            && self.time_step <= other.time_step
            && self.bytes_state <= other.bytes_state
            && self.bytes_saved <= other.bytes_saved
            && self.bytes_transient <= other.bytes_transient
    }
}

/// A kind of layer: layers of one kind have the same strategies at the same costs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kind {
    /// The strategies to choose from.
    pub strategies: Vec<Costs>,
}

/// What a stage of the pipeline offers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Bytes of memory of each device.
    pub capacity_bytes: u64,
    /// Microbatches whose saved tensors are alive at once: `min(m, stages − index)` under 1F1B, `m` under GPipe.
    pub in_flight: u32,
    /// Multiplies all times of the stage; 1 for the device the costs were made for, 2 for one half as fast.
    pub speed: f64,
}

/// One outer choice of a training plan, with every cost as a number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Problem {
    /// The kinds of layers.
    pub kinds: Vec<Kind>,
    /// The kind of each layer, in the order of the forward pass.
    pub layers: Vec<usize>,
    /// `transitions[a][b]`: seconds per microbatch, forward and backward, from layout class `a` to `b` between two
    /// consecutive layers. Zero on the diagonal. Across a stage cut the sender pays it.
    pub transitions: Vec<Vec<f64>>,
    /// `boundary[b]`: seconds per microbatch that crossing a stage cut costs the sender and the receiver each, when
    /// the receiving layer has layout class `b`.
    pub boundary: Vec<f64>,
    /// The stages, in order. Each gets at least one layer.
    pub stages: Vec<Stage>,
    /// Microbatches per step.
    pub microbatches: u32,
    /// Pairs of layers that must use the same strategy index.
    pub ties: Vec<(usize, usize)>,
}

/// An answer: where stages begin and what each layer does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assignment {
    /// First layer of each stage; the first is 0.
    pub cuts: Vec<usize>,
    /// Strategy index of each layer.
    pub strategies: Vec<usize>,
}

/// What one stage of an [`Assignment`] takes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StageScore {
    /// Seconds for one microbatch, `T_s`.
    pub time_microbatch: f64,
    /// Seconds once a step, `U_s`.
    pub time_step: f64,
    /// Bytes of parameters, gradients and optimizer state.
    pub bytes_state: u64,
    /// Bytes kept for backward, of all microbatches in flight.
    pub bytes_saved: u64,
    /// Largest transient of one layer.
    pub bytes_transient: u64,
}

impl StageScore {
    /// Peak memory of the stage. Sums saturate: `u64::MAX` means "more than can be said".
    pub fn bytes(&self) -> u64 {
        self.bytes_state.saturating_add(self.bytes_saved).saturating_add(self.bytes_transient)
    }
}

/// What an [`Assignment`] that keeps every rule is worth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Seconds of one training step.
    pub objective: f64,
    /// The stages' parts of it.
    pub stages: Vec<StageScore>,
}

/// A rule that an [`Assignment`] breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// One strategy per layer is needed.
    #[error("{given} strategies for {layers} layers")]
    StrategyCount {
        /// Strategies in the assignment.
        given: usize,
        /// Layers in the problem.
        layers: usize,
    },
    /// Cuts must be one per stage, begin at 0, ascend, and stay inside the layers.
    #[error("the cuts {cuts:?} do not give each of {stages} stages at least one of {layers} layers")]
    Cuts {
        /// The cuts given.
        cuts: Vec<usize>,
        /// Stages in the problem.
        stages: usize,
        /// Layers in the problem.
        layers: usize,
    },
    /// The layer has no such strategy.
    #[error("layer {layer} has no strategy {strategy}")]
    Strategy {
        /// The layer.
        layer: usize,
        /// The strategy index given.
        strategy: usize,
    },
    /// Tied layers use different strategies.
    #[error("layers {first} and {second} are tied but use different strategies")]
    Tie {
        /// One layer.
        first: usize,
        /// The other.
        second: usize,
    },
    /// The stage does not fit.
    #[error("stage {stage} needs {bytes} bytes of {capacity_bytes}")]
    Memory {
        /// The stage.
        stage: usize,
        /// Bytes it needs.
        bytes: u64,
        /// Bytes it has.
        capacity_bytes: u64,
    },
}

/// A reason why a [`Problem`] means nothing.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Mistake {
    /// There must be at least one stage and one microbatch, and a layer for every stage.
    #[error("{stages} stages and {microbatches} microbatches for {layers} layers")]
    Counts {
        /// Stages.
        stages: usize,
        /// Microbatches.
        microbatches: u32,
        /// Layers.
        layers: usize,
    },
    /// An index points outside its list.
    #[error("{place} is {index}, but there are only {count}")]
    Index {
        /// Where the index stands.
        place: String,
        /// The index.
        index: usize,
        /// Length of the list.
        count: usize,
    },
    /// A list has the wrong length.
    #[error("{place} has {length} entries; expected {expected}")]
    Length {
        /// The list.
        place: String,
        /// Its length.
        length: usize,
        /// The length it must have.
        expected: usize,
    },
    /// A number is negative, infinite, not a number, or otherwise out of its range.
    #[error("{place} is {value}; expected {expected}")]
    Value {
        /// Where the number stands.
        place: String,
        /// The number.
        value: f64,
        /// What is allowed.
        expected: &'static str,
    },
}

impl Problem {
    /// All mistakes in the numbers; a problem without any can be solved and scored.
    pub fn check(&self) -> Result<(), Vec<Mistake>> {
        let mut mistakes = self.shape_mistakes();
        mistakes.extend(self.index_mistakes());
        mistakes.extend(self.value_mistakes());
        if mistakes.is_empty() { Ok(()) } else { Err(mistakes) }
    }

    /// The strategies of layer `layer`.
    pub fn strategies(&self, layer: usize) -> &[Costs] {
        &self.kinds[self.layers[layer]].strategies
    }

    /// Value of `assignment`, or every rule it breaks.
    pub fn score(&self, assignment: &Assignment) -> Result<Score, Vec<Violation>> {
        let mut violations = self.form_violations(assignment);
        if !violations.is_empty() {
            return Err(violations);
        }
        let tied = |&&(first, second): &&(usize, usize)| assignment.strategies[first] != assignment.strategies[second];
        violations.extend(self.ties.iter().filter(tied).map(|&(first, second)| Violation::Tie { first, second }));
        let stages: Vec<StageScore> = (0..self.stages.len()).map(|stage| self.score_stage(assignment, stage)).collect();
        for (stage, (scored, offered)) in stages.iter().zip(&self.stages).enumerate() {
            let (bytes, capacity_bytes) = (scored.bytes(), offered.capacity_bytes);
            if bytes > capacity_bytes {
                violations.push(Violation::Memory { stage, bytes, capacity_bytes });
            }
        }
        if !violations.is_empty() {
            return Err(violations);
        }
        Ok(Score { objective: self.sum_up(&stages), stages })
    }

    /// Seconds of one training step of an assignment that has the right form, whether or not it fits.
    pub(crate) fn objective(&self, assignment: &Assignment) -> f64 {
        self.sum_up(&self.score_stages(assignment))
    }

    fn score_stages(&self, assignment: &Assignment) -> Vec<StageScore> {
        (0..self.stages.len()).map(|stage| self.score_stage(assignment, stage)).collect()
    }

    /// `Σ T_s + (m − 1) · max T_s + max U_s` (see the module's introduction).
    fn sum_up(&self, stages: &[StageScore]) -> f64 {
        let sum: f64 = stages.iter().map(|stage| stage.time_microbatch).sum();
        let slowest = stages.iter().map(|stage| stage.time_microbatch).fold(0.0, f64::max);
        let step = stages.iter().map(|stage| stage.time_step).fold(0.0, f64::max);
        sum + f64::from(self.microbatches - 1) * slowest + step
    }

    fn score_stage(&self, assignment: &Assignment, stage: usize) -> StageScore {
        let layer_count = self.layers.len();
        let start = assignment.cuts[stage];
        let end = assignment.cuts.get(stage + 1).copied().unwrap_or(layer_count);
        let costs = |layer: usize| &self.strategies(layer)[assignment.strategies[layer]];
        let mut score = StageScore::default();
        if start > 0 {
            score.time_microbatch += self.boundary[costs(start).layout];
        }
        for layer in start..end {
            let cost = costs(layer);
            score.time_microbatch += cost.time_microbatch;
            score.time_step += cost.time_step;
            score.bytes_state = score.bytes_state.saturating_add(cost.bytes_state);
            score.bytes_saved = score.bytes_saved.saturating_add(cost.bytes_saved);
            score.bytes_transient = score.bytes_transient.max(cost.bytes_transient);
            if layer + 1 < layer_count {
                score.time_microbatch += self.transitions[cost.layout][costs(layer + 1).layout];
            }
        }
        if end < layer_count {
            score.time_microbatch += self.boundary[costs(end).layout];
        }
        let offered = &self.stages[stage];
        score.time_microbatch *= offered.speed;
        score.time_step *= offered.speed;
        score.bytes_saved = score.bytes_saved.saturating_mul(u64::from(offered.in_flight));
        score
    }

    /// Violations that leave nothing to add up.
    fn form_violations(&self, assignment: &Assignment) -> Vec<Violation> {
        let (layers, stages, cuts) = (self.layers.len(), self.stages.len(), &assignment.cuts);
        let mut violations = Vec::new();
        let ascending = cuts.windows(2).all(|pair| pair[0] < pair[1]);
        let inside = cuts.first() == Some(&0) && cuts.last().is_some_and(|&last| last < layers);
        if cuts.len() != stages || !ascending || !inside {
            violations.push(Violation::Cuts { cuts: cuts.clone(), stages, layers });
        }
        let given = assignment.strategies.len();
        if given != layers {
            violations.push(Violation::StrategyCount { given, layers });
            return violations;
        }
        for (layer, &strategy) in assignment.strategies.iter().enumerate() {
            if strategy >= self.strategies(layer).len() {
                violations.push(Violation::Strategy { layer, strategy });
            }
        }
        violations
    }

    fn shape_mistakes(&self) -> Vec<Mistake> {
        let (stages, microbatches, layers) = (self.stages.len(), self.microbatches, self.layers.len());
        let mut mistakes = Vec::new();
        if stages == 0 || microbatches == 0 || layers < stages {
            mistakes.push(Mistake::Counts { stages, microbatches, layers });
        }
        let layouts = self.transitions.len();
        let mut length = |place: String, length: usize, expected: usize| {
            if length != expected {
                mistakes.push(Mistake::Length { place, length, expected });
            }
        };
        length("boundary".into(), self.boundary.len(), layouts);
        for (from, row) in self.transitions.iter().enumerate() {
            length(format!("transitions[{from}]"), row.len(), layouts);
        }
        for &(first, second) in &self.ties {
            let count = |layer: usize| self.layers.get(layer).and_then(|&kind| self.kinds.get(kind));
            if let (Some(one), Some(other)) = (count(first), count(second)) {
                let place = format!("the strategies of layer {second}, tied to layer {first},");
                length(place, other.strategies.len(), one.strategies.len());
            }
        }
        mistakes
    }

    fn index_mistakes(&self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        let mut index = |place: String, index: usize, count: usize| {
            if index >= count {
                mistakes.push(Mistake::Index { place, index, count });
            }
        };
        for (layer, &kind) in self.layers.iter().enumerate() {
            index(format!("layers[{layer}]"), kind, self.kinds.len());
        }
        for (k, kind) in self.kinds.iter().enumerate() {
            index(format!("the least strategy of kinds[{k}]"), 0, kind.strategies.len());
            for (s, costs) in kind.strategies.iter().enumerate() {
                index(format!("kinds[{k}].strategies[{s}].layout"), costs.layout, self.transitions.len());
            }
        }
        for (tie, &(first, second)) in self.ties.iter().enumerate() {
            index(format!("ties[{tie}].0"), first, self.layers.len());
            index(format!("ties[{tie}].1"), second, self.layers.len());
        }
        mistakes
    }

    fn value_mistakes(&self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        let mut seconds = |place: String, value: f64| {
            if !SECONDS.contains(&value) {
                mistakes.push(Mistake::Value { place, value, expected: "a time from 0 to 1e12 seconds" });
            }
        };
        for (k, kind) in self.kinds.iter().enumerate() {
            for (s, costs) in kind.strategies.iter().enumerate() {
                seconds(format!("kinds[{k}].strategies[{s}].time_microbatch"), costs.time_microbatch);
                seconds(format!("kinds[{k}].strategies[{s}].time_step"), costs.time_step);
            }
        }
        for (layout, &value) in self.boundary.iter().enumerate() {
            seconds(format!("boundary[{layout}]"), value);
        }
        for (from, row) in self.transitions.iter().enumerate() {
            for (to, &value) in row.iter().enumerate() {
                seconds(format!("transitions[{from}][{to}]"), value);
            }
        }
        for (from, row) in self.transitions.iter().enumerate() {
            if let Some(&value) = row.get(from).filter(|&&value| value > 0.0) {
                let place = format!("transitions[{from}][{from}]");
                mistakes.push(Mistake::Value { place, value, expected: "0: staying in a layout is free" });
            }
        }
        for (index, stage) in self.stages.iter().enumerate() {
            if !SPEEDS.contains(&stage.speed) {
                let place = format!("stages[{index}].speed");
                mistakes.push(Mistake::Value { place, value: stage.speed, expected: "a factor from 1e-6 to 1e6" });
            }
        }
        mistakes
    }
}
