//! Pass 5 and 6: layers × microbatches become the code of each role, with sends, receives, gathers ahead of their
//! use, and the update at the end.

use std::collections::BTreeMap;

use ir::graph::{Element, LayerId};
use ir::layout::Exchange;
use ir::mesh::{Axis, AxisSet};
use ir::op::Op;
use ir::plan::{Plan, Strategy};
use ir::program::{Action, Block, BlockId, BufferId, Collective, Content, FragmentId, Phase, Rows, Span, Stream};
use ir::units::Bytes;

use crate::block::{BlockPlan, Instance, Uses, one_kernel};
use crate::fragment::{Library, Slot};
use crate::layer::{Layer, Purpose, Setting, layer};
use crate::visits::{Turn, turns};
use crate::writer::Writer;

/// All layers of a plan, compiled; equal ones once.
pub(crate) struct Layers {
    /// The compiled layer of each layer.
    pub(crate) of: Vec<usize>,
    pub(crate) distinct: Vec<Layer>,
    /// For each distinct layer, its blocks.
    plans: Vec<Vec<BlockPlan>>,
    clear_scalars: FragmentId,
}

impl Layers {
    /// Passes 1 to 4 for every distinct pair of kind and strategy.
    pub(crate) fn new(setting: Setting<'_>, plan: &Plan, library: &mut Library) -> Layers {
        let mut keys: BTreeMap<(u32, &Strategy), usize> = BTreeMap::new();
        let mut distinct: Vec<Layer> = Vec::new();
        let mut plans = Vec::new();
        let mut of = Vec::new();
        for (kind, strategy) in setting.graph.layers.iter().zip(&plan.strategies) {
            let index = *keys.entry((kind.0, strategy)).or_insert_with(|| {
                distinct.push(layer(setting, *kind, strategy, library));
                distinct.len() - 1
            });
            if index == plans.len() {
                let made = &distinct[index];
                let block = |template| BlockPlan::new(setting.mesh, made, template, (setting.compute, library));
                plans.push(made.blocks.iter().map(block).collect::<Vec<_>>());
            }
            of.push(index);
        }
        let clear_scalars = library.fragment(one_kernel("clear sums", Op::Zero, &[], &[(0, 2, Element::F32)]));
        Layers { of, distinct, plans, clear_scalars }
    }

    fn layer(&self, id: u32) -> &Layer {
        &self.distinct[self.of[id as usize]]
    }
}

/// Writes the code of every role.
pub(crate) fn schedule(
    setting: Setting<'_>,
    plan: &Plan,
    layers: &Layers,
    library: &mut Library,
) -> (Vec<Writer>, Vec<Block>) {
    let mut blocks = Vec::new();
    let stages = 0..plan.stages.len() as u32;
    let writers = stages.map(|stage| {
        let mut role = RoleWriter::new(setting, plan, layers, stage, &mut blocks);
        role.write(library);
        role.writer
    });
    (writers.collect(), blocks)
}

const STEP: Span = Span { microbatch: None, layer: None, phase: Phase::Update };

/// One pass over one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Visit {
    turn: Turn,
    layer: u32,
}

struct RoleWriter<'a> {
    setting: Setting<'a>,
    plan: &'a Plan,
    layers: &'a Layers,
    stage: u32,
    writer: Writer,
    instances: Vec<Instance>,
    /// For each layer of the stage, its instances in the order of its blocks.
    blocks_of: BTreeMap<u32, Vec<usize>>,
    scalars: BufferId,
    /// What layers outside the graph would bring.
    outside: Option<BufferId>,
    tokens: Vec<BufferId>,
    targets: Vec<BufferId>,
    /// Inputs and saved tensors of layers, from their forward to their backward visit.
    inputs: BTreeMap<(u16, u32), BufferId>,
    saved: BTreeMap<(u16, u32), Vec<BufferId>>,
    /// Parameters gathered for a visit, by its place among the visits.
    gathered: BTreeMap<usize, Vec<Option<BufferId>>>,
    /// What was received for a visit, by its place among the visits.
    received: BTreeMap<usize, BufferId>,
}

