//! Time against memory of all plans that were considered, and the front of those that no other beats in both.

use std::collections::BTreeMap;

use ir::units::{Bytes, Seconds};

use crate::figure::{Colour, Dot, Entry, Figure, Line, Rule, Scale, Size, Stroke, Vertical};
use crate::quantity::{Unit, counted, size, time};
use crate::{CandidatePoint, Report, Standing};

/// More points than these are thinned: of those that lie on one spot, one is kept.
const POINTS_MAX: usize = 1200;
/// Spots along each axis.
const SPOTS: f64 = 120.0;

/// A point for each plan, small ones under large ones.
pub(crate) fn figure(report: &Report<'_>) -> Option<Figure> {
    let all = report.candidates;
    let [least, longest] = [Seconds::min, Seconds::max].map(|choose| all.iter().map(|one| one.time).reduce(choose));
    let (least, longest) = (least?, longest?);
    let largest = all.iter().map(|one| one.peak).max()?;
    let visible = super::fits_into_view(report.capacity, largest);
    let right = if visible { largest.max(report.capacity) } else { largest };
    let (memory, unit) = (Unit::of_sizes(right), Unit::of_times(longest));
    let smallest = all.iter().map(|one| one.peak).min().unwrap_or(Bytes::ZERO);
    let room = ((longest - least) * 0.05).max(longest * 0.01);
    let [bottom, top] = [unit.time(least - room), unit.time(longest + room)];
    let mut figure = Figure {
        name: "candidates",
        title: "Plans that were considered: time against memory".to_owned(),
        horizontal: Scale::rounded(
            format!("peak memory of a rank ({})", memory.name),
            memory.size(smallest) * 0.95,
            memory.size(right) * 1.02,
            6,
        ),
        vertical: Vertical::Scale(Scale::rounded(format!("time of a step ({})", unit.name), bottom, top, 5)),
        ..Figure::default()
    };
    let place = |one: &CandidatePoint| (memory.size(one.peak), unit.time(one.time));
    let front = front(all);
    let points = front.iter().map(|&one| place(one)).collect();
    let title = format!("front: {} that no other beats in both", counted(front.len(), "plan"));
    figure.lines.push(Line { points, colour: Colour::Purple, stroke: Stroke::Solid, title });
    let mut shown = thinned(all, largest, longest);
    shown.sort_by_key(|one| one.standing);
    let labelled = labelled(&shown, &front, (largest, least, longest));
    figure.dots = shown
        .iter()
        .map(|one| Dot {
            at: place(one),
            colour: colour(one.standing),
            size: if one.standing == Standing::Chosen { Size::Large } else { Size::Small },
            label: if labelled.iter().any(|other| std::ptr::eq(*other, *one)) {
                one.mark.clone()
            } else {
                String::new()
            },
            title: format!("{} {}: {}, {}", one.mark, one.label, time(one.time), size(one.peak)),
        })
        .collect();
    let standings = [
        (Standing::Chosen, "chosen"),
        (Standing::Fits, "fits"),
        (Standing::Recipe, "usual recipe"),
        (Standing::TooLarge, "too large"),
    ];
    for (standing, name) in standings {
        if all.iter().any(|one| one.standing == standing) {
            figure.legend.push(Entry::dot(colour(standing), name));
        }
    }
    figure.legend.push(Entry::line(Colour::Purple, Stroke::Solid, "front: no plan is better in both"));
    if visible {
        figure.rules.push(Rule::Upright(memory.size(report.capacity), format!("capacity {}", size(report.capacity))));
    } else {
        figure.notes.push(format!("The capacity of {} lies far to the right.", size(report.capacity)));
    }
    if shown.len() < all.len() {
        figure.notes.push(format!("{} of {} plans are shown: of those on one spot, one.", shown.len(), all.len()));
    }
    Some(figure)
}

fn colour(standing: Standing) -> Colour {
    match standing {
        Standing::TooLarge => Colour::Grey,
        Standing::Fits => Colour::Blue,
        Standing::Recipe => Colour::Brown,
        Standing::Chosen => Colour::Orange,
    }
}

