//! A row as a model, a cluster and plans.

use std::ops::Range;

use ir::cluster::Cluster;
use ir::file::{parse_cluster, parse_model, parse_software, print_model};
use ir::model::{Bias, Embeddings, Family, Model, Precision, Training};
use ir::plan::{Plan, Recompute, Schedule, Sequence, Shard, Strategy};
use ir::software::{Scores, Software};
use ir::units::BytesPerSecond;

use super::rows::Row;
use crate::cli::input::read_text;

/// What a row says, in the words of the planner.
pub(super) struct Run {
    pub(super) model: Model,
    pub(super) cluster: Cluster,
    pub(super) software: Software,
    /// One plan; several where the micro batch is not known.
    pub(super) plans: Vec<Plan>,
}

/// The software of rows that name none.
pub(super) const USUAL: &str = "hetu";

/// Micro batches that are tried where a row names none.
const MICRO_BATCHES: [u64; 5] = [1, 2, 4, 8, 16];

/// The run of a row, by `software` or by that of the row; else what is wrong with it.
pub(super) fn run(row: &Row, software: Option<&Software>) -> Result<Run, String> {
    let model = model(row)?;
    let cluster = cluster(row)?;
    let mut software =
        software.cloned().map_or_else(|| self::software(row.software.as_deref().unwrap_or(USUAL)), Ok)?;
    let is_repeated = row.recompute.as_deref() == Some("attention") && software.attention == Scores::Stored;
    if is_repeated {
        software.attention = Scores::Repeated;
    }
    let strategy = strategy(row)?;
    let groups = u64::from(row.data) * u64::from(row.tensor) * u64::from(row.stages);
    if groups != u64::from(cluster.device_count()) {
        let devices = cluster.device_count();
        return Err(format!("data, tensor and stages make {groups} ranks, but there are {devices} devices"));
    }
    let stages = cut(row.layers, row.stages)?;
    let micro_batches = row.micro_batch.map_or(MICRO_BATCHES.to_vec(), |micro_batch| vec![micro_batch]);
    let plan = |micro_batch: u64| {
        let microbatches = row.batch / (u64::from(row.data) * micro_batch);
        let is_even = microbatches * micro_batch * u64::from(row.data) == row.batch;
        let microbatches = u32::try_from(microbatches).ok().filter(|&count| count > 0 && is_even)?;
        Some(Plan {
            batch: row.batch,
            microbatches,
            schedule: Schedule::OneForwardOneBackward,
            precision: Precision::Mixed,
            stages: stages.clone(),
            strategies: strategies(row.layers, &strategy),
            prefetch: 1,
        })
    };
    let plans: Vec<Plan> = micro_batches.into_iter().filter_map(plan).collect();
    if plans.is_empty() {
        return Err(format!("a batch of {} has no such micro batches on {} ranks of Data", row.batch, row.data));
    }
    Ok(Run { model, cluster, software, plans })
}

fn model(row: &Row) -> Result<Model, String> {
    // Tables are padded so that ranks can share them.
    let unit = 128 * u64::from(row.tensor);
    let model = Model {
        format: 1,
        name: "run".to_owned(),
        family: word(row.family.as_deref(), "family", &[("gpt", Family::Gpt), ("llama", Family::Llama)])?,
        layers: row.layers,
        hidden: row.hidden,
        heads: row.heads,
        key_value_heads: row.kv_heads.filter(|&heads| heads != row.heads),
        feed_forward: row.feed_forward.unwrap_or(4 * row.hidden),
        vocabulary: row.vocabulary.div_ceil(unit) * unit,
        sequence: row.sequence,
        embeddings: word(
            row.embeddings.as_deref(),
            "embeddings",
            &[("tied", Embeddings::Tied), ("untied", Embeddings::Untied)],
        )?,
        head_size: None,
        attention_bias: Bias::Absent,
        rotary_base: 10_000.0,
        rotary_scaling: None,
        images: None,
        decoder: None,
        norm_epsilon: 1e-5,
        training: Training {
            batch: row.batch,
            precision: Precision::Mixed,
            learning_rate: 3e-4,
            warmup_steps: 0,
            weight_decay: 0.1,
            gradient_norm_max: 1.0,
            betas: [0.9, 0.95],
            epsilon: 1e-8,
        },
    };
    // Read once more as a file, so that shapes obey the same rules.
    parse_model(&print_model(&model), "model").map_err(|mistakes| first(&mistakes.to_string()))
}

