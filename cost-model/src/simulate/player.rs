//! One role in play: its streams, what runs on them, and what it has added up.

use ir::layout::Exchange;
use ir::mesh::{Axis, Mesh};
use ir::program::{Action, Direction, Draft, EventId, Instr, PerStream, Role, Stream, Streams};
use ir::software::Waits;
use ir::trace::Totals;
use ir::units::{Bytes, Seconds};

use super::Detail;
use crate::prices::Prices;

pub(super) const COMPUTE: Streams = Streams::only(Stream::Compute);
pub(super) const EXCHANGES: Streams =
    Streams::of(&[Stream::Exchange(Axis::Data), Stream::Exchange(Axis::Tensor), Stream::Exchange(Axis::Pipeline)]);
pub(super) const SENDS: Streams = Streams::of(&[Stream::Send(Direction::Forward), Stream::Send(Direction::Backward)]);
pub(super) const RECEIVES: Streams =
    Streams::of(&[Stream::Receive(Direction::Forward), Stream::Receive(Direction::Backward)]);

/// Who is timed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parties {
    /// This rank alone, or with others of its role that do just the same.
    Own,
    /// This rank and a stream of another role.
    Pair { role: u16, stream: Stream },
    /// All roles, on the same stream.
    All,
}

/// Links that a flow fills, as bits: inside and between nodes, outward and inward.
pub(super) type Links = u8;

/// What runs on a stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Task {
    pub(super) start: f64,
    /// When `remaining` was right.
    pub(super) since: f64,
    /// Seconds of work left, at full speed.
    pub(super) remaining: f64,
    /// Seconds that a second of work takes, as this rank sees it.
    pub(super) own_factor: f64,
    /// The same, as the slowest party sees it.
    pub(super) factor: f64,
    /// When it will be over if nothing changes; for a stream that is not yet issued, when it will be.
    pub(super) end: f64,
    pub(super) parties: Parties,
    pub(super) links: Links,
}

const NO_TASK: Task = Task {
    start: 0.0,
    since: 0.0,
    remaining: 0.0,
    own_factor: 1.0,
    factor: 1.0,
    end: f64::INFINITY,
    parties: Parties::Own,
    links: 0,
};

/// An instruction that a stream comes to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Queued {
    pub(super) action: Action,
    /// Its index in the code.
    pub(super) place: u32,
    /// When the host begins to issue it, if it never waits.
    pub(super) issued: f64,
    /// How many must have ended before the host issues it: transfers, if it is computed; kernels, if it is exchanged.
    pub(super) after: u32,
    /// Whether it waits until all passes are over.
    is_behind: bool,
}

/// A role in play.
#[derive(Debug)]
pub(super) struct Player<'a> {
    pub(super) role: &'a Role,
    pub(super) index: usize,
    /// Its first rank, which is the one that is played.
    pub(super) rank: u32,
    // What each stream comes to, stream after stream; heads and ends of their parts.
    queue: Vec<Queued>,
    heads: PerStream<u32>,
    ends: PerStream<u32>,
    signalled: Vec<bool>,
    pub(super) tasks: PerStream<Task>,
    /// Streams whose task runs.
    pub(super) running: Streams,
    /// Streams whose head is still to be issued.
    pub(super) pending: Streams,
    /// Streams whose head has come, and waits for others or for its thread.
    pub(super) arrived: Streams,
    /// Of those, the ones that only wait for their thread.
    pub(super) ready: Streams,
    /// Streams that wait for an event.
    pub(super) blocked: Streams,
    /// Transfers that have ended, and when the last one did.
    pub(super) moved: (u32, f64),
    /// Fragments that have ended.
    pub(super) computed: u32,
    /// By how much the host is late because it waited.
    pub(super) late: f64,
    pub(super) totals: Totals,
    /// Until when `totals` is right.
    accounted: f64,
}

/// Whether something is computed in a pass of a block, which is neither the first nor the `last` layer.
fn is_of_block(instr: &Instr, last: u32) -> bool {
    let is_block = instr.span.layer.is_some_and(|layer| layer > 0 && u32::from(layer) < last);
    is_block && instr.span.microbatch.is_some() && matches!(instr.action, Action::Compute(_))
}

