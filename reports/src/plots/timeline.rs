//! What ran when: one lane for each stream of the first rank of each stage, predicted above measured.

use std::collections::BTreeSet;

use ir::mesh::Axis;
use ir::program::{Phase, Stream};
use ir::trace::Trace;
use ir::units::Seconds;

use crate::Report;
use crate::activity::{Activity, Detail, Sort, activities};
use crate::figure::{Bar, Colour, Entry, Figure, Lane, Scale, Tone, Vertical, Zoom};
use crate::quantity::{Unit, counted, phase_name};

/// More bars than these make the page slow and show nothing more.
const BARS_MAX: usize = 2400;
/// More lanes than these are not read.
const LANES_MAX: usize = 80;

/// Lanes of all streams on which something ran.
pub(crate) fn figure(report: &Report<'_>) -> Option<Figure> {
    let traces: Vec<(&str, &Trace)> = report.traces().filter(|(_, trace)| !trace.events.is_empty()).collect();
    let longest = traces.iter().map(|(_, trace)| trace.step).reduce(Seconds::max)?;
    let unit = Unit::of_times(longest);
    let count = report.programs.mesh().stages();
    let stages = super::spread(count, stages_max(report, &traces));
    let (detail, mut groups) = at_readable_detail(report, &traces, &stages);

    let found = bar_count(&groups);
    keep_longest(&mut groups, BARS_MAX);

    let mut lanes = Vec::new();
    let mut bars = Vec::new();
    let mut sorts = BTreeSet::new();
    for RankActivities { name, activities } in &groups {
        lanes.push(Lane::Heading(name.clone()));
        let mut stream = None;
        for activity in activities {
            if stream != Some(activity.stream) {
                lanes.push(Lane::Bars(activity.stream.name().to_owned()));
                stream = Some(activity.stream);
            }
            sorts.insert(activity.sort());
            bars.push(bar(report, activity, lanes.len() - 1, unit));
        }
    }
    let mut notes = vec![format!(
        "Each bar joins {}, and is as high as the part of its time that is busy; neighbours differ in tone; trace.json \
         has every instruction.",
        detail.words()
    )];
    if found > BARS_MAX {
        notes.push(format!("The {BARS_MAX} longest of {found} bars are shown."));
    }
    let ranks = report.programs.mesh().ranks_per_stage();
    if ranks > 1 {
        notes.push(format!("The first of the {ranks} ranks of each stage is shown."));
    }
    if stages.len() < count as usize {
        notes.push(format!("{} of {} are shown.", stages.len(), counted(count as usize, "stage")));
    }
    Some(Figure {
        name: "timeline",
        title: "What runs when in one step".to_owned(),
        horizontal: Scale::exact(format!("time ({})", unit.name), 0.0, unit.time(longest), 8),
        vertical: Vertical::Lanes(lanes),
        bars,
        legend: sorts.into_iter().map(|sort| Entry::area(colour(sort), label(sort))).collect(),
        notes,
        zoom: Zoom::Horizontal,
        ..Figure::default()
    })
}

/// The activities of one rank.
struct RankActivities {
    name: String,
    activities: Vec<Activity>,
}

/// How many stages can be shown with all their streams.
fn stages_max(report: &Report<'_>, traces: &[(&str, &Trace)]) -> u32 {
    let streams = |stage: u32| -> usize {
        let rank = report.first_rank(stage);
        let of = |trace: &Trace| -> BTreeSet<Stream> {
            trace.events.iter().filter(|event| event.rank == rank).map(|event| event.stream).collect()
        };
        traces.iter().map(|(_, trace)| of(trace).len() + 1).sum()
    };
    let most = (0..report.programs.mesh().stages()).map(streams).max().unwrap_or(1);
    (LANES_MAX / most.max(1)).max(2) as u32
}

/// The finest detail at which there are not too many bars, and the activities at that detail.
fn at_readable_detail(report: &Report<'_>, traces: &[(&str, &Trace)], stages: &[u32]) -> (Detail, Vec<RankActivities>) {
    let at = |detail| -> Vec<RankActivities> {
        let mut groups = Vec::new();
        for &stage in stages {
            for (origin, trace) in traces {
                let name = format!("{}, {origin}", report.stage_name(stage));
                groups.push(RankActivities { name, activities: activities(trace, report.first_rank(stage), detail) });
            }
        }
        groups
    };
    let details = Detail::ALL.into_iter().map(|detail| (detail, at(detail)));
    let mut last = None;
    for (detail, groups) in details {
        if bar_count(&groups) <= BARS_MAX {
            return (detail, groups);
        }
        last = Some((detail, groups));
    }
    last.expect("there is a coarsest detail")
}

