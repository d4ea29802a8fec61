//! The configuration of torchtitan, as TOML.

use std::ops::Range;

use ir::model::Family;
use ir::plan::{Recompute, Schedule, Sequence, Shard};

use super::super::failure::Failure;
use super::Export;
use super::common::{Common, Field};

const TRAINER: &str = "torchtitan v0.2.0";

/// Llama models that it has: name, width, blocks, heads, key and value heads, width of the feed-forward part.
const FLAVORS: [(&str, [u64; 5]); 3] =
    [("8B", [4096, 32, 32, 8, 14336]), ("70B", [8192, 80, 64, 8, 28672]), ("405B", [16384, 126, 128, 8, 53248])];

/// A failure for a model that it cannot train.
pub(crate) fn export(common: &Common<'_>) -> Result<Export, Failure> {
    let model = common.model;
    if model.family != Family::Llama {
        let what = format!("{TRAINER} has no model of the family of {}, `{}`", model.name, model.family.name());
        return Err(Failure::negative(format!("error: {what}")).help("export it --to megatron"));
    }
    let mut unsaid = common.unlike(&[Field::Data, Field::Tensor, Field::Sequence, Field::Shard]);
    let mut notes = vec![
        "TORCHTITAN names the folder of torchtitan; else it is the present one. hf_assets_path must have the tokenizer"
            .to_owned(),
    ];
    let flavor = flavor(common, &mut notes);
    let text = [
        format!("# {} for {TRAINER}\n", model.name),
        format!("[model]\nname = \"llama3\"\nflavor = \"{flavor}\"\nhf_assets_path = \"./assets/hf/{}\"\n", model.name),
        training(common),
        parallelism(common, &mut unsaid),
        recompute(common, &mut unsaid),
    ]
    .join("\n");
    precision(common, &mut unsaid);
    unsaid.extend(common.prefetch());
    let program = "-m torchtitan.train --job.config_file \"$CONFIG\" \"$@\"\n";
    let commands =
        format!("export CONFIG=\"$PWD/train.toml\"\ncd \"${{TORCHTITAN:-$PWD}}\"\n{}", common.torchrun(program));
    Ok(Export { trainer: TRAINER, files: vec![("train.toml", text)], commands, unsaid, notes })
}

fn flavor(common: &Common<'_>, notes: &mut Vec<String>) -> String {
    let model = common.model;
    let heads = model.key_value_heads.unwrap_or(model.heads);
    let sizes = [model.hidden, model.layers.into(), model.heads, heads, model.feed_forward];
    if let Some((name, _)) = FLAVORS.iter().find(|(_, known)| *known == sizes) {
        return (*name).to_owned();
    }
    let [hidden, layers, heads, key_value_heads, feed_forward] = sizes;
    notes.push(format!(
        "it has no model of these sizes: add one to llama3_args of torchtitan/models/llama3/__init__.py, named \"{}\", with \
         dim={hidden}, n_layers={layers}, n_heads={heads}, n_kv_heads={key_value_heads}, vocab_size={}, rope_theta={}, \
         and ffn_dim_multiplier and multiple_of that make its hidden_dim {feed_forward}",
        model.name, model.vocabulary, model.rotary_base
    ));
    model.name.clone()
}

fn training(common: &Common<'_>) -> String {
    let Common { model, plan, .. } = common;
    let training = &model.training;
    let [first, second] = training.betas;
    // Passes through a pipeline are parts of the local batch; without one, gradients are added up.
    let local = common.micro_batch * if common.stages() > 1 { u64::from(plan.microbatches) } else { 1 };
    let precision = if common.is_mixed() { "bfloat16" } else { "float32" };
    format!(
        "[optimizer]\nname = \"AdamW\"\nlr = {}\nbeta1 = {first}\nbeta2 = {second}\neps = {:e}\nweight_decay = {}\n\n\
         [lr_scheduler]\nwarmup_steps = {}\ndecay_type = \"cosine\"\nmin_lr_factor = 0.1\n\n\
         [training]\nlocal_batch_size = {local}\nglobal_batch_size = {}\nseq_len = {}\nmax_norm = {}\nsteps = {}\n\
         dtype = \"float32\"\nmixed_precision_param = \"{precision}\"\nmixed_precision_reduce = \"float32\"\n",
        training.learning_rate,
        training.epsilon,
        training.weight_decay,
        training.warmup_steps,
        plan.batch,
        model.sequence,
        training.gradient_norm_max,
        common.steps,
    )
}

