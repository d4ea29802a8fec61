//! software.yaml: what a trainer does otherwise than the programs that are compiled here.
//!
//! Runs of other trainers can be predicted with the same programs if it is known what these trainers store, repeat,
//! overlap and launch. A description says so in bytes, operations and times of the host, never by a factor on the step.

use serde::{Deserialize, Serialize};

use crate::file::quantity;
use crate::residuals::Residuals;
use crate::units::{FlopsPerSecond, Seconds};

/// What a trainer does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Software {
    /// Version of the file form: 1.
    pub format: u32,
    /// The trainer's name and generation.
    pub name: String,
    /// How attention treats its scores.
    #[serde(default)]
    pub attention: Scores,
    /// Rates that attention in one kernel reaches on devices for which it is known; elsewhere that of the device.
    #[serde(default)]
    pub attention_rates: Vec<AttentionRate>,
    /// What full recomputation repeats.
    #[serde(default)]
    pub repeat: Repeat,
    /// When gradients are joined over Data.
    #[serde(default)]
    pub reduction: Reduction,
    /// In what gradients are joined over Data.
    #[serde(default)]
    pub gradients: GradientElement,
    /// What else a rank does while an exchange over Tensor runs.
    #[serde(default)]
    pub tensor_exchanges: TensorExchanges,
    /// How what a kernel made is added to the residual stream, and its gradient to that of the stream.
    #[serde(default)]
    pub residual_sums: ResidualSums,
    /// Over how many adapters of a node its exchanges between nodes go.
    #[serde(default)]
    pub adapters: Adapters,
    /// Share of the best memory rate that kernels other than products reach; that of the device if absent.
    #[serde(default)]
    pub memory_efficiency: Option<f64>,
    /// Rates that it reaches, beside those that descriptions of devices say.
    #[serde(default)]
    pub rates: Rates,
    /// Bytes that a block reads and writes beside its programs, for each number of its residual stream.
    #[serde(default)]
    pub passes: Passes,
    /// How it runs products in fp8, where it does; none if nothing is known of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fp8: Option<Fp8>,
    /// What the host takes.
    #[serde(default)]
    pub host: Host,
    /// What memory holds beside the arena.
    #[serde(default)]
    pub memory: Held,
    /// How far measured steps were from those that this description predicts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub residuals: Vec<Residuals>,
    /// Where the numbers come from.
    pub source: String,
}

/// How attention treats its scores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scores {
    /// One kernel computes with them and stores none (Dao et al. 2022).
    #[default]
    Fused,
    /// Each step of softmax and dropout writes all of them, and the pairs that a causal mask forbids are computed too.
    Stored,
    /// The same, but the backward pass computes them again.
    Repeated,
}

/// What attention in one kernel reaches on a device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttentionRate {
    /// The device's name begins with this.
    pub device: String,
    /// In the forward pass, of the operations that a causal mask leaves.
    #[serde(with = "quantity")]
    pub forward: FlopsPerSecond,
    /// In the backward pass.
    #[serde(with = "quantity")]
    pub backward: FlopsPerSecond,
}

/// What full recomputation repeats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Repeat {
    /// What the backward pass reads.
    #[default]
    Needed,
    /// The whole forward pass of a block, with its last product and the exchange behind it.
    Everything,
}

/// When gradients are joined over Data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reduction {
    /// Beside the last backward pass, block after block.
    #[default]
    Beside,
    /// When all passes are over.
    Behind,
}

/// In what gradients are joined over Data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GradientElement {
    /// In 32 bits, as programs do.
    #[default]
    Full,
    /// In 16 bits.
    Half,
}

/// What else a rank does while an exchange over Tensor runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TensorExchanges {
    /// Products that do not need its result.
    #[default]
    Beside,
    /// Nothing.
    Alone,
}

/// How what a kernel made is added to the residual stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResidualSums {
    /// By a pass of its own.
    #[default]
    Apart,
    /// By the kernel that makes it, if that is a product or the gradient of a norm; as programs that are run here do.
    Fused,
}

