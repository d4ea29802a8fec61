//! The settings of a search, under the names that the other planner has for them.

use serde::Deserialize;

use super::super::problems::{Schedule, Shard};

/// What was asked of it: `case.json` beside the profiles.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Settings {
    /// Unlike parts of the model, in order: an encoder and a decoder are two.
    pub(crate) model_layer_configs: Vec<LayerType>,
    #[serde(default)]
    pub(crate) search_engine: SearchEngine,
}

/// Equal layers.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub(crate) struct LayerType {
    pub(crate) hidden_size: u32,
    pub(crate) layer_num: u32,
    pub(crate) seq_len: u32,
}

/// All groups of options.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct SearchEngine {
    pub(crate) profiling_info: Profiling,
    pub(crate) common_train_info: Common,
    pub(crate) parallelism_info: Parallelism,
    pub(crate) hardware_info: Hardware,
    pub(crate) batch_size_info: Batch,
    pub(crate) search_space_info: Degrees,
}

/// How profiles were taken.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Profiling {
    pub(crate) time_profile_mode: Mode,
    pub(crate) memory_profile_mode: Mode,
}

/// What was varied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// Nothing.
    Static,
    /// The batch.
    Batch,
    /// The length of sequences.
    Sequence,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Common {
    pub(crate) sequence_parallel: bool,
    pub(crate) global_memory_buffer: GatherBuffer,
}

/// Whether sequences are gathered into a buffer of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "bool")]
pub(crate) enum GatherBuffer {
    Kept,
    Absent,
}

