//! What all trainers are told: one strategy for all blocks, and on how many devices it runs.

use std::ops::Range;

use ir::model::{Model, Precision};
use ir::plan::{Plan, Recompute, Sequence, Strategy};

use super::super::failure::Failure;
use super::super::input::Job;
use super::super::words::{recompute_word, sequence_word, shard_word};

/// A plan as trainers see it.
pub(crate) struct Common<'a> {
    pub(crate) model: &'a Model,
    pub(crate) plan: &'a Plan,
    /// The commonest strategy of the blocks, which stands for all layers.
    pub(crate) strategy: &'a Strategy,
    /// Sequences of one microbatch on one rank.
    pub(crate) micro_batch: u64,
    /// Blocks of each stage.
    pub(crate) blocks: Vec<u32>,
    /// Steps of the training.
    pub(crate) steps: u64,
    pub(crate) nodes: u32,
    /// Devices of each node.
    pub(crate) devices: u32,
}

/// A part of a strategy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Data,
    Tensor,
    Sequence,
    Shard,
    Recompute,
}

impl Field {
    fn name(self) -> &'static str {
        match self {
            Field::Data => "data",
            Field::Tensor => "tensor",
            Field::Sequence => "sequence",
            Field::Shard => "shard",
            Field::Recompute => "recompute",
        }
    }

    fn value(self, strategy: &Strategy) -> String {
        match self {
            Field::Data => strategy.data.to_string(),
            Field::Tensor => strategy.tensor.to_string(),
            Field::Sequence => sequence_word(strategy.sequence).to_owned(),
            Field::Shard => shard_word(strategy.shard).to_owned(),
            Field::Recompute => recompute_word(strategy.recompute).to_owned(),
        }
    }
}

