//! One visit to a layer: its body with buffers bound to its slots, and what goes to the next layer.

use ir::graph::{Element, LayerId};
use ir::layout::Exchange;
use ir::mesh::{Axis, AxisSet, Mesh};
use ir::op::Write;
use ir::program::{Action, BufferId, Collective, Content, Span, Stream};
use ir::units::Bytes;

use crate::layer::boundary::Boundary;
use crate::layer::fragment::Slot;
use crate::step::emit::{Between, Emitter};
use crate::step::task::{Need, Visit, VisitId};
use crate::step::visits::Turn;
use crate::step::writer::Writer;

impl Emitter<'_> {
    /// Runs a layer forward. Returns what is for the next stage.
    pub(crate) fn forward(&mut self, visit: Visit, index: VisitId) -> Option<Between> {
        let Visit { turn: Turn { microbatch, .. }, layer: id } = visit;
        let layers = self.job.layers;
        let layer = layers.layer(id);
        let here = self.place_of(microbatch, id);
        let alone = (id == 0 && self.job.setting.graph.kind(LayerId(id)).input.is_some()).then(|| self.outside());
        let received = self.received.remove(&index);
        if let Some(input) = received.map(|received| received.stream).or(alone) {
            self.inputs[here] = Some(input);
        }
        self.take_context(visit, received);
        let saved: Vec<BufferId> = layer.saved.iter().map(|&bytes| self.writer.value(bytes)).collect();
        let bindings = Bindings { saved, ..self.bindings(visit, index) };
        let (mut output, mut context) = (None, bindings.context);
        let compute = self.job.setting.compute;
        let (output_bytes, context_bytes) = (layer.output.bytes(compute), layer.context_given());
        let mut bind = |writer: &mut Writer, slot: Slot| {
            if slot == Slot::Output {
                *output.get_or_insert_with(|| writer.value(output_bytes))
            } else if slot == Slot::Context {
                let bytes = || context_bytes.expect("a context is taken, or given to others").bytes(compute);
                *context.get_or_insert_with(|| writer.value(bytes()))
            } else {
                bindings.get(slot)
            }
        };
        let keeps_input = layer.keeps_input;
        let ends = |slot: Slot| matches!(slot, Slot::Temporary(_)) || (slot == Slot::Input && !keeps_input);
        self.writer.body(&layer.forward, visit.span(), &mut bind, &ends);
        if !keeps_input {
            self.inputs[here] = None;
        }
        self.saved[here] = bindings.saved;
        let context = self.give_context(visit, context);
        let output = output?;
        if id as usize + 1 == self.job.setting.graph.layers.len() {
            self.writer.free(visit.span(), output);
            return None;
        }
        let output = self.move_boundary(visit.span(), output, [&layer.output, &layers.layer(id + 1).input]);
        if id + 1 == self.facts.layers.end {
            return Some(Between { stream: output, context });
        }
        self.inputs[here + 1] = Some(output);
        None
    }

    /// Runs a layer backward. Returns what is for the stage before.
    pub(crate) fn backward(&mut self, visit: Visit, index: VisitId) -> Option<Between> {
        let Visit { turn: Turn { microbatch, .. }, layer: id } = visit;
        let layers = self.job.layers;
        let layer = layers.layer(id);
        let here = self.place_of(microbatch, id);
        let received = self.received.remove(&index);
        let output_gradient = self.incoming(visit, received);
        let context_output_gradient = self.context_incoming(visit, received);
        let own = self.blocks_of(id).to_vec();
        let begins = own.iter().all(|&block| self.instances[block].begins_sum());
        let (body, write) = match &layer.backward_anew {
            Some(anew) if begins => (anew, Write::Replace),
            Some(_) | None => (&layer.backward, Write::Accumulate),
        };
        let gradients = own.iter().map(|&block| self.instances[block].gradients(&mut self.writer, visit.span(), write));
        let gradients: Vec<BufferId> = gradients.collect();
        let saved = std::mem::take(&mut self.saved[here]);
        let bindings =
            Bindings { output_gradient, context_output_gradient, gradients, saved, ..self.bindings(visit, index) };
        let (mut outgoing, mut context) = (None, None);
        let compute = self.job.setting.compute;
        let (bytes, context_bytes) = (layer.input.bytes(compute), layer.context_taken());
        let mut bind = |writer: &mut Writer, slot: Slot| {
            if slot == Slot::InputGradient {
                *outgoing.get_or_insert_with(|| writer.value(bytes))
            } else if slot == Slot::ContextInputGradient {
                let bytes = || context_bytes.expect("a layer with this gradient takes a context").bytes(compute);
                *context.get_or_insert_with(|| writer.value(bytes()))
            } else {
                bindings.get(slot)
            }
        };
        let lets_context_go = self.lets_context_go(visit);
        let ends = |slot: Slot| match slot {
            Slot::Temporary(_) | Slot::Saved(_) | Slot::Input | Slot::OutputGradient | Slot::ContextOutputGradient => {
                true
            }
            Slot::Context => lets_context_go == Need::Yes,
            Slot::Output
            | Slot::InputGradient
            | Slot::ContextInputGradient
            | Slot::Tokens
            | Slot::Targets
            | Slot::Scalars
            | Slot::Parameters(_)
            | Slot::Gradients(_) => false,
        };
        self.writer.body(body, visit.span(), &mut bind, &ends);
        (self.inputs[here], self.contexts[here]) = (None, None);
        self.gradients = bindings.gradients;
        let context = self.give_context_gradient(visit, context);
        let outgoing = outgoing?;
        if id == 0 {
            self.writer.free(visit.span(), outgoing);
            return None;
        }
        if id == self.facts.layers.start {
            return Some(Between { stream: outgoing, context });
        }
        let outgoing = self.move_boundary(visit.span(), outgoing, [&layer.input, &layers.layer(id - 1).output]);
        self.inputs[here] = Some(outgoing);
        None
    }

    /// The gradient of a layer's output: from the layer behind, or from the next stage in the layout of its first
    /// layer. The last layer has none.
    fn incoming(&mut self, visit: Visit, received: Option<Between>) -> Option<BufferId> {
        let behind = visit.layer + 1;
        let layers = self.job.layers;
        if let Some(received) = received {
            let ends = [&layers.layer(behind).input, &layers.layer(visit.layer).output];
            return Some(self.move_boundary(visit.span(), received.stream, ends));
        }
        let is_alone = behind as usize == self.job.setting.graph.layers.len()
            && self.job.setting.graph.kind(LayerId(visit.layer)).output.is_some();
        if is_alone {
            return Some(self.outside());
        }
        let place = self.place_of(visit.turn.microbatch, behind);
        self.inputs[place].take()
    }

    /// What would come from a layer that is not part of this graph: a graph may be a few layers of a model.
    fn outside(&mut self) -> BufferId {
        *self.outside.get_or_insert_with(|| {
            let layers = [0, self.job.setting.graph.layers.len() as u32 - 1].map(|id| self.job.layers.layer(id));
            let ends = [&layers[0].input, &layers[1].output].map(|end| end.bytes(self.job.setting.compute));
            self.writer.buffer(ends[0].max(ends[1]), Content::Boundary)
        })
    }

    /// Brings the residual stream, or its gradient, from the layout of one layer into that of another.
    pub(crate) fn move_boundary(&mut self, span: Span, buffer: BufferId, ends: [&Boundary; 2]) -> BufferId {
        let moved = self.copy_boundary(span, buffer, ends);
        if moved != buffer {
            self.writer.free(span, buffer);
        }
        moved
    }

    /// The same; what is in the layout of the first stays. Where both lie alike it is that itself.
    pub(crate) fn copy_boundary(&mut self, span: Span, first: BufferId, [from, to]: [&Boundary; 2]) -> BufferId {
        let element = self.job.setting.compute;
        let mut buffer = first;
        for conversion in conversions(self.job.setting.mesh, element, from, to) {
            let next = self.writer.value(conversion.bytes);
            let axis = conversion.collective.axis;
            let action = Action::Exchange(self.writer.collectives.id(conversion.collective));
            self.writer.push(Stream::Exchange(axis), span, action, &[buffer, next]);
            if buffer != first {
                self.writer.free(span, buffer);
            }
            buffer = next;
        }
        buffer
    }

    /// What a visit's body may bind; each pass adds its own.
    fn bindings(&self, visit: Visit, index: VisitId) -> Bindings {
        let microbatch = visit.turn.microbatch;
        let gathered = self.gathered.get(&index);
        let parameters = self.blocks_of(visit.layer).iter().enumerate().map(|(place, &block)| {
            gathered.and_then(|whole| whole[place]).unwrap_or_else(|| self.instances[block].parameters())
        });
        Bindings {
            input: self.inputs[self.place_of(microbatch, visit.layer)],
            output_gradient: None,
            context: self.contexts[self.place_of(microbatch, visit.layer)],
            context_output_gradient: None,
            rows: self.rows.get(&(visit.layer, microbatch)).copied(),
            scalars: self.scalars,
            parameters: parameters.collect(),
            gradients: Vec::new(),
            saved: Vec::new(),
        }
    }
}