impl<'a> RoleWriter<'a> {
    fn new(
        setting: Setting<'a>,
        plan: &'a Plan,
        layers: &'a Layers,
        stage: u32,
        blocks: &mut Vec<Block>,
    ) -> RoleWriter<'a> {
        let mut writer = Writer::new(plan.prefetch);
        let scalars = writer.buffer(Bytes(2 * Element::F32.bytes()), Content::Scalars);
        let mut role = RoleWriter {
            setting,
            plan,
            layers,
            stage,
            writer,
            instances: Vec::new(),
            blocks_of: BTreeMap::new(),
            scalars,
            outside: None,
            tokens: Vec::new(),
            targets: Vec::new(),
            inputs: BTreeMap::new(),
            saved: BTreeMap::new(),
            gathered: BTreeMap::new(),
            received: BTreeMap::new(),
        };
        role.add_blocks(blocks);
        role.add_rows();
        role
    }

    fn stage_layers(&self) -> std::ops::Range<u32> {
        self.plan.stages[self.stage as usize].clone()
    }

    fn is_first(&self) -> bool {
        self.stage == 0
    }

    fn is_last(&self) -> bool {
        self.stage as usize + 1 == self.plan.stages.len()
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
            self.blocks_of.insert(id, own);
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

    fn write(&mut self, library: &mut Library) {
        let clear = Action::Compute(self.layers.clear_scalars);
        self.writer.push(Stream::Compute, STEP, clear, &[self.scalars]);
        let visits = self.visits();
        for index in 0..visits.len() {
            self.visit(&visits, index, library);
            self.writer.end_turn();
        }
        if self.setting.purpose == Purpose::Training {
            self.join_ties(library);
            for instance in &self.instances {
                let span = Span { layer: Some(instance.layer as u16), ..STEP };
                instance.square(&mut self.writer, span, self.scalars);
            }
        }
        self.join_scalars(library);
        if self.setting.purpose == Purpose::Training {
            for instance in &mut self.instances {
                let span = Span { layer: Some(instance.layer as u16), ..STEP };
                instance.update(&mut self.writer, library, span, self.scalars);
                self.writer.end_turn();
            }
        }
        self.writer.finish();
    }

    fn visits(&self) -> Vec<Visit> {
        let stages = self.plan.stages.len() as u32;
        let mut turns = turns(self.plan.schedule, stages, self.stage, self.plan.microbatches);
        if self.setting.purpose == Purpose::Evaluation {
            turns.retain(|turn| turn.phase == Phase::Forward);
        }
        let layers = self.stage_layers();
        let of_turn = |turn: Turn| -> Vec<Visit> {
            let visit = |layer| Visit { turn, layer };
            match turn.phase {
                Phase::Forward => layers.clone().map(visit).collect(),
                Phase::Backward | Phase::Update => layers.clone().rev().map(visit).collect(),
            }
        };
        turns.into_iter().flat_map(of_turn).collect()
    }

    fn visit(&mut self, visits: &[Visit], index: usize, library: &mut Library) {
        for ahead in index..=index + self.plan.prefetch as usize {
            self.gather(visits, ahead, library);
        }
        let visit = visits[index];
        self.receive(visits, index);
        let outgoing = match visit.turn.phase {
            Phase::Forward => self.forward(visit, index, library),
            Phase::Backward | Phase::Update => self.backward(visit, index, library),
        };
        if let Some((outgoing, to)) = outgoing {
            // What comes next is received before this is sent: if its memory were that of what is sent, two stages
            // could wait for each other.
            self.receive(visits, index + 1);
            let phase = visit.turn.phase;
            self.writer.push(Stream::Send(phase), span(visit), Action::Send { to }, &[outgoing]);
            self.writer.free(span(visit), outgoing);
        }
        let parameters = self.gathered.remove(&index).expect("parameters are gathered before a visit");
        if visits.get(index + 1).is_some_and(|next| next.layer == visit.layer) {
            self.gathered.insert(index + 1, parameters);
            return;
        }
        for buffer in parameters.into_iter().flatten() {
            self.writer.free(span(visit), buffer);
        }
    }

    /// Gathers the parameters of a visit, unless they are there: visits before may be to the same layer.
    fn gather(&mut self, visits: &[Visit], index: usize, library: &mut Library) {
        let Some(&visit) = visits.get(index) else { return };
        let stays = |first: usize| visits[first..index].iter().all(|before| before.layer == visit.layer);
        if self.gathered.range(..=index).next_back().is_some_and(|(&first, _)| stays(first)) {
            return;
        }
        let own = &self.blocks_of[&visit.layer];
        let gathered = own.iter().map(|&block| {
            let instance = &self.instances[block];
            instance.is_gathered().then(|| instance.gather(&mut self.writer, library, span(visit)))
        });
        let gathered = gathered.collect();
        self.gathered.insert(index, gathered);
    }

    /// Receives what a visit needs from another stage, unless it was.
    fn receive(&mut self, visits: &[Visit], index: usize) {
        let Some(&visit) = visits.get(index) else { return };
        let layers = self.stage_layers();
        let phase = visit.turn.phase;
        let (from, sent) = match phase {
            Phase::Forward if visit.layer == layers.start && !self.is_first() => (self.stage - 1, visit.layer),
            Phase::Backward if visit.layer + 1 == layers.end && !self.is_last() => (self.stage + 1, layers.end),
            Phase::Forward | Phase::Backward | Phase::Update => return,
        };
        if self.received.contains_key(&index) {
            return;
        }
        let buffer = self.writer.value(boundary_bytes(self.layers.layer(sent), self.setting.compute));
        let action = Action::Receive { from: from as u16 };
        self.writer.push(Stream::Receive(phase), span(visit), action, &[buffer]);
        self.received.insert(index, buffer);
    }

    /// Runs a layer forward. Returns what is for the next stage, and that stage.
    fn forward(&mut self, visit: Visit, index: usize, library: &mut Library) -> Option<(BufferId, u16)> {
        let Visit { turn: Turn { microbatch, .. }, layer: id } = visit;
        let layers = self.layers;
        let layer = layers.layer(id);
        let span = span(visit);
        let stage_layers = self.stage_layers();
        let alone = (id == 0 && self.setting.graph.kind(LayerId(id)).input.is_some()).then(|| self.outside());
        if let Some(input) = self.received.remove(&index).or(alone) {
            self.inputs.insert((microbatch, id), input);
        }
        let saved: Vec<BufferId> = layer.saved.iter().map(|&bytes| self.writer.value(bytes)).collect();
        let world = World { role: self, id, microbatch, index };
        let mut output = None;
        let mut fixed = world.fixed();
        fixed.saved.clone_from(&saved);
        let output_bytes = boundary_bytes(layer, self.setting.compute);
        let mut bind = |writer: &mut Writer, slot: Slot| match slot {
            Slot::Output => *output.get_or_insert_with(|| writer.value(output_bytes)),
            slot => fixed.get(slot),
        };
        let keeps_input = layer.keeps_input;
        let ends = |slot: Slot| matches!(slot, Slot::Temporary(_)) || (slot == Slot::Input && !keeps_input);
        self.writer.body(&layer.forward, span, &mut bind, &ends);
        if !keeps_input {
            self.inputs.remove(&(microbatch, id));
        }
        self.saved.insert((microbatch, id), saved);
        let output = output?;
        if id as usize + 1 == self.setting.graph.layers.len() {
            self.writer.free(span, output);
            return None;
        }
        let output = self.move_boundary(library, span, output, (layer, layers.layer(id + 1)));
        if id + 1 == stage_layers.end {
            return Some((output, self.stage as u16 + 1));
        }
        self.inputs.insert((microbatch, id + 1), output);
        None
    }

    /// Runs a layer backward. Returns what is for the stage before, and that stage.
    fn backward(&mut self, visit: Visit, index: usize, library: &mut Library) -> Option<(BufferId, u16)> {
        let Visit { turn: Turn { microbatch, .. }, layer: id } = visit;
        let layers = self.layers;
        let layer = layers.layer(id);
        let span = span(visit);
        let stage_layers = self.stage_layers();
        let incoming = self.incoming(visit, index, library);
        let own = self.blocks_of[&id].clone();
        let gradients: Vec<BufferId> =
            own.iter().map(|&block| self.instances[block].gradients(&mut self.writer, span)).collect();
        let mut fixed = World { role: self, id, microbatch, index }.fixed();
        fixed.gradients.clone_from(&gradients);
        fixed.output_gradient = incoming;
        fixed.saved = self.saved.remove(&(microbatch, id)).expect("the forward visit saved tensors");
        let mut outgoing = None;
        let bytes = boundary_bytes(layer, self.setting.compute);
        let mut bind = |writer: &mut Writer, slot: Slot| match slot {
            Slot::InputGradient => *outgoing.get_or_insert_with(|| writer.value(bytes)),
            slot => fixed.get(slot),
        };
        let ends =
            |slot: Slot| matches!(slot, Slot::Temporary(_) | Slot::Saved(_) | Slot::Input | Slot::OutputGradient);
        self.writer.body(&layer.backward, span, &mut bind, &ends);
        self.inputs.remove(&(microbatch, id));
        for (&block, &buffer) in own.iter().zip(&gradients) {
            self.instances[block].collect(&mut self.writer, library, span, buffer);
        }
        self.reduce_if_last(visit, &own, library);
        let outgoing = outgoing?;
        if id == 0 {
            self.writer.free(span, outgoing);
            return None;
        }
        if id == stage_layers.start {
            return Some((outgoing, self.stage as u16 - 1));
        }
        let before = layers.layer(id - 1);
        let outgoing = self.move_boundary(library, span, outgoing, (layer, before));
        self.inputs.insert((microbatch, id), outgoing);
        None
    }

    /// The gradient of a layer's output: from the layer behind, or from the next stage in the layout of its first
    /// layer. The last layer has none.
    fn incoming(&mut self, visit: Visit, index: usize, library: &mut Library) -> Option<BufferId> {
        let behind = visit.layer + 1;
        let layers = self.layers;
        if let Some(buffer) = self.received.remove(&index) {
            let ends = (layers.layer(behind), layers.layer(visit.layer));
            return Some(self.move_boundary(library, span(visit), buffer, ends));
        }
        let is_alone = behind as usize == self.setting.graph.layers.len()
            && self.setting.graph.kind(LayerId(visit.layer)).output.is_some();
        if is_alone {
            return Some(self.outside());
        }
        self.inputs.remove(&(visit.turn.microbatch, behind))
    }

    /// What would come from a layer that is not part of this graph: a graph may be a few layers of a model.
    fn outside(&mut self) -> BufferId {
        *self.outside.get_or_insert_with(|| {
            let layers = [0, self.setting.graph.layers.len() as u32 - 1].map(|id| self.layers.layer(id));
            let bytes = layers.map(|layer| boundary_bytes(layer, self.setting.compute));
            self.writer.buffer(bytes[0].max(bytes[1]), Content::Boundary)
        })
    }

    /// Joins the gradients of a layer after its last backward pass. Blocks of tied layers wait for the end.
    fn reduce_if_last(&mut self, visit: Visit, own: &[usize], library: &mut Library) {
        if u32::from(visit.turn.microbatch) + 1 < self.plan.microbatches {
            return;
        }
        for &block in own {
            if !self.instances[block].is_tied {
                self.instances[block].reduce(&mut self.writer, library, span(visit));
            }
        }
    }

    /// Adds up the gradients of tied blocks, which may be on two stages.
    fn join_ties(&mut self, library: &mut Library) {
        let Some(tie) = self.setting.graph.tie else { return };
        let owner = self.plan.stage_of(tie.owner.0.0);
        let user = self.plan.stage_of(tie.user.0.0);
        for index in 0..self.instances.len() {
            if !self.instances[index].is_tied {
                continue;
            }
            let span = Span { layer: Some(self.instances[index].layer as u16), ..STEP };
            if owner != user && self.stage as usize == owner {
                self.instances[index].join_copy(&mut self.writer, span, user as u16);
            } else if owner != user {
                self.instances[index].send_to_owner(&mut self.writer, span, owner as u16);
            }
            self.instances[index].reduce(&mut self.writer, library, span);
        }
    }

    /// Adds loss and square norm over all ranks.
    fn join_scalars(&mut self, library: &mut Library) {
        if self.setting.mesh.rank_count() == 1 {
            return;
        }
        let axes = (0..self.setting.mesh.sizes().len()).filter(|&axis| self.setting.mesh.sizes()[axis] > 1).collect();
        let exchange = Exchange::AllReduce { axes, reduce: ir::layout::Reduce::Sum };
        let collective = Collective { exchange, axis: Axis::Pipeline, shape: vec![2], element: Element::F32 };
        let action = Action::Exchange(library.collective(collective));
        self.writer.push(Stream::Exchange(Axis::Pipeline), STEP, action, &[self.scalars]);
    }

    /// Brings the residual stream, or its gradient, from the layout of one layer into that of another.
    fn move_boundary(
        &mut self,
        library: &mut Library,
        span: Span,
        mut buffer: BufferId,
        ends: (&Layer, &Layer),
    ) -> BufferId {
        let (from, to) = ends;
        let mut shape = from.boundary_shape.clone();
        let tensor: AxisSet = from.axes.tensor.iter().chain(&to.axes.tensor).copied().collect();
        for exchange in from.boundary.exchanges_to(&to.boundary) {
            let set: AxisSet = exchange.axes().iter().copied().collect();
            let axis = if set.intersection(tensor).is_empty() { Axis::Data } else { Axis::Tensor };
            let ranks = u64::from(self.setting.mesh.extent(set));
            let next_shape = shape_after(&shape, &exchange, ranks);
            let bytes = next_shape.iter().product::<u64>() * self.setting.compute.bytes();
            let next = self.writer.value(Bytes(bytes));
            let collective = Collective { exchange, axis, shape, element: self.setting.compute };
            let action = Action::Exchange(library.collective(collective));
            self.writer.push(Stream::Exchange(axis), span, action, &[buffer, next]);
            self.writer.free(span, buffer);
            shape = next_shape;
            buffer = next;
        }
        buffer
    }
}

