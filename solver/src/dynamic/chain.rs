//! Chains of ranges: what is known of each range, and the best way through all stages by what is known.

use super::allowance::Allowance;
use super::bound::{Bounds, ends};
use super::range::{Estimate, LayerRange};
use super::relaxation::Ends;
use super::ticks::{NEVER, Sort, Ticked};
use crate::Assignment;
use std::collections::BTreeMap;

/// One stage of a chain: a range of layers between two layouts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passage {
    stage: usize,
    start: usize,
    end: usize,
    ends: Ends,
    /// Its place in [`RangeTable`].
    cell: usize,
}

/// The best way through all stages by what is known.
pub(crate) struct BestChain {
    pub(crate) passages: Vec<Passage>,
    /// Ticks that no chain can beat: of one microbatch through the pipeline and the others behind it, at the pace of
    /// the slowest stage.
    pub(crate) flow: f64,
}

/// What ranges of layers were found to cost. Ranges of equal layers in equal stages share their entry.
pub(crate) struct RangeTable {
    /// Relative difference of times that does not matter.
    tolerance: f64,
    /// First cell of each range: a stage class, and its sorts with how many of each follow each other.
    first_cells: BTreeMap<(usize, Vec<(Sort, usize)>), usize>,
    /// One cell for each pair of layouts around a range.
    cells: Vec<Cell>,
}

/// What was found for one range and pair of layouts, from the largest limit on the step to the smallest.
type Cell = Vec<Finding>;

/// What is known of a range under a limit on the step.
struct Finding {
    limit: i64,
    /// None if nothing keeps the limit.
    estimate: Option<Estimate>,
    depth: Depth,
}

/// How closely a range was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Depth {
    Estimated,
    Solved,
    /// The effort for one range was not enough.
    Abandoned,
}

impl RangeTable {
    pub(crate) fn new(tolerance: f64) -> Self {
        Self { tolerance, first_cells: BTreeMap::new(), cells: Vec::new() }
    }

