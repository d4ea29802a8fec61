//! A plan from options: one strategy for all layers, stages of as many blocks each as can be.

use std::ops::Range;
use std::path::Path;

use cost_model::CostModel;
use ir::model::Model;
use ir::plan::{Plan, PlanFile, Strategy};

use super::failure::Failure;
use super::input::{Devices, Job, Named, devices, profile, read_published_or_model};
use crate::options::{CheckOptions, SpreadOptions};

/// The plan that options describe, with what it is for.
pub(crate) fn job(options: &CheckOptions, cluster: &str) -> Result<Job, Failure> {
    let Named { model, origin } = read_published_or_model(&options.plan, options.sequence_length)?;
    let found = devices(Some(cluster))?;
    let plan = plan(&model, &found, &options.spread)?;
    let folder = Path::new(".");
    let (model_reference, cluster_reference) = (origin.reference(folder)?, found.origin.reference(folder)?);
    let origins = [origin, found.origin];
    let cluster = found.cluster;
    let profile = profile(options.profile.as_deref(), &cluster)?;
    let costs = CostModel::new(&cluster, profile.as_ref());
    let file = PlanFile::new(plan, (&model, &model_reference), (&cluster, &cluster_reference));
    Ok(Job { file, model, cluster, costs, origins })
}

fn plan(model: &Model, found: &Devices, options: &SpreadOptions) -> Result<Plan, Failure> {
    let devices = found.cluster.device_count();
    let SpreadOptions { tensor, stages, .. } = *options;
    let wrong = |what: String, help: String| Err(Failure::wrong(what).help(help));
    let group = tensor.checked_mul(stages).filter(|&group| devices.is_multiple_of(group));
    let Some(group) = group else {
        let what = format!("--tensor {tensor} times --stages {stages} does not divide the {devices} devices");
        return wrong(what, format!("use degrees whose product divides {devices}"));
    };
    if stages > model.blocks().max(1) {
        let what = format!("--stages {stages} is more than the {} blocks of the model", model.blocks());
        return wrong(what, "use fewer stages".to_owned());
    }
    let data = devices / group;
    let batch = options.batch.unwrap_or(model.training.batch);
    let microbatches = options.microbatches.map_or(batch / u64::from(data), u64::from);
    if microbatches == 0 || !batch.is_multiple_of(microbatches) || !(batch / microbatches).is_multiple_of(data.into()) {
        let what = format!("a batch of {batch} sequences has no {microbatches} microbatches for {data} ranks each");
        return wrong(what, format!("use a --batch that is a multiple of {data} times --microbatches"));
    }
    let strategy = Strategy {
        data,
        tensor,
        sequence: options.sequence.value(),
        shard: options.shard.value(),
        recompute: options.recompute.value(),
    };
    let microbatches = u32::try_from(microbatches)
        .map_err(|_| Failure::wrong(format!("{microbatches} microbatches are too many")).help("give --microbatches"))?;
    Ok(Plan {
        batch,
        microbatches,
        schedule: options.schedule.value(),
        precision: model.training.precision,
        stages: cut(model.layer_count() - 2, stages),
        strategies: vec![strategy; model.layer_count() as usize],
        prefetch: 1,
    })
}

/// Layers of each stage: blocks, and what stands between them, in equal numbers, the first stages one more where they do not divide; the embedding
/// with the first, the head with the last.
pub(super) fn cut(blocks: u32, stages: u32) -> Vec<Range<u32>> {
    let (each, more) = (blocks / stages, blocks % stages);
    let end = |stage: u32| if stage == stages { blocks + 2 } else { 1 + stage * each + stage.min(more) };
    (0..stages).map(|stage| if stage == 0 { 0 } else { end(stage) }..end(stage + 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_have_as_many_blocks_as_can_be() {
        assert_eq!(cut(4, 1), [0..6]);
        assert_eq!(cut(4, 2), [0..3, 3..6]);
        assert_eq!(cut(7, 3), [0..4, 4..6, 6..9]);
        assert_eq!(cut(3, 3), [0..2, 2..3, 3..5]);
    }
}
