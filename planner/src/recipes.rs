//! What usual recipes would do, beside the plan that was found: one strategy for all layers.

use compiler::Violation;
use ir::plan::{Plan, Recompute, Schedule, Sequence, Shard, Strategy};
use ir::units::Bytes;
use rayon::prelude::*;

use crate::costing::PREFETCH;
use crate::play::{Candidate, compared, confirmed};
use crate::space::Setting;

/// A recipe and what came of it.
#[derive(Clone, Debug)]
pub struct Baseline {
    /// Its name.
    pub name: &'static str,
    /// The best plan of the recipe, or why there is none.
    pub outcome: Result<Candidate, Unusable>,
}

/// Why a recipe gives no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// It breaks rules, whatever the microbatches.
    #[error("not legal: {0}")]
    Illegal(String),
    /// It needs more memory than there is.
    #[error("does not fit: needs {needed}, has {capacity}")]
    Memory {
        /// What it needs at least.
        needed: Bytes,
        /// What an arena may take.
        capacity: Bytes,
    },
}

/// The usual recipes on all devices.
pub fn baselines(setting: Setting<'_>, batch: u64) -> Vec<Baseline> {
    let devices = setting.cluster.device_count();
    let inside = setting.cluster.devices_per_node.min(devices);
    let data = |shard, recompute| Strategy { data: devices, tensor: 1, sequence: Sequence::Whole, shard, recompute };
    let sharded = |shard| if devices == 1 { Shard::Nothing } else { shard };
    let tensor = largest_tensor(setting, inside);
    let spread = Strategy {
        data: devices / tensor,
        tensor,
        sequence: if tensor > 1 { Sequence::Split } else { Sequence::Whole },
        shard: if devices > tensor { Shard::Optimizer } else { Shard::Nothing },
        recompute: Recompute::Selective,
    };
    let recipes = [
        ("data parallel", data(Shard::Nothing, Recompute::Nothing)),
        ("data parallel, optimizer sharded", data(sharded(Shard::Optimizer), Recompute::Nothing)),
        ("fully sharded", data(sharded(Shard::Parameters), Recompute::Nothing)),
        ("fully sharded, full recomputation", data(sharded(Shard::Parameters), Recompute::Full)),
        ("tensor in the node, data between", spread),
    ];
    let outcomes = recipes.into_par_iter();
    outcomes.map(|(name, strategy)| Baseline { name, outcome: best(setting, batch, &strategy) }).collect()
}

fn largest_tensor(setting: Setting<'_>, ranks: u32) -> u32 {
    let kinds = &setting.graph.kinds;
    let legal = |tensor: &u32| {
        let has = |kind| compiler::strategies(kind, *tensor, 1).iter().any(|strategy| strategy.tensor == *tensor);
        ranks.is_multiple_of(*tensor) && kinds.iter().all(has)
    };
    (1..=ranks).rev().find(legal).unwrap_or(1)
}

/// The fastest of the recipe's plans over the counts of microbatches: fewer are faster until they do not fit, so
/// the first two that fit are played.
fn best(setting: Setting<'_>, batch: u64, strategy: &Strategy) -> Result<Candidate, Unusable> {
    let mut least: Option<Unusable> = None;
    let mut fitting: Vec<Candidate> = Vec::new();
    for microbatches in (1..=batch.min(60_000)).filter(|&count| batch.is_multiple_of(count)) {
        if fitting.len() == 2 {
            break;
        }
        match play(setting, batch, microbatches as u32, strategy) {
            Ok(candidate) => fitting.push(candidate),
            Err(failure) => {
                let is_less = match (&least, &failure) {
                    (None, _) | (Some(Unusable::Illegal(_)), Unusable::Memory { .. }) => true,
                    (Some(Unusable::Memory { needed: known, .. }), Unusable::Memory { needed, .. }) => needed < known,
                    (Some(_), Unusable::Illegal(_)) => false,
                };
                if is_less {
                    least = Some(failure);
                }
            }
        }
    }
    let fastest = fitting.into_iter().min_by(|a, b| a.trace.step.0.total_cmp(&b.trace.step.0));
    match fastest {
        Some(fastest) => confirmed(setting, fastest).map_err(unusable),
        None => Err(least.expect("a recipe that never fits has failed")),
    }
}

fn play(setting: Setting<'_>, batch: u64, microbatches: u32, strategy: &Strategy) -> Result<Candidate, Unusable> {
    let layers = setting.graph.layers.len();
    let plan = Plan {
        batch,
        microbatches,
        schedule: Schedule::OneForwardOneBackward,
        precision: setting.precision,
        stages: std::iter::once(0..layers as u32).collect(),
        strategies: vec![strategy.clone(); layers],
        prefetch: PREFETCH,
    };
    compared(setting, &plan).map_err(unusable)
}

/// Why there are no programs.
fn unusable(violations: Vec<Violation>) -> Unusable {
    let needs = violations.iter().filter_map(|violation| {
        let Violation::Memory { needed, capacity, .. } = violation else { return None };
        Some((*needed, *capacity))
    });
    match needs.max() {
        Some((needed, capacity)) => Unusable::Memory { needed, capacity },
        None => Unusable::Illegal(violations[0].to_string()),
    }
}