fn parallelism(common: &Common<'_>, unsaid: &mut Vec<String>) -> String {
    let strategy = common.strategy;
    let is_alone = strategy.tensor == 1 && common.stages() == 1;
    let (mut replicate, mut shard, mut reshard) = (1, strategy.data, "never");
    if strategy.data > 1 {
        match strategy.shard {
            Shard::Nothing if is_alone => (replicate, shard) = (strategy.data, 1),
            Shard::Nothing => {
                unsaid.push(
                    "`shard`: nothing, which it knows only without tensor and stages; said: gradients".to_owned(),
                );
            }
            Shard::Optimizer => unsaid.push("`shard`: optimizer (ZeRO-1); said: gradients (ZeRO-2)".to_owned()),
            Shard::Gradients => {}
            Shard::Parameters => reshard = "always",
        }
    }
    if strategy.tensor > 1 && strategy.sequence == Sequence::Whole {
        unsaid.push("`sequence`: whole; said: split, as it always is with tensor".to_owned());
    }
    let mut text = format!(
        "[parallelism]\ndata_parallel_replicate_degree = {replicate}\ndata_parallel_shard_degree = {shard}\n\
         fsdp_reshard_after_forward = \"{reshard}\"\ntensor_parallel_degree = {}\npipeline_parallel_degree = {}\n",
        strategy.tensor,
        common.stages(),
    );
    if common.stages() > 1 {
        let schedule = match common.plan.schedule {
            Schedule::AllForward => "GPipe",
            Schedule::OneForwardOneBackward => "1F1B",
        };
        let parts: Vec<String> = common.plan.stages.iter().map(|stage| modules(common, stage)).collect();
        text += &format!(
            "pipeline_parallel_schedule = \"{schedule}\"\npipeline_parallel_microbatch_size = {}\n\
             module_fqns_per_model_part = [\n  {},\n]\n",
            common.micro_batch,
            parts.join(",\n  ")
        );
    }
    text
}

/// The modules of a stage.
fn modules(common: &Common<'_>, stage: &Range<u32>) -> String {
    let head = common.plan.strategies.len() as u32 - 1;
    let names = stage.clone().map(|layer| match layer {
        0 => "\"tok_embeddings\"".to_owned(),
        layer if layer == head => "\"norm\", \"output\"".to_owned(),
        layer => format!("\"layers.{}\"", layer - 1),
    });
    format!("[{}]", names.collect::<Vec<_>>().join(", "))
}

fn recompute(common: &Common<'_>, unsaid: &mut Vec<String>) -> String {
    unsaid.extend(common.unlike(&[Field::Recompute]));
    let mode = match common.strategy.recompute {
        Recompute::Nothing => "mode = \"none\"",
        Recompute::Selective => {
            unsaid.push("`recompute`: selective is norms and activations; said: also every second product".to_owned());
            "mode = \"selective\"\nselective_ac_option = \"op\""
        }
        Recompute::Full => "mode = \"full\"",
    };
    format!("[activation_checkpoint]\n{mode}\n")
}

/// Its mixed precision is a part of what shards the batch.
fn precision(common: &Common<'_>, unsaid: &mut Vec<String>) {
    let is_spread = common.strategy.tensor > 1 || common.stages() > 1;
    if common.is_mixed() && common.strategy.data == 1 && is_spread {
        unsaid.push(
            "`precision`: bf16; it will compute in f32, as with tensor or stages it mixes only with data".to_owned(),
        );
    }
}
