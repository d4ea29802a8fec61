//! Contexts between visits: one buffer for all layers of a stage that read it in one layout, from where it is made or
//! received to the last backward pass that reads it. Its gradient goes the other way, and each layer adds to it.

use ir::program::{BufferId, Content};

use crate::layer::Purpose;
use crate::step::emit::{Between, Emitter};
use crate::step::task::{Need, Visit};

impl Emitter<'_> {
    /// Before a forward pass: the context that the layer reads is in its place.
    pub(crate) fn take_context(&mut self, visit: Visit, received: Option<Between>) {
        let here = self.place_of(visit.turn.microbatch, visit.layer);
        if self.job.layers.layer(visit.layer).context_taken().is_some() && self.contexts[here].is_none() {
            let context = received.and_then(|received| received.context);
            self.contexts[here] = Some(context.unwrap_or_else(|| self.outside_context()));
        }
    }

    /// Behind a forward pass: brings the context to the next layer, in the layout in which that reads it. Returns what
    /// is for the next stage.
    pub(crate) fn give_context(&mut self, visit: Visit, context: Option<BufferId>) -> Option<BufferId> {
        let (context, layers) = (context?, self.job.layers);
        let here = self.place_of(visit.turn.microbatch, visit.layer);
        let is_read_again = self.contexts[here].is_some() && self.facts.purpose == Purpose::Training;
        let behind = visit.layer + 1;
        let is_there = (behind as usize) < self.job.setting.graph.layers.len();
        let taken = is_there.then(|| layers.layer(behind).context_taken()).flatten();
        let given = layers.layer(visit.layer).context_given().zip(taken);
        let moved = given.map(|(from, to)| self.copy_boundary(visit.span(), context, [from, to]));
        if !is_read_again {
            self.contexts[here] = None;
            if moved != Some(context) {
                self.writer.free(visit.span(), context);
            }
        }
        if behind == self.facts.layers.end {
            return moved;
        }
        self.contexts[here + 1] = moved;
        None
    }

    /// Whether nobody reads the context of a visit's layer behind its backward pass.
    pub(crate) fn lets_context_go(&self, visit: Visit) -> Need {
        let here = self.place_of(visit.turn.microbatch, visit.layer);
        let is_first = visit.layer == self.facts.layers.start || self.contexts[here - 1] != self.contexts[here];
        Need::from(is_first)
    }

    /// The gradient of the context that a layer gives to those behind; none if it gives none.
    pub(crate) fn context_incoming(&mut self, visit: Visit, received: Option<Between>) -> Option<BufferId> {
        let layers = self.job.layers;
        let given = layers.layer(visit.layer).context_given()?;
        let behind = visit.layer + 1;
        if let Some(buffer) = received.and_then(|received| received.context) {
            let taken = layers.layer(behind).context_taken().expect("what takes a context gives its gradient");
            return Some(self.move_boundary(visit.span(), buffer, [taken, given]));
        }
        let place = self.place_of(visit.turn.microbatch, behind);
        let found = self.context_gradients[place].take();
        Some(found.unwrap_or_else(|| self.outside_context()))
    }

    /// Behind a backward pass: brings the gradient of the context to the layer before. Returns what is for the stage
    /// before.
    pub(crate) fn give_context_gradient(&mut self, visit: Visit, gradient: Option<BufferId>) -> Option<BufferId> {
        let (gradient, layers) = (gradient?, self.job.layers);
        let before = visit.layer.checked_sub(1);
        let given = before.and_then(|before| layers.layer(before).context_given());
        let Some(ends) = layers.layer(visit.layer).context_taken().zip(given) else {
            self.writer.free(visit.span(), gradient);
            return None;
        };
        if visit.layer == self.facts.layers.start {
            return Some(gradient);
        }
        let moved = self.move_boundary(visit.span(), gradient, ends.into());
        let here = self.place_of(visit.turn.microbatch, visit.layer);
        self.context_gradients[here] = Some(moved);
        None
    }

    /// The context, or its gradient, that would come from layers that are not part of this graph.
    fn outside_context(&mut self) -> BufferId {
        let (compute, layers) = (self.job.setting.compute, self.job.layers);
        *self.outside_context.get_or_insert_with(|| {
            let all = layers.distinct.iter().filter_map(|layer| layer.context.as_ref());
            let bytes = all.map(|(_, boundary)| boundary.bytes(compute)).max().expect("a layer has a context");
            self.writer.buffer(bytes, Content::Boundary)
        })
    }
}
