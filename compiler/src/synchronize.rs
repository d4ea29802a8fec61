//! Pass 8: what one stream needs of another becomes signals and waits; those that follow from others are left out.
//!
//! Needs come from buffers (read after write, write after read or write, free after all) and from memory that
//! changes its buffer (the first write of the next comes after the free of the last).

use std::collections::BTreeMap;

use ir::program::{Access, Action, EventId, Fragment, Instr, Role, Stream};

const STREAMS: usize = Stream::ALL.len();

/// For each stream, how many instructions of the code are known to be over: all with a lower index on that stream.
type Clock = [u32; STREAMS];

/// Writes all signals and waits of a role.
pub(crate) fn synchronize(role: &mut Role, fragments: &[Fragment]) {
    let (waits, signalled) = needs(role, fragments);
    let mut events: Vec<Option<EventId>> = vec![None; role.code.len()];
    for (count, &index) in signalled.iter().enumerate() {
        events[index as usize] = Some(EventId(count as u32));
    }
    let mut code = Vec::with_capacity(role.code.len() + waits.len() + signalled.len());
    let mut next_wait = waits.iter().peekable();
    for (index, instr) in role.code.iter().enumerate() {
        let sync = |action| Instr { action, operands: (0, 0), ..*instr };
        while let Some(&&(_, on)) = next_wait.peek().filter(|(at, _)| *at as usize == index) {
            let event = events[on as usize].expect("every wait has its signal");
            code.push(sync(Action::Wait(event)));
            next_wait.next();
        }
        code.push(*instr);
        if let Some(event) = events[index] {
            code.push(sync(Action::Signal(event)));
        }
    }
    role.code = code;
}

/// Pairs of (instruction, instruction on another stream that it waits for), and all that are waited for, in order.
fn needs(role: &Role, fragments: &[Fragment]) -> (Vec<(u32, u32)>, Vec<u32>) {
    let mut known: [Clock; STREAMS] = [[0; STREAMS]; STREAMS];
    let mut clocks: Vec<Clock> = Vec::with_capacity(role.code.len());
    let mut hazards = Hazards::new(role);
    let mut waits = Vec::new();
    let mut signalled = Vec::new();
    for (index, instr) in role.code.iter().enumerate() {
        let stream = instr.stream.index();
        let mut need: Clock = [0; STREAMS];
        hazards.collect(role, fragments, instr, &mut need);
        let own = &mut known[stream];
        for other in 0..STREAMS {
            let last = need[other];
            if other == stream || last <= own[other] {
                continue;
            }
            let follows = (0..STREAMS).any(|third| {
                third != other
                    && third != stream
                    && need[third] > own[third]
                    && clocks[need[third] as usize - 1][other] >= last
            });
            if !follows {
                waits.push((index as u32, last - 1));
                signalled.push(last - 1);
            }
        }
        for other in (0..STREAMS).filter(|&other| other != stream) {
            if need[other] > own[other] {
                let reached = clocks[need[other] as usize - 1];
                own[other] = need[other];
                for (mine, theirs) in own.iter_mut().zip(reached) {
                    *mine = (*mine).max(theirs);
                }
            }
        }
        own[stream] = index as u32 + 1;
        clocks.push(*own);
        hazards.record(role, fragments, instr, index as u32);
    }
    signalled.sort_unstable();
    signalled.dedup();
    (waits, signalled)
}

/// The last accesses of every buffer and of all memory.
struct Hazards {
    /// The last write of each buffer: its stream and index + 1. Zero if there was none.
    writes: Vec<(u8, u32)>,
    /// The last read of each buffer on each stream since that write, as index + 1.
    reads: Vec<Clock>,
    /// Memory by its start: its end, and the free (stream, index + 1) of what lay there last.
    freed: BTreeMap<u64, (u64, u8, u32)>,
}

impl Hazards {
    fn new(role: &Role) -> Hazards {
        let count = role.buffers.len();
        Hazards { writes: vec![(0, 0); count], reads: vec![[0; STREAMS]; count], freed: BTreeMap::new() }
    }

    /// What must be over before `instr`.
    fn collect(&self, role: &Role, fragments: &[Fragment], instr: &Instr, need: &mut Clock) {
        for (position, operand) in role.operands(instr).iter().enumerate() {
            let access = access(fragments, instr, position);
            let buffer = operand.index();
            let (stream, last) = self.writes[buffer];
            need[stream as usize] = need[stream as usize].max(last);
            if access == Access::Read {
                continue;
            }
            for (needed, &read) in need.iter_mut().zip(&self.reads[buffer]) {
                *needed = (*needed).max(read);
            }
            let target = &role.buffers[buffer];
            if last == 0 && !target.is_resident() {
                self.reused(target.address, target.address + target.bytes.0, need);
            }
        }
    }

    fn reused(&self, start: u64, end: u64, need: &mut Clock) {
        let from = self.freed.range(..=start).next_back().map_or(start, |(&before, _)| before);
        for (_, &(piece_end, stream, last)) in self.freed.range(from..end) {
            if piece_end > start {
                need[stream as usize] = need[stream as usize].max(last);
            }
        }
    }

    fn record(&mut self, role: &Role, fragments: &[Fragment], instr: &Instr, index: u32) {
        let stream = instr.stream.index();
        for (position, operand) in role.operands(instr).iter().enumerate() {
            let buffer = operand.index();
            if access(fragments, instr, position) == Access::Read {
                self.reads[buffer][stream] = index + 1;
            } else {
                self.writes[buffer] = (stream as u8, index + 1);
                self.reads[buffer] = [0; STREAMS];
            }
            if instr.action == Action::Free {
                let target = &role.buffers[buffer];
                self.free(target.address, target.address + target.bytes.0, stream as u8, index + 1);
            }
        }
    }

    /// Remembers who freed memory last; pieces of earlier frees that stick out stay.
    fn free(&mut self, start: u64, end: u64, stream: u8, last: u32) {
        let from = self.freed.range(..=start).next_back().map_or(start, |(&before, _)| before);
        let touched: Vec<(u64, (u64, u8, u32))> =
            self.freed.range(from..end).filter(|(_, piece)| piece.0 > start).map(|(&at, &piece)| (at, piece)).collect();
        for (at, (piece_end, piece_stream, piece_last)) in touched {
            self.freed.remove(&at);
            if at < start {
                self.freed.insert(at, (start, piece_stream, piece_last));
            }
            if piece_end > end {
                self.freed.insert(end, (piece_end, piece_stream, piece_last));
            }
        }
        self.freed.insert(start, (end, stream, last));
    }
}

/// How an instruction uses one of its operands.
fn access(fragments: &[Fragment], instr: &Instr, position: usize) -> Access {
    match instr.action {
        Action::Compute(fragment) => fragments[fragment.index()].bindings[position].access,
        Action::Exchange(_) if instr.operands.1 == 1 => Access::Update,
        Action::Exchange(_) => [Access::Read, Access::Write][position],
        Action::Send { .. } => Access::Read,
        Action::Receive { .. } => Access::Write,
        Action::Free => Access::Update,
        Action::Signal(_) | Action::Wait(_) => panic!("code is synchronized once"),
    }
}
