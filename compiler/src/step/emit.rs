//! Writes the tasks of one role as code.

use std::collections::BTreeMap;

use ir::graph::{Element, LayerId};
use ir::layout::{Exchange, Reduce};
use ir::mesh::Axis;
use ir::op::UPDATE_CONSTANTS;
use ir::program::{
    Action, Block, BlockId, BufferId, Collective, Content, Direction, Phase, Span, StageId, Stream, TransferId,
};
use ir::units::Bytes;

use crate::layer::Purpose;
use crate::layer::block::{Instance, Uses};
use crate::layer::library::Collectives;
use crate::step::Job;
use crate::step::overlap::overlap;
use crate::step::schedule::schedule;
use crate::step::task::{InstanceId, LayerFacts, Need, StageFacts, Task, Visit, VisitId, visits};
use crate::step::transfers::role_of;
use crate::step::visits::Turn;
use crate::step::writer::Writer;

const STEP: Span = Span { microbatch: None, layer: None, phase: Phase::Update };

/// Writes one role.
pub(crate) struct Emitter<'a> {
    pub(crate) job: Job<'a>,
    pub(crate) facts: StageFacts,
    pub(crate) writer: Writer,
    pub(crate) instances: Vec<Instance>,
    /// For each layer of the stage, its instances in the order of its blocks.
    blocks_of: Vec<Vec<InstanceId>>,
    pub(crate) scalars: BufferId,
    /// What updates read of a step; none in a role that updates nothing.
    constants: Option<BufferId>,
    /// What layers outside the graph would bring, and of contexts.
    pub(crate) outside: Option<BufferId>,
    pub(crate) outside_context: Option<BufferId>,
    /// What a layer reads of a microbatch from outside of the model.
    pub(crate) rows: BTreeMap<(u32, u16), BufferId>,
    /// Inputs and saved tensors of layers, from their forward to their backward visit: see [`Emitter::place_of`].
    pub(crate) inputs: Vec<Option<BufferId>>,
    pub(crate) saved: Vec<Vec<BufferId>>,
    /// Contexts as layers read them, and gradients of what goes to them: in places as inputs are.
    pub(crate) contexts: Vec<Option<BufferId>>,
    pub(crate) context_gradients: Vec<Option<BufferId>>,
    /// Parameters gathered for a visit, one for each block of its layer that is gathered.
    pub(crate) gathered: BTreeMap<VisitId, Vec<Option<BufferId>>>,
    /// What was received for a visit.
    pub(crate) received: BTreeMap<VisitId, Between>,
    /// What the last pass added its gradients to, by block of its layer.
    pub(crate) gradients: Vec<BufferId>,
    /// What the last pass made for another stage.
    pub(crate) outgoing: Option<Between>,
}

/// What goes from one layer to the next, or its gradient.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Between {
    pub(crate) stream: BufferId,
    pub(crate) context: Option<BufferId>,
}

