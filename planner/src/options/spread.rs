//! One strategy by options, and the words of its parts.

use clap::{Args, ValueEnum};
use ir::plan::{Recompute, Schedule, Sequence, Shard};

/// One strategy for all layers. What is left of the devices shares the batch.
#[derive(Args)]
pub(crate) struct SpreadOptions {
    /// Ranks that share each product (tensor parallelism).
    #[arg(long, value_name = "N", default_value_t = 1, requires = "cluster", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) tensor: u32,
    /// Stages of the pipeline (pipeline parallelism), of as many blocks each as can be.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "cluster", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) stages: u32,
    /// Parts of the batch, one after the other [default: so many that each rank has one sequence at a time]
    #[arg(long, value_name = "N", requires = "cluster", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) microbatches: Option<u32>,
    /// Sequences of a step, instead of the model's `training.batch`.
    #[arg(long, value_name = "N", requires = "cluster", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) batch: Option<u64>,
    /// The sequence between products that ranks share: `split` is sequence parallelism.
    #[arg(long, value_enum, default_value = "whole", requires = "cluster")]
    pub(crate) sequence: SequenceName,
    /// What ranks that share the batch keep in parts: ZeRO-1, ZeRO-2, and ZeRO-3 or FSDP.
    #[arg(long, value_enum, default_value = "nothing", requires = "cluster")]
    pub(crate) shard: ShardName,
    /// What is computed again in the backward pass.
    #[arg(long, value_enum, default_value = "nothing", requires = "cluster")]
    pub(crate) recompute: RecomputeName,
    /// The order of passes of a pipeline.
    #[arg(long, value_enum, default_value = "1f1b", requires = "cluster")]
    pub(crate) schedule: ScheduleName,
}

/// What happens to the sequence.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum SequenceName {
    /// Every rank has all of it
    Whole,
    /// Each has its part
    Split,
}

/// What is kept in parts.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum ShardName {
    /// Every rank keeps everything
    Nothing,
    /// Moments and master parameters (ZeRO-1)
    Optimizer,
    /// Also gradients (ZeRO-2)
    Gradients,
    /// Also parameters (ZeRO-3, FSDP)
    Parameters,
}

/// What is computed again.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum RecomputeName {
    /// Everything is kept
    Nothing,
    /// Norms and activations
    Selective,
    /// All but the input of the layer
    Full,
}

/// The order of passes.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum ScheduleName {
    /// All forward passes, then all backward passes
    Gpipe,
    /// One forward, one backward
    #[value(name = "1f1b")]
    OneForwardOneBackward,
}

impl SequenceName {
    /// What a plan says.
    pub(crate) fn value(self) -> Sequence {
        match self {
            SequenceName::Whole => Sequence::Whole,
            SequenceName::Split => Sequence::Split,
        }
    }
}

impl ShardName {
    /// What a plan says.
    pub(crate) fn value(self) -> Shard {
        match self {
            ShardName::Nothing => Shard::Nothing,
            ShardName::Optimizer => Shard::Optimizer,
            ShardName::Gradients => Shard::Gradients,
            ShardName::Parameters => Shard::Parameters,
        }
    }
}

impl RecomputeName {
    /// What a plan says.
    pub(crate) fn value(self) -> Recompute {
        match self {
            RecomputeName::Nothing => Recompute::Nothing,
            RecomputeName::Selective => Recompute::Selective,
            RecomputeName::Full => Recompute::Full,
        }
    }
}

impl ScheduleName {
    /// What a plan says.
    pub(crate) fn value(self) -> Schedule {
        match self {
            ScheduleName::Gpipe => Schedule::AllForward,
            ScheduleName::OneForwardOneBackward => Schedule::OneForwardOneBackward,
        }
    }
}
