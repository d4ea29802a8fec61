//! Blocks of parameters in a role: where their states rest, how their gradients are joined, how they are updated.

use std::collections::VecDeque;

use ir::graph::Element;
use ir::layout::{Exchange, Layout};
use ir::mesh::{Axis, AxisSet, Mesh};
use ir::op::Write;
use ir::plan::Shard;
use ir::program::{Action, Block, BlockId, BufferId, Collective, Content, Direction, Part, Span, Stream, TransferId};
use ir::units::Bytes;

use crate::layer::library::Library;
use crate::layer::shape::{BlockFragments, Shape};
use crate::layer::{BlockTemplate, Layer};
use crate::step::writer::Writer;

/// A block of a layer in a role.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    pub(crate) layer: u32,
    shape: Shape,
    resident: Resident,
    fragments: BlockFragments,
    /// The sum of gradients, while it lives.
    sum: Option<BufferId>,
    /// Shares of gradients that are not added to it yet.
    scattered: VecDeque<BufferId>,
    uses: Uses,
    pub(crate) is_tied: bool,
}

#[derive(Clone, Copy, Debug)]
struct Resident {
    parameters: BufferId,
    master: Option<BufferId>,
    moments: [BufferId; 2],
}

/// What instances of one block template share.
#[derive(Clone, Debug)]
pub(crate) struct BlockPlan {
    shape: Shape,
    fragments: BlockFragments,
    is_tied: bool,
}

impl BlockPlan {
    /// Makes the fragments of a block.
    pub(crate) fn new(
        mesh: &Mesh,
        layer: &Layer,
        template: &BlockTemplate,
        setting: (Element, &mut Library),
    ) -> BlockPlan {
        let (compute, library) = setting;
        let shape = Shape::new(mesh, layer, template, (layer.shard, compute));
        let fragments = shape.fragments(template, library);
        BlockPlan { shape, fragments, is_tied: template.is_tied }
    }

    /// Its block, for the list of the programs.
    pub(crate) fn block(&self, layer: u32, template: &BlockTemplate) -> Block {
        let shard = if self.shape.shard == Shard::Nothing { Vec::new() } else { self.shape.data.clone() };
        Block {
            layer,
            parameters: template.parameters.iter().map(|(_, parameter)| parameter.clone()).collect(),
            decayed: template.decayed,
            length: template.length,
            padded: template.padded,
            shard,
        }
    }

    /// Puts an instance into a role: its resident buffers.
    pub(crate) fn instance(&self, writer: &mut Writer, block: BlockId, layer: u32, uses: Uses) -> Instance {
        let shape = &self.shape;
        let part = if shape.shard == Shard::Nothing { Part::Whole } else { Part::Share };
        let kept = if shape.shard == Shard::Parameters { Part::Share } else { Part::Whole };
        let of_parameters = if kept == Part::Share { shape.share() } else { shape.padded };
        let parameters =
            writer.buffer(Bytes(of_parameters * shape.compute.bytes()), Content::Parameters { block, part: kept });
        let states = Bytes(shape.share() * Element::F32.bytes());
        let trains = uses != Uses::Evaluation;
        let master =
            (trains && shape.compute != Element::F32).then(|| writer.buffer(states, Content::Master { block, part }));
        let moments = if trains {
            [
                writer.buffer(states, Content::FirstMoment { block, part }),
                writer.buffer(states, Content::SecondMoment { block, part }),
            ]
        } else {
            [parameters; 2]
        };
        Instance {
            layer,
            shape: shape.clone(),
            resident: Resident { parameters, master, moments },
            fragments: self.fragments,
            sum: None,
            scattered: VecDeque::new(),
            uses,
            is_tied: self.is_tied,
        }
    }
}

/// What a role does with a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Uses {
    /// Trains it.
    Training,
    /// Trains a copy of what another role owns.
    SecondCopy,
    /// Only reads it.
    Evaluation,
}

impl Instance {
    /// Parameters as kernels read them: a gathered copy where only shares are kept.
    pub(crate) fn is_gathered(&self) -> bool {
        self.shape.shard == Shard::Parameters
    }

    /// The resident parameters.
    pub(crate) fn parameters(&self) -> BufferId {
        self.resident.parameters
    }