impl<'a> Player<'a> {
    /// A role before its step. Frees take no time and nothing waits for them: only a full account needs them.
    pub(super) fn new(draft: &'a Draft, index: usize, prices: &Prices, detail: Detail) -> Player<'a> {
        let role = &draft.roles[index];
        let is_played = |action: Action| action != Action::Free || detail == Detail::Events;
        let mut counts: PerStream<u32> = PerStream::all(0);
        for instr in role.code.iter().filter(|instr| is_played(instr.action)) {
            counts[instr.stream] += 1;
        }
        let mut count = 0;
        let heads = PerStream::from_fn(|stream| {
            count += counts[stream];
            count - counts[stream]
        });
        let mut ends = heads;
        let mut queue =
            vec![Queued { action: Action::Free, place: 0, issued: 0.0, after: 0, is_behind: false }; count as usize];
        let mut events = 0;
        let host = prices.host(index);
        let mut issued = 0.0;
        let mut transfers = 0;
        let (last_pass, computes) = passes(role);
        let mut pass = None;
        let last = draft.blocks.iter().map(|block| block.layer).max().unwrap_or(0);
        for (place, instr) in role.code.iter().enumerate().filter(|(_, instr)| is_played(instr.action)) {
            if is_of_block(instr, last) && pass != Some(instr.span) {
                pass = Some(instr.span);
                issued += host.issue_pass;
            }
            let end = &mut ends[instr.stream];
            // Reductions that begin when all passes are over stand behind them, and wait for them.
            let is_behind = place > last_pass && prices.joins_behind(instr.stream);
            let after = if is_behind { computes } else { transfers };
            queue[*end as usize] = Queued { action: instr.action, place: place as u32, issued, after, is_behind };
            *end += 1;
            match instr.action {
                Action::Compute(id) => issued += prices.fragment_price(index, id).issue,
                Action::Exchange(_) => issued += host.issue_exchange,
                Action::Send(_) | Action::Receive(_) => {
                    issued += host.issue_exchange;
                    transfers += u32::from(prices.waits == Waits::Transfers);
                }
                Action::Free => {}
                Action::Signal(event) | Action::Wait(event) => events = events.max(event.index() + 1),
            }
        }
        let rank = draft.ranks_of(role.id).next().expect("every role has ranks");
        let totals = Totals { rank, arena: role.arena, ..Totals::default() };
        Player {
            role,
            index,
            rank,
            queue,
            heads,
            ends,
            signalled: vec![false; events],
            tasks: PerStream::all(NO_TASK),
            running: Streams::NONE,
            pending: Streams::NONE,
            arrived: Streams::NONE,
            ready: Streams::NONE,
            blocked: Streams::NONE,
            moved: (0, 0.0),
            computed: 0,
            late: 0.0,
            totals,
            accounted: 0.0,
        }
    }

    /// The head of a stream; none at its end.
    pub(super) fn head(&self, stream: Stream) -> Option<&Queued> {
        (self.heads[stream] < self.ends[stream]).then(|| &self.queue[self.heads[stream] as usize])
    }

    /// The instruction that stands there.
    pub(super) fn instr(&self, queued: Queued) -> &'a Instr {
        &self.role.code[queued.place as usize]
    }

    /// The size of what a send or a receive moves.
    pub(super) fn bytes_moved(&self, queued: Queued) -> Bytes {
        self.role.buffers[self.role.operands(self.instr(queued))[0].index()].bytes
    }

    /// What the head of a stream does, if it has come and waits for others.
    pub(super) fn arrived_action(&self, stream: Stream) -> Option<Action> {
        if !self.arrived.contains(stream) {
            return None;
        }
        self.head(stream).map(|head| head.action)
    }

    /// Whether the host may issue the head of a stream; if it waited for it, it is late from now on.
    pub(super) fn may_issue(&mut self, head: Queued) -> bool {
        match head.action {
            Action::Compute(_) if head.after > 0 => {}
            Action::Exchange(_) if head.is_behind => return self.computed >= head.after,
            Action::Compute(_)
            | Action::Exchange(_)
            | Action::Send(_)
            | Action::Receive(_)
            | Action::Free
            | Action::Signal(_)
            | Action::Wait(_) => return true,
        }
        let (count, last) = self.moved;
        if count < head.after {
            return false;
        }
        self.late = self.late.max(last - head.issued);
        true
    }

    pub(super) fn pop(&mut self, stream: Stream) {
        self.heads[stream] += 1;
    }

    pub(super) fn is_signalled(&self, event: EventId) -> bool {
        self.signalled[event.index()]
    }

    /// Marks an event, and gives the streams that waited for it.
    pub(super) fn signal(&mut self, event: EventId) -> Streams {
        self.signalled[event.index()] = true;
        let mut woken = Streams::NONE;
        for stream in self.blocked.iter() {
            if self.head(stream).is_some_and(|head| head.action == Action::Wait(event)) {
                woken.insert(stream);
            }
        }
        self.blocked = self.blocked.minus(woken);
        woken
    }

    /// Adds up the time since the last change of what runs. `occupied` are the streams that keep this rank busy.
    pub(super) fn account(&mut self, now: f64, occupied: Streams) {
        let passed = now - self.accounted;
        self.accounted = now;
        if passed <= 0.0 {
            return;
        }
        if self.running.intersection(occupied).is_empty() {
            self.totals.idle += Seconds(passed);
        }
        if self.running.contains(Stream::Compute) {
            let flows = self.running.minus(COMPUTE).len();
            self.totals.hidden += Seconds(passed * f64::from(flows));
        }
    }

    /// The earliest end of what runs or is still to be issued; infinite if nothing is.
    pub(super) fn next(&self) -> f64 {
        let ends = self.running.union(self.pending).iter().map(|stream| self.tasks[stream].end);
        ends.fold(f64::INFINITY, f64::min)
    }
}

/// The place of the last kernels of a pass, and how many computations stand up to it.
fn passes(role: &Role) -> (usize, u32) {
    let is_compute = |instr: &&Instr| matches!(instr.action, Action::Compute(_));
    let last = role.code.iter().rposition(|instr| instr.span.microbatch.is_some() && is_compute(&instr));
    let last = last.unwrap_or(usize::MAX);
    (last, role.code.iter().take(last.saturating_add(1)).filter(is_compute).count() as u32)
}

/// Whether the pipeline axis is in the group of an exchange.
pub(super) fn spans_stages(exchange: &Exchange) -> bool {
    exchange.axes().contains(&Mesh::PIPELINE)
}
