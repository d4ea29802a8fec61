//! Where the time of a step went: every moment of a rank counted once.

use ir::mesh::Axis;
use ir::program::Stream;
use ir::trace::Trace;
use ir::units::Seconds;
use serde::Serialize;

/// The time of a step by what ran; the parts add up to the step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Breakdown {
    /// Kernels alone.
    pub(crate) compute: Seconds,
    /// Kernels, and beside them exchanges or transfers, which are thereby hidden.
    pub(crate) hiding: Seconds,
    /// Exchanges without kernels, by the order of [`Axis::ALL`].
    pub(crate) exchange: [Seconds; 3],
    /// Transfers without kernels or exchanges.
    pub(crate) transfer: Seconds,
    /// Nothing ran.
    pub(crate) idle: Seconds,
}

const COMPUTE: usize = 0;
const TRANSFER: usize = 4;

/// What a stream is counted as: kernels, one of three axes, transfers.
fn class(stream: Stream) -> usize {
    match stream {
        Stream::Compute => COMPUTE,
        Stream::Exchange(Axis::Data) => 1,
        Stream::Exchange(Axis::Tensor) => 2,
        Stream::Exchange(Axis::Pipeline) => 3,
        Stream::Send(_) | Stream::Receive(_) => TRANSFER,
    }
}

/// The breakdown of the mean of some ranks.
pub(crate) fn breakdown(trace: &Trace, ranks: &[u32]) -> Breakdown {
    let mut sum = Breakdown::default();
    for &rank in ranks {
        let of_rank = breakdown_of(trace, rank);
        sum.compute += of_rank.compute;
        sum.hiding += of_rank.hiding;
        sum.transfer += of_rank.transfer;
        sum.idle += of_rank.idle;
        for (total, part) in sum.exchange.iter_mut().zip(of_rank.exchange) {
            *total += part;
        }
    }
    let share = 1.0 / ranks.len().max(1) as f64;
    Breakdown {
        compute: sum.compute * share,
        hiding: sum.hiding * share,
        exchange: sum.exchange.map(|part| part * share),
        transfer: sum.transfer * share,
        idle: sum.idle * share,
    }
}

/// Sweeps over the starts and ends of a rank's events, and gives each interval between two of them to one part.
fn breakdown_of(trace: &Trace, rank: u32) -> Breakdown {
    let mut edges: Vec<(f64, usize, i32)> = Vec::new();
    for event in trace.events.iter().filter(|event| event.rank == rank) {
        let [start, end] = [event.start, event.end].map(|time| time.max(Seconds::ZERO).min(trace.step).0);
        edges.push((start, class(event.stream), 1));
        edges.push((end, class(event.stream), -1));
    }
    edges.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut parts = Breakdown::default();
    let mut running = [0i32; 5];
    let mut last = 0.0;
    for (time, class, change) in edges {
        parts.give(running, Seconds(time - last));
        running[class] += change;
        last = time;
    }
    parts.give([0; 5], trace.step - Seconds(last));
    parts
}

impl Breakdown {
    /// Its parts, in the order in which they are stacked.
    pub(crate) fn parts(&self) -> [Seconds; 7] {
        let [data, tensor, pipeline] = self.exchange;
        [self.compute, self.hiding, data, tensor, pipeline, self.transfer, self.idle]
    }

    /// Counts a time during which so many events of each class ran.
    fn give(&mut self, running: [i32; 5], time: Seconds) {
        let beside = running[1..].iter().any(|&count| count > 0);
        let part = if running[COMPUTE] > 0 {
            if beside { &mut self.hiding } else { &mut self.compute }
        } else if let Some(axis) = running[1..TRANSFER].iter().position(|&count| count > 0) {
            &mut self.exchange[axis]
        } else if running[TRANSFER] > 0 {
            &mut self.transfer
        } else {
            &mut self.idle
        };
        *part += time;
    }
}

#[cfg(test)]
mod tests {
    use ir::program::{Action, Direction, FragmentId, Phase, Span};
    use ir::trace::{Confidence, Origin, TraceEvent};

    use super::*;

    fn trace(events: &[(Stream, f64, f64)]) -> Trace {
        let span = Span { microbatch: None, layer: None, phase: Phase::Forward };
        let event = |&(stream, start, end): &(Stream, f64, f64)| TraceEvent {
            rank: 0,
            stream,
            span,
            action: Action::Compute(FragmentId(0)),
            start: Seconds(start),
            end: Seconds(end),
            confidence: Confidence::Modelled,
        };
        Trace {
            origin: Origin::Predicted,
            digest: 0,
            step: Seconds(10.0),
            events: events.iter().map(event).collect(),
            memory: Vec::new(),
            totals: Vec::new(),
            shares: [Seconds::ZERO; 3],
        }
    }

    #[test]
    fn each_moment_counts_once_and_kernels_come_first() {
        let trace = trace(&[
            (Stream::Compute, 1.0, 4.0),
            (Stream::Exchange(Axis::Data), 3.0, 6.0),
            (Stream::Send(Direction::Forward), 5.0, 8.0),
        ]);
        let parts = breakdown(&trace, &[0]);
        assert_eq!(
            parts.parts(),
            [2.0, 1.0, 2.0, 0.0, 0.0, 2.0, 3.0].map(Seconds),
            "compute, hiding, data, tensor, pipeline, transfer, idle"
        );
    }

    #[test]
    fn parts_add_up_to_the_step() {
        let trace = trace(&[
            (Stream::Exchange(Axis::Tensor), 0.0, 2.0),
            (Stream::Compute, 0.5, 0.5),
            (Stream::Receive(Direction::Backward), 1.0, 9.5),
            (Stream::Compute, 9.0, 12.0),
        ]);
        let sum: Seconds = breakdown(&trace, &[0]).parts().into_iter().sum();
        assert!((sum.0 - 10.0).abs() < 1e-12, "{sum}");
    }
}
