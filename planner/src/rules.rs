//! What the plans of a search may be: dimensions that are fixed, or one strategy for all layers.

use ir::graph::{Context, Graph, KindId};
use ir::plan::{Plan, Recompute, Schedule, Sequence, Shard, Strategy};

use crate::outer::Outer;

/// Restrictions of a search; by default there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Whether layers may be unlike.
    pub mix: Mix,
    /// Stages of the pipeline.
    pub stages: Option<u32>,
    /// Passes through the pipeline in one step.
    pub microbatches: Option<u32>,
    /// Data degree of all layers: ranks that share the batch.
    pub data: Option<u32>,
    /// Tensor degree of all layers.
    pub tensor: Option<u32>,
    /// What happens to the sequence in layers that are cut by Tensor.
    pub sequence: Option<Sequence>,
    /// What all layers keep in parts that have ranks to share it with.
    pub shard: Option<Shard>,
    /// What all blocks compute again. The embedding and the head are free, unless plans are uniform.
    pub recompute: Option<Recompute>,
    /// The order of passes, where there are stages.
    pub schedule: Option<Schedule>,
}

/// Whether the layers of a plan may be unlike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mix {
    /// Each has its own strategy.
    #[default]
    Free,
    /// All have one. Embedding and head keep what they compute, as in trainers that are given one setting.
    Uniform,
}

impl Rules {
    /// The same, but for layers that may be unlike.
    pub fn free(&self) -> Rules {
        Rules { mix: Mix::Free, ..self.clone() }
    }

    /// The order of passes of an outer choice.
    pub(crate) fn order(&self) -> Schedule {
        self.schedule.unwrap_or_default()
    }

    /// Whether plans with this schedule beside the searched one may be looked at.
    pub(crate) fn is_open_to(&self, schedule: Schedule) -> bool {
        match self.mix {
            Mix::Free => self.schedule.is_none_or(|wanted| wanted == schedule),
            Mix::Uniform => self.order() == schedule,
        }
    }

    /// Whether a layer of a kind may have a strategy.
    pub fn allows(&self, graph: &Graph, kind: KindId, strategy: &Strategy) -> bool {
        let recompute = match (self.mix, is_block(graph, kind)) {
            (Mix::Free | Mix::Uniform, true) => self.recompute,
            (Mix::Free, false) => None,
            (Mix::Uniform, false) => Some(Recompute::Nothing),
        };
        self.data.is_none_or(|wanted| strategy.data == wanted)
            && self.tensor.is_none_or(|wanted| strategy.tensor == wanted)
            && self.sequence.is_none_or(|wanted| strategy.tensor == 1 || strategy.sequence == wanted)
            && self.shard.is_none_or(|wanted| strategy.data == 1 || strategy.shard == wanted)
            && recompute.is_none_or(|wanted| strategy.recompute == wanted)
    }

    /// Whether a plan keeps to the rules.
    pub(crate) fn allow(&self, graph: &Graph, plan: &Plan) -> bool {
        let kinds = graph.layers.iter().copied().zip(&plan.strategies);
        let is_like = |strategy: &Strategy| {
            let first = &plan.strategies[0];
            let parts = |of: &Strategy| (of.data, of.tensor, of.sequence, of.shard);
            self.mix == Mix::Free || parts(strategy) == parts(first)
        };
        let blocks: Vec<&Strategy> =
            kinds.clone().filter(|(kind, _)| is_block(graph, *kind)).map(|(_, strategy)| strategy).collect();
        self.stages.is_none_or(|wanted| plan.stages.len() == wanted as usize)
            && self.microbatches.is_none_or(|wanted| plan.microbatches == wanted)
            && (plan.stages.len() == 1 || self.is_open_to(plan.schedule))
            && kinds.clone().all(|(kind, strategy)| self.allows(graph, kind, strategy))
            && plan.strategies.iter().all(is_like)
            && (self.mix == Mix::Free || blocks.windows(2).all(|pair| pair[0] == pair[1]))
    }

    /// The outer choices within the rules that come of one without: of uniform plans, one for each strategy.
    pub(crate) fn within(&self, graph: &Graph, outer: &Outer) -> Vec<Outer> {
        let is_wanted = self.stages.is_none_or(|wanted| outer.stages == wanted)
            && self.microbatches.is_none_or(|wanted| outer.microbatches == wanted);
        let degrees: Vec<u32> =
            outer.degrees.iter().copied().filter(|degree| self.tensor.is_none_or(|wanted| *degree == wanted)).collect();
        if !is_wanted || degrees.is_empty() {
            return Vec::new();
        }
        let outer = Outer { degrees, schedule: self.order(), rules: self.clone(), ..outer.clone() };
        match self.mix {
            Mix::Free => vec![outer],
            Mix::Uniform => self.of_strategies(graph, &outer),
        }
    }

    fn of_strategies(&self, graph: &Graph, outer: &Outer) -> Vec<Outer> {
        let Some(block) = graph.layers.iter().copied().find(|kind| is_block(graph, *kind)) else { return Vec::new() };
        let all = compiler::strategies(&graph.kinds[block.index()], outer.ranks, outer.sequences);
        let wanted = all
            .into_iter()
            .filter(|strategy| outer.degrees.contains(&strategy.tensor) && self.allows(graph, block, strategy));
        let of = |strategy: Strategy| Outer {
            degrees: vec![strategy.tensor],
            rules: Rules {
                tensor: Some(strategy.tensor),
                sequence: Some(strategy.sequence),
                shard: Some(strategy.shard),
                recompute: Some(strategy.recompute),
                ..self.clone()
            },
            ..outer.clone()
        };
        wanted.map(of).collect()
    }
}

/// Neither the embedding nor the head, nor what is between an encoder and a decoder.
fn is_block(graph: &Graph, kind: KindId) -> bool {
    let of = &graph.kinds[kind.index()];
    let is_border = matches!(of.context, Some(Context::Begins(_)));
    of.input.is_some() && graph.layers.last() != Some(&kind) && !is_border
}
