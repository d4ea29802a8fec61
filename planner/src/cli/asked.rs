//! What a search is asked beside its model and devices: another sequence, room that stays free, rules that go together.

use std::path::{Path, PathBuf};

use hetu_planner::Rules;
use ir::cluster::{Cluster, Execution};
use ir::file::{parse_model, print_model};
use ir::graph::Graph;
use ir::model::Model;
use ir::plan::Shard;
use ir::units::Bytes;

use super::failure::Failure;
use super::input::{Named, Origin, is_published, read_published_or_model, read_text};
use super::words::{counted, percent};
use crate::options::PlanOptions;

/// Memory of each device that stays free: allocators, libraries and fragments take more than was foreseen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Headroom {
    /// Of the memory of a device.
    pub(crate) share: f64,
    pub(crate) bytes: Bytes,
}

/// What stays free on GPUs if nothing is said; on CPU ranks arenas are all that is allocated.
const SHARE_GPU: f64 = 0.02;

impl Headroom {
    pub(crate) fn of(cluster: &Cluster, asked: Option<f64>) -> Headroom {
        let share = asked.unwrap_or(match cluster.device.execution {
            Execution::Concurrent => SHARE_GPU,
            Execution::Shared { .. } => 0.0,
        });
        Headroom { share, bytes: Bytes((cluster.device.memory.as_f64() * share) as u64) }
    }

    /// The cluster without that memory.
    pub(crate) fn taken(self, cluster: &Cluster) -> Cluster {
        let mut cluster = cluster.clone();
        cluster.device.reserved = Bytes(cluster.device.reserved.0.saturating_add(self.bytes.0));
        cluster
    }

    pub(crate) fn words(self, cluster: &Cluster) -> String {
        let left = self.taken(cluster).capacity();
        format!(
            "{left} of {} are used at most: {} stay free (--memory-headroom)",
            cluster.capacity(),
            percent(self.share)
        )
    }
}

/// The model that is asked for.
pub(super) struct Asked {
    /// As the user named it, or where it is written because it was changed.
    pub(super) path: PathBuf,
    pub(super) origin: Origin,
    pub(super) model: Model,
    /// Where the model is written if it is not what was named.
    pub(super) changed: Option<PathBuf>,
}

/// Reads the model, with the sequence and the batch that options want.
pub(super) fn asked_model(options: &PlanOptions) -> Result<Asked, Failure> {
    let model_path = options.model.clone().ok_or_else(|| Failure::wrong("no model was named"))?;
    let told = options.sequence_length.filter(|_| is_published(&model_path));
    let Named { mut model, mut origin } = read_published_or_model(&model_path, told)?;
    let mut changed = None;
    if let Some(sequence) = options.sequence_length.filter(|sequence| *sequence != model.sequence) {
        let (other, path) = with_sequence(&model, sequence, &options.output)?;
        (model, origin, changed) = (other, Origin::File(path.clone()), Some(path));
    }
    if let Some(batch) = options.batch {
        check_batch(&model, batch)?;
    }
    Ok(Asked { path: changed.clone().unwrap_or(model_path), origin, model, changed })
}

/// A batch from the command line obeys the rules of the file.
fn check_batch(model: &Model, batch: u64) -> Result<(), Failure> {
    let mut changed = model.clone();
    changed.training.batch = batch;
    parse_model(&print_model(&changed), &format!("--batch {batch}")).map(drop).map_err(|mut mistakes| {
        // The text was never in a file: its lines mean nothing.
        mistakes.0.iter_mut().for_each(|mistake| mistake.line = None);
        mistakes.into()
    })
}

/// A model with other sequences, and the file beside the plan that says so.
fn with_sequence(model: &Model, sequence: u64, plan: &Path) -> Result<(Model, PathBuf), Failure> {
    let changed = Model { name: format!("{}-{sequence}", model.name), sequence, ..model.clone() };
    let text = print_model(&changed);
    parse_model(&text, &format!("--sequence-length {sequence}")).map_err(|mut mistakes| {
        // The text was never in a file: its lines mean nothing.
        mistakes.0.iter_mut().for_each(|mistake| mistake.line = None);
        Failure::from(mistakes)
    })?;
    let path = plan.with_file_name(format!("{}.yaml", changed.name));
    if path.exists() && read_text(&path)? != text {
        let what = format!("{} is another model than {} with --sequence-length {sequence}", path.display(), model.name);
        return Err(Failure::wrong(what).help("move it away, or write the plan elsewhere with -o"));
    }
    Ok((changed, path))
}

