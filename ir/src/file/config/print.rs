//! A model as config.json, for programs that read published models.

use serde_json::{Map, Value, json};

use crate::model::{Bias, Embeddings, Family, Model};

/// The model as the config.json of the published kind that computes the same; weights are stored as `stored` says, such
/// as `float32`.
///
/// # Errors
/// No published kind is this model; in words.
pub fn print_config(model: &Model, stored: &str) -> Result<String, String> {
    let mut object = match model.family {
        Family::Llama => rotary(model),
        Family::Gpt => learned(model)?,
        Family::Bert | Family::Vit | Family::Swin | Family::T5 => {
            return Err(format!("models of the family `{}` have no config.json here", model.family.name()));
        }
    };
    let is_tied = model.embeddings == Embeddings::Tied;
    object.insert("vocab_size".to_owned(), json!(model.vocabulary));
    object.insert("tie_word_embeddings".to_owned(), json!(is_tied));
    object.insert("torch_dtype".to_owned(), json!(stored));
    Ok(format!("{:#}\n", Value::Object(object)))
}

fn rotary(model: &Model) -> Map<String, Value> {
    let (kind, class) = match model.attention_bias {
        Bias::Absent => ("llama", "LlamaForCausalLM"),
        Bias::Present => ("qwen2", "Qwen2ForCausalLM"),
    };
    let scaling = model.rotary_scaling.map(|scaling| {
        json!({
            "rope_type": "llama3",
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_frequency_factor,
            "high_freq_factor": scaling.high_frequency_factor,
            "original_max_position_embeddings": scaling.original_sequence,
        })
    });
    let object = json!({
        "architectures": [class],
        "model_type": kind,
        "hidden_act": "silu",
        "hidden_size": model.hidden,
        "intermediate_size": model.feed_forward,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "num_key_value_heads": model.groups(),
        "head_dim": model.head(),
        "max_position_embeddings": model.sequence,
        "rms_norm_eps": model.norm_epsilon,
        "rope_theta": model.rotary_base,
        "rope_scaling": scaling,
    });
    as_map(object)
}

fn learned(model: &Model) -> Result<Map<String, Value>, String> {
    if model.groups() != model.heads || model.head() * model.heads != model.hidden {
        return Err(
            "no published kind has learned positions and other heads of keys and values, or of another size".to_owned()
        );
    }
    let object = json!({
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "activation_function": "gelu_new",
        "n_embd": model.hidden,
        "n_inner": model.feed_forward,
        "n_layer": model.layers,
        "n_head": model.heads,
        "n_positions": model.sequence,
        "layer_norm_epsilon": model.norm_epsilon,
        "attn_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
    });
    Ok(as_map(object))
}

fn as_map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            unreachable!("it was written with braces")
        }
    }
}