    /// Gathers the parameters into a new buffer.
    pub(crate) fn gather(&self, writer: &mut Writer, span: Span) -> BufferId {
        let whole = writer.value(Bytes(self.shape.padded * self.shape.compute.bytes()));
        self.gather_into(writer, span, [self.resident.parameters, whole]);
        whole
    }

    fn gather_into(&self, writer: &mut Writer, span: Span, operands: [BufferId; 2]) {
        let exchange = Exchange::AllGather { axes: self.shape.data.clone(), dimension: 0 };
        self.exchange(writer, span, (exchange, self.shape.share(), self.shape.compute), &operands);
    }

    fn exchange(&self, writer: &mut Writer, span: Span, what: (Exchange, u64, Element), operands: &[BufferId]) {
        let (exchange, elements, element) = what;
        let tensor = exchange.axes().iter().any(|&axis| self.shape.tensor.contains(axis));
        let axis = if tensor { Axis::Tensor } else { Axis::Data };
        let collective = writer.collectives.id(Collective { exchange, axis, shape: vec![elements], element });
        writer.push(Stream::Exchange(axis), span, Action::Exchange(collective), operands);
    }

    /// Whether the next backward pass begins a new sum of gradients.
    pub(crate) fn begins_sum(&self) -> bool {
        self.is_collected() || self.sum.is_none()
    }

    /// The buffer of a backward pass that adds its gradients, or writes all of them where a new sum begins.
    pub(crate) fn gradients(&mut self, writer: &mut Writer, span: Span, write: Write) -> BufferId {
        if !self.is_collected()
            && let Some(sum) = self.sum
        {
            return sum;
        }
        let gradients = writer.value(Bytes(self.shape.padded * Element::F32.bytes()));
        if write == Write::Accumulate {
            writer.push(Stream::Compute, span, Action::Compute(self.fragments.zero), &[gradients]);
        }
        if self.shape.shard < Shard::Gradients {
            self.sum = Some(gradients);
        }
        gradients
    }

    /// After a backward pass: gradients that are kept in shares are scattered.
    pub(crate) fn scatter(&mut self, writer: &mut Writer, span: Span, gradients: BufferId) {
        let data: AxisSet = self.shape.data.iter().copied().collect();
        let rest = self.shape.partial.minus(data);
        let from = self.shape.flat(&[], self.shape.partial);
        let to = self.shape.flat(&self.shape.data, rest);
        let share = self.convert(writer, span, gradients, (&from, &to));
        self.scattered.push_back(share);
    }

    /// Adds to the sum the share that was scattered first of those that were not added yet.
    pub(crate) fn add(&mut self, writer: &mut Writer, span: Span) {
        let share = self.scattered.pop_front().expect("gradients are scattered before they are added");
        match self.sum {
            None => self.sum = Some(share),
            Some(sum) => {
                writer.push(Stream::Compute, span, Action::Compute(self.fragments.add), &[sum, share]);
                writer.free(span, share);
            }
        }
    }

    /// Exchanges a flat buffer from one layout to another; what it was is freed.
    fn convert(
        &self,
        writer: &mut Writer,
        span: Span,
        mut buffer: BufferId,
        (from, to): (&Layout, &Layout),
    ) -> BufferId {
        let mut elements = self.shape.padded / if from.splits()[0].is_empty() { 1 } else { self.shape.parts };
        for exchange in from.exchanges_to(to) {
            let in_place = exchange.is_in_place();
            let next = if in_place { buffer } else { writer.value(Bytes(self.shape.share() * Element::F32.bytes())) };
            let operands = [buffer, next];
            let operands = if in_place { &operands[..1] } else { &operands[..] };
            self.exchange(writer, span, (exchange, elements, Element::F32), operands);
            if !in_place {
                writer.free(span, buffer);
                elements = self.shape.share();
            }
            buffer = next;
        }
        buffer
    }

    /// Whether gradients are kept in shares between microbatches.
    pub(crate) fn is_collected(&self) -> bool {
        self.shape.is_collected()
    }

    /// Whether gradients are partial over Tensor, too: each of its ranks has summed over its part of the sequence.
    pub(crate) fn is_joined(&self) -> bool {
        !self.shape.partial_over_tensor().is_empty()
    }

