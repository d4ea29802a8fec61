//! Where roles meet: sends and receives in pairs, exchanges between stages in one order, and no circle of waiting.

use super::{Place, Report, Violation};
use crate::layout::Exchange;
use crate::program::{Action, CollectiveId, Draft, Instr, Role, Stream};

const STREAM_COUNT: usize = Stream::ALL.len();

/// Reports what does not match between roles; if all does, whether they all come to their end.
pub(super) fn check(draft: &Draft, report: &mut Report) {
    let before = report.found.len();
    transfers(draft, report);
    exchanges(draft, report);
    if report.found.len() == before && draft.roles.iter().all(has_signals_first) {
        progress(draft, report);
    }
}

/// A send or a receive.
struct Transfer {
    /// From, to, and whether backward.
    key: (u32, u32, usize),
    role: usize,
    instruction: usize,
}

fn transfers(draft: &Draft, report: &mut Report) {
    let mut sends = Vec::new();
    let mut receives = Vec::new();
    for (role, program) in draft.roles.iter().enumerate() {
        for (instruction, instr) in program.code.iter().enumerate() {
            let own = role as u32;
            match instr.action {
                Action::Send { to } => {
                    let key = (own, u32::from(to), instr.stream.index() - FIRST_SEND);
                    sends.push(Transfer { key, role, instruction });
                }
                Action::Receive { from } => {
                    let key = (u32::from(from), own, instr.stream.index() - FIRST_RECEIVE);
                    receives.push(Transfer { key, role, instruction });
                }
                Action::Compute(_) | Action::Exchange(_) | Action::Free | Action::Signal(_) | Action::Wait(_) => {}
            }
        }
    }
    sends.sort_by_key(|transfer| transfer.key);
    receives.sort_by_key(|transfer| transfer.key);
    pair(draft, &sends, &receives, report);
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

/// The collective of an instruction where stages meet. A slice moves nothing, so nobody waits for it.
fn crossing(draft: &Draft, instr: &Instr) -> Option<CollectiveId> {
    match instr.action {
        Action::Exchange(id) => {
            let exchange = &draft.collectives[id.index()].exchange;
            let meets = exchange.axes().contains(&0) && !matches!(exchange, Exchange::Slice { .. });
            meets.then_some(id)
        }
        Action::Compute(_)
        | Action::Send { .. }
        | Action::Receive { .. }
        | Action::Free
        | Action::Signal(_)
        | Action::Wait(_) => None,
    }
}

/// A group that has the pipeline's axis has ranks of all stages: all must come in the order of the first.
fn exchanges(draft: &Draft, report: &mut Report) {
    let ordered = |role: &Role| {
        let mut streams: [Vec<(usize, CollectiveId)>; STREAM_COUNT] = Default::default();
        for (index, instr) in role.code.iter().enumerate() {
            if let Some(id) = crossing(draft, instr) {
                streams[instr.stream.index()].push((index, id));
            }
        }
        streams
    };
    let Some(first) = draft.roles.first().map(ordered) else { return };
    for role in &draft.roles[1..] {
        for ((own, expected), stream) in ordered(role).iter().zip(&first).zip(Stream::ALL) {
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

/// Whether each wait stands behind its signal; if not, that was reported and no end can be expected.
fn has_signals_first(role: &Role) -> bool {
    let mut signalled = vec![false; role.code.len()];
    role.code.iter().all(|instr| match instr.action {
        Action::Signal(event) => {
            signalled[event.index()] = true;
            true
        }
        Action::Wait(event) => signalled[event.index()],
        Action::Compute(_) | Action::Exchange(_) | Action::Send { .. } | Action::Receive { .. } | Action::Free => true,
    })
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
    let peer_stream = [FIRST_RECEIVE, FIRST_SEND];
    match instr.action {
        Action::Send { to } => {
            let other = stream - FIRST_SEND + peer_stream[0];
            let meets = runs[usize::from(to)].head(other).map(|instr| instr.action);
            if meets != Some(Action::Receive { from: role as u16 }) {
                return false;
            }
            runs[usize::from(to)].cursors[other].0 += 1;
        }
        Action::Receive { from } => {
            let other = stream - FIRST_RECEIVE + peer_stream[1];
            let meets = runs[usize::from(from)].head(other).map(|instr| instr.action);
            if meets != Some(Action::Send { to: role as u16 }) {
                return false;
            }
            runs[usize::from(from)].cursors[other].0 += 1;
        }
        Action::Wait(event) if !runs[role].signalled[event.index()] => return false,
        Action::Signal(event) => runs[role].signalled[event.index()] = true,
        Action::Exchange(_) if crossing(draft, &instr).is_some() => {
            let here = |run: &Run<'_>| run.head(stream).is_some_and(|head| crossing(draft, head).is_some());
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
