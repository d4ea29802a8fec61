//! The dynamic program over the layers of a range: exact below a cut, by labels whose cost-to-go lies below it.

use super::allowance::Allowance;
use super::range::Point;
use super::relaxation::{Relaxation, Totals};
use super::ticks::Choice;

/// What is known of the choices below a cut.
pub(crate) enum Below {
    /// The fastest point among those that come through, if any does, and no other one is below the cut. What wastes
    /// no memory is bounded by its time, what wastes some lies lower: a point above the cut may come through.
    Complete(Option<Point>),
    /// As before, but there may be others above the cut.
    Cut(Option<Point>),
    /// The effort was spent before anything was certain.
    Spent,
}

/// The fastest choice whose time is below `cut`.
pub(crate) fn fastest_below(relaxation: &Relaxation<'_>, cut: f64, effort: &mut Allowance) -> Below {
    LabelSearch::new(relaxation, cut).run(effort)
}

struct LabelSearch<'a> {
    relaxation: &'a Relaxation<'a>,
    /// Cost at and above which a label is of no use.
    ceiling: f64,
    /// Each list's choices by layout, the cheapest first, with their costs.
    menus: Vec<Vec<Vec<(f64, Choice)>>>,
    /// The least that the layers from each one on can take.
    rests: Vec<Totals>,
    /// Whether the limit on the step can be exceeded.
    steps: StepRule,
}

/// Whether labels must be compared by their step too.
#[derive(Clone, Copy)]
enum StepRule {
    Free,
    Limited,
}

/// A choice for the first layers.
#[derive(Clone, Copy, Debug)]
struct Label {
    totals: Totals,
    layout: usize,
    origin: Origin,
}

/// Where a label came from: its parent's place in the history, and the strategy of the last layer.
#[derive(Clone, Copy, Debug)]
struct Origin {
    parent: u32,
    strategy: u32,
}

const NO_PARENT: u32 = u32::MAX;

impl<'a> LabelSearch<'a> {
    fn new(relaxation: &'a Relaxation<'a>, cut: f64) -> Self {
        let layouts = relaxation.class.boundary.len();
        let menu = |list: &Vec<Choice>| {
            let mut menu: Vec<Vec<(f64, Choice)>> = vec![Vec::new(); layouts];
            list.iter().for_each(|choice| menu[choice.layout].push((relaxation.prices.of(choice), *choice)));
            menu.iter_mut().for_each(|choices| choices.sort_by(|(one, _), (other, _)| one.total_cmp(other)));
            menu
        };
        let menus = relaxation.lists.iter().map(menu).collect();
        let ceiling = cut + relaxation.worth();
        let limited = relaxation.most_steps() > relaxation.step_limit;
        let steps = if limited { StepRule::Limited } else { StepRule::Free };
        Self { relaxation, ceiling, menus, rests: least_rests(relaxation), steps }
    }

    fn run(&self, effort: &mut Allowance) -> Below {
        let mut history: Vec<Origin> = Vec::new();
        let origin = Origin { parent: NO_PARENT, strategy: 0 };
        let mut labels = vec![Label { totals: Totals::default(), layout: 0, origin }];
        let mut was_cut = false;
        for layer in 0..self.relaxation.layers.len() {
            let first = if layer == 0 { None } else { Some(history.len() - labels.len()) };
            let (reached, some_cut) = self.extend(layer, &labels, first);
            was_cut |= some_cut;
            let made: usize = reached.iter().map(Vec::len).sum();
            if !effort.spend(made as u64) {
                return Below::Spent;
            }
            let keep = match self.steps {
                StepRule::Free => pareto_without_step,
                StepRule::Limited => pareto,
            };
            labels = reached.into_iter().flat_map(keep).collect();
            history.extend(labels.iter().map(|label| label.origin));
        }
        let point = self.fastest(&labels, &history);
        if was_cut { Below::Cut(point) } else { Below::Complete(point) }
    }

