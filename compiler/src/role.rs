//! The code of one role: all visits to its layers with gathers ahead of their use, sends and receives, the update.

use std::collections::BTreeMap;

use ir::graph::{Element, LayerId};
use ir::layout::{Exchange, Reduce};
use ir::mesh::{Axis, AxisSet};
use ir::plan::Plan;
use ir::program::{
    Action, Block, BlockId, BufferId, Collective, Content, Direction, Phase, Rows, Span, StageId, Stream,
};
use ir::units::Bytes;

use crate::block::{Instance, Uses};
use crate::layer::{Purpose, Setting};
use crate::layers::Layers;
use crate::library::Collectives;
use crate::transfers::Transfers;
use crate::visits::{Turn, turns};
use crate::writer::Writer;

const STEP: Span = Span { microbatch: None, layer: None, phase: Phase::Update };

/// One pass over one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Visit {
    pub(crate) turn: Turn,
    pub(crate) layer: u32,
}

impl Visit {
    pub(crate) fn span(self) -> Span {
        Span {
            microbatch: Some(self.turn.microbatch),
            layer: Some(self.layer as u16),
            phase: self.turn.direction.phase(),
        }
    }
}

/// Writes one role.
pub(crate) struct RoleWriter<'a> {
    pub(crate) setting: Setting<'a>,
    pub(crate) plan: &'a Plan,
    pub(crate) layers: &'a Layers,
    pub(crate) stage: StageId,
    pub(crate) transfers: &'a Transfers,
    visits: Vec<Visit>,
    pub(crate) writer: Writer,
    pub(crate) instances: Vec<Instance>,
    /// For each layer of the stage, its instances in the order of its blocks.
    blocks_of: Vec<Vec<usize>>,
    pub(crate) scalars: BufferId,
    /// What layers outside the graph would bring.
    pub(crate) outside: Option<BufferId>,
    pub(crate) tokens: Vec<BufferId>,
    pub(crate) targets: Vec<BufferId>,
    /// Inputs and saved tensors of layers, from their forward to their backward visit: see [`RoleWriter::place_of`].
    pub(crate) inputs: Vec<Option<BufferId>>,
    pub(crate) saved: Vec<Vec<BufferId>>,
    /// Parameters gathered for a visit, by its place among the visits.
    pub(crate) gathered: BTreeMap<usize, Vec<Option<BufferId>>>,
    /// What was received for a visit, by its place among the visits.
    pub(crate) received: BTreeMap<usize, BufferId>,
}

