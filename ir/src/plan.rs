//! plan.yaml: every choice that was made. A choice that is not here does not exist.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::file::{Digest, quantity};
use crate::model::Precision;
use crate::units::{Bytes, Seconds};
use crate::ways::Ways;

/// How one layer is spread and what it keeps.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Strategy {
    /// Parts into which the batch is cut.
    #[serde(default = "one")]
    pub data: u32,
    /// Ranks that share each product.
    #[serde(default = "one")]
    pub tensor: u32,
    /// What happens to the sequence between products that Tensor shares.
    #[serde(default)]
    pub sequence: Sequence,
    /// What is kept in parts over Data.
    #[serde(default)]
    pub shard: Shard,
    /// What is computed again in the backward pass.
    #[serde(default)]
    pub recompute: Recompute,
}

/// What happens to the sequence between products that Tensor shares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sequence {
    /// Every rank of Tensor has all of it.
    #[default]
    Whole,
    /// Each has its part (Korthikanti et al. 2022).
    Split,
}

/// What is kept in parts over Data (Rajbhandari et al. 2020); each value includes those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shard {
    /// Every rank keeps everything.
    #[default]
    Nothing,
    /// Moments and master parameters.
    Optimizer,
    /// Also gradients.
    Gradients,
    /// Also parameters.
    Parameters,
}

/// What is computed again in the backward pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recompute {
    /// Everything that the backward pass needs is kept.
    #[default]
    Nothing,
    /// Results that cost no product: norms and activations.
    Selective,
    /// All but the input of the layer.
    Full,
}

/// The order of forward and backward passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Schedule {
    /// All forward passes, then all backward passes (Huang et al. 2019).
    #[serde(rename = "gpipe")]
    AllForward,
    /// One forward, one backward, with a flush each step (Narayanan et al. 2021).
    #[default]
    #[serde(rename = "1f1b")]
    OneForwardOneBackward,
}

/// A plan: what the compiler obeys.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Sequences of one step, over all ranks.
    pub batch: u64,
    /// Passes through the pipeline in one step.
    pub microbatches: u32,
    /// The order of passes.
    pub schedule: Schedule,
    /// How numbers are stored.
    pub precision: Precision,
    /// Layers of each stage, in order, without gaps.
    pub stages: Vec<Range<u32>>,
    /// The strategy of each layer.
    pub strategies: Vec<Strategy>,
    /// Layers ahead of its use at which a sharded parameter is gathered, and layers behind at which what a reduction
    /// reads is freed: how far exchanges may run beside other layers.
    pub prefetch: u32,
}

/// A plan as it stands in a file: with what it was made for, and what was predicted.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanFile {
    /// The plan.
    pub plan: Plan,
    /// The model that it was made for.
    pub model: Reference,
    /// The cluster that it was made for.
    pub cluster: Reference,
    /// The devices that it was made for, in words; a plan that a person writes may leave them out.
    pub devices: Option<Devices>,
    /// On a cluster of unlike parts, the name of the part on which each stage lies; else empty.
    pub parts: Vec<String>,
    /// What it is expected to cost, if it was simulated.
    pub predicted: Option<Predicted>,
    /// How its products are computed, where that was measured.
    pub ways: Ways,
}

/// The devices that a plan was made for, by their names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Devices {
    /// That of the cluster.
    pub cluster: String,
    /// That of each device.
    pub device: String,
}

/// Another file, and what it contained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Where it is, seen from the plan file; or the name of a preset.
    pub path: String,
    /// The digest of its content in canonical form; a plan that a person writes may leave it out.
    pub digest: Option<Digest>,
}

/// What a plan is expected to cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Predicted {
    /// Time of a step.
    #[serde(with = "quantity")]
    pub step: Seconds,
    /// Between which times a measured step is expected; none in files of earlier versions.
    #[serde(default, with = "quantity::pair", skip_serializing_if = "Option::is_none")]
    pub between: Option<[Seconds; 2]>,
    /// Largest arena of all ranks.
    #[serde(with = "quantity")]
    pub peak: Bytes,
    /// Digest of the compiled programs.
    pub programs: Digest,
}

fn one() -> u32 {
    1
}

impl Strategy {
    /// Ranks that a layer with this strategy runs on.
    pub fn ranks(&self) -> u32 {
        self.data * self.tensor
    }
}

impl Plan {
    /// Ranks of the whole job.
    pub fn rank_count(&self) -> u32 {
        self.stages.len() as u32 * self.strategies.first().map_or(0, Strategy::ranks)
    }

    /// Sequences of one microbatch, over all ranks of a stage.
    pub fn microbatch_sequences(&self) -> u64 {
        self.batch / u64::from(self.microbatches)
    }

    /// The stage that holds a layer.
    pub fn stage_of(&self, layer: u32) -> usize {
        self.stages.iter().position(|stage| stage.contains(&layer)).expect("stages cover all layers")
    }

    /// Strategies as runs of equal ones: first and last layer of each, as plan files write them.
    pub fn runs(&self) -> Vec<(Range<u32>, &Strategy)> {
        let mut runs: Vec<(Range<u32>, &Strategy)> = Vec::new();
        for (layer, strategy) in self.strategies.iter().enumerate() {
            match runs.last_mut() {
                Some((range, last)) if *last == strategy => range.end += 1,
                Some(_) | None => runs.push((layer as u32..layer as u32 + 1, strategy)),
            }
        }
        runs
    }

    /// How many layers have each strategy.
    pub fn counts(&self) -> BTreeMap<&Strategy, usize> {
        let mut counts = BTreeMap::new();
        for strategy in &self.strategies {
            *counts.entry(strategy).or_insert(0) += 1;
        }
        counts
    }
}
