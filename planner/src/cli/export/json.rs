//! The configuration of DeepSpeed, as JSON.

use ir::plan::{Recompute, Schedule, Sequence, Shard};
use serde_json::json;

use super::Export;
use super::common::{Common, Field};

const TRAINER: &str = "DeepSpeed 0.16.4";

pub(crate) fn export(common: &Common<'_>) -> Export {
    let Common { plan, strategy, .. } = common;
    let training = &common.model.training;
    let mut unsaid = common.unlike(&[Field::Data, Field::Tensor, Field::Sequence, Field::Shard]);
    let stage = stage(common, &mut unsaid);
    let mut document = json!({
        "train_batch_size": plan.batch,
        "train_micro_batch_size_per_gpu": common.micro_batch,
        "gradient_accumulation_steps": plan.microbatches,
        "optimizer": {
            "type": "AdamW",
            "params": {
                "lr": training.learning_rate,
                "betas": training.betas,
                "eps": training.epsilon,
                "weight_decay": training.weight_decay,
            },
        },
        "scheduler": {
            "type": "WarmupCosineLR",
            "params": {
                "total_num_steps": common.steps,
                "warmup_num_steps": training.warmup_steps,
                "warmup_type": "linear",
                "cos_min_ratio": 0.1,
            },
        },
        "gradient_clipping": training.gradient_norm_max,
        "bf16": { "enabled": common.is_mixed() },
        "data_types": { "grad_accum_dtype": "fp32" },
        "zero_optimization": { "stage": stage, "overlap_comm": true, "reduce_scatter": true },
    });
    if strategy.tensor > 1 {
        document["tensor_parallel"] = json!({ "autotp_size": strategy.tensor });
        if strategy.sequence == Sequence::Split {
            unsaid.push("`sequence`: split; said: whole".to_owned());
        }
    }
    pipeline(common, &mut unsaid);
    recompute(common, &mut unsaid);
    unsaid.extend(common.prefetch());
    let notes = vec![
        "train.py is yours: it makes the model (and says its sizes and sequences) and calls deepspeed.initialize; weights \
         that should not decay are groups that it makes"
            .to_owned(),
    ];
    let program = "train.py --deepspeed --deepspeed_config ds_config.json \"$@\"\n";
    let files = vec![("ds_config.json", format!("{document:#}\n"))];
    Export { trainer: TRAINER, files, commands: common.torchrun(program), unsaid, notes }
}

/// The ZeRO stage that can be said.
fn stage(common: &Common<'_>, unsaid: &mut Vec<String>) -> u8 {
    let wanted = match common.strategy.shard {
        _ if common.strategy.data == 1 => 0,
        Shard::Nothing => 0,
        Shard::Optimizer => 1,
        Shard::Gradients => 2,
        Shard::Parameters => 3,
    };
    let (most, why) = if common.stages() > 1 {
        (1, "more does not go with its pipeline")
    } else if common.strategy.tensor > 1 {
        (2, "more does not go with its tensor parallelism")
    } else {
        (3, "")
    };
    if wanted > most {
        unsaid.push(format!("`shard`: ZeRO-{wanted}; said: ZeRO-{most}, as {why}"));
    }
    wanted.min(most)
}

/// A pipeline is made by the program, not by its configuration.
fn pipeline(common: &Common<'_>, unsaid: &mut Vec<String>) {
    if common.stages() == 1 {
        return;
    }
    unsaid.push(format!(
        "`stages`: {}; train.py must make a PipelineModule with num_stages={} whose blocks lie as {:?}",
        common.stages(),
        common.stages(),
        common.blocks
    ));
    if common.plan.schedule == Schedule::AllForward {
        unsaid.push("`schedule`: gpipe; its pipeline is 1f1b".to_owned());
    }
}

fn recompute(common: &Common<'_>, unsaid: &mut Vec<String>) {
    unsaid.extend(common.unlike(&[Field::Recompute]));
    match common.strategy.recompute {
        Recompute::Nothing => {}
        Recompute::Selective => {
            unsaid.push("`recompute`: selective; train.py decides what is computed again".to_owned())
        }
        Recompute::Full => unsaid.push(
            "`recompute`: full; train.py must wrap each block in deepspeed.checkpointing.checkpoint, or say \
             activation_checkpoint_interval=1 to a PipelineModule"
                .to_owned(),
        ),
    }
}
