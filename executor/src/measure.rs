//! From the notes of all ranks to a trace with its totals.

use ir::file::{parse_trace, print_trace};
use ir::program::{Action, Draft};
use ir::trace::{Origin, Totals, Trace, TraceEvent};
use ir::units::Seconds;

use crate::host::Notes;
use crate::world::{Processes, World as _, WorldError};

/// A traced step of programs with this digest, from what each rank wrote down.
pub(crate) fn trace(draft: &Draft, digest: u64, step: Seconds, ranks: &[Notes]) -> Trace {
    let mut events: Vec<TraceEvent> = ranks.iter().flat_map(|notes| &notes.events).copied().collect();
    // A stable sort: where starts are equal, the rank decides.
    events.sort_by(|a, b| a.start.0.total_cmp(&b.start.0));
    let whole = |&Notes { rank, ref events, .. }: &Notes| {
        let arena = draft.role(rank).arena;
        Totals { rank, arena, ..totals(step, events) }
    };
    Trace {
        origin: Origin::Measured,
        digest,
        step,
        memory: ranks.iter().flat_map(|notes| &notes.memory).copied().collect(),
        totals: ranks.iter().map(whole).collect(),
        shares: [events.iter().map(|event| event.end - event.start).sum(), Seconds::ZERO, Seconds::ZERO],
        events,
    }
}

/// One trace of the parts that processes have.
pub(crate) fn gather(own: Trace, processes: &mut Processes) -> Result<Trace, WorldError> {
    if processes.is_alone() {
        return Ok(own);
    }
    let mut parts = Vec::new();
    for (process, text) in (0..).zip(processes.all_say(print_trace(&own).as_bytes())?) {
        let part = parse_trace(&String::from_utf8_lossy(&text), "trace");
        let damaged = || WorldError { process, reason: "its trace is damaged".to_owned() };
        parts.push(part.map_err(|_| damaged())?);
    }
    Ok(joined(own, parts))
}

/// Parts in order of ranks.
fn joined(own: Trace, parts: Vec<Trace>) -> Trace {
    let step = parts.iter().map(|part| part.step).fold(own.step, Seconds::max);
    let mut whole =
        Trace { step, events: Vec::new(), memory: Vec::new(), totals: Vec::new(), shares: Default::default(), ..own };
    for part in parts {
        whole.events.extend(part.events);
        whole.memory.extend(part.memory);
        whole.totals.extend(part.totals);
        whole.shares.iter_mut().zip(part.shares).for_each(|(sum, share)| *sum += share);
    }
    whole.events.sort_by(|a, b| a.start.0.total_cmp(&b.start.0));
    whole
}

fn totals(step: Seconds, events: &[TraceEvent]) -> Totals {
    let of = |wanted: fn(&Action) -> bool| events.iter().filter(move |event| wanted(&event.action));
    let sum = |wanted| of(wanted).map(|event| event.end - event.start).sum();
    let union = |wanted: fn(&Action) -> bool| merged(of(wanted).map(|event| (event.start.0, event.end.0)).collect());
    let is_compute: fn(&Action) -> bool = |action| matches!(action, Action::Compute(_));
    let is_move: fn(&Action) -> bool = |action| !matches!(action, Action::Compute(_));
    let busy = union(|_| true).iter().map(|(start, end)| end - start).sum::<f64>();
    Totals {
        compute: sum(is_compute),
        exchange: sum(|action| matches!(action, Action::Exchange(_))),
        transfer: sum(|action| matches!(action, Action::Send(_) | Action::Receive(_))),
        hidden: Seconds(common(&union(is_compute), &union(is_move))),
        idle: Seconds((step.0 - busy).max(0.0)),
        ..Totals::default()
    }
}

/// The union of intervals, as intervals that do not touch, in order.
fn merged(mut intervals: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    intervals.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut union: Vec<(f64, f64)> = Vec::new();
    for (start, end) in intervals {
        match union.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            Some(_) | None => union.push((start, end)),
        }
    }
    union
}

/// The length of what two unions have in common.
fn common(a: &[(f64, f64)], b: &[(f64, f64)]) -> f64 {
    let (mut i, mut j, mut length) = (0, 0, 0.0);
    while i < a.len() && j < b.len() {
        length += (a[i].1.min(b[j].1) - a[i].0.max(b[j].0)).max(0.0);
        if a[i].1 < b[j].1 { i += 1 } else { j += 1 }
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;
    use ir::program::{CollectiveId, FragmentId, Phase, Span, Stream, TransferId};
    use ir::trace::Confidence;

    fn event(action: Action, start: f64, end: f64) -> TraceEvent {
        let span = Span { microbatch: None, layer: None, phase: Phase::Forward };
        let (start, end) = (Seconds(start), Seconds(end));
        TraceEvent { rank: 0, stream: Stream::Compute, span, action, start, end, confidence: Confidence::Measured }
    }

    #[test]
    fn exchanges_beside_kernels_are_hidden_and_the_rest_is_idle() {
        let events = [
            event(Action::Compute(FragmentId(0)), 1.0, 4.0),
            event(Action::Exchange(CollectiveId(0)), 3.0, 6.0),
            event(Action::Send(TransferId(1)), 5.0, 7.0),
        ];
        let totals = totals(Seconds(10.0), &events);
        let found = [totals.compute, totals.exchange, totals.transfer, totals.hidden, totals.idle].map(|time| time.0);
        assert!(found.iter().zip([3.0, 3.0, 2.0, 1.0, 4.0]).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?}");
    }
}