/// What a body may bind besides what it makes.
struct Bindings {
    input: Option<BufferId>,
    output_gradient: Option<BufferId>,
    context: Option<BufferId>,
    context_output_gradient: Option<BufferId>,
    rows: Option<BufferId>,
    scalars: BufferId,
    parameters: Vec<BufferId>,
    gradients: Vec<BufferId>,
    saved: Vec<BufferId>,
}

impl Bindings {
    fn get(&self, slot: Slot) -> BufferId {
        let found = match slot {
            Slot::Input => self.input,
            Slot::OutputGradient => self.output_gradient,
            Slot::Saved(index) => self.saved.get(usize::from(index)).copied(),
            Slot::Context => self.context,
            Slot::ContextOutputGradient => self.context_output_gradient,
            Slot::Tokens | Slot::Targets => self.rows,
            Slot::Scalars => Some(self.scalars),
            Slot::Parameters(index) => self.parameters.get(usize::from(index)).copied(),
            Slot::Gradients(index) => self.gradients.get(usize::from(index)).copied(),
            Slot::Output | Slot::InputGradient | Slot::ContextInputGradient | Slot::Temporary(_) => None,
        };
        found.unwrap_or_else(|| panic!("{slot:?} is not there in this pass"))
    }
}

/// One exchange on the way from one layout to another.
pub(crate) struct Conversion {
    pub(crate) collective: Collective,
    /// What it leaves on a rank.
    pub(crate) bytes: Bytes,
}

/// The exchanges that bring the residual stream from one layout into another.
pub(crate) fn conversions(mesh: &Mesh, element: Element, from: &Boundary, to: &Boundary) -> Vec<Conversion> {
    let mut shape = from.shape.to_vec();
    let tensor: AxisSet = from.tensor.union(to.tensor);
    let conversion = |exchange: Exchange| {
        let set: AxisSet = exchange.axes().iter().copied().collect();
        let axis = if set.intersection(tensor).is_empty() { Axis::Data } else { Axis::Tensor };
        let next = exchange.shape_after(&shape, mesh.extent(set));
        let bytes = Bytes(next.iter().product::<u64>() * element.bytes());
        let before = std::mem::replace(&mut shape, next);
        Conversion { collective: Collective { exchange, axis, shape: before, element }, bytes }
    };
    from.layout.exchanges_to(&to.layout).into_iter().map(conversion).collect()
}
