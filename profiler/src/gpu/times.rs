//! What traces of GPUs say.
//!
//! An event has its own cost: the time between two of them around a kernel is longer than what the kernel adds to a
//! queue. [`Overhead`] says by how much, and is taken off.

use ir::program::{Action, FragmentId, Stream};
use ir::trace::{Trace, TraceEvent};

use super::programs::{ALONE, RUN};
use crate::fold::median;

/// No work takes less, whatever is taken off.
const TIME_MIN: f64 = 1e-7;

/// What events add, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Overhead {
    /// To the time between the events around a kernel.
    pub(crate) interval: f64,
    /// To the time from one kernel's end to the next one's.
    pub(crate) period: f64,
}

impl Overhead {
    /// From traces of `programs::events`, whose fragments are a kernel and a run of such kernels.
    pub(crate) fn of(traces: &[Trace]) -> Overhead {
        let of = |id: u32| {
            let is_it = move |event: &&TraceEvent| event.action == Action::Compute(FragmentId(id));
            traces.iter().flat_map(move |trace| trace.events.iter().filter(is_it))
        };
        let length = |event: &TraceEvent| (event.end - event.start).0;
        let single = median(&mut of(0).map(length).collect::<Vec<f64>>());
        let run = median(&mut of(1).map(length).collect::<Vec<f64>>());
        let kernel = ((run - single) / (RUN as f64 - 1.0)).max(0.0);
        let mut periods: Vec<f64> = Vec::new();
        for trace in traces {
            let ends = ends(trace, 0, |event| event.action == Action::Compute(FragmentId(0)));
            periods.extend(ends.windows(2).map(|pair| pair[1] - pair[0]));
        }
        let period = median(&mut periods);
        Overhead { interval: (single - kernel).max(0.0), period: (period - kernel).max(0.0) }
    }

    /// The time of a kernel in a queue, from the time between its events.
    pub(crate) fn off_interval(self, seconds: f64) -> f64 {
        (seconds - self.interval).max(TIME_MIN)
    }
}

/// When the events of a rank ended that are wanted, in order.
fn ends(trace: &Trace, rank: u32, is_wanted: impl Fn(&TraceEvent) -> bool) -> Vec<f64> {
    let wanted = trace.events.iter().filter(|event| event.rank == rank && is_wanted(event));
    let mut ends: Vec<f64> = wanted.map(|event| event.end.0).collect();
    ends.sort_by(f64::total_cmp);
    ends
}

/// For each group of equal works in a row on a stream, `counts` of them, the time of one: of the slowest rank.
pub(crate) fn in_rows(trace: &Trace, ranks: &[u32], stream: Stream, counts: &[usize], overhead: Overhead) -> Vec<f64> {
    let mut times = vec![TIME_MIN; counts.len()];
    for &rank in ranks {
        let ends = ends(trace, rank, |event| event.stream == stream);
        let mut rest = ends.as_slice();
        for (time, &count) in times.iter_mut().zip(counts) {
            let Some((row, others)) = rest.split_at_checked(count) else { break };
            rest = others;
            if let [first, .., last] = row {
                *time = time.max((last - first) / (count - 1) as f64 - overhead.period);
            }
        }
    }
    times
}

/// How much longer kernels and exchanges take side by side, in a trace of `programs::side_by_side`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Beside {
    pub(crate) kernel: f64,
    pub(crate) exchange: f64,
}

