//! Accesses of buffers and addresses within a role, by vector clocks.
//!
//! Each stream counts its instructions. Its clock says, for every stream, how many of its instructions are known to be
//! over before the next one here begins: its own grows by itself, `Signal` stores it, `Wait` joins what was stored.
//! An earlier access at position p of stream t happens before now if p ≤ clock[t]. Lamport 1978; Fidge 1988.

use super::{Place, Report, Violation};
use crate::program::{Access, Action, BufferId, Draft, Instr, PerStream, Role, Stream};
use crate::units::Bytes;

/// For each stream, how many of its instructions are over.
type Clock = PerStream<u32>;

const START: Clock = PerStream::all(0);

/// An instruction, as the count of those on its stream up to it.
#[derive(Clone, Copy)]
struct Stamp {
    stream: Stream,
    position: u32,
}

impl Stamp {
    fn is_before(self, clock: &Clock) -> bool {
        self.position <= clock[self.stream]
    }
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Unwritten,
    Live,
    Freed,
}

/// What happened to a buffer so far.
#[derive(Clone, Copy)]
struct Life {
    /// The last accesses of each stream, since and with the last write.
    accesses: Clock,
    write: Stamp,
    state: State,
}

/// Addresses between two neighbouring ends of buffers.
#[derive(Clone, Copy)]
struct Segment {
    /// Who lives here.
    occupant: Option<BufferId>,
    /// The last `Free` of a buffer that lived here.
    freed: Stamp,
}

/// Follows a role's code and reports all that is not ordered, and a wrong `live_bound`.
pub(super) fn check(draft: &Draft, role: &Role, report: &mut Report) {
    let mut follow = Follow {
        draft,
        role,
        clocks: PerStream::all(START),
        events: Vec::new(),
        lives: vec![Life { accesses: START, write: BEGINNING, state: State::Unwritten }; role.buffers.len()],
        memory: Memory::new(role),
        live: 0,
        live_max: 0,
        report,
    };
    follow.start();
    for (index, instr) in role.code.iter().enumerate() {
        follow.instruction(index, instr);
    }
    follow.end();
}

/// Before every instruction.
const BEGINNING: Stamp = Stamp { stream: Stream::Compute, position: 0 };

struct Follow<'a> {
    draft: &'a Draft,
    role: &'a Role,
    clocks: PerStream<Clock>,
    /// What each event's signal stored; up to the largest that was signalled.
    events: Vec<Clock>,
    lives: Vec<Life>,
    memory: Memory,
    live: u64,
    live_max: u64,
    report: &'a mut Report,
}

/// An instruction that is being followed.
#[derive(Clone, Copy)]
struct Now {
    index: usize,
    stamp: Stamp,
}

