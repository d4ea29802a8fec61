//! A model that trains at once, and plans for it.

use ir::model::{Bias, Embeddings, Family, Model, Precision, Training};
use ir::plan::{Plan, Recompute, Schedule, Sequence, Shard, Strategy};

/// A model of two blocks.
pub fn model(family: Family, embeddings: Embeddings) -> Model {
    Model {
        format: 1,
        name: "tiny".to_owned(),
        family,
        layers: 2,
        hidden: 16,
        heads: 4,
        key_value_heads: (family == Family::Llama).then_some(2),
        feed_forward: 24,
        vocabulary: 32,
        sequence: 8,
        embeddings,
        rotary_base: 10_000.0,
        rotary_scaling: None,
        images: None,
        decoder: None,
        head_size: None,
        attention_bias: Bias::Absent,
        norm_epsilon: 1e-5,
        training: Training {
            batch: 8,
            precision: Precision::Full,
            learning_rate: 1e-2,
            warmup_steps: 0,
            weight_decay: 0.1,
            gradient_norm_max: 1.0,
            betas: [0.9, 0.95],
            epsilon: 1e-8,
        },
    }
}

/// A plan of stages of so many layers each.
pub fn plan(stages: &[u32], strategies: Vec<Strategy>) -> Plan {
    let mut start = 0;
    let stages = stages.iter().map(|&count| {
        start += count;
        start - count..start
    });
    Plan {
        batch: 8,
        microbatches: 2,
        schedule: Schedule::OneForwardOneBackward,
        precision: Precision::Full,
        stages: stages.collect(),
        strategies,
        prefetch: 1,
    }
}

/// A layer on one rank.
pub fn single() -> Strategy {
    Strategy { data: 1, tensor: 1, sequence: Sequence::Whole, shard: Shard::Nothing, recompute: Recompute::Nothing }
}