fn bar_count(groups: &[RankActivities]) -> usize {
    groups.iter().map(|group| group.activities.len()).sum()
}

/// Keeps the longest activities, and of equally long ones the first, so that the rest can be shown.
fn keep_longest(groups: &mut [RankActivities], limit: usize) {
    let mut busy: Vec<f64> = groups.iter().flat_map(|group| &group.activities).map(|one| one.busy.0).collect();
    busy.sort_by(|a, b| b.total_cmp(a));
    let Some(&least) = busy.get(limit) else { return };
    let mut ties = limit - busy.iter().filter(|&&time| time > least).count();
    for group in groups {
        group.activities.retain(|one| {
            let tie = one.busy.0.total_cmp(&least).is_eq() && ties > 0;
            ties -= usize::from(tie);
            one.busy.0 > least || tie
        });
    }
}

fn bar(report: &Report<'_>, activity: &Activity, lane: usize, unit: Unit) -> Bar {
    let Activity { span, start, end, busy, events, .. } = *activity;
    let mut words = Vec::new();
    if let Some(layer) = span.layer {
        words.push(report.layers.get(usize::from(layer)).cloned().unwrap_or_else(|| format!("layer {layer}")));
    }
    words.push(phase_name(span.phase).to_owned());
    if let Some(microbatch) = span.microbatch {
        words.push(format!("microbatch {}", microbatch + 1));
    }
    let [from, to] = [start, end].map(|time| unit.time(time));
    words.push(format!("{} to {}", unit.show(from), unit.show(to)));
    let length = (end - start).0;
    let share = if length > 0.0 { (busy.0 / length).min(1.0) } else { 1.0 };
    words.push(format!("busy for {} of it in {}", unit.show_time(busy), counted(events, "instruction")));
    Bar {
        lane,
        from,
        to,
        colour: colour(activity.sort()),
        tone: Tone::of(span.layer.or(span.microbatch).unwrap_or(0)),
        fill: share,
        title: words.join(", "),
    }
}

fn colour(sort: Sort) -> Colour {
    match sort {
        Sort::Compute(Phase::Forward) => Colour::Blue,
        Sort::Compute(Phase::Backward) => Colour::Teal,
        Sort::Compute(Phase::Update) => Colour::Purple,
        Sort::Exchange(Axis::Data) => Colour::Orange,
        Sort::Exchange(Axis::Tensor) => Colour::Gold,
        Sort::Exchange(Axis::Pipeline) => Colour::Pink,
        Sort::Transfer => Colour::Brown,
    }
}

fn label(sort: Sort) -> &'static str {
    match sort {
        Sort::Compute(Phase::Forward) => "compute, forward",
        Sort::Compute(Phase::Backward) => "compute, backward",
        Sort::Compute(Phase::Update) => "compute, update",
        Sort::Exchange(Axis::Data) => "exchange over data",
        Sort::Exchange(Axis::Tensor) => "exchange over tensor",
        Sort::Exchange(Axis::Pipeline) => "exchange over pipeline",
        Sort::Transfer => "transfer between stages",
    }
}

#[cfg(test)]
mod tests {
    use ir::program::Span;

    use super::*;

    #[test]
    fn a_bar_is_as_high_as_the_part_of_its_time_that_is_busy() {
        let bar = |fill| Bar {
            lane: 0,
            from: 0.0,
            to: 1.0,
            colour: Colour::Gold,
            tone: Tone::Full,
            fill,
            title: String::new(),
        };
        assert_eq!(bar(1.0).rise(14.0), (0.0, 14.0));
        assert_eq!(bar(0.25).rise(14.0), (10.5, 3.5));
        assert_eq!(bar(0.0).rise(14.0), (12.5, 1.5), "what is there is seen");
    }

    #[test]
    fn of_too_many_bars_the_longest_are_kept_and_of_equal_ones_the_first() {
        let activity = |busy: f64| Activity {
            stream: Stream::Compute,
            span: Span { microbatch: None, layer: None, phase: Phase::Forward },
            start: Seconds::ZERO,
            end: Seconds(busy),
            busy: Seconds(busy),
            events: 1,
        };
        let group = |times: &[f64]| RankActivities {
            name: String::new(),
            activities: times.iter().map(|&busy| activity(busy)).collect(),
        };
        let mut groups = [group(&[1.0, 3.0, 1.0]), group(&[1.0, 2.0])];
        keep_longest(&mut groups, 3);
        let kept = groups.map(|group| group.activities.iter().map(|one| one.busy).collect::<Vec<Seconds>>());
        assert_eq!(kept, [vec![Seconds(1.0), Seconds(3.0)], vec![Seconds(2.0)]]);
    }
}