    /// The first cell of a range; cell `first * (layouts + 1) + next` from there is for those layouts, with `layouts`
    /// standing for no layout.
    fn first_cell(&mut self, class: usize, sorts: Vec<(Sort, usize)>, layouts: usize) -> usize {
        let cells = &mut self.cells;
        *self.first_cells.entry((class, sorts)).or_insert_with(|| {
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

    /// Whether the range was looked at under `limit`, or a looser limit that it keeps anyway.
    pub(crate) fn is_estimated(&self, passage: &Passage, limit: i64) -> bool {
        let Some(finding) = self.nearest(passage.cell, limit) else { return false };
        let keeps = |estimate: &Estimate| estimate.point.as_ref().is_some_and(|point| point.step <= limit);
        finding.limit == limit || finding.estimate.as_ref().is_none_or(keeps)
    }

    /// Whether the range took too long to solve under `limit`.
    pub(crate) fn is_abandoned(&self, passage: &Passage, limit: i64) -> bool {
        let nearest = self.nearest(passage.cell, limit);
        nearest.is_some_and(|finding| finding.limit == limit && finding.depth == Depth::Abandoned)
    }

    /// Estimates a range under `limit`.
    pub(crate) fn estimate(&mut self, field: &Field<'_>, passage: &Passage, limit: i64, effort: &mut Allowance) {
        let estimate = self.range(field, passage, limit).estimate(effort);
        self.note(passage.cell, Finding { limit, estimate, depth: Depth::Estimated });
    }

    /// Finds the fastest point of a range under `limit`, as far as the effort goes.
    pub(crate) fn solve(&mut self, field: &Field<'_>, passage: &Passage, limit: i64, effort: &mut Allowance) {
        let estimate = self.range(field, passage, limit).solve(effort);
        let depth = if effort.is_spent() { Depth::Abandoned } else { Depth::Solved };
        self.note(passage.cell, Finding { limit, estimate, depth });
    }

    fn range<'a>(&self, field: &Field<'a>, passage: &Passage, limit: i64) -> LayerRange<'a> {
        let class = field.ticked.class(passage.stage);
        LayerRange::new(class, &field.sorts[passage.start..passage.end], passage.ends, limit, self.tolerance)
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
        let (mut assignment, mut step) = (Assignment { cuts: Vec::new(), strategies: Vec::new() }, 0);
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

/// The ranges that a search may chain.
pub(crate) struct Field<'a> {
    pub(crate) ticked: &'a Ticked,
    pub(crate) sorts: &'a [Sort],
    pub(crate) bounds: &'a Bounds,
    /// Layouts that each layer can have.
    layouts: Vec<Vec<usize>>,
    /// Per stage class, at `end * layouts + next`: least ticks to leave a range for the layout after it.
    leaving: Vec<Vec<i64>>,
    /// Ranges by stage and start, at `stage * layers + start`.
    arcs: Vec<Vec<Arc>>,
}

/// A range that may be part of a better chain.
#[derive(Clone, Copy)]
struct Arc {
    end: usize,
    /// The class of its stage.
    class: usize,
    first_cell: usize,
    /// Least ticks for one microbatch, without the cuts.
    time: i64,
    /// Least ticks once a step.
    step: i64,
    /// Ticks that no chain through it can beat.
    through: f64,
}

/// The layouts of a range's first layer and of the layer after it; the layout count stands for no layout.
#[derive(Clone, Copy)]
struct Joints {
    first: usize,
    next: usize,
}

/// A partial chain: the stages so far, up to a layer and its layout.
#[derive(Clone, Copy)]
struct ChainLabel {
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

    /// Keeps the ranges that a chain below `upper` may use.
    pub(crate) fn open(&mut self, table: &mut RangeTable, cuts: Cuts<'_>, upper: f64) {
        let (layers, stages) = (self.sorts.len(), self.ticked.stages.len());
        self.arcs = vec![Vec::new(); stages * layers];
        let stretches = stretches(self.sorts);
        for stage in 0..stages {
            let starts = if stage == 0 { 0..=0 } else { stage..=layers - (stages - stage) };
            for start in starts {
                for end in ends(stage, start, stages, layers) {
                    if let Cuts::Only(cuts) = cuts
                        && (cuts[stage] != start || cuts.get(stage + 1).is_some_and(|&cut| cut != end))
                    {
                        continue;
                    }
                    // Longer ones count no more either.
                    if self.bounds.time(self.ticked, stage, start, end) >= NEVER {
                        break;
                    }
                    let through = self.through(stage, start, end);
                    if through >= upper {
                        continue;
                    }
                    let class = self.ticked.stages[stage];
                    let sorts = sorts_within(&stretches, start, end);
                    let first_cell = table.first_cell(class, sorts, self.ticked.layout_count);
                    let time = self.bounds.time(self.ticked, stage, start, end);
                    let step = self.bounds.step(self.ticked, stage, start, end);
                    self.arcs[stage * layers + start].push(Arc { end, class, first_cell, time, step, through });
                }
            }
        }
    }

    /// Ticks that no chain through this range can beat.
    fn through(&self, stage: usize, start: usize, end: usize) -> f64 {
        let time = self.bounds.crossing_time(self.ticked, stage, start..end);
        let before = self.bounds.before(stage, start);
        let after = self.bounds.after(stage + 1, end);
        if time.max(before.sum).max(after.sum) >= NEVER {
            return f64::INFINITY;
        }
        let peak = time.max(before.peak).max(after.peak);
        (before.sum + time + after.sum) as f64 + self.ticked.repeats * peak as f64 + self.bounds.step_apart as f64
    }

    /// The chain with the least flow, by what is known of its ranges, among those that may keep `limit` once a step
    /// and be better than `upper`.
    pub(crate) fn best_chain(
        &self,
        table: &RangeTable,
        limit: i64,
        upper: f64,
        effort: &mut Allowance,
    ) -> Option<BestChain> {
        let (layers, stages, layouts) = (self.sorts.len(), self.ticked.stages.len(), self.ticked.layout_count);
        let mut labels = vec![ChainLabel { sum: 0, peak: 0, layer: 0, layout: layouts, parent: 0, cell: 0 }];
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
                            let (time, cell) = self.known(table, arc, Joints { first, next }, limit);
                            for &parent in &here[place(start, first)] {
                                let sum = labels[parent].sum + time;
                                let peak = labels[parent].peak.max(time);
                                if self.least_from(stage + 1, arc.end, sum, peak) >= upper {
                                    continue;
                                }
                                let label = ChainLabel { sum, peak, layer: arc.end, layout: next, parent, cell };
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
        Some(BestChain { passages: self.passages(&labels, last), flow: flow(&last) })
    }

    /// Layouts that the layer after a range can have.
    fn layouts_at(&self, end: usize) -> impl Iterator<Item = usize> + '_ {
        let closing = (end == self.sorts.len()).then_some(self.ticked.layout_count);
        self.layouts.get(end).into_iter().flatten().copied().chain(closing)
    }

    /// The least ticks known for a range between two layouts, and its cell.
    fn known(&self, table: &RangeTable, arc: &Arc, joints: Joints, limit: i64) -> (i64, usize) {
        let (layouts, Joints { first, next }) = (self.ticked.layout_count, joints);
        let cell = arc.first_cell + first * (layouts + 1) + next;
        let time = match table.nearest(cell, limit) {
            Some(finding) => finding.estimate.as_ref().map_or(NEVER, |estimate| estimate.bound),
            None => {
                let entering = if first < layouts { self.ticked.classes[arc.class].boundary[first] } else { 0 };
                let leaving = if next < layouts { self.leaving[arc.class][arc.end * layouts + next] } else { 0 };
                arc.time + entering + leaving
            }
        };
        (time, cell)
    }

    /// Ticks that no chain can beat which begins with these stages.
    fn least_from(&self, stage: usize, layer: usize, sum: i64, peak: i64) -> f64 {
        let after = self.bounds.after(stage, layer);
        if sum >= NEVER || after.sum >= NEVER {
            return f64::INFINITY;
        }
        (sum + after.sum) as f64 + self.ticked.repeats * peak.max(after.peak) as f64 + self.bounds.step_apart as f64
    }

    fn passages(&self, labels: &[ChainLabel], last: usize) -> Vec<Passage> {
        let some = |layout: usize| (layout < self.ticked.layout_count).then_some(layout);
        let (mut passages, mut at) = (Vec::new(), last);
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
fn insert(labels: &mut Vec<ChainLabel>, place: &mut Vec<usize>, label: ChainLabel) {
    if place.iter().any(|&other| labels[other].sum <= label.sum && labels[other].peak <= label.peak) {
        return;
    }
    place.retain(|&other| labels[other].sum < label.sum || labels[other].peak < label.peak);
    place.push(labels.len());
    labels.push(label);
}

/// Neighbouring layers of one sort, as many as there are.
struct Stretch {
    sort: Sort,
    start: usize,
    end: usize,
}

fn stretches(sorts: &[Sort]) -> Vec<Stretch> {
    let mut start = 0;
    let stretch = |equal: &[Sort]| {
        start += equal.len();
        Stretch { sort: equal[0], start: start - equal.len(), end: start }
    };
    sorts.chunk_by(|one, other| one == other).map(stretch).collect()
}

/// The sorts of the layers `start..end`, and how many of each follow each other.
fn sorts_within(stretches: &[Stretch], start: usize, end: usize) -> Vec<(Sort, usize)> {
    let overlap = |stretch: &Stretch| {
        let count = stretch.end.min(end).saturating_sub(stretch.start.max(start));
        (count > 0).then_some((stretch.sort, count))
    };
    stretches.iter().filter_map(overlap).collect()
}