    /// After the last backward pass: the sum of gradients is joined over Data.
    pub(crate) fn reduce(&mut self, writer: &mut Writer, span: Span) {
        let shape = &self.shape;
        let data: AxisSet = shape.data.iter().copied().collect();
        let from = if self.is_collected() {
            shape.flat(&shape.data, shape.partial.minus(data))
        } else {
            shape.flat(&[], shape.partial)
        };
        let to = shape.flat(shape.split(), shape.partial_over_tensor());
        self.convert_sum(writer, span, (&from, &to));
    }

    /// Behind [`Instance::reduce`]: what is still partial over Tensor is joined.
    pub(crate) fn join(&mut self, writer: &mut Writer, span: Span) {
        let shape = &self.shape;
        let from = shape.flat(shape.split(), shape.partial_over_tensor());
        let to = shape.flat(shape.split(), AxisSet::EMPTY);
        self.convert_sum(writer, span, (&from, &to));
    }

    fn convert_sum(&mut self, writer: &mut Writer, span: Span, ends: (&Layout, &Layout)) {
        let sum = self.sum.expect("a layer is reduced after its backward passes");
        self.sum = Some(self.convert(writer, span, sum, ends));
    }

    /// Sends the sum of gradients to the role that owns the block, and takes back the sum of both.
    pub(crate) fn send_to_owner(&self, writer: &mut Writer, span: Span, [there, back]: [TransferId; 2]) {
        let sum = self.sum.expect("a tied block is joined after the backward passes");
        writer.push(Stream::Send(Direction::Backward), span, Action::Send(there), &[sum]);
        writer.push(Stream::Receive(Direction::Forward), span, Action::Receive(back), &[sum]);
    }

    /// Adds the gradients that other copies of the block have, and sends back the sum.
    pub(crate) fn join_copies(&self, writer: &mut Writer, span: Span, ways: &[[TransferId; 2]]) {
        let sum = self.sum.expect("a tied block is joined after the backward passes");
        for &[there, _] in ways {
            let other = writer.value(Bytes(self.shape.kept_gradients() * Element::F32.bytes()));
            writer.push(Stream::Receive(Direction::Backward), span, Action::Receive(there), &[other]);
            writer.push(Stream::Compute, span, Action::Compute(self.fragments.add), &[sum, other]);
            writer.free(span, other);
        }
        for &[_, back] in ways {
            writer.push(Stream::Send(Direction::Forward), span, Action::Send(back), &[sum]);
        }
    }

    /// Adds its squares to the norm of the whole gradient; those of a second copy do not count.
    pub(crate) fn square(&self, writer: &mut Writer, span: Span, scalars: BufferId) {
        if self.uses != Uses::SecondCopy {
            let sum = self.sum.expect("gradients are reduced before their norm is taken");
            writer.push(Stream::Compute, span, Action::Compute(self.fragments.square), &[sum, scalars]);
        }
    }

    /// Updates parameters and moments, and gathers what others compute with.
    pub(crate) fn update(&mut self, writer: &mut Writer, span: Span, [scalars, constants]: [BufferId; 2]) {
        let sum = self.sum.take().expect("gradients are reduced before the update");
        let Resident { parameters, master, moments } = self.resident;
        let gathers = matches!(self.shape.shard, Shard::Optimizer | Shard::Gradients);
        let share = if gathers {
            let share = writer.value(Bytes(self.shape.share() * self.shape.compute.bytes()));
            if master.is_none() {
                let exchange = Exchange::Slice { axes: self.shape.data.clone(), dimension: 0 };
                let what = (exchange, self.shape.padded, self.shape.compute);
                self.exchange(writer, span, what, &[parameters, share]);
            }
            share
        } else {
            parameters
        };
        let mut operands = vec![master.unwrap_or(share), sum, moments[0], moments[1], scalars, constants];
        if master.is_some() {
            operands.push(share);
        }
        writer.push(Stream::Compute, span, Action::Compute(self.fragments.update), &operands);
        writer.free(span, sum);
        if gathers {
            self.gather_into(writer, span, [share, parameters]);
            writer.free(span, share);
        }
    }
}
