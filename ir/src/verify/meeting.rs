//! Where roles meet: sends and receives in pairs, exchanges between stages in one order, and no circle of waiting.

use super::{Place, Report, Violation};
use crate::program::{Action, CollectiveId, Draft, Instr, PerStream, Role, Stream};

/// Reports what does not match between roles; once all else is right, whether they all come to their end.
pub(super) fn check(draft: &Draft, roles: &[Meetings], report: &mut Report) {
    // One role alone only waits for its own signals, which stand before the waits.
    if draft.roles.len() < 2 {
        return;
    }
    let sorted = |list: fn(&Meetings) -> &Vec<Transfer>| {
        let mut all: Vec<Transfer> = roles.iter().flat_map(list).copied().collect();
        all.sort_by_key(|transfer| transfer.key);
        all
    };
    pair(draft, &sorted(|role| &role.sends), &sorted(|role| &role.receives), report);
    exchanges(draft, roles, report);
    if report.found.is_empty() {
        progress(draft, roles, report);
    }
}

/// All instructions of a role where it may have to wait or lets others go on, in code order.
#[derive(Default)]
pub(super) struct Meetings {
    sends: Vec<Transfer>,
    receives: Vec<Transfer>,
    /// Exchanges between stages, by stream.
    exchanges: PerStream<Vec<(usize, CollectiveId)>>,
    /// These, signals and waits, by stream: all others go on by themselves.
    queues: PerStream<Vec<u32>>,
}

impl Meetings {
    pub(super) fn of(draft: &Draft, place: usize, role: &Role) -> Meetings {
        let crosses: Vec<bool> =
            (0..draft.collectives.len() as u32).map(|id| is_crossing(draft, CollectiveId(id))).collect();
        let mut meetings = Meetings::default();
        let own = place as u32;
        for (instruction, instr) in role.code.iter().enumerate() {
            let stream = instr.stream;
            match instr.action {
                Action::Send { to } => {
                    let key = (own, u32::from(to), stream);
                    meetings.sends.push(Transfer { key, role: place, instruction });
                }
                Action::Receive { from } => {
                    let key = (u32::from(from), own, stream.peer().unwrap_or(stream));
                    meetings.receives.push(Transfer { key, role: place, instruction });
                }
                Action::Exchange(id) if crosses[id.index()] => meetings.exchanges[stream].push((instruction, id)),
                Action::Signal(_) | Action::Wait(_) => {}
                Action::Compute(_) | Action::Exchange(_) | Action::Free => continue,
            }
            meetings.queues[stream].push(instruction as u32);
        }
        meetings
    }
}

/// A send or a receive.
#[derive(Clone, Copy)]
struct Transfer {
    /// From, to, and the stream on which it is sent.
    key: (u32, u32, Stream),
    role: usize,
    instruction: usize,
}

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
    exchange.axes().contains(&0) && exchange.moves()
}

/// A group that has the pipeline's axis has ranks of all stages: all must come in the order of the first.
fn exchanges(draft: &Draft, roles: &[Meetings], report: &mut Report) {
    for (role, meetings) in draft.roles.iter().zip(roles).skip(1) {
        for (stream, own) in meetings.exchanges.iter() {
            let expected = &roles[0].exchanges[stream];
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
fn progress(draft: &Draft, roles: &[Meetings], report: &mut Report) {
    let run = |(role, meetings)| Run::new(role, meetings);
    let mut runs: Vec<Run<'_>> = draft.roles.iter().zip(roles).map(run).collect();
    let mut moved = true;
    while moved {
        moved = false;
        for role in 0..runs.len() {
            moved |= advance(draft, &mut runs, role);
        }
    }
    for run in &runs {
        let stuck = Stream::ALL.into_iter().filter_map(|stream| run.head_index(stream)).min();
        if let Some(index) = stuck {
            report.push(Violation::Deadlock { at: Place::new(run.role.stage, index, &run.role.code[index]) });
        }
    }
}

/// How far a role has come.
struct Run<'a> {
    role: &'a Role,
    queues: &'a PerStream<Vec<u32>>,
    /// For each stream, how many of its queue are done.
    done: PerStream<usize>,
    signalled: Vec<bool>,
}

impl<'a> Run<'a> {
    fn new(role: &'a Role, meetings: &'a Meetings) -> Run<'a> {
        Run { role, queues: &meetings.queues, done: PerStream::all(0), signalled: vec![false; role.code.len()] }
    }

    fn head_index(&self, stream: Stream) -> Option<usize> {
        self.queues[stream].get(self.done[stream]).map(|&index| index as usize)
    }

    fn head(&self, stream: Stream) -> Option<&Instr> {
        self.head_index(stream).map(|index| &self.role.code[index])
    }
}

/// Runs a role until all its streams are stuck; whether any moved.
fn advance(draft: &Draft, runs: &mut [Run<'_>], role: usize) -> bool {
    let mut moved_ever = false;
    loop {
        let mut moved = false;
        for stream in Stream::ALL {
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
fn step(draft: &Draft, runs: &mut [Run<'_>], role: usize, stream: Stream) -> bool {
    let Some(&instr) = runs[role].head(stream) else { return false };
    match instr.action {
        Action::Send { to } => {
            let Some(other) = stream.peer() else { return false };
            let meets = runs[usize::from(to)].head(other).map(|instr| instr.action);
            if meets != Some(Action::Receive { from: role as u16 }) {
                return false;
            }
            runs[usize::from(to)].done[other] += 1;
        }
        Action::Receive { from } => {
            let Some(other) = stream.peer() else { return false };
            let meets = runs[usize::from(from)].head(other).map(|instr| instr.action);
            if meets != Some(Action::Send { to: role as u16 }) {
                return false;
            }
            runs[usize::from(from)].done[other] += 1;
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
                run.done[stream] += 1;
            }
        }
        Action::Compute(_) | Action::Exchange(_) | Action::Free | Action::Wait(_) => {}
    }
    runs[role].done[stream] += 1;
    true
}
