//! Pass 8: what one stream needs of another becomes signals and waits; those that follow from others are left out.
//!
//! Needs come from buffers (read after write, write after read or write, free after all) and from memory that
//! changes its buffer (the first write of the next comes after the free of the last).

use ir::program::{Access, Action, EventId, Fragment, Instr, PerStream, Role, Stream};

/// For each stream, how many instructions of the code are known to be over: all with a lower index on that stream.
type Clock = PerStream<u32>;

const NOTHING: Clock = PerStream::all(0);

/// Writes all signals and waits of a role.
pub(crate) fn synchronize(role: &mut Role, fragments: &[Fragment]) {
    let Needs { waits, mut events } = needs(role, fragments);
    let mut code = Vec::with_capacity(role.code.len() + waits.len() * 2);
    let mut waits = waits.iter().peekable();
    let mut event_count = 0;
    for (index, instr) in role.code.iter().enumerate() {
        let sync =
            |event, action: fn(EventId) -> Action| Instr { action: action(EventId(event)), operands: (0, 0), ..*instr };
        while let Some(wait) = waits.next_if(|wait| wait.at as usize == index) {
            code.push(sync(events[wait.on as usize], Action::Wait));
        }
        code.push(*instr);
        let event = &mut events[index];
        if *event != NO_EVENT {
            *event = event_count;
            event_count += 1;
            code.push(sync(*event, Action::Signal));
        }
    }
    role.code = code;
}

/// What has to wait for what.
struct Needs {
    /// In the order of the code.
    waits: Vec<Wait>,
    /// For each instruction, whether something waits for it: a number that is not yet its event's, or none.
    events: Vec<u32>,
}

/// Indices of an instruction that waits, and of one before it on another stream.
struct Wait {
    at: u32,
    on: u32,
}

const NO_EVENT: u32 = u32::MAX;

fn needs(role: &Role, fragments: &[Fragment]) -> Needs {
    let mut known: PerStream<Clock> = PerStream::all(NOTHING);
    let mut clocks: Vec<Clock> = Vec::with_capacity(role.code.len());
    let mut hazards = Hazards::new(role);
    let mut needs = Needs { waits: Vec::new(), events: vec![NO_EVENT; role.code.len()] };
    for (index, instr) in role.code.iter().enumerate() {
        let stream = instr.stream;
        let mut need: Clock = NOTHING;
        hazards.collect(role, fragments, instr, &mut need);
        let own = &mut known[stream];
        own[stream] = index as u32 + 1;
        if need.values().iter().zip(own.values()).any(|(need, own)| need > own) {
            let late = |other: &Stream| need[*other] > own[*other];
            let reached = |other: Stream| clocks[need[other] as usize - 1];
            for other in Stream::ALL.into_iter().filter(late) {
                // Waiting for a third stream may be enough, because it has waited for this one.
                let follows = |third: Stream| third != other && late(&third) && reached(third)[other] >= need[other];
                if !Stream::ALL.into_iter().any(follows) {
                    needs.waits.push(Wait { at: index as u32, on: need[other] - 1 });
                    needs.events[need[other] as usize - 1] = 0;
                }
            }
            let mut after = *own;
            for other in Stream::ALL.into_iter().filter(late) {
                after[other] = after[other].max(need[other]);
                for (mine, theirs) in after.values_mut().iter_mut().zip(reached(other).values()) {
                    *mine = (*mine).max(*theirs);
                }
            }
            *own = after;
        }
        clocks.push(*own);
        hazards.record(role, fragments, instr, index as u32 + 1);
    }
    needs
}

/// The last accesses of every buffer and of all memory; instructions are named by their index + 1.
struct Hazards {
    buffers: Vec<Accesses>,
    freed: Freed,
}

/// What happened to a buffer. Zero is never.
#[derive(Clone, Copy)]
struct Accesses {
    /// The last write, and its stream.
    write: u32,
    write_stream: Stream,
    /// The last read on each stream since that write.
    reads: Clock,
    /// Where its memory stood among what was freed when it was first written.
    piece: u32,
}

impl Hazards {
    fn new(role: &Role) -> Hazards {
        let never = Accesses { write: 0, write_stream: Stream::Compute, reads: NOTHING, piece: 0 };
        Hazards { buffers: vec![never; role.buffers.len()], freed: Freed::default() }
    }

    /// What must be over before `instr`.
    fn collect(&mut self, role: &Role, fragments: &[Fragment], instr: &Instr, need: &mut Clock) {
        for (operand, access) in role.uses(fragments, instr) {
            let accesses = &mut self.buffers[operand.index()];
            let write = &mut need[accesses.write_stream];
            *write = accesses.write.max(*write);
            if access == Access::Read {
                continue;
            }
            for (needed, &read) in need.values_mut().iter_mut().zip(accesses.reads.values()) {
                *needed = read.max(*needed);
            }
            let buffer = &role.buffers[operand.index()];
            if accesses.write == 0 && !buffer.is_resident() {
                accesses.piece = self.freed.collect(buffer.address, buffer.address + buffer.bytes.0, need);
            }
        }
    }

    fn record(&mut self, role: &Role, fragments: &[Fragment], instr: &Instr, name: u32) {
        let stream = instr.stream;
        for (operand, access) in role.uses(fragments, instr) {
            let accesses = &mut self.buffers[operand.index()];
            if access == Access::Read {
                accesses.reads[stream] = name;
            } else {
                *accesses = Accesses { write: name, write_stream: stream, reads: NOTHING, ..*accesses };
            }
            if instr.action == Action::Free {
                let buffer = &role.buffers[operand.index()];
                let end = buffer.address + buffer.bytes.0;
                let piece = Piece { start: buffer.address, end, stream, last: name };
                self.freed.free(piece, accesses.piece);
            }
        }
    }
}

/// Memory that was freed, in order of addresses.
#[derive(Default)]
struct Freed {
    pieces: Vec<Piece>,
}

/// Addresses, and the instruction that freed what lay there last.
#[derive(Clone, Copy)]
struct Piece {
    start: u64,
    end: u64,
    stream: Stream,
    last: u32,
}

impl Freed {
    /// Adds who freed this memory last to `need`, and gives the place of the first piece.
    fn collect(&self, start: u64, end: u64, need: &mut Clock) -> u32 {
        let first = self.pieces.partition_point(|piece| piece.end <= start);
        for piece in self.pieces[first..].iter().take_while(|piece| piece.start < end) {
            let needed = &mut need[piece.stream];
            *needed = piece.last.max(*needed);
        }
        first as u32
    }

    /// Remembers who freed memory last; parts of earlier pieces that stick out stay.
    /// At `likely` it stood before: almost always it still does.
    fn free(&mut self, new: Piece, likely: u32) {
        if let Some(same) =
            self.pieces.get_mut(likely as usize).filter(|old| (old.start, old.end) == (new.start, new.end))
        {
            *same = new;
            return;
        }
        let first = self.pieces.partition_point(|piece| piece.end <= new.start);
        let Some(&before) = self.pieces.get(first) else {
            self.pieces.push(new);
            return;
        };
        let count = self.pieces[first..].partition_point(|piece| piece.start < new.end);
        let behind = if count == 0 { before } else { self.pieces[first + count - 1] };
        let low = (before.start < new.start).then_some(Piece { end: new.start, ..before });
        let high = (count > 0 && behind.end > new.end).then_some(Piece { start: new.end, ..behind });
        self.pieces.splice(first..first + count, low.into_iter().chain([new]).chain(high));
    }
}
