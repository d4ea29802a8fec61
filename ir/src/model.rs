//! model.yaml: what is trained, as the numbers that describe a transformer.

use serde::{Deserialize, Serialize};

use crate::op::Scaling;

/// A model file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Version of the file form: 1.
    pub format: u32,
    /// The model's name.
    pub name: String,
    /// Which norms, activations and positions it has.
    pub family: Family,
    /// Transformer blocks.
    pub layers: u32,
    /// Width of the residual stream.
    pub hidden: u64,
    /// Query heads.
    pub heads: u64,
    /// Key and value heads; as many as query heads if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_value_heads: Option<u64>,
    /// Size of a head; `hidden / heads` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_size: Option<u64>,
    /// Whether the product of queries, keys and values has a bias; only for `llama`: `gpt` has biases everywhere.
    #[serde(default, skip_serializing_if = "Bias::is_absent")]
    pub attention_bias: Bias,
    /// Width between the two products of the feed-forward part.
    pub feed_forward: u64,
    /// Different tokens; of models of images, classes.
    pub vocabulary: u64,
    /// Tokens of a sequence; of models of images, patches of an image.
    pub sequence: u64,
    /// Whether the embedding is also the head's matrix.
    #[serde(default)]
    pub embeddings: Embeddings,
    /// Base of the rotary frequencies; only for `llama`.
    #[serde(default = "rotary_base", skip_serializing_if = "is_rotary_base")]
    pub rotary_base: f64,
    /// How slow rotary frequencies are stretched for sequences longer than those at first trained on; only for `llama`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotary_scaling: Option<Scaling>,
    /// What is read in place of tokens; for `vit` and `swin`, which must have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<Images>,
    /// What writes the answer; for `t5`, which must have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoder: Option<Decoder>,
    /// Added to variances in norms.
    #[serde(default = "norm_epsilon", skip_serializing_if = "is_norm_epsilon")]
    pub norm_epsilon: f64,
    /// How it is trained.
    pub training: Training,
}

/// A family of transformers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// LayerNorm, GELU, learned positions, biases (Radford et al. 2019).
    Gpt,
    /// RMSNorm, SwiGLU, rotary positions, no biases (Touvron et al. 2023).
    Llama,
    /// As `Gpt`, but every token sees all, and norms stand behind sums (Devlin et al. 2019). Types of tokens have no
    /// table of their own.
    Bert,
    /// As `Gpt`, but of patches of images, which see all of their image (Dosovitskiy et al. 2021). Each patch names the
    /// class, and not one token of the image.
    Vit,
    /// As `Vit`, but patches see their window, and four become one of twice the width from level to level (Liu et al.
    /// 2021). Windows are not shifted, and positions in them have no table.
    Swin,
    /// An encoder, and a decoder that sees what comes of it: RMSNorm, ReLU, no biases (Raffel et al. 2020). Positions
    /// have no table: biases of scores by distance are left out.
    T5,
}

impl Family {
    /// All of them.
    pub const ALL: [Family; 6] = [Family::Gpt, Family::Llama, Family::Bert, Family::Vit, Family::Swin, Family::T5];

    /// Its word in model files.
    pub const fn name(self) -> &'static str {
        match self {
            Family::Gpt => "gpt",
            Family::Llama => "llama",
            Family::Bert => "bert",
            Family::Vit => "vit",
            Family::Swin => "swin",
            Family::T5 => "t5",
        }
    }

    /// Whether its models write text on, token by token: such models can be trained here, others only planned.
    pub const fn is_decoder(self) -> bool {
        match self {
            Family::Gpt | Family::Llama => true,
            Family::Bert | Family::Vit | Family::Swin | Family::T5 => false,
        }
    }
}

/// The second half of an encoder and a decoder. Width, heads and feed-forward are those of the encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decoder {
    /// Its blocks; `layers` of the model are those of the encoder.
    pub layers: u32,
    /// Tokens that it writes; `sequence` of the model are those that the encoder reads.
    pub sequence: u64,
}

