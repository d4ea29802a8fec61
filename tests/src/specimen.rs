//! Tiny models: everything that real ones have, in few numbers.

use ir::model::{Bias, Embeddings, Family, Model, Precision, Training};

/// A Llama of three blocks (five layers) whose query heads share keys and values.
pub fn llama() -> Model {
    Model {
        format: 1,
        name: "specimen".to_owned(),
        family: Family::Llama,
        layers: 3,
        hidden: 16,
        heads: 8,
        key_value_heads: Some(4),
        feed_forward: 24,
        vocabulary: 32,
        sequence: 8,
        embeddings: Embeddings::Untied,
        rotary_base: 10_000.0,
        rotary_scaling: None,
        images: None,
        head_size: None,
        attention_bias: Bias::Absent,
        norm_epsilon: 1e-5,
        training: training(),
    }
}

/// A GPT of three blocks whose embedding is also the matrix of its head.
pub fn gpt() -> Model {
    Model { family: Family::Gpt, key_value_heads: None, embeddings: Embeddings::Tied, ..llama() }
}

/// Eight sequences a step, warm-up, decay, and a largest gradient norm that most steps exceed.
fn training() -> Training {
    Training {
        batch: 8,
        precision: Precision::Full,
        learning_rate: 1e-3,
        warmup_steps: 5,
        weight_decay: 0.1,
        gradient_norm_max: 0.5,
        betas: [0.9, 0.95],
        epsilon: 1e-8,
    }
}
