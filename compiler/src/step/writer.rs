//! Writes the code of one role: buffers come to life, instructions use them, frees end them.

use std::collections::VecDeque;

use ir::mesh::Axis;
use ir::program::{Action, Buffer, BufferId, CollectiveId, Content, Instr, Span, Stream};
use ir::units::Bytes;

use crate::layer::fragment::{Body, BodyAction, Slot};
use crate::layer::library::Collectives;
use crate::memory::place::aligned;

/// The code of a role while it is written: without addresses, signals and waits.
#[derive(Clone, Debug, Default)]
pub(crate) struct Writer {
    pub(crate) buffers: Vec<Buffer>,
    pub(crate) code: Vec<Instr>,
    pub(crate) operands: Vec<BufferId>,
    /// What exchanges of the code name.
    pub(crate) collectives: Collectives,
    /// The stream of the last instruction that used each buffer: its free goes there.
    last_stream: Vec<Stream>,
    /// For each buffer, the first instruction that may use its memory for another, if that is not the one behind its
    /// free: see [`Writer::free`].
    pub(crate) held_until: Vec<u32>,
    /// How many turns the memory of buffers is held that were read beside the computation.
    hold: u32,
    /// Buffers whose memory is held until the end of a turn, in order.
    held: VecDeque<(u32, BufferId)>,
    turn: u32,
}

impl Writer {
    /// An empty writer that holds memory for so many turns; bodies may name the collectives that are given.
    pub(crate) fn new(hold: u32, collectives: Collectives) -> Writer {
        Writer { hold, collectives, ..Writer::default() }
    }

    /// Gives every collective of the code the new id that stands at its old one.
    pub(crate) fn rename_collectives(&mut self, names: &[CollectiveId]) {
        if names.iter().enumerate().all(|(old, new)| new.index() == old) {
            return;
        }
        for instr in &mut self.code {
            if let Action::Exchange(id) = &mut instr.action {
                *id = names[id.index()];
            }
        }
    }

    /// Makes room for bodies, so that the code need not move while it grows.
    pub(crate) fn reserve<'a>(&mut self, bodies: impl Iterator<Item = &'a Body>) {
        let (mut instructions, mut operands, mut buffers) = (0, 0, 0);
        for body in bodies {
            let frees: usize = body.steps.iter().map(|step| step.last_uses.len()).sum();
            instructions += body.steps.len() + frees;
            operands += body.steps.iter().map(|step| step.operands.len()).sum::<usize>() + frees;
            buffers += body.slots.len();
        }
        self.code.reserve(instructions);
        self.operands.reserve(operands);
        self.buffers.reserve(buffers);
        self.last_stream.reserve(buffers);
        self.held_until.reserve(buffers);
    }

    /// A new buffer; it lives from the first instruction that writes it.
    pub(crate) fn buffer(&mut self, bytes: Bytes, content: Content) -> BufferId {
        self.buffers.push(Buffer { bytes: Bytes(aligned(bytes.0).max(ir::program::ALIGNMENT)), address: 0, content });
        self.last_stream.push(Stream::Compute);
        self.held_until.push(0);
        BufferId(self.buffers.len() as u32 - 1)
    }

    /// A new buffer of a step.
    pub(crate) fn value(&mut self, bytes: Bytes) -> BufferId {
        self.buffer(bytes, Content::Value)
    }

    /// Adds an instruction.
    pub(crate) fn push(&mut self, stream: Stream, span: Span, action: Action, operands: &[BufferId]) {
        let start = self.operands.len() as u32;
        self.operands.extend_from_slice(operands);
        for operand in operands {
            self.last_stream[operand.index()] = stream;
        }
        self.code.push(Instr { stream, span, action, operands: (start, operands.len() as u16) });
    }

    /// Ends the life of a buffer, on the stream that used it last. Residents stay.
    ///
    /// The memory of what a reduction or a send reads is held for some turns: if the next layer took it at once, it
    /// would have to wait for that, and nothing would run side by side. The free itself stands right behind: whoever
    /// takes the memory waits for it, and must not wait for what comes later on its stream.
    pub(crate) fn free(&mut self, span: Span, buffer: BufferId) {
        if self.buffers[buffer.index()].is_resident() {
            return;
        }
        let stream = self.last_stream[buffer.index()];
        self.push(stream, span, Action::Free, &[buffer]);
        if self.hold > 0 && matches!(stream, Stream::Exchange(Axis::Data) | Stream::Send(_)) {
            self.held.push_back((self.turn + self.hold, buffer));
        }
    }

    /// Ends a turn: a visit to a layer, or the update of a block.
    pub(crate) fn end_turn(&mut self) {
        self.turn += 1;
        while let Some(&(due, buffer)) = self.held.front()
            && due < self.turn
        {
            self.held.pop_front();
            self.held_until[buffer.index()] = self.code.len() as u32;
        }
    }

    /// Ends all turns.
    pub(crate) fn finish(&mut self) {
        self.turn = u32::MAX - 1;
        self.end_turn();
    }

    /// Writes all steps of a body. `bind` says which buffer a slot is; slots for which `ends` holds are freed after
    /// their last use.
    pub(crate) fn body(
        &mut self,
        body: &Body,
        span: Span,
        bind: &mut dyn FnMut(&mut Writer, Slot) -> BufferId,
        ends: &dyn Fn(Slot) -> bool,
    ) {
        let mut bound: Vec<Option<BufferId>> = vec![None; body.slots.len()];
        let mut operands: Vec<BufferId> = Vec::new();
        for step in &body.steps {
            operands.clear();
            for &slot in &step.operands {
                let (kind, bytes) = body.slots[slot as usize];
                let buffer = match bound[slot as usize] {
                    Some(buffer) => buffer,
                    None if matches!(kind, Slot::Temporary(_)) => self.value(bytes),
                    None => bind(self, kind),
                };
                bound[slot as usize] = Some(buffer);
                operands.push(buffer);
            }
            match step.action {
                BodyAction::Compute(fragment) => {
                    self.push(Stream::Compute, span, Action::Compute(fragment), &operands);
                }
                BodyAction::Exchange(collective, axis) => {
                    self.push(Stream::Exchange(axis), span, Action::Exchange(collective), &operands);
                }
            }
            for &slot in &step.last_uses {
                if ends(body.slots[slot as usize].0) {
                    self.free(span, bound[slot as usize].expect("a slot is bound at its last use"));
                }
            }
        }
    }
}