impl<'a> RoleWriter<'a> {
    /// A role with its resident buffers. Its collectives are added to those that there are, its blocks to the list.
    pub(crate) fn new(
        (setting, plan): (Setting<'a>, &'a Plan),
        layers: &'a Layers,
        stage: StageId,
        transfers: &'a Transfers,
        (collectives, blocks): (&Collectives, &mut Vec<Block>),
    ) -> RoleWriter<'a> {
        let mut writer = Writer::new(plan.prefetch, collectives.clone());
        let scalars = writer.buffer(Bytes(2 * Element::F32.bytes()), Content::Scalars);
        let own = plan.stages[stage.index()].clone();
        let places = (own.len() + 1) * plan.microbatches as usize;
        let mut role = RoleWriter {
            setting,
            plan,
            layers,
            stage,
            transfers,
            visits: visits(setting, plan, stage),
            writer,
            instances: Vec::new(),
            blocks_of: Vec::new(),
            scalars,
            outside: None,
            tokens: Vec::new(),
            targets: Vec::new(),
            inputs: vec![None; places],
            saved: vec![Vec::new(); places],
            gathered: BTreeMap::new(),
            received: BTreeMap::new(),
        };
        role.add_blocks(blocks);
        role.add_rows();
        role
    }

    pub(crate) fn stage_layers(&self) -> std::ops::Range<u32> {
        self.plan.stages[self.stage.index()].clone()
    }

    fn is_first(&self) -> bool {
        self.stage == StageId(0)
    }

    fn is_last(&self) -> bool {
        self.stage.index() + 1 == self.plan.stages.len()
    }

    /// The place of a microbatch's layer in lists; the layer may also be the one behind the stage.
    pub(crate) fn place_of(&self, microbatch: u16, layer: u32) -> usize {
        let layers = self.stage_layers();
        usize::from(microbatch) * (layers.len() + 1) + (layer - layers.start) as usize
    }

    /// The instances of a layer of the stage, in the order of its blocks.
    pub(crate) fn blocks_of(&self, layer: u32) -> &[usize] {
        &self.blocks_of[(layer - self.stage_layers().start) as usize]
    }

    /// Gives each layer of the stage its blocks; a tied block that the stage already has is shared.
    fn add_blocks(&mut self, blocks: &mut Vec<Block>) {
        for id in self.stage_layers() {
            let index = self.layers.of[id as usize];
            let mut own = Vec::new();
            for (plan, template) in self.layers.plans[index].iter().zip(&self.layers.distinct[index].blocks) {
                let tie = self.setting.graph.tie.filter(|_| template.is_tied);
                let is_user = tie.is_some_and(|tie| tie.user.0 == LayerId(id));
                let owner = tie.map_or(id, |tie| tie.owner.0.0);
                let shared = is_user.then(|| self.instances.iter().position(|other| other.is_tied)).flatten();
                let uses = match (self.setting.purpose, is_user) {
                    (Purpose::Evaluation, _) => Uses::Evaluation,
                    (Purpose::Training, true) => Uses::SecondCopy,
                    (Purpose::Training, false) => Uses::Training,
                };
                own.push(shared.unwrap_or_else(|| {
                    let mut block = plan.block(owner, template);
                    if let Some(tie) = tie {
                        let owner = self.setting.graph.kind(tie.owner.0).tensor(tie.owner.1);
                        block.parameters[0].name.clone_from(&owner.name);
                    }
                    let block_id = BlockId(blocks.len() as u32);
                    blocks.push(block);
                    self.instances.push(plan.instance(&mut self.writer, block_id, id, uses));
                    self.instances.len() - 1
                }));
            }
            self.blocks_of.push(own);
        }
    }

    /// Makes the buffers of tokens (first stage) and targets (last stage).
    fn add_rows(&mut self) {
        let layers = self.stage_layers();
        for microbatch in 0..self.plan.microbatches as u16 {
            if self.is_first() && self.setting.graph.kind(LayerId(layers.start)).input.is_none() {
                let (rows, bytes) = self.rows(microbatch, layers.start);
                let buffer = self.writer.buffer(bytes, Content::Tokens(rows));
                self.tokens.push(buffer);
            }
            if self.is_last() && self.setting.graph.kind(LayerId(layers.end - 1)).output.is_none() {
                let (rows, bytes) = self.rows(microbatch, layers.end - 1);
                let buffer = self.writer.buffer(bytes, Content::Targets(rows));
                self.targets.push(buffer);
            }
        }
    }

    fn rows(&self, microbatch: u16, layer: u32) -> (Rows, Bytes) {
        let axes = self.layers.layer(layer).axes.data.clone();
        let data: AxisSet = axes.iter().copied().collect();
        let sequences = self.setting.sequences / u64::from(self.setting.mesh.extent(data));
        let bytes = Bytes(sequences * self.setting.graph.sequence * Element::I32.bytes());
        (Rows { microbatch, axes, sequences }, bytes)
    }

    /// Writes the whole step.
    pub(crate) fn write(mut self) -> Writer {
        let (layers, visits) = (self.layers, &self.visits);
        self.writer.reserve(visits.iter().map(|visit| match visit.turn.direction {
            Direction::Forward => &layers.layer(visit.layer).forward,
            Direction::Backward => &layers.layer(visit.layer).backward,
        }));
        let clear = Action::Compute(self.layers.clear_scalars);
        self.writer.push(Stream::Compute, STEP, clear, &[self.scalars]);
        for index in 0..self.visits.len() {
            self.visit(index);
            self.writer.end_turn();
        }
        if self.setting.purpose == Purpose::Training {
            self.join_ties();
            for instance in &self.instances {
                let span = Span { layer: Some(instance.layer as u16), ..STEP };
                instance.square(&mut self.writer, span, self.scalars);
            }
        }
        self.join_scalars();
        if self.setting.purpose == Purpose::Training {
            for instance in &mut self.instances {
                let span = Span { layer: Some(instance.layer as u16), ..STEP };
                instance.update(&mut self.writer, span, self.scalars);
                self.writer.end_turn();
            }
        }
        self.writer.finish();
        self.writer
    }

    fn visit(&mut self, index: usize) {
        for ahead in index..=index + self.plan.prefetch as usize {
            self.gather(ahead);
        }
        let visit = self.visits[index];
        self.receive(index);
        let outgoing = match visit.turn.direction {
            Direction::Forward => self.forward(visit, index),
            Direction::Backward => self.backward(visit, index),
        };
        if let Some(outgoing) = outgoing {
            // What comes next is received before this is sent: if its memory were that of what is sent, two stages
            // could wait for each other.
            self.receive(index + 1);
            let direction = visit.turn.direction;
            // Forward it crosses the cut behind the stage, backward the one in front.
            let cut = match direction {
                Direction::Forward => StageId(self.stage.0 + 1),
                Direction::Backward => self.stage,
            };
            let transfer = self.transfers.across(cut, direction, visit.turn.microbatch);
            self.writer.push(Stream::Send(direction), visit.span(), Action::Send(transfer), &[outgoing]);
            self.writer.free(visit.span(), outgoing);
        }
        let parameters = self.gathered.remove(&index).expect("parameters are gathered before a visit");
        if self.visits.get(index + 1).is_some_and(|next| next.layer == visit.layer) {
            self.gathered.insert(index + 1, parameters);
            return;
        }
        for buffer in parameters.into_iter().flatten() {
            self.writer.free(visit.span(), buffer);
        }
    }

    /// Gathers the parameters of a visit, unless they are there: visits before may be to the same layer.
    fn gather(&mut self, index: usize) {
        let Some(&visit) = self.visits.get(index) else { return };
        let stays = |first: usize| self.visits[first..index].iter().all(|before| before.layer == visit.layer);
        if self.gathered.range(..=index).next_back().is_some_and(|(&first, _)| stays(first)) {
            return;
        }
        let own = &self.blocks_of[(visit.layer - self.stage_layers().start) as usize];
        let gathered = own.iter().map(|&block| {
            let instance = &self.instances[block];
            instance.is_gathered().then(|| instance.gather(&mut self.writer, visit.span()))
        });
        let gathered = gathered.collect();
        self.gathered.insert(index, gathered);
    }

    /// Receives what a visit needs from another stage, unless it was.
    fn receive(&mut self, index: usize) {
        let Some(&visit) = self.visits.get(index) else { return };
        let layers = self.stage_layers();
        let direction = visit.turn.direction;
        let (cut, sent) = match direction {
            Direction::Forward if visit.layer == layers.start && !self.is_first() => (self.stage, visit.layer),
            Direction::Backward if visit.layer + 1 == layers.end && !self.is_last() => {
                (StageId(self.stage.0 + 1), layers.end)
            }
            Direction::Forward | Direction::Backward => return,
        };
        if self.received.contains_key(&index) {
            return;
        }
        let buffer = self.writer.value(self.layers.layer(sent).boundary_bytes(self.setting.compute));
        let action = Action::Receive(self.transfers.across(cut, direction, visit.turn.microbatch));
        self.writer.push(Stream::Receive(direction), visit.span(), action, &[buffer]);
        self.received.insert(index, buffer);
    }

    /// Adds up the gradients of tied blocks, which may be on two stages.
    fn join_ties(&mut self) {
        let Some(tie) = self.setting.graph.tie else { return };
        let is_owner = self.plan.stage_of(tie.owner.0.0) == self.stage.index();
        for instance in self.instances.iter_mut().filter(|instance| instance.is_tied) {
            let span = Span { layer: Some(instance.layer as u16), ..STEP };
            match self.transfers.tie() {
                Some(ways) if is_owner => instance.join_copy(&mut self.writer, span, ways),
                Some(ways) => instance.send_to_owner(&mut self.writer, span, ways),
                None => {}
            }
            instance.reduce(&mut self.writer, span);
        }
    }

    /// Adds loss and square norm over all ranks.
    fn join_scalars(&mut self) {
        if self.setting.mesh.rank_count() == 1 {
            return;
        }
        let axes = (0..self.setting.mesh.sizes().len()).filter(|&axis| self.setting.mesh.sizes()[axis] > 1).collect();
        let exchange = Exchange::AllReduce { axes, reduce: Reduce::Sum };
        let collective = Collective { exchange, axis: Axis::Pipeline, shape: vec![2], element: Element::F32 };
        let action = Action::Exchange(self.writer.collectives.id(collective));
        self.writer.push(Stream::Exchange(Axis::Pipeline), STEP, action, &[self.scalars]);
    }
}

/// All visits of a stage, in order.
fn visits(setting: Setting<'_>, plan: &Plan, stage: StageId) -> Vec<Visit> {
    let mut turns = turns(plan.schedule, plan.stages.len() as u32, stage.0, plan.microbatches);
    if setting.purpose == Purpose::Evaluation {
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