/// None if they were never side by side. The kernels are those of the first fragment.
pub(crate) fn beside(trace: &Trace, rank: u32, stream: Stream) -> Option<Beside> {
    let of = |is_wanted: &dyn Fn(&TraceEvent) -> bool| {
        let mut list: Vec<&TraceEvent> =
            trace.events.iter().filter(|event| event.rank == rank && is_wanted(event)).collect();
        list.sort_by(|a, b| a.start.0.total_cmp(&b.start.0));
        list
    };
    let kernels = of(&|event| event.action == Action::Compute(FragmentId(0)));
    let exchanges = of(&|event| event.stream == stream);
    let (kernels_alone, kernels) = kernels.split_at_checked(ALONE)?;
    let (exchanges_alone, exchanges) = exchanges.split_at_checked(ALONE)?;
    let begin = kernels.first()?.start.0.max(exchanges.first()?.start.0);
    let end = kernels.last()?.end.0.min(exchanges.last()?.end.0);
    let mean = |list: &[&TraceEvent]| {
        let sum: f64 = list.iter().map(|event| (event.end - event.start).0).sum();
        (!list.is_empty()).then(|| sum / list.len() as f64)
    };
    // Pairs, so that both kinds of exchanges are in it as often as alone.
    let within = |list: &[&TraceEvent], even: bool| {
        let first = list.iter().position(|event| event.start.0 >= begin).unwrap_or(list.len());
        let last = list.iter().rposition(|event| event.end.0 <= end).map_or(0, |last| last + 1);
        let last = last.max(first);
        let last = if even { last - (last - first) % 2 } else { last };
        mean(&list[first..last])
    };
    Some(Beside {
        kernel: within(kernels, false)? / mean(kernels_alone)?,
        exchange: within(exchanges, true)? / mean(exchanges_alone)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ir::mesh::Axis;
    use ir::program::{CollectiveId, Phase, Span};
    use ir::trace::{Confidence, Origin};
    use ir::units::Seconds;

    const EXCHANGE: Stream = Stream::Exchange(Axis::Data);

    fn trace(events: &[(u32, Action, f64, f64)]) -> Trace {
        let event = |&(rank, action, start, end): &(u32, Action, f64, f64)| TraceEvent {
            rank,
            stream: if matches!(action, Action::Compute(_)) { Stream::Compute } else { EXCHANGE },
            span: Span { microbatch: None, layer: None, phase: Phase::Forward },
            action,
            start: Seconds(start),
            end: Seconds(end),
            confidence: Confidence::Measured,
        };
        let (memory, totals) = (Vec::new(), Vec::new());
        let events = events.iter().map(event).collect();
        let origin = Origin::Measured;
        Trace { origin, digest: 0, step: Seconds(9.0), events, memory, totals, shares: [Seconds::ZERO; 3] }
    }

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-9, "{found} is not {expected}");
    }

    #[test]
    fn what_events_cost_is_seen_where_several_kernels_are_between_two() {
        // A kernel takes 2; events add 3 inside, and 4 from end to end.
        let compute = |id| Action::Compute(FragmentId(id));
        let run = 3.0 + 2.0 * RUN as f64;
        let events = [(0, compute(0), 1.0, 6.0), (0, compute(0), 7.0, 12.0), (0, compute(1), 20.0, 20.0 + run)];
        let overhead = Overhead::of(&[trace(&events)]);
        near(overhead.interval, 3.0);
        near(overhead.period, 4.0);
        near(overhead.off_interval(5.0), 2.0);
    }

    #[test]
    fn works_in_a_row_are_timed_from_the_first_end_and_by_the_slowest_rank() {
        let exchange = Action::Exchange(CollectiveId(0));
        // The first of each row waits for others; rank 1 is slower in the second row.
        let ends = [[5.0, 7.0, 9.0, 20.0, 21.0], [5.0, 7.0, 9.0, 20.0, 23.0]];
        let events: Vec<_> = ends
            .iter()
            .enumerate()
            .flat_map(|(rank, ends)| ends.iter().map(move |&end| (rank as u32, exchange, end - 1.0, end)))
            .collect();
        let times = in_rows(&trace(&events), &[0, 1], EXCHANGE, &[3, 2], Overhead { interval: 0.0, period: 0.5 });
        near(times[0], 1.5);
        near(times[1], 2.5);
    }

    #[test]
    fn only_what_was_side_by_side_counts() {
        let (kernel, exchange) = (Action::Compute(FragmentId(0)), Action::Exchange(CollectiveId(0)));
        let mut events = Vec::new();
        for turn in 0..ALONE {
            let at = turn as f64;
            events.extend([(0, kernel, at, at + 1.0), (0, exchange, 10.0 + at, 11.0 + at)]);
        }
        // Side by side kernels take 1.5 and exchanges 2; then the exchanges are over.
        for turn in 0..8 {
            let at = 30.0 + 1.5 * f64::from(turn);
            events.push((0, kernel, at, at + 1.5));
        }
        for turn in 0..4 {
            let at = 30.0 + 2.0 * f64::from(turn);
            events.push((0, exchange, at, at + 2.0));
        }
        events.push((0, kernel, 50.0, 50.1));
        let found = beside(&trace(&events), 0, EXCHANGE).unwrap();
        near(found.kernel, 1.5);
        near(found.exchange, 2.0);
    }
}
