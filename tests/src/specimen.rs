//! Tiny models: everything that real ones have, in few numbers.

use ir::model::{Bias, Decoder, Embeddings, Family, Images, Model, Precision, Training};

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
        decoder: None,
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

/// A BERT of three blocks: every token sees all, and norms stand behind sums.
pub fn bert() -> Model {
    Model { family: Family::Bert, ..gpt() }
}

/// A ViT of three blocks, of eight patches an image.
pub fn vit() -> Model {
    let images = Images { patch: 6, levels: Vec::new(), window: None };
    Model { family: Family::Vit, embeddings: Embeddings::Untied, images: Some(images), ..gpt() }
}

/// A T5 of two blocks that read sequences of 12 and two that write sequences of 8: seven layers, whose head is also both
/// tables.
pub fn t5() -> Model {
    let decoder = Some(Decoder { layers: 2, sequence: 8 });
    Model { family: Family::T5, layers: 2, sequence: 12, decoder, head_size: Some(4), ..gpt() }
}

/// A Swin of four blocks on three levels, whose widths are 16, 32 and 64: eight layers, of which two merge patches.
pub fn swin() -> Model {
    let images = Images { patch: 6, levels: vec![2, 1, 1], window: Some(2) };
    Model { family: Family::Swin, layers: 4, sequence: 64, images: Some(images), ..vit() }
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
