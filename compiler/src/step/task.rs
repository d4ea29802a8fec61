//! What a role does in a step, before it is code: a list of tasks, which one can read, and move.

use std::fmt;

use ir::plan::Plan;
use ir::program::{Direction, Span, StageId};
use ir::software::Reduction;

use crate::layer::Purpose;
use crate::step::visits::{Turn, turns};

/// One pass over one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Visit {
    pub(crate) turn: Turn,
    pub(crate) layer: u32,
}

/// A visit, by its place among all visits of the stage.
pub(crate) type VisitId = usize;

/// A block of the stage, by its place among all of them.
pub(crate) type InstanceId = usize;

/// One thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Sets the sums of the step to zero.
    Clear,
    /// Gathers the parameters of a visit's layer from their shares.
    Gather(VisitId),
    /// Receives what a visit needs from another role.
    Receive(VisitId),
    /// Runs the visit's pass over its layer.
    Pass(VisitId),
    /// Joins the layer's gradients over Data: into shares after each visit, or after the last.
    Reduce(VisitId),
    /// Adds the shares that a visit's reduction left to those of the visits before.
    Add(VisitId),
    /// Joins what is then still partial over Tensor: gradients of what each of its ranks applied to its own part of
    /// the sequence.
    Join(VisitId),
    /// Sends what a visit made to another role.
    Send(VisitId),
    /// Lets go of what only this visit needed.
    Leave(VisitId),
    /// Adds up the gradients of parameters that two layers share.
    JoinTies,
    /// Adds a block's squared gradients to the norm.
    Square(InstanceId),
    /// Adds loss and norm over all ranks.
    JoinScalars,
    /// Updates a block's parameters.
    Update(InstanceId),
}

/// What the order of a stage's tasks follows from.
#[derive(Clone, Debug)]
pub(crate) struct StageFacts {
    pub(crate) stage: StageId,
    /// Its layers.
    pub(crate) layers: std::ops::Range<u32>,
    pub(crate) is_last: bool,
    pub(crate) purpose: Purpose,
    pub(crate) microbatches: u32,
    pub(crate) prefetch: u32,
    pub(crate) reduction: Reduction,
    pub(crate) visits: Vec<Visit>,
    /// For each layer, what becomes of its blocks.
    pub(crate) blocks: Vec<LayerFacts>,
    /// The layer of each block of the stage.
    pub(crate) instances: Vec<u32>,
    /// Whether loss and norm are sums over other ranks, too.
    pub(crate) scalars: Need,
}

/// What the blocks of a layer need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LayerFacts {
    /// A block is kept in shares, and gathered before use.
    pub(crate) gathers: Need,
    /// Gradients of a block go into shares after every visit.
    pub(crate) collects: Need,
    /// Gradients of a block are partial over Tensor.
    pub(crate) joins: Need,
}

/// Whether something is needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Need {
    /// It is not.
    #[default]
    No,
    /// It is.
    Yes,
}

impl From<bool> for Need {
    fn from(is_needed: bool) -> Need {
        if is_needed { Need::Yes } else { Need::No }
    }
}

impl Visit {
    pub(crate) fn span(self) -> Span {
        let phase = self.turn.direction.phase();
        Span { microbatch: Some(self.turn.microbatch), layer: Some(self.layer as u16), phase }
    }
}

/// All visits of a stage, in order.
pub(crate) fn visits(plan: &Plan, stage: StageId, purpose: Purpose) -> Vec<Visit> {
    let mut turns = turns(plan.schedule, plan.stages.len() as u32, stage.0, plan.microbatches);
    if purpose == Purpose::Evaluation {
        turns.retain(|turn| turn.direction == Direction::Forward);
    }
    let layers = plan.stages[stage.index()].clone();
    let mut visits = Vec::with_capacity(turns.len() * layers.len());
    for turn in turns {
        let visit = |layer| Visit { turn, layer };
        match turn.direction {
            Direction::Forward => visits.extend(layers.clone().map(visit)),
            Direction::Backward => visits.extend(layers.clone().rev().map(visit)),
        }
    }
    visits
}

impl StageFacts {
    /// What a visit's layer needs.
    pub(crate) fn needs(&self, visit: Visit) -> LayerFacts {
        self.blocks[(visit.layer - self.layers.start) as usize]
    }

    /// Whether the visit before was to another layer.
    pub(crate) fn comes_to_layer(&self, id: VisitId) -> bool {
        id == 0 || self.visits[id - 1].layer != self.visits[id].layer
    }

    /// Whether what the visit needs comes from another stage.
    pub(crate) fn receives(&self, visit: Visit) -> bool {
        match visit.turn.direction {
            Direction::Forward => visit.layer == self.layers.start && self.stage != StageId(0),
            Direction::Backward => visit.layer + 1 == self.layers.end && !self.is_last,
        }
    }

    /// Whether what the visit makes goes to another stage.
    pub(crate) fn sends(&self, visit: Visit) -> bool {
        match visit.turn.direction {
            Direction::Forward => visit.layer + 1 == self.layers.end && !self.is_last,
            Direction::Backward => visit.layer == self.layers.start && self.stage != StageId(0),
        }
    }

    /// Whether gradients of the layer are complete on this rank after the visit.
    pub(crate) fn is_last_backward(&self, visit: Visit) -> bool {
        visit.turn.direction == Direction::Backward && u32::from(visit.turn.microbatch) + 1 == self.microbatches
    }

    /// A line for each task.
    pub(crate) fn print(&self, tasks: &[Task]) -> String {
        tasks.iter().map(|&task| format!("  {}\n", Line { facts: self, task })).collect()
    }
}

struct Line<'a> {
    facts: &'a StageFacts,
    task: Task,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let visit = |id: VisitId| self.facts.visits[id].span().to_string();
        let block = |id: InstanceId| format!("L{} block {id}", self.facts.instances[id]);
        let (word, what) = match self.task {
            Task::Clear => ("clear", String::new()),
            Task::Gather(id) => ("gather", visit(id)),
            Task::Receive(id) => ("receive", visit(id)),
            Task::Pass(id) => ("pass", visit(id)),
            Task::Reduce(id) => ("reduce", visit(id)),
            Task::Add(id) => ("add", visit(id)),
            Task::Join(id) => ("join", visit(id)),
            Task::Send(id) => ("send", visit(id)),
            Task::Leave(id) => ("leave", visit(id)),
            Task::JoinTies => ("join ties", String::new()),
            Task::Square(id) => ("square", block(id)),
            Task::JoinScalars => ("join scalars", String::new()),
            Task::Update(id) => ("update", block(id)),
        };
        f.write_str(format!("{word:<12} {what}").trim_end())
    }
}