/// Over how many adapters of a node exchanges between nodes go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Adapters {
    /// As many rings as there are members on a node, each over its own adapter.
    #[default]
    All,
    /// One ring over all members, which enters and leaves a node over one adapter.
    One,
}

/// How many times the rate that the description of a device or link says.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rates {
    /// Of products.
    pub products: f64,
    /// Of products in fp8, besides that of all products.
    pub fp8: f64,
    /// Of attention, in one kernel or by stored scores.
    pub attention: f64,
    /// Of kernels that pass over memory.
    pub memory: f64,
    /// Of links within a node.
    pub inside: f64,
    /// Of links between nodes.
    pub between: f64,
}

impl Default for Rates {
    fn default() -> Rates {
        Rates { products: 1.0, fp8: 1.0, attention: 1.0, memory: 1.0, inside: 1.0, between: 1.0 }
    }
}

/// Bytes that are read and written beside programs: of a block, for each number of its residual stream, if nothing
/// else is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Passes {
    /// In its forward pass.
    #[serde(default)]
    pub forward: f64,
    /// In its backward pass, without what is computed again.
    #[serde(default)]
    pub backward: f64,
    /// For each logit, in the forward pass.
    #[serde(default)]
    pub logit: f64,
    /// For each parameter of a product, in each backward pass: gradients that are made and then added.
    #[serde(default)]
    pub parameter: f64,
}

/// How products with parameters of blocks run in fp8. Attention, the head, and products of which 16 does not divide each
/// size stay as they are; so do results, and gradients of parameters.
///
/// A factor is cast where a product first reads it, with its inner dimension last. Products of the backward pass that read
/// it the other way take a second copy, which the cast writes beside: matrix units read factors of one byte only so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fp8 {
    /// By what factors are scaled.
    pub scaling: Scaling,
    /// Whether casts are passes of their own.
    pub casts: Casts,
    /// When parameters are cast.
    pub parameters: CastParameters,
}

/// By what factors are scaled before they are cast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scaling {
    /// By their own largest number, for which a pass looks first.
    Current,
    /// By the largest numbers of steps before.
    Delayed,
}

/// Whether casts are passes of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Casts {
    /// They are, and so is the look for the largest number.
    Apart,
    /// The kernel that makes activations or their gradients does what can be done before the last number is known: it
    /// looks for the largest, or, where scaling is delayed, casts. Parameters are made by no kernel.
    Fused,
}

/// When parameters are cast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CastParameters {
    /// In each forward pass.
    Each,
    /// Once a step; not counted.
    Once,
    /// By the rank that owns them, before they are gathered over Data; not counted. Gathers then move one byte a number.
    /// Those of embeddings and of the head do not, but are counted so, too.
    Gathered,
}

/// What the host takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// To start one kernel; that of the device if absent.
    #[serde(default, with = "quantity::optional")]
    pub kernel: Option<Seconds>,
    /// To start an exchange or a transfer; as a kernel if absent.
    #[serde(default, with = "quantity::optional")]
    pub exchange: Option<Seconds>,
    /// For what it waits before it goes on.
    #[serde(default)]
    pub waits: Waits,
    /// To go through one pass of a block, besides its kernels.
    #[serde(default, with = "quantity")]
    pub pass: Seconds,
}

/// For what the host waits before it starts what stands behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Waits {
    /// For nothing in a step.
    #[default]
    Nothing,
    /// Until all that was sent to other stages is there, and all that they send has come.
    Transfers,
}

/// When gradients take their memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gradients {
    /// When they are made, and others' activations are gone.
    #[default]
    Made,
    /// Always.
    Resident,
}

/// What memory holds beside the arena.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// Bytes that a block keeps of each score of a head, unless it computes them again.
    #[serde(default)]
    pub score: f64,
    /// Bytes that a block keeps of each number of its residual stream, beside what programs keep.
    #[serde(default)]
    pub residual: f64,
    /// When gradients take their memory.
    #[serde(default)]
    pub gradients: Gradients,
    /// What the allocator holds and nobody uses, as a share of what is used.
    #[serde(default)]
    pub unused: f64,
}
