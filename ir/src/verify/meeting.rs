//! Where roles meet: sends and receives in pairs, exchanges between stages in one order, and no circle of waiting.

use super::{Place, Report, Violation};
use crate::layout::Exchange;
use crate::program::{Action, CollectiveId, Draft, Instr, Role, Stream};

const STREAM_COUNT: usize = Stream::ALL.len();

/// Reports what does not match between roles; once all else is right, whether they all come to their end.
pub(super) fn check(draft: &Draft, report: &mut Report) {
    // One role alone only waits for its own signals, which stand before the waits.
    if draft.roles.len() < 2 {
        return;
    }
    let mut meetings = Meetings::default();
    for (role, program) in draft.roles.iter().enumerate() {
        meetings.gather(draft, role, program);
    }
    meetings.sends.sort_by_key(|transfer| transfer.key);
    meetings.receives.sort_by_key(|transfer| transfer.key);
    pair(draft, &meetings.sends, &meetings.receives, report);
    exchanges(draft, &meetings.exchanges, report);
    if report.found.is_empty() {
        progress(draft, report);
    }
}

/// All instructions where roles meet, in code order.
#[derive(Default)]
struct Meetings {
    sends: Vec<Transfer>,
    receives: Vec<Transfer>,
    /// Exchanges between stages, by role and stream.
    exchanges: Vec<[Vec<(usize, CollectiveId)>; STREAM_COUNT]>,
}

impl Meetings {
    fn gather(&mut self, draft: &Draft, role: usize, program: &Role) {
        let mut exchanges: [Vec<(usize, CollectiveId)>; STREAM_COUNT] = Default::default();
        let own = role as u32;
        for (instruction, instr) in program.code.iter().enumerate() {
            match instr.action {
                Action::Send { to } => {
                    let key = (own, u32::from(to), instr.stream.index() - FIRST_SEND);
                    self.sends.push(Transfer { key, role, instruction });
                }
                Action::Receive { from } => {
                    let key = (u32::from(from), own, instr.stream.index() - FIRST_RECEIVE);
                    self.receives.push(Transfer { key, role, instruction });
                }
                Action::Exchange(id) if is_crossing(draft, id) => {
                    exchanges[instr.stream.index()].push((instruction, id));
                }
                Action::Compute(_) | Action::Exchange(_) | Action::Free | Action::Signal(_) | Action::Wait(_) => {}
            }
        }
        self.exchanges.push(exchanges);
    }
}

/// A send or a receive.
struct Transfer {
    /// From, to, and whether backward.
    key: (u32, u32, usize),
    role: usize,
    instruction: usize,
}

const FIRST_SEND: usize = 4;
const FIRST_RECEIVE: usize = 6;

/// Walks both lists, which are sorted by pair and then in code order.
fn pair(draft: &Draft, sends: &[Transfer], receives: &[Transfer], report: &mut Report) {
    let place = |transfer: &Transfer| {
        let role = &draft.roles[transfer.role];
        Place::new(role.stage, transfer.instruction, &role.code[transfer.instruction])
    };
    let bytes = |transfer: &Transfer| {
        let role = &draft.roles[transfer.role];
        role.buffers[role.operands(&role.code[transfer.instruction])[0].index()].bytes
    };
    let [mut next_send, mut next_receive] = [0, 0];
    loop {
        match (sends.get(next_send), receives.get(next_receive)) {
            (None, None) => return,
            (Some(send), Some(receive)) if send.key == receive.key => {
                let [sent, received] = [bytes(send), bytes(receive)];
                if sent != received {
                    let [at, sender] = [place(receive), place(send)];
                    report.push(Violation::TransferSize { at, received, sender, sent });
                }
                next_send += 1;
                next_receive += 1;
            }
            (Some(send), receive) if receive.is_none_or(|receive| send.key < receive.key) => {
                report.push(Violation::SendWithoutReceive { at: place(send), peer: send.key.1 });
                next_send += 1;
            }
            (_, Some(receive)) => {
                report.push(Violation::ReceiveWithoutSend { at: place(receive), peer: receive.key.0 });
                next_receive += 1;
            }
            (Some(_), None) => unreachable!("a send without any receive left is taken above"),
        }
    }
}

/// Whether stages meet in a collective. A slice moves nothing, so nobody waits for it.
fn is_crossing(draft: &Draft, id: CollectiveId) -> bool {
    let exchange = &draft.collectives[id.index()].exchange;
    exchange.axes().contains(&0) && !matches!(exchange, Exchange::Slice { .. })
}

