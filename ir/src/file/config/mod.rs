//! config.json, as models are published with their weights: read as a model, where this program can say the model.
//!
//! Nothing is dropped silently: a key either says a size, or must have the one value that leaves the model what it is
//! here, or is known not to change what is computed. Any other key is an error. Dropout is left out, and the sequence
//! and the recipe of the training, which such files do not have, get values of their own.

mod keys;
mod print;
#[cfg(test)]
mod tests;

use serde_json::Value;

use super::model::check_model;
use super::parse::FORMAT;
use crate::error::{Mistake, Mistakes};
use crate::model::{Bias, Embeddings, Family, Model, Precision, Training};
use crate::op::Scaling;
use keys::Keys;

pub use print::print_config;

/// Larger files are no descriptions of a model.
const TEXT_MAX: usize = 1 << 20;
/// Sequences of a step, where nobody says another batch.
const BATCH: u64 = 32;
/// Tokens of a sequence, where nobody says how many and positions are rotated: what is published for long texts was
/// mostly trained on shorter ones.
const SEQUENCE: u64 = 4096;

/// Whether a text is meant as config.json: files of this program do not begin with a bracket.
pub(super) fn is_config(text: &str) -> bool {
    text.trim_start_matches('\u{feff}').trim_start().starts_with('{')
}

/// The model that a config.json describes, to be trained on sequences of so many tokens, or else as many as it allows,
/// at most 4096 where positions are rotated. Families are llama, mistral, qwen2, phi3 and gpt2.
///
/// # Errors
/// Everything that this program cannot say, with line, key and value; `file` names it in messages.
pub fn parse_config(text: &str, file: &str, sequence: Option<u64>) -> Result<Model, Mistakes> {
    if text.len() > TEXT_MAX {
        return Err(Mistake::new(file, format!("{} bytes are too many for a config.json", text.len())).into());
    }
    let text = text.trim_start_matches('\u{feff}');
    let value: Value = serde_json::from_str(text).map_err(|error| {
        let mistake = Mistake::new(file, format!("no JSON: {error}")).help("is the file whole?");
        if error.line() > 0 { mistake.at((error.line(), error.column())) } else { mistake }
    })?;
    let Value::Object(object) = value else {
        return Err(Mistake::new(file, "a model is described by an object, in braces").into());
    };
    let mut keys = Keys::new(object, text, file);
    let model = match keys.architecture() {
        Some(Architecture::Rotary(published)) => rotary(&mut keys, published, sequence),
        Some(Architecture::Learned) => learned(&mut keys, sequence),
        None => return Err(keys.refused()),
    };
    keys.finish()?;
    // Sizes alone can still be wrong; they stand under other names here, so that lines would mean nothing.
    check_model(&model, "", file)?;
    Ok(model)
}

/// What a `model_type` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Architecture {
    /// RMSNorm, SwiGLU, rotary positions.
    Rotary(Published),
    /// LayerNorm, GELU, learned positions, biases.
    Learned,
}

/// How the descendants of one family differ: also what is meant where a key is absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Published {
    Llama,
    Mistral,
    Qwen2,
    Phi3,
}

/// By their `model_type`.
const ARCHITECTURES: [(&str, Architecture); 5] = [
    ("llama", Architecture::Rotary(Published::Llama)),
    ("mistral", Architecture::Rotary(Published::Mistral)),
    ("qwen2", Architecture::Rotary(Published::Qwen2)),
    ("phi3", Architecture::Rotary(Published::Phi3)),
    ("gpt2", Architecture::Learned),
];

fn rotary(keys: &mut Keys<'_>, published: Published, sequence: Option<u64>) -> Model {
    keys.only("hidden_act", &["silu".into(), "swish".into()], "the feed-forward part is silu(gate) · up here");
    keys.only("mlp_bias", &[false.into()], "the feed-forward part has no biases here");
    keys.only("attention_bias", &[false.into()], "biases of all four products of attention cannot be said here");
    keys.only("partial_rotary_factor", &[1.0.into()], "heads are rotated as a whole here");
    keys.only("rope_interleaved", &[false.into()], "pairs (i, i + d/2) are rotated here");
    keys.only("use_mrope", &[false.into()], "positions have one dimension here");
    keys.pass("is_llama_config");
    let (hidden, heads) = (keys.count("hidden_size"), keys.count("num_attention_heads"));
    let key_value_heads = match published {
        Published::Llama | Published::Phi3 => keys.count_if_any("num_key_value_heads"),
        Published::Mistral | Published::Qwen2 => Some(keys.count("num_key_value_heads")),
    };
    let head_size = keys.count_if_any("head_dim").filter(|&size| size.checked_mul(heads) != Some(hidden));
    let (rotary_base, rotary_scaling) = rope(keys, published);
    let longest = keys.count_if_any("max_position_embeddings").unwrap_or(SEQUENCE);
    let window = window(keys, published);
    let shown = sequence.unwrap_or_else(|| longest.min(SEQUENCE).min(window.unwrap_or(u64::MAX)));
    if let Some(window) = window.filter(|&window| shown > window) {
        keys.wrong("sliding_window", format!("{window}: sequences of {shown} tokens would be seen in part only, which cannot be said here; up to {window} tokens it makes no difference"));
    }
    let epsilon = if published == Published::Phi3 { 1e-5 } else { 1e-6 };
    Model {
        format: FORMAT,
        name: keys.model_type(),
        family: Family::Llama,
        layers: keys.layers("num_hidden_layers"),
        hidden,
        heads,
        key_value_heads: key_value_heads.filter(|&groups| groups != heads),
        head_size,
        attention_bias: if published == Published::Qwen2 { Bias::Present } else { Bias::Absent },
        feed_forward: keys.count("intermediate_size"),
        vocabulary: keys.count("vocab_size"),
        sequence: shown,
        embeddings: embeddings(keys, Embeddings::Untied),
        rotary_base,
        rotary_scaling,
        images: None,
        decoder: None,
        norm_epsilon: keys.number_or("rms_norm_eps", epsilon),
        training: training(keys),
    }
}

