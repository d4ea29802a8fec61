//! Events of one stream joined to what a reader can see: a layer's pass, a microbatch, or a pixel.

use ir::mesh::Axis;
use ir::program::{Phase, Span, Stream};
use ir::trace::{Trace, TraceEvent};
use ir::units::Seconds;

/// Events of one stream that lie side by side and belong together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Activity {
    /// Where they ran.
    pub(crate) stream: Stream,
    /// What they were part of; what differs among them is none.
    pub(crate) span: Span,
    /// When the first began.
    pub(crate) start: Seconds,
    /// When the last ended.
    pub(crate) end: Seconds,
    /// Sum of their times.
    pub(crate) busy: Seconds,
    /// How many they are.
    pub(crate) events: usize,
}

/// How far events are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detail {
    /// Those of one layer, pass and microbatch.
    Layer,
    /// Those of one pass and microbatch.
    Microbatch,
    /// Those of one pass that lie closer than can be seen.
    Pass,
}

impl Detail {
    /// From the finest to the coarsest.
    pub(crate) const ALL: [Detail; 3] = [Detail::Layer, Detail::Microbatch, Detail::Pass];

    /// What a bar of this detail joins, for a note to the reader.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Detail::Layer => "instructions of one layer, pass and microbatch",
            Detail::Microbatch => "instructions of one pass and microbatch over all layers",
            Detail::Pass => "instructions of one pass over all microbatches",
        }
    }

    /// The part of a span that events of one bar share.
    fn key(self, span: Span) -> Span {
        match self {
            Detail::Layer => span,
            Detail::Microbatch => Span { layer: None, ..span },
            Detail::Pass => Span { layer: None, microbatch: None, ..span },
        }
    }
}

/// The activities of a rank, by stream and time. Gaps shorter than a thousandth of the step are closed.
pub(crate) fn activities(trace: &Trace, rank: u32, detail: Detail) -> Vec<Activity> {
    let gap = trace.step * 1e-3;
    let mut all = Vec::new();
    for stream in Stream::ALL {
        let first = all.len();
        for event in trace.events.iter().filter(|event| event.rank == rank && event.stream == stream) {
            let span = detail.key(event.span);
            match all[first..].last_mut() {
                Some(last) if belongs(last, span, event, gap) => {
                    last.end = last.end.max(event.end);
                    last.busy += event.end - event.start;
                    last.events += 1;
                }
                Some(_) | None => {
                    let (start, end) = (event.start, event.end);
                    all.push(Activity { stream, span, start, end, busy: end - start, events: 1 });
                }
            }
        }
    }
    all
}

fn belongs(last: &Activity, span: Span, event: &TraceEvent, gap: Seconds) -> bool {
    last.span == span && event.start - last.end <= gap
}

impl Activity {
    /// Which colour shows it: one for each pass of kernels, each axis of exchanges, and transfers.
    pub(crate) fn sort(&self) -> Sort {
        match self.stream {
            Stream::Compute => Sort::Compute(self.span.phase),
            Stream::Exchange(axis) => Sort::Exchange(axis),
            Stream::Send(_) | Stream::Receive(_) => Sort::Transfer,
        }
    }
}

/// What an activity is, for colours and legends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sort {
    /// Kernels of one pass.
    Compute(Phase),
    /// Collectives of one axis.
    Exchange(Axis),
    /// Sends and receives.
    Transfer,
}

#[cfg(test)]
mod tests {
    use ir::program::{Action, FragmentId};
    use ir::trace::{Confidence, Origin};

    use super::*;

    #[test]
    fn neighbours_of_one_span_are_joined_and_distant_ones_are_not() {
        let span = |layer| Span { microbatch: Some(0), layer: Some(layer), phase: Phase::Forward };
        let event = |layer, start, end| TraceEvent {
            rank: 0,
            stream: Stream::Compute,
            span: span(layer),
            action: Action::Compute(FragmentId(0)),
            start: Seconds(start),
            end: Seconds(end),
            confidence: Confidence::Modelled,
        };
        let trace = Trace {
            origin: Origin::Predicted,
            digest: 0,
            step: Seconds(10.0),
            events: vec![event(0, 0.0, 1.0), event(0, 1.0, 2.0), event(1, 2.0, 3.0), event(1, 5.0, 6.0)],
            memory: Vec::new(),
            totals: Vec::new(),
            shares: [Seconds::ZERO; 3],
        };
        let ends = |detail| -> Vec<(f64, f64, usize)> {
            activities(&trace, 0, detail).iter().map(|one| (one.start.0, one.end.0, one.events)).collect()
        };
        assert_eq!(ends(Detail::Layer), [(0.0, 2.0, 2), (2.0, 3.0, 1), (5.0, 6.0, 1)]);
        assert_eq!(ends(Detail::Microbatch), [(0.0, 3.0, 3), (5.0, 6.0, 1)]);
    }
}
