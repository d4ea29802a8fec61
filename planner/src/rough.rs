//! What no plan can beat, seen at a glance: the work of a step, shared evenly by its devices.

use ir::plan::{Recompute, Sequence, Shard, Strategy};

use crate::costing::{Costing, Outlines};
use crate::outer::Outer;
use crate::space::Setting;
use crate::tie::Copies;

/// Sequences at once that are looked at: kernels waste less the larger they are.
const SEQUENCES: [u64; 4] = [1, 4, 16, 64];

/// The work of one sequence.
pub(crate) struct Rough {
    /// Seconds of one device for all layers, forward and backward, at the least.
    per_sequence: f64,
}

impl Rough {
    pub(crate) fn new(setting: Setting<'_>) -> Rough {
        let plain = Strategy {
            data: 1,
            tensor: 1,
            sequence: Sequence::Whole,
            shard: Shard::Nothing,
            recompute: Recompute::Nothing,
        };
        let of = |sequences: u64| {
            let (graph, mut outlines) = (setting.graph, Outlines::default());
            let counts = Costing::counts(2);
            let (model, precision, copies) = (setting.costs, setting.precision, Copies::of(1));
            let costing = Costing { graph, model, precision, sequences, counts, copies };
            let time = |&kind| {
                let layout = costing.layout(&mut outlines, costing.junction(kind, &plain), 1, 0);
                costing.outline(&mut outlines, kind, &plain, layout).time_microbatch
            };
            graph.layers.iter().map(time).sum::<f64>() / sequences as f64
        };
        Rough { per_sequence: SEQUENCES.map(of).into_iter().fold(f64::INFINITY, f64::min) }
    }

    /// The same for all layers.
    pub(crate) fn per_sequence(&self) -> f64 {
        self.per_sequence
    }

    /// Seconds that no plan of an outer choice is below, if all ranks of a stage share its work evenly and stages are
    /// equal: the first microbatch passes all stages, each of the others adds the time of one.
    pub(crate) fn bound(&self, outer: &Outer) -> f64 {
        let microbatch = self.per_sequence * outer.sequences as f64 / f64::from(outer.ranks);
        microbatch * (1.0 + f64::from(outer.microbatches - 1) / f64::from(outer.stages))
    }
}
