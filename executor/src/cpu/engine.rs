//! The engine: what one instruction does, once its stream has come to it. Both backends use it, and differ only in
//! who asks, and when.
//!
//! A rank is eight queues. `Rank::try_step` does the next bit of one of them, or says that it cannot yet. A bit is an
//! instruction, or a phase of a collective: members come, join their parts, fetch the others', and go on when all
//! have done so. A send offers its buffer and stands until the receiver has copied it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ir::layout::Exchange;
use ir::program::{Action, BufferId, Collective, CollectiveId, FragmentId, Instr, PerStream, Role, Stream, TransferId};
use ir::units::{Bytes, Seconds};

use super::exchange::{self, Part};
use super::job::{Freed, Job};
use super::kernel::{self, Scratch, Site};
use super::recorder::Recorder;
use super::rendezvous::{Gathering, Group, PHASES};
use crate::fault::Head;
use crate::host::{Place, Recording};

/// What came of trying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Something was done.
    Done,
    /// The stream is at its end, or must wait for another stream or rank.
    Blocked,
}

/// How far a stream is in the instruction at its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reached {
    /// Not begun.
    Fresh,
    /// The others can know of it.
    Arrived,
    /// This member's part of a reduction is joined.
    Joined,
    /// This member needs the others' memory no more.
    Fetched,
}

#[derive(Clone, Copy, Debug)]
struct Queue {
    next: usize,
    reached: Reached,
    start: Seconds,
}

const FRESH: Queue = Queue { next: 0, reached: Reached::Fresh, start: Seconds::ZERO };

/// One rank in a step.
#[derive(Debug)]
pub(crate) struct Rank {
    pub(crate) number: u32,
    queues: PerStream<Queue>,
    signalled: Vec<bool>,
    scratch: Scratch,
    pub(crate) recorder: Recorder,
}