impl Follow<'_> {
    /// Residents live from the start.
    fn start(&mut self) {
        for (index, buffer) in self.role.buffers.iter().enumerate().filter(|(_, buffer)| buffer.is_resident()) {
            let id = BufferId(index as u32);
            self.lives[index].state = State::Live;
            self.live = self.live.saturating_add(buffer.bytes.0);
            for segment in self.memory.of(id) {
                if let Some(other) = segment.occupant.replace(id) {
                    self.report.push(Violation::ResidentsOverlap {
                        role: self.role.id.0,
                        buffer: id.0,
                        other: other.0,
                    });
                    break;
                }
            }
        }
        self.live_max = self.live;
    }

    fn instruction(&mut self, index: usize, instr: &Instr) {
        let stream = instr.stream;
        let clock = &mut self.clocks[stream];
        clock[stream] += 1;
        let now = Now { index, stamp: Stamp { stream, position: clock[stream] } };
        match instr.action {
            Action::Compute(_) | Action::Exchange(_) | Action::Send(_) | Action::Receive(_) => {
                let (role, draft) = (self.role, self.draft);
                for (buffer, access) in role.uses(&draft.fragments, instr) {
                    self.access(now, buffer, access);
                }
            }
            Action::Free => self.free(now, self.role.operands(instr)[0]),
            Action::Signal(event) => {
                if self.events.len() <= event.index() {
                    self.events.resize(event.index() + 1, START);
                }
                if self.events[event.index()] != START {
                    self.report.push(Violation::SignalledTwice { at: self.place(index), event: event.0 });
                }
                self.events[event.index()] = self.clocks[stream];
            }
            Action::Wait(event) => {
                let signalled = self.events.get(event.index()).copied().unwrap_or(START);
                if signalled == START {
                    self.report.push(Violation::WaitWithoutSignal { at: self.place(index), event: event.0 });
                }
                for (known, told) in self.clocks[stream].values_mut().iter_mut().zip(signalled.values()) {
                    *known = (*known).max(*told);
                }
            }
        }
    }

    fn access(&mut self, now: Now, id: BufferId, access: Access) {
        let stamp = now.stamp;
        let clock = &self.clocks[stamp.stream];
        let life = &self.lives[id.index()];
        if life.state == State::Freed {
            self.report.push(Violation::UseAfterFree { at: self.place(now.index), buffer: id.0 });
            return;
        }
        if access != Access::Write && life.state == State::Unwritten {
            self.report.push(Violation::ReadBeforeWrite { at: self.place(now.index), buffer: id.0 });
        }
        let own = life.accesses[stamp.stream];
        if access == Access::Read {
            if !life.write.is_before(clock) {
                let [at, earlier] = [self.place(now.index), self.place_of(life.write)];
                self.report.push(Violation::UnorderedRead { at, buffer: id.0, earlier });
            } else if own == stamp.position && life.write.position == own && life.write.stream == stamp.stream {
                self.report.push(Violation::Aliased { at: self.place(now.index), buffer: id.0 });
            }
            self.lives[id.index()].accesses[stamp.stream] = stamp.position;
            return;
        }
        if own == stamp.position {
            self.report.push(Violation::Aliased { at: self.place(now.index), buffer: id.0 });
        }
        if let Some(other) = unordered(&life.accesses, clock) {
            let [at, earlier] = [self.place(now.index), self.place_of(other)];
            self.report.push(Violation::UnorderedWrite { at, buffer: id.0, earlier });
        }
        if life.state == State::Unwritten {
            self.begin(now, id);
        }
        let life = &mut self.lives[id.index()];
        life.state = State::Live;
        life.write = stamp;
        life.accesses = START;
        life.accesses[stamp.stream] = stamp.position;
    }

    /// The first write: who had these addresses before must be freed by now.
    fn begin(&mut self, now: Now, id: BufferId) {
        self.live = self.live.saturating_add(self.role.buffers[id.index()].bytes.0);
        self.live_max = self.live_max.max(self.live);
        let clock = self.clocks[now.stamp.stream];
        let mut occupied = None;
        let mut unordered = None;
        for segment in self.memory.of(id) {
            occupied = occupied.or(segment.occupant.filter(|&other| other != id));
            if !segment.freed.is_before(&clock) {
                unordered = Some(segment.freed);
            }
            segment.occupant = Some(id);
        }
        if let Some(other) = occupied {
            let at = self.place(now.index);
            self.report.push(Violation::AddressInUse { at, buffer: id.0, other: other.0 });
        }
        if let Some(freed) = unordered {
            let [at, earlier] = [self.place(now.index), self.place_of(freed)];
            self.report.push(Violation::UnorderedReuse { at, buffer: id.0, earlier });
        }
    }

    fn free(&mut self, now: Now, id: BufferId) {
        let at = || Place::new(self.role.id.0, now.index, &self.role.code[now.index]);
        let buffer = id.0;
        let life = &mut self.lives[id.index()];
        if self.role.buffers[id.index()].is_resident() {
            self.report.push(Violation::FreedResident { at: at(), buffer });
            return;
        }
        match life.state {
            State::Freed => {
                self.report.push(Violation::FreedTwice { at: at(), buffer });
                return;
            }
            State::Unwritten => self.report.push(Violation::FreedUnwritten { at: at(), buffer }),
            State::Live => self.live = self.live.saturating_sub(self.role.buffers[id.index()].bytes.0),
        }
        life.state = State::Freed;
        if let Some(other) = unordered(&life.accesses, &self.clocks[now.stamp.stream]) {
            let earlier = place_of(self.role, other);
            self.report.push(Violation::UnorderedFree { at: at(), buffer, earlier });
        }
        for segment in self.memory.of(id).iter_mut().filter(|segment| segment.occupant == Some(id)) {
            *segment = Segment { occupant: None, freed: now.stamp };
        }
    }

    fn end(&mut self) {
        let role = self.role.id.0;
        for (index, (life, buffer)) in self.lives.iter().zip(&self.role.buffers).enumerate() {
            if life.state != State::Freed && !buffer.is_resident() {
                self.report.push(Violation::NeverFreed { role, buffer: index as u32 });
            }
        }
        let needed = Bytes(self.live_max);
        if needed != self.role.live_bound {
            self.report.push(Violation::LiveBound { role, found: self.role.live_bound, needed });
        }
    }

    fn place(&self, index: usize) -> Place {
        Place::new(self.role.id.0, index, &self.role.code[index])
    }

    fn place_of(&self, stamp: Stamp) -> Place {
        place_of(self.role, stamp)
    }
}

/// An access that is not known to be over.
fn unordered(accesses: &Clock, clock: &Clock) -> Option<Stamp> {
    // Almost always all are: one comparison of all streams first.
    let pairs = || accesses.values().iter().zip(clock.values());
    let late = pairs().fold(false, |late, (access, known)| late | (access > known));
    if !late {
        return None;
    }
    let (stream, &position) = accesses.iter().find(|&(stream, &access)| access > clock[stream])?;
    Some(Stamp { stream, position })
}

/// Finds the instruction of a stamp again; slow, for messages only.
fn place_of(role: &Role, stamp: Stamp) -> Place {
    let mut same = role.code.iter().enumerate().filter(|(_, instr)| instr.stream == stamp.stream);
    let (index, instr) = same.nth(stamp.position as usize - 1).expect("a stamp counts instructions of the code");
    Place::new(role.id.0, index, instr)
}

/// Who lives where.
struct Memory {
    segments: Vec<Segment>,
    /// For each buffer, its segments: first and one past the last.
    ranges: Vec<(u32, u32)>,
}

impl Memory {
    /// Nobody lives anywhere yet.
    fn new(role: &Role) -> Memory {
        let ends = role.buffers.iter().map(|buffer| (buffer.address, buffer.address.saturating_add(buffer.bytes.0)));
        let mut cuts: Vec<u64> = ends.clone().flat_map(<[u64; 2]>::from).collect();
        cuts.sort_unstable();
        cuts.dedup();
        let place = |address: u64| cuts.partition_point(|&cut| cut < address) as u32;
        let ranges = ends.map(|(first, end)| (place(first), place(end))).collect();
        Memory { segments: vec![Segment { occupant: None, freed: BEGINNING }; cuts.len()], ranges }
    }

    fn of(&mut self, id: BufferId) -> &mut [Segment] {
        let (first, end) = self.ranges[id.index()];
        &mut self.segments[first as usize..end as usize]
    }
}
