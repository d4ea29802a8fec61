//! Chains of spans: what is known of each span, and the best way through all stages by what is known.

use super::bound::{Bounds, ends};
use super::effort::Effort;
use super::relaxation::Ends;
use super::span::{Estimate, Span};
use super::ticks::{NEVER, Sort, Ticked};
use crate::Assignment;
use std::collections::BTreeMap;

/// One stage of a chain: a span of layers between two layouts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passage {
    stage: usize,
    start: usize,
    end: usize,
    ends: Ends,
    /// Its place in [`Spans`].
    cell: usize,
}

/// The best way through all stages by what is known.
pub(crate) struct Outline {
    pub(crate) passages: Vec<Passage>,
    /// Ticks that no chain can beat: of one microbatch through the pipeline and the others behind it, at the pace of
    /// the slowest stage.
    pub(crate) flow: f64,
}

/// What spans were found to cost. Spans of equal layers in equal stages share their entry.
pub(crate) struct Spans {
    /// Relative difference of times that does not matter.
    tolerance: f64,
    /// First cell of each span: a stage class, and its layers as runs of equal ones.
    first_cells: BTreeMap<(usize, Vec<(Sort, usize)>), usize>,
    /// One cell for each pair of layouts around a span.
    cells: Vec<Cell>,
}

/// What was found for one span and pair of layouts, from the largest limit on the step to the smallest.
type Cell = Vec<Finding>;

/// What is known of a span under a limit on the step.
struct Finding {
    limit: i64,
    /// None if nothing keeps the limit.
    estimate: Option<Estimate>,
    depth: Depth,
}

/// How closely a span was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Depth {
    Estimated,
    Solved,
    /// The effort for one span was not enough.
    Abandoned,
}

impl Spans {
    pub(crate) fn new(tolerance: f64) -> Self {
        Self { tolerance, first_cells: BTreeMap::new(), cells: Vec::new() }
    }

    /// The first cell of a span; cell `first * (layouts + 1) + next` from there is for those layouts, with `layouts`
    /// standing for no layout.
    fn first_cell(&mut self, class: usize, runs: Vec<(Sort, usize)>, layouts: usize) -> usize {
        let cells = &mut self.cells;
        *self.first_cells.entry((class, runs)).or_insert_with(|| {
            cells.resize_with(cells.len() + (layouts + 1) * (layouts + 1), Cell::new);
            cells.len() - (layouts + 1) * (layouts + 1)
        })
    }

    /// The finding with the smallest limit that is no smaller than `limit`: its bound is valid, and its point too if
    /// the point's step keeps `limit`.
    fn nearest(&self, cell: usize, limit: i64) -> Option<&Finding> {
        let findings = &self.cells[cell];
        let count = findings.partition_point(|finding| finding.limit >= limit);
        count.checked_sub(1).map(|last| &findings[last])
    }

    /// Whether the fastest point under `limit` is known well enough, or known not to exist.
    pub(crate) fn is_settled(&self, passage: &Passage, limit: i64) -> bool {
        let Some(finding) = self.nearest(passage.cell, limit) else { return false };
        let Some(Estimate { bound, point }) = &finding.estimate else { return true };
        let Some(point) = point else { return false };
        let is_near = *bound as f64 >= point.time as f64 * (1.0 - self.tolerance);
        point.step <= limit && (is_near || finding.depth == Depth::Solved)
    }

    /// Whether the span was looked at under `limit`, or a looser limit that it keeps anyway.
    pub(crate) fn is_estimated(&self, passage: &Passage, limit: i64) -> bool {
        let Some(finding) = self.nearest(passage.cell, limit) else { return false };
        let keeps = |estimate: &Estimate| estimate.point.as_ref().is_some_and(|point| point.step <= limit);
        finding.limit == limit || finding.estimate.as_ref().is_none_or(keeps)
    }

    /// Whether the span took too long to solve under `limit`.
    pub(crate) fn is_abandoned(&self, passage: &Passage, limit: i64) -> bool {
        let nearest = self.nearest(passage.cell, limit);
        nearest.is_some_and(|finding| finding.limit == limit && finding.depth == Depth::Abandoned)
    }