/// A rank, for one thread at a time.
pub(crate) fn lock(rank: &Mutex<Rank>) -> MutexGuard<'_, Rank> {
    rank.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Rank {
    /// A rank before its first step.
    pub(crate) fn new(job: &Job, number: u32) -> Rank {
        let role = job.role(number);
        let events = role.code.iter().map(|instr| match instr.action {
            Action::Signal(event) | Action::Wait(event) => event.index() + 1,
            Action::Compute(_) | Action::Exchange(_) | Action::Send(_) | Action::Receive(_) | Action::Free => 0,
        });
        let resident: Bytes =
            role.buffers.iter().filter(|buffer| buffer.is_resident()).map(|buffer| buffer.bytes).sum();
        Rank {
            number,
            queues: PerStream::all(FRESH),
            signalled: vec![false; events.max().unwrap_or(0)],
            scratch: Scratch::new(&job.draft, role),
            recorder: Recorder::new(number, role.code.len(), resident),
        }
    }

    /// Goes to the start of the code, for a step that begins at `begin`.
    pub(crate) fn start(&mut self, recording: Recording, begin: Instant) {
        self.recorder.start(recording, begin);
        self.queues = PerStream::all(FRESH);
        self.signalled.fill(false);
    }

    /// The place in the code of the instruction at which a stream stands; none at its end.
    pub(crate) fn head(&self, job: &Job, stream: Stream) -> Option<usize> {
        job.queues_of(self.number)[stream].get(self.queues[stream].next).map(|&index| index as usize)
    }

    /// Whether all streams are at their end.
    pub(crate) fn is_finished(&self, job: &Job) -> bool {
        Stream::ALL.into_iter().all(|stream| self.head(job, stream).is_none())
    }

    /// Where the streams stand that are not at their end.
    pub(crate) fn heads(&self, job: &Job) -> Vec<Head> {
        let role = job.role(self.number);
        let head = |stream: Stream| {
            let instruction = self.head(job, stream)?;
            let Instr { stream, span, action, .. } = role.code[instruction];
            let partner = match action {
                Action::Send(id) => Some(job.route(self.number, id).to),
                Action::Receive(id) => Some(job.route(self.number, id).from),
                Action::Compute(_) | Action::Exchange(_) | Action::Free | Action::Signal(_) | Action::Wait(_) => None,
            };
            Some(Head { rank: self.number, instruction, stream, span, action, partner })
        };
        Stream::ALL.into_iter().filter_map(head).collect()
    }

    /// Does the next bit of a stream, if it can.
    pub(crate) fn try_step(&mut self, job: &Job, stream: Stream) -> Progress {
        let Some(index) = self.head(job, stream) else { return Progress::Blocked };
        let role = job.role(self.number);
        let instr = &role.code[index];
        let operands = role.operands(instr);
        let task = Task { job, role, instr, operands, index, stream };
        match instr.action {
            Action::Compute(id) => self.compute(task, id),
            Action::Exchange(id) => return self.exchange(task, id),
            Action::Send(id) => return self.send(task, id),
            Action::Receive(id) => return self.receive(task, id),
            Action::Free => {
                let buffer = &role.buffers[operands[0].index()];
                match job.freed {
                    Freed::Kept => {}
                    Freed::Poisoned => kernel::forget(job.arenas.of(self.number), buffer),
                }
                self.recorder.freed(buffer.bytes);
            }
            Action::Signal(event) => self.signalled[event.index()] = true,
            Action::Wait(event) => {
                if !self.signalled[event.index()] {
                    return Progress::Blocked;
                }
            }
        }
        self.advance(stream)
    }

    fn compute(&mut self, task: Task<'_>, id: FragmentId) {
        let Task { job, role, operands, .. } = task;
        self.begin(task);
        let (draft, rank) = (&*job.draft, self.number);
        let site = Site { arena: job.arenas.of(rank), buffers: &role.buffers, bound: operands, draft, rank };
        site.run(&draft.fragments[id.index()], &mut self.scratch);
        self.end(task);
    }

    fn exchange(&mut self, task: Task<'_>, id: CollectiveId) -> Progress {
        let Task { job, stream, .. } = task;
        let collective = &job.draft.collectives[id.index()];
        let group = job.group(self.number, id);
        let position = group.position(self.number);
        let part = self.part(task, collective, group);
        match self.queues[stream].reached {
            Reached::Fresh if matches!(collective.exchange, Exchange::Slice { .. }) => {
                // Nothing moves between ranks, so there is no one to wait for.
                self.begin(task);
                part.make();
                self.end(task);
                return self.advance(stream);
            }
            Reached::Fresh => {
                if let Some(abroad) = &job.abroad {
                    abroad.arrive(job, (self.number, id), part.source);
                }
                job.wake_if_complete(group, position, group.arrive(position, part.source));
                self.queues[stream].reached = Reached::Arrived;
            }
            _ if group.gathering(position) == Gathering::Waiting => return Progress::Blocked,
            Reached::Arrived => {
                self.begin(task);
                let (phases, reached) = if let Exchange::AllReduce { reduce, .. } = collective.exchange {
                    part.reduce_own(reduce);
                    (1, Reached::Joined)
                } else {
                    part.make();
                    (PHASES - 1, Reached::Fetched)
                };
                match (&job.abroad, reached) {
                    (Some(abroad), Reached::Joined) => abroad.pass_with(job, (self.number, id), part.joined()),
                    (Some(abroad), _) => abroad.pass(job, (self.number, id), phases),
                    (None, _) => {}
                }
                job.wake_if_complete(group, position, group.pass(position, phases));
                self.queues[stream].reached = reached;
            }
            Reached::Joined => {
                part.gather_rest();
                if let Some(abroad) = &job.abroad {
                    abroad.pass(job, (self.number, id), 1);
                }
                job.wake_if_complete(group, position, group.pass(position, 1));
                self.queues[stream].reached = Reached::Fetched;
            }
            Reached::Fetched => {
                self.end(task);
                return self.advance(stream);
            }
        }
        Progress::Done
    }

    fn part<'a>(&self, task: Task<'a>, collective: &'a Collective, group: &'a Group) -> Part<'a> {
        let address = |operand: Option<&BufferId>| {
            operand.map(|id| task.role.buffers[id.index()].address).expect("an exchange has operands")
        };
        Part {
            arenas: &task.job.arenas,
            collective,
            group,
            rank: self.number,
            position: group.position(self.number),
            source: address(task.operands.first()),
            destination: address(task.operands.last()),
        }
    }

    fn send(&mut self, task: Task<'_>, id: TransferId) -> Progress {
        let Task { job, stream, .. } = task;
        let route = job.route(self.number, id);
        let channel = job.channel(route);
        if self.queues[stream].reached == Reached::Fresh {
            let place = task.place(task.operands[0]);
            channel.post(place.address);
            if let Some(abroad) = &job.abroad {
                abroad.offer(job, (self.number, id), place);
            }
            job.wake(route.to);
            self.queues[stream].reached = Reached::Arrived;
            return Progress::Done;
        }
        let Some((start, end)) = channel.copied() else { return Progress::Blocked };
        self.recorder.ran(task.instr.stream, task.instr, start, end);
        self.advance(stream)
    }

    fn receive(&mut self, task: Task<'_>, id: TransferId) -> Progress {
        let Task { job, stream, .. } = task;
        let route = job.route(self.number, id);
        let channel = job.channel(route);
        let Some(address) = channel.offer() else { return Progress::Blocked };
        let place = task.place(task.operands[0]);
        self.begin(task);
        exchange::transfer(&job.arenas, (route.from, address), (self.number, place.address), place.bytes);
        self.end(task);
        let times = [self.queues[stream].start, self.recorder.now()];
        if let Some(abroad) = &job.abroad {
            abroad.take(job, (self.number, id), times);
        }
        let [begin, end] = times;
        channel.take(begin, end);
        job.wake(route.from);
        self.advance(stream)
    }

    /// The work of an instruction begins, and with it the life of what it writes first.
    fn begin(&mut self, task: Task<'_>) {
        self.recorder.born(task.job.born(self.number, task.index));
        self.queues[task.stream].start = self.recorder.now();
    }

    fn end(&mut self, task: Task<'_>) {
        let end = self.recorder.now();
        self.recorder.ran(task.instr.stream, task.instr, self.queues[task.stream].start, end);
    }

    fn advance(&mut self, stream: Stream) -> Progress {
        let queue = &mut self.queues[stream];
        queue.next += 1;
        queue.reached = Reached::Fresh;
        Progress::Done
    }
}

/// An instruction with all that belongs to it.
#[derive(Clone, Copy)]
struct Task<'a> {
    job: &'a Job,
    role: &'a Role,
    instr: &'a Instr,
    operands: &'a [BufferId],
    index: usize,
    stream: Stream,
}

impl Task<'_> {
    fn place(&self, id: BufferId) -> Place {
        Place::of(&self.role.buffers[id.index()])
    }
}
