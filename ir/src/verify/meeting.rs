//! Where roles meet: sends and receives in pairs, exchanges between stages in one order, and no circle of waiting.

use super::{Place, Report, Violation};
use crate::mesh::Mesh;
use crate::program::{
    Action, CollectiveId, Direction, Draft, Instr, PerStream, Role, RoleId, Stream, Transfer, TransferId,
};

/// Reports what does not match between roles; once all else is right, whether they all come to their end.
pub(super) fn check(draft: &Draft, roles: &[Meetings], report: &mut Report) {
    // One role alone only waits for its own signals, which stand before the waits.
    if draft.roles.len() < 2 {
        return;
    }
    let sorted = |list: fn(&Meetings) -> &Vec<End>| {
        let mut all: Vec<End> = roles.iter().flat_map(list).copied().collect();
        all.sort_by_key(|end| end.key);
        all
    };
    let (sends, receives) = (sorted(|role| &role.sends), sorted(|role| &role.receives));
    once(draft, [&sends, &receives], report);
    pair(draft, &sends, &receives, report);
    exchanges(draft, roles, report);
    if report.found.is_empty() {
        progress(draft, roles, report);
    }
}

/// All instructions of a role where it may have to wait or lets others go on, in code order.
#[derive(Default)]
pub(super) struct Meetings {
    sends: Vec<End>,
    receives: Vec<End>,
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
        for (instruction, instr) in role.code.iter().enumerate() {
            let stream = instr.stream;
            match instr.action {
                Action::Send(id) => meetings.sends.push(End::new(draft, id, place, instruction)),
                Action::Receive(id) => meetings.receives.push(End::new(draft, id, place, instruction)),
                Action::Exchange(id) if crosses[id.index()] => meetings.exchanges[stream].push((instruction, id)),
                Action::Signal(_) | Action::Wait(_) => {}
                Action::Compute(_) | Action::Exchange(_) | Action::Free => continue,
            }
            meetings.queues[stream].push(instruction as u32);
        }
        meetings
    }
}

/// One end of a transfer: a send or a receive.
#[derive(Clone, Copy)]
struct End {
    /// What is in order: all that goes from one role to another in one direction.
    key: (RoleId, RoleId, Direction),
    id: TransferId,
    role: usize,
    instruction: usize,
}

impl End {
    fn new(draft: &Draft, id: TransferId, role: usize, instruction: usize) -> End {
        let Transfer { from, to, direction, .. } = draft.transfers[id.index()];
        End { key: (from, to, direction), id, role, instruction }
    }

    fn place(&self, draft: &Draft) -> Place {
        let role = &draft.roles[self.role];
        Place::new(role.id.0, self.instruction, &role.code[self.instruction])
    }
}

/// Each transfer has one send and one receive.
fn once(draft: &Draft, lists: [&[End]; 2], report: &mut Report) {
    for ends in lists {
        let mut seen = vec![false; draft.transfers.len()];
        for end in ends {
            if std::mem::replace(&mut seen[end.id.index()], true) {
                report.push(Violation::TransferTwice { at: end.place(draft), transfer: end.id.0 });
            }
        }
        if let Some(transfer) = seen.iter().position(|seen| !seen) {
            report.push(Violation::Transfer { transfer, words: "is not sent, or not received".to_owned() });
        }
    }
}

/// Walks both lists, which are sorted by pair and then in code order.
fn pair(draft: &Draft, sends: &[End], receives: &[End], report: &mut Report) {
    let place = |end: &End| end.place(draft);
    let bytes = |end: &End| {
        let role = &draft.roles[end.role];
        role.buffers[role.operands(&role.code[end.instruction])[0].index()].bytes
    };
    let [mut next_send, mut next_receive] = [0, 0];
    loop {
        match (sends.get(next_send), receives.get(next_receive)) {
            (None, None) => return,
            (Some(send), Some(receive)) if send.key == receive.key => {
                let [sent, received] = [bytes(send), bytes(receive)];
                if send.id != receive.id {
                    let (at, sender) = (place(receive), place(send));
                    let (received, sent) = (receive.id.0, send.id.0);
                    report.push(Violation::TransferOrder { at, received, sender, sent });
                } else if sent != received {
                    let [at, sender] = [place(receive), place(send)];
                    report.push(Violation::TransferSize { at, received, sender, sent });
                }
                next_send += 1;
                next_receive += 1;
            }
            (Some(send), receive) if receive.is_none_or(|receive| send.key < receive.key) => {
                report.push(Violation::SendWithoutReceive { at: place(send), peer: send.key.1.0 });
                next_send += 1;
            }
            (_, Some(receive)) => {
                report.push(Violation::ReceiveWithoutSend { at: place(receive), peer: receive.key.0.0 });
                next_receive += 1;
            }
            (Some(_), None) => unreachable!("a send without any receive left is taken above"),
        }
    }
}

/// Whether stages meet in a collective. A slice moves nothing, so nobody waits for it.
fn is_crossing(draft: &Draft, id: CollectiveId) -> bool {
    let exchange = &draft.collectives[id.index()].exchange;
    exchange.axes().contains(&Mesh::PIPELINE) && exchange.moves()
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
                    let at = Place::new(role.id.0, index, &role.code[index]);
                    report.push(Violation::ExchangeOrder { at, count: count + 1, stream: stream.name() });
                    break;
                }
            }
            if own.len() < expected.len() {
                report.push(Violation::ExchangeCount {
                    role: role.id.0,
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
            report.push(Violation::Deadlock { at: Place::new(run.role.id.0, index, &run.role.code[index]) });
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
        Action::Send(id) | Action::Receive(id) => {
            let Transfer { from, to, .. } = draft.transfers[id.index()];
            let (partner, action) =
                if instr.action == Action::Send(id) { (to, Action::Receive(id)) } else { (from, Action::Send(id)) };
            let Some(other) = stream.peer() else { return false };
            let partner = &mut runs[partner.index()];
            if partner.head(other).map(|head| head.action) != Some(action) {
                return false;
            }
            partner.done[other] += 1;
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