    /// Estimates a span under `limit`.
    pub(crate) fn estimate(&mut self, field: &Field<'_>, passage: &Passage, limit: i64, effort: &mut Effort) {
        let estimate = self.span(field, passage, limit).estimate(effort);
        self.note(passage.cell, Finding { limit, estimate, depth: Depth::Estimated });
    }

    /// Finds the fastest point of a span under `limit`, as far as the effort goes.
    pub(crate) fn solve(&mut self, field: &Field<'_>, passage: &Passage, limit: i64, effort: &mut Effort) {
        let estimate = self.span(field, passage, limit).solve(effort);
        let depth = if effort.is_spent() { Depth::Abandoned } else { Depth::Solved };
        self.note(passage.cell, Finding { limit, estimate, depth });
    }

    fn span<'a>(&self, field: &Field<'a>, passage: &Passage, limit: i64) -> Span<'a> {
        let class = field.ticked.class(passage.stage);
        Span::new(class, &field.sorts[passage.start..passage.end], passage.ends, limit, self.tolerance)
    }

    fn note(&mut self, cell: usize, mut finding: Finding) {
        let looser = self.nearest(cell, finding.limit).and_then(|looser| looser.estimate.as_ref());
        let known = looser.map_or(0, |estimate| estimate.bound);
        if let Some(estimate) = &mut finding.estimate {
            estimate.bound = estimate.bound.max(known);
        }
        let findings = &mut self.cells[cell];
        findings.retain(|other| other.limit != finding.limit);
        let at = findings.partition_point(|other| other.limit >= finding.limit);
        findings.insert(at, finding);
    }

    /// The chain of the best points known and its ticks once a step; none if a passage has no point.
    pub(crate) fn assemble(&self, passages: &[Passage], limit: i64) -> Option<(Assignment, i64)> {
        let mut assignment = Assignment { cuts: Vec::new(), strategies: Vec::new() };
        let mut step = 0;
        for passage in passages {
            let point = self.nearest(passage.cell, limit)?.estimate.as_ref()?.point.as_ref()?;
            step = step.max(point.step);
            assignment.cuts.push(passage.start);
            assignment.strategies.extend(&point.strategies);
        }
        Some((assignment, step))
    }
}

/// Which cuts a search looks at.
#[derive(Clone, Copy)]
pub(crate) enum Cuts<'a> {
    All,
    /// Only these stage starts.
    Only(&'a [usize]),
}

/// The spans that a search may chain.
pub(crate) struct Field<'a> {
    pub(crate) ticked: &'a Ticked,
    pub(crate) sorts: &'a [Sort],
    pub(crate) bounds: &'a Bounds,
    /// Layouts that each layer can have.
    layouts: Vec<Vec<usize>>,
    /// Per stage class, at `end * layouts + next`: least ticks to leave a span for the layout after it.
    leaving: Vec<Vec<i64>>,
    /// Spans by stage and start, at `stage * layers + start`.
    arcs: Vec<Vec<Arc>>,
}

/// A span that may be part of a better chain.
#[derive(Clone, Copy)]
struct Arc {
    end: usize,
    first_cell: usize,
    /// Least ticks for one microbatch, without the cuts.
    time: i64,
    /// Least ticks once a step.
    step: i64,
    /// Ticks that no chain through it can beat.
    through: f64,
}

/// A partial chain: the stages so far, up to a layer and its layout.
#[derive(Clone, Copy)]
struct Label {
    sum: i64,
    peak: i64,
    layer: usize,
    /// The layout count stands for no layout, at both ends of the pipeline.
    layout: usize,
    parent: usize,
    cell: usize,
}

impl<'a> Field<'a> {
    pub(crate) fn new(ticked: &'a Ticked, sorts: &'a [Sort], bounds: &'a Bounds) -> Self {
        let class = &ticked.classes[0];
        let layouts = sorts
            .iter()
            .map(|&sort| {
                let mut layouts: Vec<usize> = class.choices(sort).iter().map(|choice| choice.layout).collect();
                layouts.sort_unstable();
                layouts.dedup();
                layouts
            })
            .collect();
        let mut field = Self { ticked, sorts, bounds, layouts, leaving: Vec::new(), arcs: Vec::new() };
        field.leaving = (0..ticked.classes.len()).map(|class| field.leaving_times(class)).collect();
        field
    }

