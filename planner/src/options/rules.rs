//! What the plans of a search may be.

use clap::Args;
use hetu_planner::{Mix, Rules};

use super::spread::{RecomputeName, ScheduleName, ShardName};

/// Restrictions: each makes the search smaller.
#[derive(Args, Clone, Copy)]
pub(crate) struct RuleOptions {
    /// Look only among plans that one setting for all layers can say, as other trainers take it.
    #[arg(long)]
    uniform: bool,
    /// Ranks that share each product, in all layers (tensor parallelism).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) tensor: Option<u32>,
    /// Stages of the pipeline (pipeline parallelism).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) stages: Option<u32>,
    /// Parts of the batch, one after the other.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) microbatches: Option<u32>,
    /// What ranks that share the batch keep in parts, in all layers: ZeRO-1, ZeRO-2, and ZeRO-3 or FSDP.
    #[arg(long, value_enum)]
    shard: Option<ShardName>,
    /// What is computed again in the backward pass, in all blocks.
    #[arg(long, value_enum)]
    recompute: Option<RecomputeName>,
    /// The order of passes of a pipeline.
    #[arg(long, value_enum)]
    schedule: Option<ScheduleName>,
}

impl RuleOptions {
    /// What plans may be.
    pub(crate) fn rules(&self) -> Rules {
        Rules {
            mix: if self.uniform { Mix::Uniform } else { Mix::Free },
            stages: self.stages,
            microbatches: self.microbatches,
            data: None,
            tensor: self.tensor,
            sequence: None,
            shard: self.shard.map(ShardName::value),
            recompute: self.recompute.map(RecomputeName::value),
            schedule: self.schedule.map(ScheduleName::value),
        }
    }
}