/// A group that has the pipeline's axis has ranks of all stages: all must come in the order of the first.
fn exchanges(draft: &Draft, found: &[[Vec<(usize, CollectiveId)>; STREAM_COUNT]], report: &mut Report) {
    for (role, streams) in draft.roles.iter().zip(found).skip(1) {
        for ((own, expected), stream) in streams.iter().zip(&found[0]).zip(Stream::ALL) {
            for (count, &(index, id)) in own.iter().enumerate() {
                let same = |&(_, other): &(usize, CollectiveId)| {
                    draft.collectives[other.index()] == draft.collectives[id.index()]
                };
                if !expected.get(count).is_some_and(same) {
                    let at = Place::new(role.stage, index, &role.code[index]);
                    report.push(Violation::ExchangeOrder { at, count: count + 1, stream: stream.name() });
                    break;
                }
            }
            if own.len() < expected.len() {
                report.push(Violation::ExchangeCount {
                    role: role.stage,
                    stream: stream.name(),
                    found: own.len(),
                    needed: expected.len(),
                });
            }
        }
    }
}

/// Lets every stream of every role go on as far as it can. One order is enough: what may run never hinders another.
/// The ranks of a role do the same, so that one stands for all of them.
fn progress(draft: &Draft, report: &mut Report) {
    let mut runs: Vec<Run<'_>> = draft.roles.iter().map(Run::new).collect();
    let mut moved = true;
    while moved {
        moved = false;
        for role in 0..runs.len() {
            moved |= advance(draft, &mut runs, role);
        }
    }
    for run in &runs {
        let stuck = (0..STREAM_COUNT).filter_map(|stream| run.head_index(stream)).min();
        if let Some(index) = stuck {
            report.push(Violation::Deadlock { at: Place::new(run.role.stage, index, &run.role.code[index]) });
        }
    }
}

/// How far a role has come.
struct Run<'a> {
    role: &'a Role,
    /// Instructions by stream, each in code order.
    queues: Vec<u32>,
    /// For each stream, its next instruction in `queues` and one past its last.
    cursors: [(u32, u32); STREAM_COUNT],
    signalled: Vec<bool>,
}

impl Run<'_> {
    fn new(role: &Role) -> Run<'_> {
        let mut counts = [0; STREAM_COUNT];
        for instr in &role.code {
            counts[instr.stream.index()] += 1;
        }
        let mut cursors = [(0, 0); STREAM_COUNT];
        let mut end = 0;
        for (cursor, count) in cursors.iter_mut().zip(counts) {
            *cursor = (end, end + count);
            end += count;
        }
        let mut next = cursors.map(|(first, _)| first);
        let mut queues = vec![0; role.code.len()];
        for (index, instr) in role.code.iter().enumerate() {
            let slot = &mut next[instr.stream.index()];
            queues[*slot as usize] = index as u32;
            *slot += 1;
        }
        Run { role, queues, cursors, signalled: vec![false; role.code.len()] }
    }

    fn head_index(&self, stream: usize) -> Option<usize> {
        let (next, end) = self.cursors[stream];
        (next < end).then(|| self.queues[next as usize] as usize)
    }

    fn head(&self, stream: usize) -> Option<&Instr> {
        self.head_index(stream).map(|index| &self.role.code[index])
    }
}

/// Runs a role until all its streams are stuck; whether any moved.
fn advance(draft: &Draft, runs: &mut [Run<'_>], role: usize) -> bool {
    let mut moved_ever = false;
    loop {
        let mut moved = false;
        for stream in 0..STREAM_COUNT {
            while step(draft, runs, role, stream) {
                moved = true;
            }
        }
        if !moved {
            return moved_ever;
        }
        moved_ever = true;
    }
}

/// Does the next instruction of a stream, if it may begin.
fn step(draft: &Draft, runs: &mut [Run<'_>], role: usize, stream: usize) -> bool {
    let Some(&instr) = runs[role].head(stream) else { return false };
    match instr.action {
        Action::Send { to } => {
            let other = stream - FIRST_SEND + FIRST_RECEIVE;
            let meets = runs[usize::from(to)].head(other).map(|instr| instr.action);
            if meets != Some(Action::Receive { from: role as u16 }) {
                return false;
            }
            runs[usize::from(to)].cursors[other].0 += 1;
        }
        Action::Receive { from } => {
            let other = stream - FIRST_RECEIVE + FIRST_SEND;
            let meets = runs[usize::from(from)].head(other).map(|instr| instr.action);
            if meets != Some(Action::Send { to: role as u16 }) {
                return false;
            }
            runs[usize::from(from)].cursors[other].0 += 1;
        }
        Action::Wait(event) if !runs[role].signalled[event.index()] => return false,
        Action::Signal(event) => runs[role].signalled[event.index()] = true,
        Action::Exchange(id) if is_crossing(draft, id) => {
            let here = |run: &Run<'_>| match run.head(stream).map(|head| head.action) {
                Some(Action::Exchange(id)) => is_crossing(draft, id),
                Some(_) | None => false,
            };
            if !runs.iter().all(here) {
                return false;
            }
            for (_, run) in runs.iter_mut().enumerate().filter(|&(other, _)| other != role) {
                run.cursors[stream].0 += 1;
            }
        }
        Action::Compute(_) | Action::Exchange(_) | Action::Free | Action::Wait(_) => {}
    }
    runs[role].cursors[stream].0 += 1;
    true
}
