//! From the times of a traced step to notes as every host gives them.

use std::collections::BTreeMap;

use ir::program::{Access, Action, BufferId, CollectiveId, Draft, PerStream};
use ir::trace::{Confidence, MemorySample, TraceEvent};
use ir::units::Seconds;

use super::shared::Shared;
use crate::host::Notes;
use crate::world::{Processes, World as _, WorldError};

/// When the instructions of a rank ran, from the start of the step on its device; none for those that take no time.
#[derive(Clone, Debug)]
pub(crate) struct Times {
    pub(crate) rank: u32,
    pub(crate) ran: Vec<Option<[Seconds; 2]>>,
}

/// Bytes of an instruction's times.
const RAN_BYTES: usize = 16;

/// The times of the ranks of all processes.
pub(crate) fn gather(own: Vec<Times>, processes: &mut Processes) -> Result<Vec<Times>, WorldError> {
    if processes.is_alone() {
        return Ok(own);
    }
    let mut text = Vec::new();
    for Times { rank, ran } in &own {
        text.extend(u64::from(*rank).to_le_bytes());
        text.extend((ran.len() as u64).to_le_bytes());
        for ran in ran {
            // What took no time ends before it starts.
            let [start, end] = ran.unwrap_or([Seconds(0.0), Seconds(-1.0)]);
            text.extend([start, end].into_iter().flat_map(|time| time.0.to_le_bytes()));
        }
    }
    let mut all = Vec::new();
    for (process, said) in (0..).zip(processes.all_say(&text)?) {
        let damaged = || WorldError { process, reason: "its times are damaged".to_owned() };
        let mut rest = said.as_slice();
        while !rest.is_empty() {
            let (times, after) = parse(rest).ok_or_else(damaged)?;
            all.push(times);
            rest = after;
        }
    }
    Ok(all)
}

fn parse(text: &[u8]) -> Option<(Times, &[u8])> {
    let (rank, rest) = text.split_first_chunk()?;
    let (count, rest) = rest.split_first_chunk()?;
    let count = usize::try_from(u64::from_le_bytes(*count)).ok()?;
    let (ran, rest) = rest.split_at_checked(count.checked_mul(RAN_BYTES)?)?;
    let (words, _) = ran.as_chunks::<8>();
    let (pairs, _) = words.as_chunks::<2>();
    let ran = pairs.iter().map(|pair| {
        let [start, end] = pair.map(|word| Seconds(f64::from_le_bytes(word)));
        (end.0 >= start.0).then_some([start, end])
    });
    let rank = u32::try_from(u64::from_le_bytes(*rank)).ok()?;
    Some((Times { rank, ran: ran.collect() }, rest))
}

/// The notes of the ranks of this process, from the times of all ranks.
pub(crate) fn notes(shared: &Shared, mut times: Vec<Times>) -> Vec<Notes> {
    begin_together(shared, &mut times);
    times.iter().filter(|times| shared.own.contains(&times.rank)).map(|times| of_rank(&shared.draft, times)).collect()
}

/// An exchange begins when the last member has come: what was before is waiting, and no part of it. So with transfers.
fn begin_together(shared: &Shared, times: &mut [Times]) {
    /// What instructions have in common that belong together.
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    enum Together {
        /// A meeting's collective, and which time it is.
        Exchange(usize, CollectiveId, usize),
        /// Between these ranks.
        Transfer(u32, u32, u32),
    }
    let draft = &shared.draft;
    let mut keys: Vec<Vec<Option<Together>>> = Vec::new();
    let mut last = BTreeMap::new();
    for Times { rank, ran } in times.iter() {
        let mut counts = BTreeMap::new();
        let mut own = vec![None; ran.len()];
        for (index, instr) in draft.role(*rank).code.iter().enumerate() {
            let key = match instr.action {
                Action::Exchange(id) if draft.collectives[id.index()].exchange.moves() => {
                    let count = counts.entry(id).or_insert(0);
                    *count += 1;
                    Together::Exchange(shared.meetings.of(*rank, id), id, *count)
                }
                Action::Send(id) | Action::Receive(id) => {
                    let route = shared.meetings.route(draft, id, *rank);
                    Together::Transfer(route.from, route.to, id.0)
                }
                Action::Exchange(_) | Action::Compute(_) | Action::Free | Action::Signal(_) | Action::Wait(_) => {
                    continue;
                }
            };
            own[index] = Some(key);
            if let Some([start, _]) = ran[index] {
                let last = last.entry(key).or_insert(start);
                *last = last.max(start);
            }
        }
        keys.push(own);
    }
    for (Times { ran, .. }, keys) in times.iter_mut().zip(keys) {
        for (ran, key) in ran.iter_mut().zip(keys) {
            if let (Some([start, end]), Some(last)) = (ran, key.and_then(|key| last.get(&key))) {
                *start = start.max(*last).min(*end);
            }
        }
    }
}

fn of_rank(draft: &Draft, Times { rank, ran }: &Times) -> Notes {
    let role = draft.role(*rank);
    let mut alive: Vec<bool> = role.buffers.iter().map(|buffer| buffer.is_resident()).collect();
    let resident = role.buffers.iter().filter(|buffer| buffer.is_resident()).map(|buffer| buffer.bytes).sum();
    let mut reached = PerStream::all(Seconds::ZERO);
    let mut signalled = BTreeMap::new();
    let mut events = Vec::new();
    // Buffers that begin (or else end) to live.
    let mut changes: Vec<(Seconds, bool, BufferId)> = Vec::new();
    for (instr, ran) in role.code.iter().zip(ran) {
        let reached = &mut reached[instr.stream];
        if let &Some([start, end]) = ran {
            let (rank, stream, span, action) = (*rank, instr.stream, instr.span, instr.action);
            events.push(TraceEvent { rank, stream, span, action, start, end, confidence: Confidence::Measured });
            for (id, _) in role.uses(&draft.fragments, instr).filter(|&(_, access)| access != Access::Read) {
                if !std::mem::replace(&mut alive[id.index()], true) {
                    changes.push((start, true, id));
                }
            }
            *reached = end;
        }
        match instr.action {
            Action::Signal(event) => drop(signalled.insert(event, *reached)),
            Action::Wait(event) => *reached = reached.max(signalled.get(&event).copied().unwrap_or(Seconds::ZERO)),
            Action::Free => changes.push((*reached, false, role.operands(instr)[0])),
            Action::Compute(_) | Action::Exchange(_) | Action::Send(_) | Action::Receive(_) => {}
        }
    }
    changes.sort_by(|a, b| a.0.0.total_cmp(&b.0.0).then(a.1.cmp(&b.1)));
    let mut live = resident;
    let mut memory = vec![MemorySample { rank: *rank, time: Seconds::ZERO, live }];
    for (time, begins, id) in changes {
        let bytes = role.buffers[id.index()].bytes;
        live = if begins { live + bytes } else { live.saturating_sub(bytes) };
        memory.push(MemorySample { rank: *rank, time, live });
    }
    Notes { rank: *rank, events, memory }
}
