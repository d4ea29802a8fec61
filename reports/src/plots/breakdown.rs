//! Where the step goes: each moment of the mean rank counted once, predicted above measured.

use ir::mesh::Mesh;
use ir::trace::Trace;
use ir::units::Seconds;

use crate::Report;
use crate::breakdown::{Breakdown, breakdown};
use crate::figure::{Bar, Colour, Entry, Figure, Lane, Scale, Tone, Vertical};
use crate::quantity::{Unit, counted, percent};

/// More stages than these are not shown one by one.
const STAGES_MAX: u32 = 8;

const PARTS: [(&str, Colour); 7] = [
    ("compute", Colour::Blue),
    ("compute, hiding communication", Colour::Sky),
    ("exchange over data", Colour::Orange),
    ("exchange over tensor", Colour::Gold),
    ("exchange over pipeline", Colour::Pink),
    ("transfer between stages", Colour::Brown),
    ("idle", Colour::Grey),
];

/// Stacked bars: of all ranks, and of each stage.
pub(crate) fn figure(report: &Report<'_>) -> Option<Figure> {
    let traces: Vec<(&str, &Trace)> = report.traces().filter(|(_, trace)| !trace.events.is_empty()).collect();
    let longest = traces.iter().map(|(_, trace)| trace.step).reduce(Seconds::max)?;
    let unit = Unit::of_times(longest);
    let stages = report.programs.mesh().stages();
    let mut figure = Figure {
        name: "breakdown",
        title: "Where the time of a step goes, mean of ranks".to_owned(),
        horizontal: Scale::exact(format!("time ({})", unit.name), 0.0, unit.time(longest), 8),
        ..Figure::default()
    };
    let mut lanes = Vec::new();
    let mut seen = [false; PARTS.len()];
    let groups = std::iter::once(None).chain(super::spread(stages, STAGES_MAX).into_iter().map(Some));
    for stage in groups.filter(|stage| stages > 1 || stage.is_none()) {
        lanes.push(Lane::Heading(stage.map_or("all ranks".to_owned(), |stage| report.stage_name(stage))));
        for (origin, trace) in &traces {
            let parts = breakdown(trace, &ranks(report, trace, stage));
            figure.bars.extend(stack(&parts, lanes.len(), unit, trace.step));
            for (seen, part) in seen.iter_mut().zip(parts.parts()) {
                *seen |= part > Seconds::ZERO;
            }
            lanes.push(Lane::Bars((*origin).to_owned()));
        }
    }
    figure.vertical = Vertical::Lanes(lanes);
    let shown = PARTS.iter().zip(seen).filter(|(_, seen)| *seen);
    figure.legend = shown.map(|((name, colour), _)| Entry::area(*colour, name)).collect();
    if stages > STAGES_MAX {
        figure.notes.push(format!("{STAGES_MAX} of {} are shown one by one.", counted(stages as usize, "stage")));
    }
    Some(figure)
}

/// The ranks of a trace that belong to a stage, or all.
fn ranks(report: &Report<'_>, trace: &Trace, stage: Option<u32>) -> Vec<u32> {
    let mesh = report.programs.mesh();
    let wanted = |&rank: &u32| stage.is_none_or(|stage| mesh.coordinate(rank, Mesh::PIPELINE) == stage);
    let mut ranks: Vec<u32> = trace.totals.iter().map(|totals| totals.rank).filter(wanted).collect();
    if ranks.is_empty() {
        ranks = trace.events.iter().map(|event| event.rank).filter(wanted).collect();
        ranks.sort_unstable();
        ranks.dedup();
    }
    ranks
}

fn stack(parts: &Breakdown, lane: usize, unit: Unit, step: Seconds) -> Vec<Bar> {
    let mut from = Seconds::ZERO;
    let mut bars = Vec::new();
    for ((name, colour), part) in PARTS.iter().zip(parts.parts()) {
        if part > Seconds::ZERO {
            let title = format!("{name}: {}, {} of the step", unit.show_time(part), percent(part.0 / step.0));
            bars.push(Bar {
                lane,
                from: unit.time(from),
                to: unit.time(from + part),
                colour: *colour,
                tone: Tone::Full,
                fill: 1.0,
                title,
            });
        }
        from += part;
    }
    bars
}