/// How many tokens back a token sees, if not all.
fn window(keys: &mut Keys<'_>, published: Published) -> Option<u64> {
    let window = keys.count_if_any("sliding_window");
    match published {
        // Where a file of this type does not say it, this is meant.
        Published::Mistral if !keys.has("sliding_window") => Some(4096),
        Published::Mistral | Published::Phi3 => window,
        Published::Llama | Published::Qwen2 if keys.flag_if_any("use_sliding_window") == Some(true) => window,
        Published::Llama | Published::Qwen2 => None,
    }
}

/// Base and stretching of frequencies, in the older form of the file or the newer.
fn rope(keys: &mut Keys<'_>, published: Published) -> (f64, Option<Scaling>) {
    let mut base = keys.number_or("rope_theta", 10_000.0);
    let mut scaling = None;
    for name in ["rope_scaling", "rope_parameters"] {
        let Some(mut inner) = keys.inner(name) else { continue };
        base = inner.number_or("rope_theta", base);
        inner.only("partial_rotary_factor", &[1.0.into()], "heads are rotated as a whole here");
        let kind = inner.word_if_any("rope_type");
        let older = inner.word_if_any("type");
        match kind.or(older).as_deref() {
            None | Some("default") => {}
            Some("llama3") => {
                scaling = Some(Scaling {
                    factor: inner.number("factor"),
                    low_frequency_factor: inner.number("low_freq_factor"),
                    high_frequency_factor: inner.number("high_freq_factor"),
                    original_sequence: inner.count("original_max_position_embeddings"),
                });
            }
            Some(other) => {
                let what =
                    format!("`{}`: of scaled frequencies only `llama3` can be said here", crate::error::shown(other));
                inner.unsayable(what);
            }
        }
        keys.leave(inner);
    }
    if published == Published::Phi3 {
        // Of no meaning where nothing is scaled.
        keys.pass("original_max_position_embeddings");
    }
    (base, scaling)
}

fn learned(keys: &mut Keys<'_>, sequence: Option<u64>) -> Model {
    let tanh = ["gelu_new".into(), "gelu_pytorch_tanh".into()];
    keys.only("activation_function", &tanh, "the activation is the tanh form of GELU here, `gelu_new`");
    keys.only("scale_attn_weights", &[true.into()], "scores are divided by the root of the head size here");
    keys.only("scale_attn_by_inverse_layer_idx", &[false.into()], "scores of all layers are scaled alike here");
    keys.only("add_cross_attention", &[false.into()], "there is no cross attention here");
    // A matter of rounding alone.
    keys.pass("reorder_and_upcast_attn");
    let hidden = keys.count("n_embd");
    let positions = keys.count_if_any("n_positions").unwrap_or(1024);
    keys.pass("n_ctx");
    let sequence = sequence.unwrap_or(positions);
    if sequence > positions {
        keys.wrong("n_positions", format!("{positions}: there are no positions for sequences of {sequence} tokens"));
    }
    Model {
        format: FORMAT,
        name: keys.model_type(),
        family: Family::Gpt,
        layers: keys.layers("n_layer"),
        hidden,
        heads: keys.count("n_head"),
        key_value_heads: None,
        head_size: None,
        attention_bias: Bias::Absent,
        feed_forward: keys.count_if_any("n_inner").unwrap_or(hidden.saturating_mul(4)),
        vocabulary: keys.count("vocab_size"),
        sequence,
        embeddings: embeddings(keys, Embeddings::Tied),
        rotary_base: 10_000.0,
        rotary_scaling: None,
        images: None,
        decoder: None,
        norm_epsilon: keys.number_or("layer_norm_epsilon", 1e-5),
        training: training(keys),
    }
}

fn embeddings(keys: &mut Keys<'_>, default: Embeddings) -> Embeddings {
    match keys.flag_if_any("tie_word_embeddings") {
        Some(true) => Embeddings::Tied,
        Some(false) => Embeddings::Untied,
        None => default,
    }
}

fn training(keys: &mut Keys<'_>) -> Training {
    let older = keys.word_if_any("torch_dtype");
    let stored = keys.word_if_any("dtype").or(older);
    let precision = if stored.as_deref() == Some("float32") { Precision::Full } else { Precision::Mixed };
    Training { precision, ..Training::of_batch(BATCH) }
}