/// Fixed dimensions must leave something to choose from.
pub(crate) fn check_rules(rules: &Rules, graph: &Graph, cluster: &Cluster, batch: u64) -> Result<(), Failure> {
    let devices = cluster.device_count();
    let (stages, tensor) = (rules.stages.unwrap_or(1), rules.tensor.unwrap_or(1));
    let wrong = |what: String, help: String| Err(Failure::wrong(what).help(help));
    let Some(group) = stages.checked_mul(tensor).filter(|&group| devices.is_multiple_of(group)) else {
        let said = said(&[("--tensor", rules.tensor), ("--stages", rules.stages)]);
        let verb = if rules.tensor.is_some() && rules.stages.is_some() { "do" } else { "does" };
        let what = format!("{said} {verb} not divide the {}", counted(devices.into(), "device"));
        return wrong(what, format!("use degrees whose product divides {devices}"));
    };
    if stages as usize > graph.layers.len() {
        let what = format!("--stages {stages} is more than the {} layers of the model", graph.layers.len());
        return wrong(what, "use fewer stages".to_owned());
    }
    if let Some(kind) = graph.kinds.iter().find(|kind| {
        rules.tensor.is_some()
            && !compiler::strategies(kind, tensor, 1).iter().any(|strategy| strategy.tensor == tensor)
    }) {
        let what = format!("--tensor {tensor} does not divide the sizes of layers of the kind `{}`", kind.name);
        return wrong(what, "use a degree that divides heads, widths and the vocabulary".to_owned());
    }
    if let Some(microbatches) = rules.microbatches
        && !batch.is_multiple_of(microbatches.into())
    {
        let what = format!("--microbatches {microbatches} does not divide the batch of {batch} sequences");
        return wrong(what, "use a divisor, or another --batch".to_owned());
    }
    if let Some(data) = rules.data
        && let Some(failure) = shared_by(data, (stages, tensor), rules.microbatches, batch, devices)
    {
        return Err(failure);
    }
    let (Some(_), Some(_), None) = (rules.stages, rules.tensor, rules.data) else { return Ok(()) };
    let data = u64::from(devices / group);
    let together = batch / u64::from(rules.microbatches.unwrap_or(1));
    if !together.is_multiple_of(data) {
        let what = format!(
            "{} leaves {} to share {}",
            said(&[("--tensor", rules.tensor), ("--stages", rules.stages)]),
            counted(data, "rank"),
            match rules.microbatches {
                Some(_) => format!("the {} of a microbatch", counted(together, "sequence")),
                None => format!("a batch of {}", counted(together, "sequence")),
            }
        );
        return wrong(what, format!("use fewer --microbatches, or a --batch that is a multiple of {data}"));
    }
    match rules.shard.filter(|shard| *shard != Shard::Nothing) {
        Some(_) if data == 1 => wrong(
            "--shard has no effect: --tensor times --stages are all devices, none share the batch".to_owned(),
            "leave out --shard, or use a smaller --tensor or --stages".to_owned(),
        ),
        Some(_) | None => Ok(()),
    }
}

/// What forbids that so many ranks share the batch, beside stages and ranks of a product.
fn shared_by(
    data: u32,
    (stages, tensor): (u32, u32),
    microbatches: Option<u32>,
    batch: u64,
    devices: u32,
) -> Option<Failure> {
    let needed = u64::from(data) * u64::from(stages) * u64::from(tensor);
    if needed > devices.into() {
        let what = format!(
            "data {data} times {tensor} of a product times {stages} stages are {needed} ranks, more than the {devices} devices"
        );
        return Some(Failure::wrong(what).help("use smaller degrees"));
    }
    let together = batch / u64::from(microbatches.unwrap_or(1));
    (!together.is_multiple_of(data.into())).then(|| {
        let what = format!("data {data} does not divide the {} that go together", counted(together, "sequence"));
        Failure::wrong(what).help("use a divisor, or fewer microbatches")
    })
}

/// Those that were given, with their values.
fn said(options: &[(&str, Option<u32>)]) -> String {
    let given = options.iter().filter_map(|(name, value)| Some(format!("{name} {}", (*value)?)));
    given.collect::<Vec<_>>().join(" times ")
}
