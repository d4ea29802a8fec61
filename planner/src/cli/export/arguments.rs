//! Arguments of Megatron-LM (`pretrain_gpt.py`).

use std::fmt::Display;

use ir::model::{Embeddings, Family};
use ir::plan::{Recompute, Schedule, Shard};

use super::Export;
use super::common::{Common, Field};

const TRAINER: &str = "Megatron-LM core_v0.13.0";

/// Arguments in lines of things that belong together.
#[derive(Default)]
struct Arguments(Vec<String>);

impl Arguments {
    fn line(&mut self, parts: &[&dyn Display]) {
        self.0.push(parts.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
    }
}

pub(crate) fn export(common: &Common<'_>) -> Export {
    let mut unsaid = common.unlike(&[Field::Data, Field::Tensor, Field::Sequence, Field::Shard]);
    let mut arguments = Arguments::default();
    model(common, &mut arguments);
    training(common, &mut arguments);
    spread(common, &mut arguments, &mut unsaid);
    recompute(common, &mut arguments, &mut unsaid);
    unsaid.extend(common.prefetch());
    let folder = "cd \"${MEGATRON:-$PWD}\"\n";
    let environment = if is_sharded(common) {
        "unset CUDA_DEVICE_MAX_CONNECTIONS  # must not be 1 with this sharding\n"
    } else {
        "export CUDA_DEVICE_MAX_CONNECTIONS=1\n"
    };
    let program = format!("pretrain_gpt.py \\\n  {} \"$@\"\n", arguments.0.join(" \\\n  "));
    let mut notes = vec![
        "MEGATRON names the folder of Megatron-LM; else it is the present one. It trains on random tokens, to measure speed; for text, replace --mock-data, \
         --tokenizer-type and --vocab-size by --data-path and a tokenizer"
            .to_owned(),
    ];
    if is_sharded(common) && common.stages() > 1 {
        notes.push("its documents do not say that --use-custom-fsdp works together with a pipeline".to_owned());
    }
    Export {
        trainer: TRAINER,
        files: Vec::new(),
        commands: format!("{folder}{environment}{}", common.torchrun(&program)),
        unsaid,
        notes,
    }
}

/// Whether more than the optimizer is sharded, which takes another path through the trainer.
fn is_sharded(common: &Common<'_>) -> bool {
    common.strategy.data > 1 && common.strategy.shard >= Shard::Gradients
}

fn model(common: &Common<'_>, arguments: &mut Arguments) {
    let model = common.model;
    arguments.line(&[&"--num-layers", &model.layers, &"--hidden-size", &model.hidden]);
    arguments.line(&[&"--ffn-hidden-size", &model.feed_forward, &"--num-attention-heads", &model.heads]);
    if let Some(heads) = model.key_value_heads.filter(|heads| *heads != model.heads) {
        arguments.line(&[&"--group-query-attention --num-query-groups", &heads]);
    }
    arguments.line(&[&"--seq-length", &model.sequence, &"--max-position-embeddings", &model.sequence]);
    match model.family {
        Family::Bert | Family::Vit | Family::Swin | Family::T5 => panic!("only decoders are exported"),
        Family::Gpt => arguments.line(&[&"--position-embedding-type learned_absolute --normalization LayerNorm"]),
        Family::Llama => {
            arguments.line(&[&"--position-embedding-type rope --rotary-base", &model.rotary_base]);
            arguments.line(&[&"--normalization RMSNorm --swiglu --disable-bias-linear"]);
        }
    }
    arguments.line(&[&"--norm-epsilon", &model.norm_epsilon, &"--attention-dropout 0 --hidden-dropout 0"]);
    if model.embeddings == Embeddings::Untied {
        arguments.line(&[&"--untie-embeddings-and-output-weights"]);
    }
    // The tokenizer adds one token.
    let tokens = model.vocabulary - 1;
    arguments
        .line(&[&"--make-vocab-size-divisible-by 1 --mock-data --tokenizer-type NullTokenizer --vocab-size", &tokens]);
}

fn training(common: &Common<'_>, arguments: &mut Arguments) {
    let training = &common.model.training;
    let [first, second] = training.betas;
    arguments.line(&[&"--micro-batch-size", &common.micro_batch, &"--global-batch-size", &common.plan.batch]);
    arguments.line(&[&"--train-iters", &common.steps, &"--lr-warmup-iters", &training.warmup_steps]);
    arguments.line(&[
        &"--lr",
        &training.learning_rate,
        &"--lr-decay-style cosine --min-lr",
        &tenth(training.learning_rate),
    ]);
    arguments.line(&[&"--weight-decay", &training.weight_decay, &"--clip-grad", &training.gradient_norm_max]);
    arguments.line(&[&"--adam-beta1", &first, &"--adam-beta2", &second, &"--adam-eps", &training.epsilon]);
    arguments.line(&[&"--init-method-std 0.02"]);
    if common.is_mixed() {
        arguments.line(&[&"--bf16"]);
    }
}

/// To twelve digits, which hides that products are rounded.
fn tenth(rate: f64) -> String {
    let rounded: f64 = format!("{:.11e}", rate / 10.0).parse().expect("a printed number is a number");
    format!("{rounded:e}")
}

fn spread(common: &Common<'_>, arguments: &mut Arguments, unsaid: &mut Vec<String>) {
    let strategy = common.strategy;
    arguments.line(&[
        &"--tensor-model-parallel-size",
        &strategy.tensor,
        &"--pipeline-model-parallel-size",
        &common.stages(),
    ]);
    if common.splits_sequence() {
        arguments.line(&[&"--sequence-parallel"]);
    }
    if !common.is_cut_evenly() {
        arguments.line(&[&format!("--pipeline-model-parallel-layout '{}'", layout(common))]);
    }
    if common.stages() > 1 && common.plan.schedule == Schedule::AllForward {
        unsaid.push("`schedule`: gpipe; said: 1f1b, the only one without interleaving".to_owned());
    }
    if strategy.data > 1 {
        match strategy.shard {
            Shard::Nothing => arguments.line(&[&"--overlap-grad-reduce"]),
            Shard::Optimizer => {
                arguments.line(&[&"--use-distributed-optimizer --overlap-grad-reduce --overlap-param-gather"]);
            }
            Shard::Gradients => sharded("optim_grads", arguments),
            Shard::Parameters => sharded("optim_grads_params", arguments),
        }
    }
}

fn sharded(strategy: &str, arguments: &mut Arguments) {
    arguments.line(&[&"--use-custom-fsdp --data-parallel-sharding-strategy", &strategy]);
    arguments.line(&[&"--use-distributed-optimizer --no-gradient-accumulation-fusion"]);
}

/// Layers of each stage: E the embedding, t a block, L the head.
fn layout(common: &Common<'_>) -> String {
    let last = common.plan.strategies.len() as u32 - 1;
    let of_stage = |(stage, blocks): (&std::ops::Range<u32>, &u32)| {
        let embedding = if stage.contains(&0) { "E" } else { "" };
        let head = if stage.contains(&last) { "L" } else { "" };
        let blocks = if *blocks > 0 { format!("t*{blocks}") } else { String::new() };
        format!("{embedding}{blocks}{head}")
    };
    common.plan.stages.iter().zip(&common.blocks).map(of_stage).collect::<Vec<_>>().join("|")
}

fn recompute(common: &Common<'_>, arguments: &mut Arguments, unsaid: &mut Vec<String>) {
    if let Some(first) = first_blocks(common).filter(|first| *first > 0) {
        // Blocks up to a number of each stage: one of two that can be unlike.
        arguments.line(&[&"--recompute-granularity full --recompute-method block --recompute-num-layers", &first]);
        let head = &common.plan.strategies[common.plan.strategies.len() - 1];
        if head.recompute != Recompute::Nothing {
            unsaid.push("`recompute`: of the head; said: nothing".to_owned());
        }
        return;
    }
    unsaid.extend(common.unlike(&[Field::Recompute]));
    match common.strategy.recompute {
        Recompute::Nothing => {}
        Recompute::Selective => {
            arguments.line(&[&"--recompute-granularity selective --recompute-modules layernorm"]);
            unsaid.push("`recompute`: selective is norms and activations; said: norms alone".to_owned());
        }
        Recompute::Full => {
            arguments.line(&[&"--recompute-granularity full --recompute-method uniform --recompute-num-layers 1"]);
        }
    }
}

/// How many blocks of every stage are computed again, if those are its first ones and the others keep everything.
fn first_blocks(common: &Common<'_>) -> Option<usize> {
    let head = common.plan.strategies.len() - 1;
    let mut counts = common.plan.stages.iter().map(|stage| {
        let blocks = (stage.start.max(1) as usize..(stage.end as usize).min(head))
            .map(|layer| common.plan.strategies[layer].recompute);
        let blocks: Vec<Recompute> = blocks.collect();
        let first = blocks.iter().take_while(|recompute| **recompute == Recompute::Full).count();
        let rest = blocks[first..].iter().all(|recompute| *recompute == Recompute::Nothing);
        (rest && first < blocks.len()).then_some(first)
    });
    let first = counts.next()??;
    counts.all(|count| count == Some(first)).then_some(first)
}