    fn leaving_times(&self, class: usize) -> Vec<i64> {
        let class = &self.ticked.classes[class];
        let mut times = vec![0; self.ticked.layout_count];
        for last in &self.layouts {
            for next in 0..self.ticked.layout_count {
                let least = last.iter().map(|&layout| class.transitions[layout][next]).min().unwrap_or(0);
                times.push(least + class.boundary[next]);
            }
        }
        times
    }

    /// Keeps the spans that a chain below `upper` may use.
    pub(crate) fn open(&mut self, spans: &mut Spans, cuts: Cuts<'_>, upper: f64) {
        let (layers, stages) = (self.sorts.len(), self.ticked.stages.len());
        self.arcs = vec![Vec::new(); stages * layers];
        let runs = runs(self.sorts);
        for stage in 0..stages {
            let starts = if stage == 0 { 0..=0 } else { stage..=layers - (stages - stage) };
            for start in starts {
                for end in ends(stage, start, stages, layers) {
                    if let Cuts::Only(cuts) = cuts
                        && (cuts[stage] != start || cuts.get(stage + 1).is_some_and(|&cut| cut != end))
                    {
                        continue;
                    }
                    let through = self.through(stage, start, end);
                    if through >= upper {
                        continue;
                    }
                    let class = self.ticked.stages[stage];
                    let first_cell = spans.first_cell(class, runs_within(&runs, start, end), self.ticked.layout_count);
                    let time = self.bounds.time(self.ticked, stage, start, end);
                    let step = self.bounds.step(self.ticked, stage, start, end);
                    self.arcs[stage * layers + start].push(Arc { end, first_cell, time, step, through });
                }
            }
        }
    }

    /// Ticks that no chain through this span can beat.
    fn through(&self, stage: usize, start: usize, end: usize) -> f64 {
        let time = self.bounds.crossing_time(self.ticked, stage, start..end);
        let (sum_before, peak_before) = self.bounds.before(stage, start);
        let (sum_after, peak_after) = self.bounds.after(stage + 1, end);
        if time.max(sum_before).max(sum_after) >= NEVER {
            return f64::INFINITY;
        }
        let peak = time.max(peak_before).max(peak_after);
        (sum_before + time + sum_after) as f64 + self.ticked.repeats * peak as f64 + self.bounds.step_apart as f64
    }

    /// The chain with the least flow, by what is known of its spans, among those that may keep `limit` once a step
    /// and be better than `upper`.
    pub(crate) fn best_chain(&self, spans: &Spans, limit: i64, upper: f64, effort: &mut Effort) -> Option<Outline> {
        let (layers, stages, layouts) = (self.sorts.len(), self.ticked.stages.len(), self.ticked.layout_count);
        let mut labels = vec![Label { sum: 0, peak: 0, layer: 0, layout: layouts, parent: 0, cell: 0 }];
        let place = |layer: usize, layout: usize| layer * (layouts + 1) + layout;
        let mut here: Vec<Vec<usize>> = vec![Vec::new(); (layers + 1) * (layouts + 1)];
        here[place(0, layouts)].push(0);
        for stage in 0..stages {
            let mut reached: Vec<Vec<usize>> = vec![Vec::new(); (layers + 1) * (layouts + 1)];
            for start in 0..layers {
                let open = |arc: &&Arc| arc.step <= limit && arc.through < upper;
                for arc in self.arcs[stage * layers + start].iter().filter(open) {
                    for first in 0..=layouts {
                        if here[place(start, first)].is_empty() {
                            continue;
                        }
                        effort.spend(1);
                        for next in self.layouts_at(arc.end) {
                            let (time, cell) = self.known(spans, (stage, arc), (first, next), limit);
                            for &parent in &here[place(start, first)] {
                                let sum = labels[parent].sum + time;
                                let peak = labels[parent].peak.max(time);
                                if self.least_from(stage + 1, arc.end, sum, peak) >= upper {
                                    continue;
                                }
                                let label = Label { sum, peak, layer: arc.end, layout: next, parent, cell };
                                insert(&mut labels, &mut reached[place(arc.end, next)], label);
                            }
                        }
                    }
                }
            }
            here = reached;
        }
        let flow = |&label: &usize| labels[label].sum as f64 + self.ticked.repeats * labels[label].peak as f64;
        let last = here[place(layers, layouts)].iter().copied().min_by(|a, b| flow(a).total_cmp(&flow(b)))?;
        Some(Outline { passages: self.passages(&labels, last), flow: flow(&last) })
    }

