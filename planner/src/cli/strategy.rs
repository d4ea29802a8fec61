//! An answer as the strategy file of the planner whose profiles it was found for.

use serde_json::json;
use solver::Assignment;

use super::problems::{Choice, Meaning, Recompute, Schedule, Shard, Way};

/// The text of the file. The first and the last layer of the problem are embedding and head, the others are listed.
///
/// Whether embedding and head are sharded stands under two names: the search of release 3.0 writes `embed_sdp`, its
/// runtime reads `vocab_sdp`.
pub(crate) fn strategy(choice: &Choice, assignment: &Assignment) -> String {
    let meaning = choice.meaning.as_ref().expect("asked for before solving");
    let ways = ways(choice, meaning, assignment);
    let (ends, layers) = (ways[0], &ways[1..ways.len() - 1]);
    let list = |of: &dyn Fn(&Way) -> u32| layers.iter().map(|way| of(way).to_string()).collect::<Vec<_>>().join(",");
    let is_sharded = |way: &Way| u32::from(way.shard == Shard::Parameters);
    let is_split = |way: &Way| u32::from(way.sequence > 1);
    let document = json!({
        "pp_deg": assignment.cuts.len(),
        "tp_sizes_enc": list(&Way::width),
        "tp_consecutive_flags": list(&|_| 1),
        "dp_types_enc": list(&is_sharded),
        "use_sp": list(&is_split),
        "checkpoint": list(&|way| u32::from(way.recompute == Recompute::Full)),
        "world_size": meaning.devices,
        "global_bsz": choice.sequences,
        "chunks": choice.problem.microbatches,
        "pp_division": division(assignment, layers.len()),
        "pipeline_type": match meaning.schedule {
            Schedule::AllForward => "gpipe",
            Schedule::OneForwardOneBackward => "pipedream_flush",
        },
        "default_dp_type": match meaning.unsharded {
            Shard::Nothing => "ddp",
            Shard::Gradients => "zero2",
            Shard::Parameters => "zero3",
        },
        "vtp": ends.width(),
        "vsp": is_split(&ends),
        "embed_sdp": is_sharded(&ends),
        "vocab_sdp": is_sharded(&ends),
    });
    format!("{document:#}\n")
}

fn ways(choice: &Choice, meaning: &Meaning, assignment: &Assignment) -> Vec<Way> {
    let kinds = choice.problem.layers.iter().zip(&assignment.strategies);
    kinds.map(|(&kind, &strategy)| meaning.ways[kind][strategy]).collect()
}

/// Layers of each stage, without embedding and head.
fn division(assignment: &Assignment, layers: usize) -> String {
    let starts = assignment.cuts.iter().map(|&cut| cut.saturating_sub(1));
    let ends = assignment.cuts[1..].iter().map(|&cut| cut - 1).chain([layers]);
    starts.zip(ends).map(|(start, end)| (end - start).to_string()).collect::<Vec<String>>().join(",")
}
