//! How much memory is live at each moment, one line a stage.

use ir::trace::Trace;
use ir::units::{Bytes, Seconds};

use crate::Report;
use crate::figure::{Colour, Entry, Figure, Line, Rule, Scale, Stroke, Vertical};
use crate::quantity::{Unit, counted, size};

/// More stages than there are colours are not shown one by one.
const STAGES_MAX: u32 = Colour::SERIES.len() as u32;
/// More samples than these are joined.
const SAMPLES_MAX: usize = 600;
const BUCKETS: usize = 300;

/// Lines of live memory of the first rank of each stage, under the capacity.
pub(crate) fn figure(report: &Report<'_>) -> Option<Figure> {
    let traces: Vec<(&str, &Trace)> = report.traces().filter(|(_, trace)| !trace.memory.is_empty()).collect();
    let longest = traces.iter().map(|(_, trace)| trace.step).reduce(Seconds::max)?;
    let samples = traces.iter().flat_map(|(_, trace)| &trace.memory);
    let largest = samples.map(|sample| sample.live).max()?.max(report.programs.peak());
    let visible = super::fits_into_view(report.capacity, largest);
    let top = if visible { largest.max(report.capacity) } else { largest };
    let (time, memory) = (Unit::of_times(longest), Unit::of_sizes(top));
    let stages = report.programs.mesh().stages();
    let mut figure = Figure {
        name: "memory",
        title: "Live memory of a rank over one step".to_owned(),
        horizontal: Scale::exact(format!("time ({})", time.name), 0.0, time.time(longest), 8),
        vertical: Vertical::Scale(Scale::rounded(format!("memory ({})", memory.name), 0.0, memory.size(top) * 1.04, 5)),
        ..Figure::default()
    };
    let both = traces.len() > 1;
    for (&stage, colour) in super::spread(stages, STAGES_MAX).iter().zip(Colour::SERIES) {
        let name = report.stage_name(stage);
        for (origin, trace) in &traces {
            let stroke = if both && *origin == "measured" { Stroke::Dashed } else { Stroke::Solid };
            let steps = steps(trace, report.first_rank(stage));
            let Some(peak) = steps.iter().map(|&(_, live)| live).max() else { continue };
            let points = corners(&steps, trace.step, time, memory);
            figure.lines.push(Line {
                points,
                colour,
                stroke,
                title: format!("{name}, {origin}: up to {}", size(peak)),
            });
            let label = if both { format!("{name}, {origin}") } else { name.clone() };
            figure.legend.push(Entry::line(colour, stroke, &label));
        }
    }
    if visible {
        let label = format!("capacity {}", size(report.capacity));
        figure.rules.push(Rule::Level(memory.size(report.capacity), label));
    } else {
        let share = largest.as_f64() / report.capacity.as_f64() * 100.0;
        figure.notes.push(format!("The capacity of {} lies far above: {share:.1} % is used.", size(report.capacity)));
    }
    if stages > STAGES_MAX {
        figure.notes.push(format!("{STAGES_MAX} of {} are shown.", counted(stages as usize, "stage")));
    }
    Some(figure)
}

/// When the live memory of a rank became how large; of many samples the largest of each short interval.
fn steps(trace: &Trace, rank: u32) -> Vec<(Seconds, Bytes)> {
    let samples = trace.memory.iter().filter(|sample| sample.rank == rank);
    let all: Vec<(Seconds, Bytes)> = samples.map(|sample| (sample.time, sample.live)).collect();
    if all.len() <= SAMPLES_MAX {
        return all;
    }
    let mut joined: Vec<(usize, Seconds, Bytes)> = Vec::new();
    let mut before = Bytes::ZERO;
    for (time, live) in all {
        let bucket = (time.0 / trace.step.0 * BUCKETS as f64).clamp(0.0, BUCKETS as f64) as usize;
        match joined.last_mut() {
            Some((last, _, most)) if *last == bucket => *most = live.max(*most),
            Some(_) | None => {
                let start = Seconds(trace.step.0 * bucket as f64 / BUCKETS as f64);
                joined.push((bucket, start, live.max(before)));
            }
        }
        before = live;
    }
    joined.into_iter().map(|(_, time, live)| (time, live)).collect()
}

/// The corners of a line that goes level from each sample to the next, and on to the end of the step.
fn corners(steps: &[(Seconds, Bytes)], end: Seconds, time: Unit, memory: Unit) -> Vec<(f64, f64)> {
    let mut corners: Vec<(f64, f64)> = Vec::new();
    for &(start, live) in steps {
        let (x, y) = (time.time(start.min(end)), memory.size(live));
        if let Some(&(_, before)) = corners.last() {
            corners.push((x, before));
        }
        corners.push((x, y));
    }
    if let Some(&(_, last)) = corners.last() {
        corners.push((time.time(end), last));
    }
    corners
}

#[cfg(test)]
mod tests {
    use ir::trace::{MemorySample, Origin};

    use super::*;

    #[test]
    fn joining_many_samples_keeps_the_peak() {
        let sample = |index: u64| MemorySample {
            rank: 0,
            time: Seconds(index as f64 / 5000.0),
            live: Bytes(if index == 3777 { 1_000_000 } else { index % 100 }),
        };
        let trace = Trace {
            origin: Origin::Predicted,
            digest: 0,
            step: Seconds(1.0),
            events: Vec::new(),
            memory: (0..5000).map(sample).collect(),
            totals: Vec::new(),
            shares: [Seconds::ZERO; 3],
        };
        let steps = steps(&trace, 0);
        assert!(steps.len() <= BUCKETS + 1);
        assert_eq!(steps.iter().map(|&(_, live)| live).max(), Some(Bytes(1_000_000)));
    }
}