    /// Layouts that the layer after a span can have.
    fn layouts_at(&self, end: usize) -> impl Iterator<Item = usize> + '_ {
        let closing = (end == self.sorts.len()).then_some(self.ticked.layout_count);
        self.layouts.get(end).into_iter().flatten().copied().chain(closing)
    }

    /// The least ticks known for a span between two layouts, and its cell.
    fn known(
        &self,
        spans: &Spans,
        (stage, arc): (usize, &Arc),
        (first, next): (usize, usize),
        limit: i64,
    ) -> (i64, usize) {
        let layouts = self.ticked.layout_count;
        let cell = arc.first_cell + first * (layouts + 1) + next;
        let time = match spans.nearest(cell, limit) {
            Some(finding) => finding.estimate.as_ref().map_or(NEVER, |estimate| estimate.bound),
            None => {
                let entering = if first < layouts { self.ticked.class(stage).boundary[first] } else { 0 };
                let leaving = &self.leaving[self.ticked.stages[stage]];
                let leaving = if next < layouts { leaving[arc.end * layouts + next] } else { 0 };
                arc.time + entering + leaving
            }
        };
        (time, cell)
    }

    /// Ticks that no chain can beat which begins with these stages.
    fn least_from(&self, stage: usize, layer: usize, sum: i64, peak: i64) -> f64 {
        let (sum_after, peak_after) = self.bounds.after(stage, layer);
        if sum >= NEVER || sum_after >= NEVER {
            return f64::INFINITY;
        }
        (sum + sum_after) as f64 + self.ticked.repeats * peak.max(peak_after) as f64 + self.bounds.step_apart as f64
    }

    fn passages(&self, labels: &[Label], last: usize) -> Vec<Passage> {
        let layouts = self.ticked.layout_count;
        let some = |layout: usize| (layout < layouts).then_some(layout);
        let mut passages = Vec::new();
        let mut at = last;
        for stage in (0..self.ticked.stages.len()).rev() {
            let (label, before) = (labels[at], labels[labels[at].parent]);
            let ends = Ends { first: some(before.layout), next: some(label.layout) };
            passages.push(Passage { stage, start: before.layer, end: label.layer, ends, cell: label.cell });
            at = label.parent;
        }
        passages.reverse();
        passages
    }
}

/// Adds a label unless another one at its place is as good in sum and peak; drops those that it betters.
fn insert(labels: &mut Vec<Label>, place: &mut Vec<usize>, label: Label) {
    if place.iter().any(|&other| labels[other].sum <= label.sum && labels[other].peak <= label.peak) {
        return;
    }
    place.retain(|&other| labels[other].sum < label.sum || labels[other].peak < label.peak);
    place.push(labels.len());
    labels.push(label);
}

/// Maximal runs of equal sorts, as their sort, start and end.
fn runs(sorts: &[Sort]) -> Vec<(Sort, usize, usize)> {
    let mut start = 0;
    sorts
        .chunk_by(|one, other| one == other)
        .map(|run| {
            start += run.len();
            (run[0], start - run.len(), start)
        })
        .collect()
}

/// The layers `start..end` as runs.
fn runs_within(runs: &[(Sort, usize, usize)], start: usize, end: usize) -> Vec<(Sort, usize)> {
    let overlap = |&(sort, from, to): &(Sort, usize, usize)| {
        let count = to.min(end).saturating_sub(from.max(start));
        (count > 0).then_some((sort, count))
    };
    runs.iter().filter_map(overlap).collect()
}