impl<'a> Common<'a> {
    /// A failure if the plan's ranks do not fill whole nodes, or if no step is left behind the warm-up.
    pub(crate) fn of(job: &'a Job, steps: u64) -> Result<Common<'a>, Failure> {
        let (plan, model) = (&job.file.plan, &job.model);
        let blocks = 1..plan.strategies.len() - 1;
        let count =
            |strategy: &Strategy| plan.strategies[blocks.clone()].iter().filter(|other| *other == strategy).count();
        let strategy = plan.strategies[blocks.clone()].iter().max_by_key(|strategy| count(strategy));
        let strategy = strategy.expect("a model has blocks");
        let (ranks, per_node) = (plan.rank_count(), job.cluster.devices_per_node);
        if ranks > per_node && !ranks.is_multiple_of(per_node) {
            let what = format!("{ranks} ranks do not fill whole nodes of {per_node} devices, as launchers need");
            return Err(Failure::negative(format!("error: {what}")));
        }
        let warmup = model.training.warmup_steps;
        if steps <= warmup {
            let what = format!("--steps {steps}: the learning rate rises over {warmup} steps");
            return Err(Failure::wrong(what).help("use more steps, or fewer `warmup_steps` in the model"));
        }
        let last = plan.strategies.len() as u32 - 1;
        let blocks_of = |stage: &Range<u32>| stage.end.min(last).saturating_sub(stage.start.max(1));
        Ok(Common {
            model,
            plan,
            strategy,
            micro_batch: plan.microbatch_sequences() / u64::from(strategy.data),
            blocks: plan.stages.iter().map(blocks_of).collect(),
            steps,
            nodes: (ranks / per_node).max(1),
            devices: ranks.min(per_node),
        })
    }

    pub(crate) fn stages(&self) -> usize {
        self.plan.stages.len()
    }

    pub(crate) fn ranks(&self) -> u32 {
        self.plan.rank_count()
    }

    /// Whether stages have equal numbers of blocks, the first the embedding and the last the head.
    pub(crate) fn is_cut_evenly(&self) -> bool {
        let last = self.plan.strategies.len() as u32 - 1;
        let ends = self.plan.stages[0].start == 0 && self.plan.stages[self.stages() - 1].end == last + 1;
        ends && self.blocks.iter().all(|blocks| *blocks == self.blocks[0])
    }

    /// Layers whose strategies are not that of all, as far as it makes a difference, a line for each field.
    pub(crate) fn unlike(&self, fields: &[Field]) -> Vec<String> {
        fields.iter().filter_map(|&field| self.unlike_in(field)).collect()
    }

    fn unlike_in(&self, field: Field) -> Option<String> {
        let head = self.plan.strategies.len() - 1;
        let said = |layer: usize| match field {
            // Trainers compute blocks again, never the head.
            Field::Recompute if layer == head => recompute_word(Recompute::Nothing).to_owned(),
            Field::Data | Field::Tensor | Field::Sequence | Field::Shard | Field::Recompute => {
                field.value(self.strategy)
            }
        };
        let counts = |layer: usize, strategy: &Strategy| match field {
            Field::Data | Field::Tensor => true,
            Field::Sequence => strategy.tensor > 1 && self.strategy.tensor > 1,
            Field::Shard => strategy.data > 1 && self.strategy.data > 1,
            // Nothing of the embedding is kept.
            Field::Recompute => layer > 0,
        };
        let mut other: Vec<(Range<usize>, String)> = Vec::new();
        for (layer, strategy) in self.plan.strategies.iter().enumerate() {
            let value = field.value(strategy);
            if !counts(layer, strategy) || value == said(layer) {
                continue;
            }
            match other.last_mut() {
                Some((range, last)) if *last == value && range.end == layer => range.end += 1,
                Some(_) | None => other.push((layer..layer + 1, value)),
            }
        }
        if other.is_empty() {
            return None;
        }
        let list: Vec<String> =
            other.iter().map(|(layers, value)| format!("{value} in layers {}..{}", layers.start, layers.end)).collect();
        let only_head = other.iter().all(|(layers, _)| layers.start == head);
        let instead = if only_head { said(head) } else { field.value(self.strategy) };
        Some(format!("`{}`: {}; said: {instead}", field.name(), list.join(", ")))
    }

    /// What no trainer's options can say of prefetching: they gather about one layer ahead.
    pub(crate) fn prefetch(&self) -> Option<String> {
        let counts = self.strategy.data > 1 && self.plan.prefetch != 1;
        counts.then(|| format!("`prefetch`: {}; trainers choose by themselves, about 1", self.plan.prefetch))
    }

    pub(crate) fn is_mixed(&self) -> bool {
        self.plan.precision == Precision::Mixed
    }

    pub(crate) fn splits_sequence(&self) -> bool {
        self.strategy.tensor > 1 && self.strategy.sequence == Sequence::Split
    }

    /// The command of every process behind what starts it on all nodes.
    pub(crate) fn torchrun(&self, program: &str) -> String {
        let Common { nodes, devices, .. } = self;
        if *nodes == 1 {
            return format!("torchrun --standalone --nproc-per-node {devices} {program}");
        }
        self.slurm(&format!(
            "torchrun --nnodes {nodes} --nproc-per-node {devices} --rdzv-id hetu --rdzv-backend c10d \\\n    \
             --rdzv-endpoint \"$MASTER_ADDR:${{MASTER_PORT:-29500}}\" {program}"
        ))
    }

    /// A command once on each of several nodes.
    pub(crate) fn slurm(&self, command: &str) -> String {
        format!(
            "# Under Slurm. Without it: type what stands behind srun on each node, with MASTER_ADDR the first of them.\n\
             export MASTER_ADDR=${{MASTER_ADDR:-$(scontrol show hostnames \"$SLURM_JOB_NODELIST\" | head -n 1)}}\n\
             srun --nodes {} --ntasks-per-node 1 --gpus-per-node {} \\\n  {command}",
            self.nodes, self.devices
        )
    }
}