impl From<bool> for GatherBuffer {
    fn from(is_kept: bool) -> Self {
        if is_kept { GatherBuffer::Kept } else { GatherBuffer::Absent }
    }
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Parallelism {
    pub(crate) default_dp_type: DataType,
    pub(crate) pipeline_type: PipelineType,
    pub(crate) async_grad_reduce: bool,
    pub(crate) mixed_precision: Precision,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DataType {
    #[serde(rename = "ddp")]
    Replicated,
    #[serde(rename = "zero2")]
    Gradients,
    #[serde(rename = "zero3")]
    Parameters,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum PipelineType {
    #[serde(rename = "gpipe")]
    AllForward,
    #[serde(rename = "pipedream_flush")]
    OneForwardOneBackward,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Precision {
    Fp32,
    Fp16,
    Bf16,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Hardware {
    pub(crate) num_nodes: u32,
    pub(crate) num_gpus_per_node: u32,
    /// GiB of a device.
    pub(crate) memory_constraint: u64,
}

/// Batches to try: from `min_bsz` to `max_bsz` in steps of `bsz_scale`, or one; settled values below one are none.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Batch {
    pub(crate) min_bsz: i64,
    pub(crate) max_bsz: i64,
    pub(crate) bsz_scale: i64,
    pub(crate) settle_bsz: i64,
    pub(crate) settle_chunk: i64,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Degrees {
    pub(crate) max_tp_deg: u32,
    pub(crate) max_pp_deg: u32,
    pub(crate) max_sp_deg: u32,
}

impl Default for Profiling {
    fn default() -> Self {
        Self { time_profile_mode: Mode::Static, memory_profile_mode: Mode::Static }
    }
}

impl Default for Common {
    fn default() -> Self {
        Self { sequence_parallel: true, global_memory_buffer: GatherBuffer::Kept }
    }
}

impl Default for Parallelism {
    fn default() -> Self {
        Self {
            default_dp_type: DataType::Replicated,
            pipeline_type: PipelineType::AllForward,
            async_grad_reduce: true,
            mixed_precision: Precision::Bf16,
        }
    }
}

impl Default for Hardware {
    fn default() -> Self {
        Self { num_nodes: 1, num_gpus_per_node: 8, memory_constraint: 24 }
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self { min_bsz: 8, max_bsz: 8, bsz_scale: 8, settle_bsz: -1, settle_chunk: -1 }
    }
}

impl Default for Degrees {
    fn default() -> Self {
        Self { max_tp_deg: 8, max_pp_deg: 8, max_sp_deg: 8 }
    }
}

impl DataType {
    pub(crate) fn shard(self) -> Shard {
        match self {
            DataType::Replicated => Shard::Nothing,
            DataType::Gradients => Shard::Gradients,
            DataType::Parameters => Shard::Parameters,
        }
    }
}

impl PipelineType {
    pub(crate) fn schedule(self) -> Schedule {
        match self {
            PipelineType::AllForward => Schedule::AllForward,
            PipelineType::OneForwardOneBackward => Schedule::OneForwardOneBackward,
        }
    }
}

impl Settings {
    /// Devices of the cluster.
    pub(crate) fn devices(&self) -> u32 {
        self.search_engine.hardware_info.num_nodes * self.search_engine.hardware_info.num_gpus_per_node
    }

    /// MiB of a device that plans may use: of more than 20 GiB, a fifth is left to the allocator.
    pub(crate) fn usable(&self) -> u64 {
        let whole = self.search_engine.hardware_info.memory_constraint * 1024;
        if self.search_engine.hardware_info.memory_constraint > 20 { whole - whole / 5 } else { whole }
    }

    /// The most ranks that share a layer.
    pub(crate) fn widest(&self) -> u32 {
        let degrees = &self.search_engine.search_space_info;
        degrees.max_tp_deg.max(degrees.max_sp_deg).min(self.devices())
    }

    /// Batches to try.
    pub(crate) fn batches(&self) -> Vec<u32> {
        let batch = &self.search_engine.batch_size_info;
        if batch.settle_bsz > 0 {
            return vec![batch.settle_bsz as u32];
        }
        let first = batch.min_bsz.max(batch.bsz_scale);
        (first..=batch.max_bsz).step_by(batch.bsz_scale as usize).map(|size| size as u32).collect()
    }

    /// All that cannot be, a line each.
    pub(crate) fn mistakes(&self, name: &str) -> Vec<String> {
        let engine = &self.search_engine;
        let mut lines = Vec::new();
        let mut wrong = |is_wrong: bool, what: &str| {
            if is_wrong {
                lines.push(format!("{name}: {what}"));
            }
        };
        let is_empty = |it: &LayerType| it.hidden_size == 0 || it.layer_num == 0 || it.seq_len == 0;
        let types = &self.model_layer_configs;
        wrong(types.is_empty(), "model_layer_configs is empty; expected at least one kind of layer");
        wrong(types.iter().any(is_empty), "model_layer_configs has a 0; expected sizes of at least 1");
        let layers: u64 = types.iter().map(|it| u64::from(it.layer_num)).sum();
        wrong(layers > LAYERS_MAX, "layer_num is too large; expected at most 10000 layers");
        let hardware = &engine.hardware_info;
        let devices = u64::from(hardware.num_nodes) * u64::from(hardware.num_gpus_per_node);
        let is_power = devices.is_power_of_two() && devices <= DEVICES_MAX;
        wrong(!is_power, "num_nodes × num_gpus_per_node must be a power of two up to 65536: degrees are powers of two");
        let memory = 1..=1 << 20;
        wrong(!memory.contains(&hardware.memory_constraint), "memory_constraint must be from 1 to 1048576 GiB");
        let sequence_parallel = engine.common_train_info.sequence_parallel;
        wrong(!sequence_parallel, "sequence_parallel is false; only formulas with it are known");
        let batch = &engine.batch_size_info;
        let sizes = [batch.min_bsz, batch.max_bsz, batch.bsz_scale];
        let is_settled = (1..=BATCH_MAX).contains(&batch.settle_bsz);
        let is_range = sizes.iter().all(|size| (1..=BATCH_MAX).contains(size)) && batch.min_bsz <= batch.max_bsz;
        wrong(!is_settled && !is_range, "min_bsz, max_bsz and bsz_scale must be a range, within 1 to 1048576");
        lines
    }
}

const LAYERS_MAX: u64 = 10_000;
const DEVICES_MAX: u64 = 65_536;
const BATCH_MAX: i64 = 1 << 20;