impl<'a> Emitter<'a> {
    /// A role with its resident buffers; its blocks are added to the list.
    pub(crate) fn new(job: Job<'a>, stage: StageId, collectives: &Collectives, blocks: &mut Vec<Block>) -> Emitter<'a> {
        let plan = job.plan;
        let mut writer = Writer::new(plan.prefetch, collectives.clone());
        let scalars = writer.buffer(Bytes(2 * Element::F32.bytes()), Content::Scalars);
        let constants = match job.setting.purpose {
            Purpose::Training => {
                Some(writer.buffer(Bytes(UPDATE_CONSTANTS * Element::F32.bytes()), Content::Constants))
            }
            Purpose::Evaluation => None,
        };
        let layers = plan.stages[stage.index()].clone();
        let places = (layers.len() + 1) * plan.microbatches as usize;
        let purpose = job.setting.purpose;
        let facts = StageFacts {
            stage,
            layers,
            is_last: stage.index() + 1 == plan.stages.len(),
            purpose,
            microbatches: plan.microbatches,
            prefetch: plan.prefetch,
            reduction: job.setting.manners.reduction,
            visits: visits(plan, stage, purpose),
            blocks: Vec::new(),
            instances: Vec::new(),
            scalars: Need::from(job.setting.mesh.rank_count() > 1),
        };
        let mut emitter = Emitter {
            job,
            facts,
            writer,
            instances: Vec::new(),
            blocks_of: Vec::new(),
            scalars,
            constants,
            outside: None,
            outside_context: None,
            rows: BTreeMap::new(),
            inputs: vec![None; places],
            saved: vec![Vec::new(); places],
            contexts: vec![None; places],
            context_gradients: vec![None; places],
            gathered: BTreeMap::new(),
            received: BTreeMap::new(),
            gradients: Vec::new(),
            outgoing: None,
        };
        emitter.add_blocks(blocks);
        emitter.add_rows();
        emitter.add_facts();
        emitter
    }

    /// The tasks of pass 5.
    pub(crate) fn scheduled(&self) -> Vec<Task> {
        schedule(&self.facts)
    }

    /// The tasks of pass 6.
    pub(crate) fn overlapped(&self) -> Vec<Task> {
        overlap(&self.facts, self.scheduled())
    }

    /// The place of a microbatch's layer in lists; the layer may also be the one behind the stage.
    pub(crate) fn place_of(&self, microbatch: u16, layer: u32) -> usize {
        let layers = &self.facts.layers;
        usize::from(microbatch) * (layers.len() + 1) + (layer - layers.start) as usize
    }

    /// The instances of a layer of the stage, in the order of its blocks.
    pub(crate) fn blocks_of(&self, layer: u32) -> &[InstanceId] {
        &self.blocks_of[(layer - self.facts.layers.start) as usize]
    }

    /// Gives each layer of the stage its blocks; a tied block that the stage already has is shared.
    fn add_blocks(&mut self, blocks: &mut Vec<Block>) {
        for id in self.facts.layers.clone() {
            let index = self.job.layers.of[id as usize];
            let mut own = Vec::new();
            for (plan, template) in self.job.layers.plans[index].iter().zip(&self.job.layers.distinct[index].blocks) {
                let tie = self.job.setting.graph.tie.as_ref().filter(|_| template.is_tied);
                let is_user = tie.is_some_and(|tie| tie.users.iter().any(|user| user.0 == LayerId(id)));
                let owner = tie.map_or(id, |tie| tie.owner.0.0);
                let shared = is_user.then(|| self.instances.iter().position(|other| other.is_tied)).flatten();
                let uses = match (self.job.setting.purpose, is_user) {
                    (Purpose::Evaluation, _) => Uses::Evaluation,
                    (Purpose::Training, true) => Uses::SecondCopy,
                    (Purpose::Training, false) => Uses::Training,
                };
                own.push(shared.unwrap_or_else(|| {
                    let mut block = plan.block(owner, template);
                    if let Some(tie) = tie {
                        let owner = self.job.setting.graph.kind(tie.owner.0).tensor(tie.owner.1);
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

    /// Says what becomes of the blocks.
    fn add_facts(&mut self) {
        let needs = |own: &Vec<InstanceId>| {
            let any = |is: fn(&Instance) -> bool| Need::from(own.iter().any(|&id| is(&self.instances[id])));
            LayerFacts {
                gathers: any(Instance::is_gathered),
                collects: any(Instance::is_collected),
                joins: any(|instance| !instance.is_tied && instance.is_joined()),
            }
        };
        self.facts.blocks = self.blocks_of.iter().map(needs).collect();
        self.facts.instances = self.instances.iter().map(|instance| instance.layer).collect();
    }

    /// Writes the whole step.
    pub(crate) fn write(mut self) -> Writer {
        let layers = self.job.layers;
        self.writer.reserve(self.facts.visits.iter().map(|visit| match visit.turn.direction {
            Direction::Forward => &layers.layer(visit.layer).forward,
            Direction::Backward => &layers.layer(visit.layer).backward,
        }));
        for task in self.overlapped() {
            self.task(task);
        }
        self.writer.finish();
        self.writer
    }

    fn task(&mut self, task: Task) {
        match task {
            Task::Clear => {
                let clear = Action::Compute(self.job.layers.clear_scalars);
                self.writer.push(Stream::Compute, STEP, clear, &[self.scalars]);
            }
            Task::Gather(id) => self.gather(id),
            Task::Receive(id) => self.receive(id),
            Task::Pass(id) => {
                let visit = self.facts.visits[id];
                self.outgoing = match visit.turn.direction {
                    Direction::Forward => self.forward(visit, id),
                    Direction::Backward => self.backward(visit, id),
                };
            }
            Task::Reduce(id) => self.reduce(self.facts.visits[id]),
            Task::Add(id) => self.add(self.facts.visits[id]),
            Task::Join(id) => self.join(self.facts.visits[id]),
            Task::Send(id) => self.send(self.facts.visits[id]),
            Task::Leave(id) => self.leave(id),
            Task::JoinTies => self.join_ties(),
            Task::Square(id) => {
                let span = self.block_span(id);
                self.instances[id].square(&mut self.writer, span, self.scalars);
            }
            Task::JoinScalars => self.join_scalars(),
            Task::Update(id) => {
                let span = self.block_span(id);
                let constants = self.constants.expect("a role that updates has constants");
                self.instances[id].update(&mut self.writer, span, [self.scalars, constants]);
                self.writer.end_turn();
            }
        }
    }

    fn block_span(&self, id: InstanceId) -> Span {
        Span { layer: Some(self.instances[id].layer as u16), ..STEP }
    }

    fn gather(&mut self, id: VisitId) {
        let visit = self.facts.visits[id];
        let own = &self.blocks_of[(visit.layer - self.facts.layers.start) as usize];
        let gathered = own.iter().map(|&block| {
            let instance = &self.instances[block];
            instance.is_gathered().then(|| instance.gather(&mut self.writer, visit.span()))
        });
        let gathered = gathered.collect();
        self.gathered.insert(id, gathered);
    }

    fn receive(&mut self, id: VisitId) {
        let visit = self.facts.visits[id];
        let StageId(stage) = self.facts.stage;
        let direction = visit.turn.direction;
        // Forward it crosses the cut in front of the stage, backward the one behind, in the layout of its first layer.
        let (cut, layer) = match direction {
            Direction::Forward => (StageId(stage), visit.layer),
            Direction::Backward => (StageId(stage + 1), self.facts.layers.end),
        };
        let (compute, of) = (self.job.setting.compute, self.job.layers.layer(layer));
        let mut take = |bytes: Bytes, id: TransferId| {
            let buffer = self.writer.value(bytes);
            self.writer.push(Stream::Receive(direction), visit.span(), Action::Receive(id), &[buffer]);
            buffer
        };
        let stream = take(of.input.bytes(compute), self.job.transfers.across(cut, direction, visit.turn.microbatch));
        let context = of.context_taken().map(|context| {
            take(context.bytes(compute), self.job.transfers.context_across(cut, direction, visit.turn.microbatch))
        });
        self.received.insert(id, Between { stream, context });
    }

    fn send(&mut self, visit: Visit) {
        let outgoing = self.outgoing.take().expect("a pass makes what is sent behind it");
        let StageId(stage) = self.facts.stage;
        let Turn { direction, microbatch } = visit.turn;
        let cut = match direction {
            Direction::Forward => StageId(stage + 1),
            Direction::Backward => StageId(stage),
        };
        let action = Action::Send(self.job.transfers.across(cut, direction, microbatch));
        self.writer.push(Stream::Send(direction), visit.span(), action, &[outgoing.stream]);
        self.writer.free(visit.span(), outgoing.stream);
        let Some(context) = outgoing.context else { return };
        let action = Action::Send(self.job.transfers.context_across(cut, direction, microbatch));
        self.writer.push(Stream::Send(direction), visit.span(), action, &[context]);
        // What the backward pass of this stage reads, too, stays.
        if self.contexts[self.place_of(microbatch, visit.layer)] != Some(context) {
            self.writer.free(visit.span(), context);
        }
    }

    /// Frees gathered parameters, unless the next visit is to the same layer; and ends the turn.
    fn leave(&mut self, id: VisitId) {
        if let Some(parameters) = self.gathered.remove(&id) {
            let visit = self.facts.visits[id];
            if id + 1 < self.facts.visits.len() && !self.facts.comes_to_layer(id + 1) {
                self.gathered.insert(id + 1, parameters);
            } else {
                for buffer in parameters.into_iter().flatten() {
                    self.writer.free(visit.span(), buffer);
                }
            }
        }
        self.writer.end_turn();
    }

    /// Scatters the gradients of a visit where they are kept in shares; others are joined over Data after the last
    /// visit. Blocks of tied layers are joined at the end.
    fn reduce(&mut self, visit: Visit) {
        let own = &self.blocks_of[(visit.layer - self.facts.layers.start) as usize];
        let is_last = self.facts.is_last_backward(visit);
        // The pass that made what is scattered stands directly before; sums that are only joined may be older.
        let mut made = std::mem::take(&mut self.gradients).into_iter();
        for &block in own {
            let instance = &mut self.instances[block];
            let made = made.next();
            if instance.is_collected() {
                let buffer = made.expect("gradients that are collected were just made");
                instance.scatter(&mut self.writer, visit.span(), buffer);
            } else if is_last && !instance.is_tied {
                instance.reduce(&mut self.writer, visit.span());
            }
        }
    }

    /// Adds what was scattered, and after the last visit joins it.
    fn add(&mut self, visit: Visit) {
        let own = &self.blocks_of[(visit.layer - self.facts.layers.start) as usize];
        let is_last = self.facts.is_last_backward(visit);
        for &block in own {
            let instance = &mut self.instances[block];
            if instance.is_collected() {
                instance.add(&mut self.writer, visit.span());
                if is_last && !instance.is_tied {
                    instance.reduce(&mut self.writer, visit.span());
                }
            }
        }
    }

    fn join(&mut self, visit: Visit) {
        let own = &self.blocks_of[(visit.layer - self.facts.layers.start) as usize];
        for &block in own {
            if !self.instances[block].is_tied {
                self.instances[block].join(&mut self.writer, visit.span());
            }
        }
    }

    /// Adds up the gradients of tied blocks, which may be on two stages.
    fn join_ties(&mut self) {
        let Some(tie) = &self.job.setting.graph.tie else { return };
        let is_owner = self.job.plan.stage_of(tie.owner.0.0) == self.facts.stage.index();
        let ways = self.job.transfers.ties(role_of(self.facts.stage));
        for instance in self.instances.iter_mut().filter(|instance| instance.is_tied) {
            let span = Span { layer: Some(instance.layer as u16), ..STEP };
            match ways.as_slice() {
                all if is_owner => instance.join_copies(&mut self.writer, span, all),
                [way] => instance.send_to_owner(&mut self.writer, span, *way),
                _ => panic!("who has a tied block and does not own it has one way to its owner"),
            }
            instance.reduce(&mut self.writer, span);
            instance.join(&mut self.writer, span);
        }
    }

    /// Adds loss and square norm over all ranks.
    fn join_scalars(&mut self) {
        let sizes = self.job.setting.mesh.sizes();
        let axes = (0..sizes.len()).filter(|&axis| sizes[axis] > 1).collect();
        let exchange = Exchange::AllReduce { axes, reduce: Reduce::Sum };
        let collective = Collective { exchange, axis: Axis::Pipeline, shape: vec![2], element: Element::F32 };
        let action = Action::Exchange(self.writer.collectives.id(collective));
        self.writer.push(Stream::Exchange(Axis::Pipeline), STEP, action, &[self.scalars]);
    }
}