fn cluster(row: &Row) -> Result<Cluster, String> {
    let name = format!("{}x{}x{}", row.nodes, row.devices_per_node, row.device);
    let found = if is_file(&row.device) {
        let text = read_text(std::path::Path::new(&row.device)).map_err(|failure| first(&failure.text))?;
        let nodes = (row.nodes, row.devices_per_node);
        parse_cluster(&text, &row.device).map(|cluster| Cluster {
            nodes: nodes.0,
            devices_per_node: nodes.1,
            ..cluster
        })
    } else {
        Cluster::preset(&name)
    };
    let mut cluster = found.map_err(|mistakes| first(&mistakes.to_string()))?;
    if let Some(rate) = row.between {
        cluster.between.rate = BytesPerSecond(rate * 1e9);
    }
    if let Some(rate) = row.memory_rate {
        cluster.device.memory_rate = BytesPerSecond(rate * 1e9);
    }
    Ok(cluster)
}

fn is_file(name: &str) -> bool {
    name.ends_with(".yaml") || name.contains('/')
}

/// A shipped description, or a file.
pub(super) fn software(name: &str) -> Result<Software, String> {
    let found = if is_file(name) {
        let text = read_text(std::path::Path::new(name)).map_err(|failure| first(&failure.text))?;
        parse_software(&text, name)
    } else {
        Software::preset(name)
    };
    found.map_err(|mistakes| first(&mistakes.to_string()))
}

fn strategy(row: &Row) -> Result<Strategy, String> {
    let shards = [
        ("nothing", Shard::Nothing),
        ("optimizer", Shard::Optimizer),
        ("gradients", Shard::Gradients),
        ("parameters", Shard::Parameters),
    ];
    let sequences = [("whole", Sequence::Whole), ("split", Sequence::Split)];
    // Scores are stored by no program: to compute them again is a matter of the software.
    let recomputes = [
        ("nothing", Recompute::Nothing),
        ("attention", Recompute::Nothing),
        ("selective", Recompute::Selective),
        ("full", Recompute::Full),
    ];
    let shard = word(row.shard.as_deref(), "shard", &shards)?;
    let sequence = word(row.sequence_between.as_deref(), "sequence_between", &sequences)?;
    Ok(Strategy {
        data: row.data,
        tensor: row.tensor,
        sequence: if row.tensor == 1 { Sequence::Whole } else { sequence },
        shard: if row.data == 1 { Shard::Nothing } else { shard },
        recompute: word(row.recompute.as_deref(), "recompute", &recomputes)?,
    })
}

/// Blocks as the row says; the first and the last layer keep what they make.
fn strategies(blocks: u32, strategy: &Strategy) -> Vec<Strategy> {
    let ends = Strategy { recompute: Recompute::Nothing, ..strategy.clone() };
    let middle = (0..blocks).map(|_| strategy.clone());
    std::iter::once(ends.clone()).chain(middle).chain(std::iter::once(ends.clone())).collect()
}

/// Equal numbers of blocks in each stage; where they do not divide, one less in the first and in the last.
fn cut(blocks: u32, stages: u32) -> Result<Vec<Range<u32>>, String> {
    let (each, less) = match (blocks.is_multiple_of(stages), (blocks + 2).is_multiple_of(stages)) {
        (true, _) => (blocks / stages, 0),
        (false, true) if stages > 1 => ((blocks + 2) / stages, 1),
        (false, _) => {
            if stages > blocks {
                return Err(format!("{stages} stages are more than {blocks} blocks"));
            }
            return Ok(uneven(blocks, stages));
        }
    };
    let end = |stage: u32| if stage == stages { blocks + 2 } else { 1 + stage * each - less };
    Ok((0..stages).map(|stage| if stage == 0 { 0 } else { end(stage) }..end(stage + 1)).collect())
}

fn uneven(blocks: u32, stages: u32) -> Vec<Range<u32>> {
    let (each, more) = (blocks / stages, blocks % stages);
    let end = |stage: u32| if stage == stages { blocks + 2 } else { 1 + stage * each + stage.min(more) };
    (0..stages).map(|stage| if stage == 0 { 0 } else { end(stage) }..end(stage + 1)).collect()
}

/// The value that a word stands for; the first of the list if there is none.
fn word<T: Copy>(given: Option<&str>, column: &str, known: &[(&str, T)]) -> Result<T, String> {
    let Some(given) = given else { return Ok(known[0].1) };
    let found = known.iter().find(|(name, _)| *name == given).map(|(_, value)| *value);
    found.ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        format!("`{column}` cannot be `{}`: it is one of {}", ir::error::shown(given), names.join(", "))
    })
}

/// The first line of a message, without its `error:`.
fn first(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_equal_or_shorter_by_one_at_both_ends() {
        assert_eq!(cut(4, 2), Ok(vec![0..3, 3..6]));
        assert_eq!(cut(6, 4), Ok(vec![0..2, 2..4, 4..6, 6..8]));
        assert_eq!(cut(7, 3), Ok(vec![0..3, 3..6, 6..9]));
        assert_eq!(cut(8, 3), Ok(vec![0..4, 4..7, 7..10]));
        assert!(cut(2, 3).is_err());
    }
}
