//! Models that stand for others: what they are made of is measured where nobody names a model.

use ir::cluster::Execution;
use ir::model::{Bias, Embeddings, Family, Model, Precision, Training};

/// Widths from 128 to 1024 and sequences from 64 to 512 for cores; from 1024 to 8192 and to 4096 for GPUs, in bf16.
pub(crate) fn models(execution: Execution) -> Vec<Model> {
    let (sizes, precision) = match execution {
        Execution::Shared { .. } => ([(128, 64), (256, 256), (512, 128), (1024, 512)], Precision::Full),
        Execution::Concurrent => ([(1024, 1024), (2048, 2048), (4096, 4096), (8192, 2048)], Precision::Mixed),
    };
    let of = |family| sizes.map(|(hidden, sequence)| model(family, [hidden, sequence], precision));
    [Family::Llama, Family::Gpt].into_iter().flat_map(of).collect()
}

pub(crate) fn model(family: Family, [hidden, sequence]: [u64; 2], precision: Precision) -> Model {
    Model {
        format: 1,
        name: format!("general-{hidden}"),
        family,
        layers: 2,
        hidden,
        // Heads of 32 numbers on cores, where models are small, and of 128 on GPUs.
        heads: if precision == Precision::Mixed { hidden / 128 } else { hidden / 32 },
        key_value_heads: None,
        feed_forward: if family == Family::Gpt { 4 * hidden } else { 3 * hidden },
        vocabulary: if precision == Precision::Mixed { 32_000 } else { 1024 },
        sequence,
        embeddings: Embeddings::Untied,
        rotary_base: 10_000.0,
        rotary_scaling: None,
        images: None,
        decoder: None,
        head_size: None,
        attention_bias: Bias::Absent,
        norm_epsilon: 1e-5,
        training: Training {
            batch: 4,
            precision,
            learning_rate: 1e-3,
            warmup_steps: 0,
            weight_decay: 0.1,
            gradient_norm_max: 1.0,
            betas: [0.9, 0.95],
            epsilon: 1e-8,
        },
    }
}