    /// The labels of one layer more, by layout, and whether some were cut off. `first` is where the history of
    /// `labels` begins.
    fn extend(&self, layer: usize, labels: &[Label], first: Option<usize>) -> (Vec<Vec<Label>>, bool) {
        let Relaxation { class, prices, to_go, budget, step_limit, layers, .. } = self.relaxation;
        let layouts = class.boundary.len();
        let rest = self.rests[layer + 1];
        let onward = &to_go[(layer + 1) * layouts..(layer + 2) * layouts];
        let mut reached: Vec<Vec<Label>> = vec![Vec::new(); layouts];
        let mut was_cut = false;
        for (index, label) in labels.iter().enumerate() {
            let parent = first.map_or(NO_PARENT, |first| (first + index) as u32);
            let cost = prices.of_totals(label.totals);
            for (layout, menu) in self.menus[layers[layer]].iter().enumerate() {
                if layer == 0 && self.relaxation.ends.first.is_some_and(|first| first != layout) {
                    continue;
                }
                let moved = if layer == 0 { 0 } else { class.transitions[label.layout][layout] };
                let reach = cost + prices.time * moved as f64 + onward[layout];
                for &(price, choice) in menu {
                    if reach + price >= self.ceiling {
                        was_cut = true;
                        break;
                    }
                    let totals = Totals {
                        time: label.totals.time + moved + choice.time,
                        step: label.totals.step + choice.step,
                        bytes: label.totals.bytes.saturating_add(choice.bytes),
                    };
                    if totals.bytes.saturating_add(rest.bytes) <= *budget && totals.step + rest.step <= *step_limit {
                        let origin = Origin { parent, strategy: choice.strategy as u32 };
                        reached[layout].push(Label { totals, layout, origin });
                    }
                }
            }
        }
        (reached, was_cut)
    }

    fn fastest(&self, labels: &[Label], history: &[Origin]) -> Option<Point> {
        let Relaxation { class, ends, .. } = self.relaxation;
        let leaving = |label: &Label| ends.next.map_or(0, |next| class.transitions[label.layout][next]);
        let base = history.len() - labels.len();
        let finished = labels.iter().enumerate();
        let (time, step, index) =
            finished.map(|(index, label)| (label.totals.time + leaving(label), label.totals.step, index)).min()?;
        Some(Point { time, step, strategies: trace(history, base + index) })
    }
}

fn least_rests(relaxation: &Relaxation<'_>) -> Vec<Totals> {
    let least = |list: &Vec<Choice>| {
        let step = list.iter().map(|choice| choice.step).min().unwrap_or(0);
        let bytes = list.iter().map(|choice| choice.bytes).min().unwrap_or(0);
        (step, bytes)
    };
    let least: Vec<(i64, u64)> = relaxation.lists.iter().map(least).collect();
    let mut rests = vec![Totals::default(); relaxation.layers.len() + 1];
    for (layer, &list) in relaxation.layers.iter().enumerate().rev() {
        let (after, (step, bytes)) = (rests[layer + 1], least[list]);
        rests[layer] = Totals { time: 0, step: after.step + step, bytes: after.bytes.saturating_add(bytes) };
    }
    rests
}

/// The strategies that led to a label.
fn trace(history: &[Origin], last: usize) -> Vec<usize> {
    let mut strategies = Vec::new();
    let mut at = last as u32;
    while at != NO_PARENT {
        let Origin { parent, strategy } = history[at as usize];
        strategies.push(strategy as usize);
        at = parent;
    }
    strategies.reverse();
    strategies
}

/// Labels of one layout that no other one matches in bytes and time.
fn pareto_without_step(mut labels: Vec<Label>) -> Vec<Label> {
    labels.sort_unstable_by_key(|label| (label.totals.bytes, label.totals.time, label.totals.step));
    let mut fastest = i64::MAX;
    labels.retain(|label| {
        let better = label.totals.time < fastest;
        fastest = fastest.min(label.totals.time);
        better
    });
    labels
}

/// Labels of one layout that no other one matches in bytes, time and step.
fn pareto(mut labels: Vec<Label>) -> Vec<Label> {
    labels.sort_unstable_by_key(|label| (label.totals.bytes, label.totals.time, label.totals.step));
    // Time and step of those kept so far, all with fewer bytes: time ascends, step descends.
    let mut stairs: Vec<(i64, i64)> = Vec::new();
    labels.retain(|Label { totals: Totals { time, step, .. }, .. }| {
        let at = stairs.partition_point(|(other, _)| other <= time);
        if at > 0 && stairs[at - 1].1 <= *step {
            return false;
        }
        let start = stairs.partition_point(|(other, _)| other < time);
        let end = start + stairs[start..].partition_point(|(_, other)| other >= step);
        stairs.splice(start..end, [(*time, *step)]);
        true
    });
    labels
}
