//! Every strategy that a layer may have: legality is the compiler's to know; planner and profiler both ask.

use ir::graph::LayerKind;
use ir::plan::{Recompute, Sequence, Shard, Strategy};

use crate::layer::letters::uneven;

/// All strategies of a layer kind on `ranks` ranks with `sequences` sequences in a microbatch, in a fixed order.
/// Choices without effect are left out.
pub fn strategies(kind: &LayerKind, ranks: u32, sequences: u64) -> Vec<Strategy> {
    let mut all = Vec::new();
    let tensor_degrees =
        (1..=ranks).filter(|&tensor| ranks.is_multiple_of(tensor) && may_cut(kind, tensor, Sequence::Whole));
    for tensor in tensor_degrees {
        let data = ranks / tensor;
        if !sequences.is_multiple_of(u64::from(data)) {
            continue;
        }
        for sequence in sequences_of(kind, tensor) {
            for shard in shards_of(data) {
                for recompute in [Recompute::Nothing, Recompute::Selective, Recompute::Full] {
                    all.push(Strategy { data, tensor, sequence, shard, recompute });
                }
            }
        }
    }
    all
}

/// Whether Tensor of this degree can cut every dimension of the kind that it would cut.
pub fn may_cut(kind: &LayerKind, tensor: u32, sequence: Sequence) -> bool {
    let (shard, recompute) = (Shard::Nothing, Recompute::Nothing);
    uneven(kind, &Strategy { data: 1, tensor, sequence, shard, recompute }).next().is_none()
}

fn sequences_of(kind: &LayerKind, tensor: u32) -> Vec<Sequence> {
    if tensor == 1 {
        return vec![Sequence::Whole];
    }
    if may_cut(kind, tensor, Sequence::Split) { vec![Sequence::Whole, Sequence::Split] } else { vec![Sequence::Whole] }
}

fn shards_of(data: u32) -> Vec<Shard> {
    if data == 1 {
        return vec![Shard::Nothing];
    }
    vec![Shard::Nothing, Shard::Optimizer, Shard::Gradients, Shard::Parameters]
}