/// What a model of images reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Images {
    /// Numbers of a patch: height × width × colours.
    pub patch: u64,
    /// Blocks of each level, in order; only for `swin`. From one level to the next, four patches become one of twice
    /// the width, and heads and feed-forward width double: `hidden`, `heads`, `feed_forward` and `sequence` are those
    /// of the first level.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub levels: Vec<u32>,
    /// Patches along an edge of a window, which are a sequence of their own in attention; only for `swin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<u64>,
}

/// Whether a product has a bias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bias {
    /// It has none.
    #[default]
    Absent,
    /// It has one.
    Present,
}

impl Bias {
    fn is_absent(&self) -> bool {
        *self == Bias::Absent
    }
}

/// Whether two ends of the model share a matrix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Embeddings {
    /// Embedding and head are one matrix.
    Tied,
    /// Each has its own.
    #[default]
    Untied,
}

/// How a model is trained: what belongs to the result, not to the plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Sequences of one step, over all ranks.
    pub batch: u64,
    /// How numbers are stored.
    #[serde(default)]
    pub precision: Precision,
    /// The largest learning rate: reached at the end of the warm-up, from where it falls along half a cosine to a tenth
    /// at the last step.
    #[serde(default = "learning_rate")]
    pub learning_rate: f64,
    /// Steps `n` over which the rate rises in equal parts, from a `1/n` of the largest in the first of them.
    #[serde(default)]
    pub warmup_steps: u64,
    /// Decoupled weight decay of matrices and tables; norms and biases do not decay.
    #[serde(default = "weight_decay")]
    pub weight_decay: f64,
    /// The largest norm of the whole gradient; one that is larger is scaled to it.
    #[serde(default = "gradient_norm_max")]
    pub gradient_norm_max: f64,
    /// Decay rates of the two moments.
    #[serde(default = "betas")]
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    #[serde(default = "epsilon", skip_serializing_if = "is_epsilon")]
    pub epsilon: f64,
}

/// How numbers are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Everything in 32 bits.
    #[serde(rename = "f32")]
    Full,
    /// Parameters and activations in bf16; gradients, master parameters and moments in 32 bits.
    #[default]
    #[serde(rename = "bf16")]
    Mixed,
}

fn rotary_base() -> f64 {
    10_000.0
}
fn is_rotary_base(base: &f64) -> bool {
    base.to_bits() == rotary_base().to_bits()
}
fn norm_epsilon() -> f64 {
    1e-5
}
fn is_norm_epsilon(epsilon: &f64) -> bool {
    epsilon.to_bits() == norm_epsilon().to_bits()
}
fn learning_rate() -> f64 {
    3e-4
}
fn weight_decay() -> f64 {
    0.1
}
fn gradient_norm_max() -> f64 {
    1.0
}
fn betas() -> [f64; 2] {
    [0.9, 0.95]
}
/// That of Kingma and Ba 2015.
fn epsilon() -> f64 {
    1e-8
}
fn is_epsilon(value: &f64) -> bool {
    value.to_bits() == epsilon().to_bits()
}

impl Training {
    /// So many sequences a step, and of all else what is meant where a file does not say it.
    pub fn of_batch(batch: u64) -> Training {
        Training {
            batch,
            precision: Precision::default(),
            learning_rate: learning_rate(),
            warmup_steps: 0,
            weight_decay: weight_decay(),
            gradient_norm_max: gradient_norm_max(),
            betas: betas(),
            epsilon: epsilon(),
        }
    }
}

impl Model {
    /// Key and value heads.
    pub fn groups(&self) -> u64 {
        self.key_value_heads.unwrap_or(self.heads)
    }

    /// Transformer blocks, those of a decoder included.
    pub fn blocks(&self) -> u32 {
        self.layers + self.decoder.map_or(0, |decoder| decoder.layers)
    }

    /// Layers of its graph: the blocks, the embedding and the head, between levels what merges patches, and between
    /// encoder and decoder their border.
    pub fn layer_count(&self) -> u32 {
        let merges = self.images.as_ref().map_or(0, |images| images.levels.len().saturating_sub(1) as u32);
        self.blocks() + 2 + merges + u32::from(self.decoder.is_some())
    }

    /// Size of a head.
    pub fn head(&self) -> u64 {
        self.head_size.unwrap_or(self.hidden / self.heads)
    }
}