/// What a body may bind besides what it makes.
struct Fixed {
    input: Option<BufferId>,
    output_gradient: Option<BufferId>,
    tokens: Option<BufferId>,
    targets: Option<BufferId>,
    scalars: BufferId,
    parameters: Vec<BufferId>,
    gradients: Vec<BufferId>,
    saved: Vec<BufferId>,
}

impl Fixed {
    fn get(&self, slot: Slot) -> BufferId {
        let found = match slot {
            Slot::Input => self.input,
            Slot::OutputGradient => self.output_gradient,
            Slot::Saved(index) => self.saved.get(index as usize).copied(),
            Slot::Tokens => self.tokens,
            Slot::Targets => self.targets,
            Slot::Scalars => Some(self.scalars),
            Slot::Parameters(index) => self.parameters.get(index as usize).copied(),
            Slot::Gradients(index) => self.gradients.get(index as usize).copied(),
            Slot::Output | Slot::InputGradient | Slot::Temporary(_) => None,
        };
        found.unwrap_or_else(|| panic!("{slot:?} is not there in this pass"))
    }
}

/// A visit's surroundings.
struct World<'r, 'a> {
    role: &'r RoleWriter<'a>,
    id: u32,
    microbatch: u16,
    index: usize,
}

impl World<'_, '_> {
    fn fixed(&self) -> Fixed {
        let role = self.role;
        let gathered = &role.gathered[&self.index];
        let own = role.blocks_of[&self.id].iter().zip(gathered);
        let parameters = own.map(|(&block, whole)| whole.unwrap_or_else(|| role.instances[block].parameters()));
        Fixed {
            input: role.inputs.get(&(self.microbatch, self.id)).copied(),
            output_gradient: None,
            tokens: role.tokens.get(self.microbatch as usize).copied(),
            targets: role.targets.get(self.microbatch as usize).copied(),
            scalars: role.scalars,
            parameters: parameters.collect(),
            gradients: Vec::new(),
            saved: Vec::new(),
        }
    }
}

fn span(visit: Visit) -> Span {
    Span { microbatch: Some(visit.turn.microbatch), layer: Some(visit.layer as u16), phase: visit.turn.phase }
}

fn boundary_bytes(layer: &Layer, element: Element) -> Bytes {
    Bytes(layer.boundary_shape.iter().product::<u64>() * element.bytes())
}

/// Local sizes after an exchange among `ranks`.
fn shape_after(shape: &[u64], exchange: &Exchange, ranks: u64) -> Vec<u64> {
    let mut next = shape.to_vec();
    match exchange {
        Exchange::AllReduce { .. } => {}
        Exchange::ReduceScatter { dimension, .. } | Exchange::Slice { dimension, .. } => next[*dimension] /= ranks,
        Exchange::AllGather { dimension, .. } => next[*dimension] *= ranks,
        Exchange::AllToAll { gathered, split, .. } => {
            next[*gathered] *= ranks;
            next[*split] /= ranks;
        }
    }
    next
}