/// Plans than which no other is as fast and as small, from the smallest to the fastest.
pub(crate) fn front(all: &[CandidatePoint]) -> Vec<&CandidatePoint> {
    let mut sorted: Vec<&CandidatePoint> = all.iter().collect();
    sorted.sort_by(|a, b| a.peak.cmp(&b.peak).then(a.time.0.total_cmp(&b.time.0)));
    let mut front: Vec<&CandidatePoint> = Vec::new();
    for one in sorted {
        if front.last().is_none_or(|last| one.time < last.time) {
            front.push(one);
        }
    }
    front
}

/// Labels this near to each other, as parts of both axes, would lie on each other.
const NEAR: [f64; 2] = [0.06, 0.05];

/// Points whose labels can be read: of near ones first the chosen, then those of the front, then recipes.
fn labelled<'a>(
    shown: &[&'a CandidatePoint],
    front: &[&CandidatePoint],
    (largest, least, longest): (Bytes, Seconds, Seconds),
) -> Vec<&'a CandidatePoint> {
    let is_front = |one: &CandidatePoint| front.iter().any(|other| std::ptr::eq(*other, one));
    let rank = |one: &CandidatePoint| match (one.standing, is_front(one)) {
        (Standing::Chosen, _) => 0,
        (_, true) => 1,
        (Standing::Recipe, false) => 2,
        (Standing::Fits, false) => 3,
        (Standing::TooLarge, false) => 4,
    };
    let mut ordered: Vec<&CandidatePoint> = shown.iter().copied().filter(|one| !one.mark.is_empty()).collect();
    ordered.sort_by_key(|one| rank(one));
    let place = |one: &CandidatePoint| {
        let range = (longest - least).0.max(f64::MIN_POSITIVE);
        [one.peak.as_f64() / largest.as_f64().max(1.0), (one.time - least).0 / range]
    };
    let mut kept: Vec<&CandidatePoint> = Vec::new();
    for one in ordered {
        let here = place(one);
        let is_near = |other: &&CandidatePoint| {
            let there = place(other);
            (0..2).all(|axis| (here[axis] - there[axis]).abs() < NEAR[axis])
        };
        if !kept.iter().any(is_near) {
            kept.push(one);
        }
    }
    kept
}

/// All plans, or one of those on each spot if they are many: the one with the highest standing.
fn thinned(all: &[CandidatePoint], largest: Bytes, longest: Seconds) -> Vec<&CandidatePoint> {
    if all.len() <= POINTS_MAX {
        return all.iter().collect();
    }
    let mut spots: BTreeMap<(u64, u64), &CandidatePoint> = BTreeMap::new();
    for one in all {
        let across = one.peak.as_f64() / largest.as_f64() * SPOTS;
        let up = one.time.0 / longest.0 * SPOTS;
        let kept = spots.entry((across as u64, up as u64)).or_insert(one);
        if one.standing > kept.standing {
            *kept = one;
        }
    }
    spots.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_front_has_no_plan_that_another_beats() {
        let point = |time: f64, peak: u64| CandidatePoint {
            mark: String::new(),
            label: String::new(),
            time: Seconds(time),
            peak: Bytes(peak),
            standing: Standing::Fits,
        };
        let all = [point(3.0, 10), point(2.0, 20), point(2.5, 25), point(1.0, 30), point(1.0, 40), point(3.5, 10)];
        let front: Vec<(f64, u64)> = front(&all).iter().map(|one| (one.time.0, one.peak.0)).collect();
        assert_eq!(front, [(3.0, 10), (2.0, 20), (1.0, 30)]);
    }

    #[test]
    fn of_labels_that_would_lie_on_each_other_one_is_kept() {
        let point = |mark: &str, time: f64, peak: u64, standing| CandidatePoint {
            mark: mark.to_owned(),
            label: String::new(),
            time: Seconds(time),
            peak: Bytes(peak),
            standing,
        };
        let all = [
            point("1", 1.0, 100, Standing::Fits),
            point("2", 1.01, 99, Standing::Chosen),
            point("3", 1.5, 50, Standing::Fits),
            point("plain", 2.0, 10, Standing::Recipe),
        ];
        let shown: Vec<&CandidatePoint> = all.iter().collect();
        let kept = labelled(&shown, &front(&all), (Bytes(100), Seconds(1.0), Seconds(2.0)));
        assert_eq!(kept.iter().map(|one| one.mark.as_str()).collect::<Vec<_>>(), ["2", "3", "plain"]);
    }
}
