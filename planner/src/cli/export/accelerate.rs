//! Hugging Face: arguments of the Trainer, and the configuration of accelerate that starts it.

use std::fmt::Write as _;

use ir::model::Family;
use ir::plan::{Recompute, Sequence, Shard};
use serde_json::json;

use super::super::failure::Failure;
use super::Export;
use super::common::{Common, Field};

const TRAINER: &str = "transformers (TrainingArguments) with accelerate v1.10.1";

/// A failure if the batch cannot be spread without a pipeline.
pub(crate) fn export(common: &Common<'_>) -> Result<Export, Failure> {
    let mut unsaid = common.unlike(&[Field::Data, Field::Tensor, Field::Sequence, Field::Shard, Field::Recompute]);
    let ranks = common.ranks() / common.strategy.tensor;
    if common.stages() > 1 {
        unsaid.push(format!("`stages`: {}; said: 1, with the batch over {ranks} ranks", common.stages()));
    }
    let together = common.micro_batch * u64::from(ranks);
    if !common.plan.batch.is_multiple_of(together) {
        let what =
            format!("a batch of {} sequences cannot be said without stages: {together} run at once", common.plan.batch);
        return Err(Failure::negative(format!("error: {what}")).help("plan with --stages 1"));
    }
    let spread = spread(common, ranks, &mut unsaid);
    if common.strategy.recompute == Recompute::Selective {
        unsaid.push("`recompute`: selective; said: nothing".to_owned());
    }
    unsaid.extend(common.prefetch());
    let notes = vec![
        "train.py is yours: it reads training_arguments.json with HfArgumentParser, makes the model and its data, and \
         calls Trainer; sequences are as long as its data"
            .to_owned(),
    ];
    let files = vec![
        ("training_arguments.json", arguments(common, common.plan.batch / together)),
        ("accelerate.yaml", configuration(common, &spread)),
    ];
    Ok(Export { trainer: TRAINER, files, commands: commands(common), unsaid, notes })
}

/// What accelerate makes of the devices.
enum Spread {
    /// Each has everything.
    Replicated,
    /// Parameters lie in parts, and are gathered for a layer, or for a step.
    Sharded { ranks: u32, tensor: u32, reshard: &'static str },
}

fn spread(common: &Common<'_>, ranks: u32, unsaid: &mut Vec<String>) -> Spread {
    let tensor = common.strategy.tensor;
    if tensor > 1 && common.strategy.sequence == Sequence::Split {
        unsaid.push("`sequence`: split; said: whole".to_owned());
    }
    let sharded = |reshard| Spread::Sharded { ranks, tensor, reshard };
    match common.strategy.shard {
        Shard::Parameters => sharded("true"),
        Shard::Gradients => sharded("false"),
        Shard::Optimizer => {
            unsaid.push("`shard`: optimizer (ZeRO-1); said: gradients (ZeRO-2)".to_owned());
            sharded("false")
        }
        Shard::Nothing if tensor == 1 => Spread::Replicated,
        Shard::Nothing => {
            if ranks > 1 {
                unsaid.push("`shard`: nothing, which does not go with tensor; said: gradients (ZeRO-2)".to_owned());
            }
            sharded("false")
        }
    }
}

fn arguments(common: &Common<'_>, accumulation: u64) -> String {
    let training = &common.model.training;
    let [first, second] = training.betas;
    let document = json!({
        "output_dir": "output",
        "per_device_train_batch_size": common.micro_batch,
        "gradient_accumulation_steps": accumulation,
        "max_steps": common.steps,
        "learning_rate": training.learning_rate,
        "lr_scheduler_type": "cosine_with_min_lr",
        "lr_scheduler_kwargs": { "min_lr_rate": 0.1 },
        "warmup_steps": training.warmup_steps,
        "optim": "adamw_torch_fused",
        "weight_decay": training.weight_decay,
        "adam_beta1": first,
        "adam_beta2": second,
        "adam_epsilon": training.epsilon,
        "max_grad_norm": training.gradient_norm_max,
        "bf16": common.is_mixed(),
        // Under sharding that of accelerate.yaml, which gathers nothing twice.
        "gradient_checkpointing": common.strategy.recompute == Recompute::Full && is_replicated(common),
    });
    format!("{document:#}\n")
}

fn is_replicated(common: &Common<'_>) -> bool {
    common.strategy.shard == Shard::Nothing && common.strategy.tensor == 1
}

fn configuration(common: &Common<'_>, spread: &Spread) -> String {
    let mut text = String::new();
    let mut line = |words: String| writeln!(text, "{words}").expect("a string can grow");
    line("compute_environment: LOCAL_MACHINE".to_owned());
    line(format!("num_machines: {}", common.nodes));
    line(format!("num_processes: {}", common.ranks()));
    line(format!("mixed_precision: {}", if common.is_mixed() { "bf16" } else { "'no'" }));
    match spread {
        Spread::Replicated => line("distributed_type: MULTI_GPU".to_owned()),
        Spread::Sharded { ranks, tensor, reshard } => {
            let block = match common.model.family {
                Family::Gpt => "GPT2Block",
                Family::Llama => "LlamaDecoderLayer",
                Family::Bert | Family::Vit | Family::Swin | Family::T5 => panic!("only decoders are exported"),
            };
            line("distributed_type: FSDP\nfsdp_config:\n  fsdp_version: 2".to_owned());
            line(format!("  fsdp_reshard_after_forward: {reshard}"));
            line("  fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP".to_owned());
            line(format!("  fsdp_transformer_layer_cls_to_wrap: {block}"));
            line("  fsdp_state_dict_type: SHARDED_STATE_DICT\n  fsdp_offload_params: false".to_owned());
            let again = common.strategy.recompute == Recompute::Full;
            line(format!("  fsdp_activation_checkpointing: {again}"));
            if *tensor > 1 {
                line(format!(
                    "parallelism_config:\n  parallelism_config_dp_replicate_size: 1\n  \
                     parallelism_config_dp_shard_size: {ranks}\n  parallelism_config_tp_size: {tensor}\n  \
                     parallelism_config_cp_size: 1"
                ));
            }
        }
    }
    text
}

fn commands(common: &Common<'_>) -> String {
    let program = "train.py training_arguments.json \"$@\"\n";
    let launch = "accelerate launch --config_file accelerate.yaml";
    if common.nodes == 1 {
        return format!("{launch} {program}");
    }
    common.slurm(&format!(
        "{launch} --rdzv_backend c10d --main_process_ip \"$MASTER_ADDR\" \\\n    \
         --main_process_port \"${{MASTER_PORT:-29500}}\" {program}"
    ))
}
