//! Small changes of a plan.

use std::ops::Range;

use ir::graph::{Graph, LayerKind};
use ir::plan::{Plan, Recompute, Schedule, Strategy};

use crate::least::Least;
use crate::play::Candidate;
use crate::space::Setting;

/// A change of a plan.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Move {
    /// A layer goes from one stage to another, and each stage between passes one on.
    Shift {
        /// The stage that has one less.
        from: usize,
        /// The stage that has one more.
        to: usize,
    },
    /// Layers have another strategy.
    Layers {
        /// The layers.
        layers: Range<usize>,
        /// What they have.
        strategy: Strategy,
    },
    /// Parameters are gathered so far ahead.
    Prefetch(u32),
    /// The batch has so many parts.
    Microbatches(u32),
    /// Passes are in another order.
    Order(Schedule),
}

/// Depths of `prefetch` that are tried.
pub(crate) const DEPTHS: [u32; 7] = [0, 1, 2, 3, 4, 6, 8];

impl Move {
    /// The changed plan, if it is another one and legal.
    pub(crate) fn applied(&self, setting: Setting<'_>, plan: &Plan) -> Option<Plan> {
        let mut changed = plan.clone();
        match self {
            Move::Shift { from, to } => shift(&mut changed.stages, *from, *to),
            Move::Layers { layers, strategy } => spread(setting.graph, &mut changed, layers.clone(), strategy),
            Move::Prefetch(depth) => changed.prefetch = *depth,
            Move::Microbatches(count) => changed.microbatches = *count,
            Move::Order(schedule) => changed.schedule = *schedule,
        }
        let is_legal = || setting.check(&changed).is_empty();
        (changed != *plan && is_legal()).then_some(changed)
    }
}

/// Moves all cuts between two stages by one layer, towards the one that has one less.
fn shift(stages: &mut [Range<u32>], from: usize, to: usize) {
    for cut in from.min(to)..from.max(to) {
        let start = if from < to { stages[cut + 1].start - 1 } else { stages[cut + 1].start + 1 };
        (stages[cut].end, stages[cut + 1].start) = (start, start);
    }
}

/// Gives layers a strategy, and those that share a matrix with one of them the same.
fn spread(graph: &Graph, plan: &mut Plan, layers: Range<usize>, strategy: &Strategy) {
    plan.strategies[layers.clone()].fill(strategy.clone());
    if let Some(tie) = &graph.tie {
        let sides: Vec<usize> = tie.sides().map(|(layer, _)| layer.index()).collect();
        if sides.iter().any(|side| layers.contains(side)) {
            sides.iter().for_each(|&side| plan.strategies[side] = strategy.clone());
        }
    }
}

/// All small changes of a plan that was simulated: a layer in another stage, another `prefetch`, the next counts of
/// microbatches, the other order of passes, or another strategy for layers of one row of equal ones: for all, for
/// few at either end, or for as many there as memory is left for.
pub(crate) fn moves(setting: Setting<'_>, least: &mut Least<'_>, best: &Candidate) -> Vec<Move> {
    let plan = &best.plan;
    let mut all = Vec::new();
    all.extend(shifts(plan.stages.len()));
    all.extend(DEPTHS.map(Move::Prefetch));
    all.extend(next_counts(plan).map(Move::Microbatches));
    if plan.stages.len() > 1 {
        all.extend([Schedule::AllForward, Schedule::OneForwardOneBackward].map(Move::Order));
    }
    for row in rows(setting.graph, plan) {
        let kind = &setting.graph.kinds[setting.graph.layers[row.start].index()];
        let current = &plan.strategies[row.start];
        for other in others(setting.graph, kind, plan, current) {
            let room = room(setting, least, best, row.start, &other);
            let layers = parts(&row, room);
            all.extend(layers.into_iter().map(|layers| Move::Layers { layers, strategy: other.clone() }));
        }
    }
    all
}

/// Stages up to which a layer may go from any to any other; of more, between neighbours, the first and the last.
const ANY_TO_ANY_MAX: usize = 8;

/// Ways for a layer to go from one stage to another.
fn shifts(stages: usize) -> Vec<Move> {
    let is_edge = |stage: usize| stage == 0 || stage + 1 == stages;
    let is_tried = |from: usize, to: usize| {
        from != to && (stages <= ANY_TO_ANY_MAX || from.abs_diff(to) == 1 || is_edge(from) || is_edge(to))
    };
    let from = |from: usize| (0..stages).filter(move |&to| is_tried(from, to)).map(move |to| Move::Shift { from, to });
    (0..stages).flat_map(from).collect()
}

/// The next larger and smaller count of microbatches.
fn next_counts(plan: &Plan) -> impl Iterator<Item = u32> {
    let (batch, now) = (plan.batch, plan.microbatches);
    let divides = move |&count: &u32| batch.is_multiple_of(u64::from(count));
    let most = u32::try_from(batch).unwrap_or(u32::MAX);
    (1..now).rev().find(divides).into_iter().chain((now.saturating_add(1)..=most).find(divides))
}

/// Other strategies of a layer, without those that change nothing: a first layer keeps nothing. Of inner layers, those that differ in how it is cut or in what it keeps, not both.
fn others(graph: &Graph, kind: &LayerKind, plan: &Plan, current: &Strategy) -> Vec<Strategy> {
    let is_inner = kind.input.is_some() && kind.output.is_some();
    let keeps_nothing = kind.input.is_none() && graph.tie.is_none();
    let has_effect = |other: &Strategy| !keeps_nothing || other.recompute == current.recompute;
    let mut all = compiler::strategies(kind, current.ranks(), plan.microbatch_sequences());
    all.retain(|other| {
        other != current
            && has_effect(other)
            && (!is_inner || is_near(current, other))
            && !only_recomputes_more(current, other)
    });
    all
}

/// Strategies that differ in how a layer is cut, or in what it keeps.
fn is_near(one: &Strategy, other: &Strategy) -> bool {
    let is_cut_alike = one.tensor == other.tensor && one.sequence == other.sequence;
    let keeps_alike = one.shard == other.shard && one.recompute == other.recompute;
    is_cut_alike != keeps_alike
}

/// Whether it does all that the other does, and more: room alone makes no step faster.
fn only_recomputes_more(current: &Strategy, other: &Strategy) -> bool {
    current.recompute < other.recompute && *current == Strategy { recompute: current.recompute, ..other.clone() }
}

/// How many layers may have another strategy before memory is full. None if they need no more than they do.
fn room(
    setting: Setting<'_>,
    least: &mut Least<'_>,
    best: &Candidate,
    layer: usize,
    other: &Strategy,
) -> Option<usize> {
    let plan = &best.plan;
    let now = least.held_by(plan, layer, &plan.strategies[layer]);
    let more = least.held_by(plan, layer, other) - now;
    let stage = plan.stage_of(layer as u32);
    let free = setting.capacity(stage).as_f64() - best.trace.totals[stage].arena.as_f64();
    (more > 0.0).then(|| (free.max(0.0) / more) as usize)
}

/// Parts of a row of equal layers: all of it, few layers at either end, and as long a stretch at either end as there is room for.
fn parts(row: &Range<usize>, room: Option<usize>) -> Vec<Range<usize>> {
    let mut lengths = vec![1, row.len()];
    lengths.extend([2, 4].into_iter().filter(|&length| length < row.len()));
    lengths.extend(room.filter(|&room| room > 1 && room < row.len()));
    let both = lengths.into_iter().flat_map(|length| [row.start..row.start + length, row.end - length..row.end]);
    let mut parts: Vec<Range<usize>> = both.collect();
    parts.sort_by_key(|part| (part.start, part.end));
    parts.dedup();
    parts
}

/// Rows of layers of one kind and strategy.
fn rows(graph: &Graph, plan: &Plan) -> Vec<Range<usize>> {
    let mut rows: Vec<Range<usize>> = Vec::new();
    for layer in 0..plan.strategies.len() {
        let is_same = |row: &Range<usize>| {
            graph.layers[row.start] == graph.layers[layer] && plan.strategies[row.start] == plan.strategies[layer]
        };
        match rows.last_mut().filter(|row| is_same(row)) {
            Some(row) => row.end = layer + 1,
            None => rows.push(layer..layer + 1),
        }
    }
    rows
}

/// A plan like this one whose inner layers recompute as little as there is memory for: in each stage, where one row of
/// them recomputes more than the next to it, their border is moved; of a row that has no such border, a part changes.
/// None if it stays.
pub(crate) fn balanced(setting: Setting<'_>, least: &mut Least<'_>, known: &Candidate, plan: &Plan) -> Option<Plan> {
    let mut balanced = plan.clone();
    let rows = rows(setting.graph, plan);
    for (stage, range) in plan.stages.iter().enumerate() {
        let inside = |row: &Range<usize>| range.start as usize <= row.start && row.end <= range.end as usize;
        let free = setting.capacity(stage).as_f64() * FILLED - least.stage_peak(known, plan, stage);
        let borders = rows.windows(2).filter(|pair| pair.iter().all(inside) && is_border(setting.graph, plan, pair));
        match borders.max_by_key(|pair| pair[0].len() + pair[1].len()) {
            Some(pair) => {
                let strategies = [&pair[0], &pair[1]].map(|row| plan.strategies[row.start].clone());
                let layers = pair[0].start..pair[1].end;
                move_border(least, &mut balanced, Border { layers, at: pair[0].end, strategies }, free);
            }
            None => {
                let inner = |row: &&Range<usize>| is_inner(setting.graph, row.start);
                let row = rows.iter().filter(|row| inside(row)).filter(inner).max_by_key(|row| row.len());
                for border in row.map(|row| new_borders(plan, row, free)).unwrap_or_default() {
                    if move_border(least, &mut balanced, border, free) == Fits::Yes {
                        break;
                    }
                }
            }
        }
    }
    (balanced != *plan && setting.check(&balanced).is_empty()).then_some(balanced)
}

fn is_inner(graph: &Graph, layer: usize) -> bool {
    let kind = &graph.kinds[graph.layers[layer].index()];
    kind.input.is_some() && kind.output.is_some()
}

/// Where one strategy ends and another begins.
struct Border {
    layers: Range<usize>,
    at: usize,
    strategies: [Strategy; 2],
}

/// Whether layers fit by estimate.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fits {
    Yes,
    No,
}

/// Borders at the end of a row, behind which layers recompute more, or less if there is memory left.
fn new_borders(plan: &Plan, row: &Range<usize>, free: f64) -> Vec<Border> {
    let current = &plan.strategies[row.start];
    let levels: &[Recompute] = match (free < 0.0, current.recompute) {
        (true, Recompute::Nothing) => &[Recompute::Selective, Recompute::Full],
        (true, Recompute::Selective) => &[Recompute::Full],
        (false, Recompute::Full) => &[Recompute::Selective],
        (false, Recompute::Selective) => &[Recompute::Nothing],
        (true, Recompute::Full) | (false, Recompute::Nothing) => &[],
    };
    let border = |&recompute: &Recompute| {
        let strategies = [current.clone(), Strategy { recompute, ..current.clone() }];
        Border { layers: row.clone(), at: row.end, strategies }
    };
    levels.iter().map(border).collect()
}

/// Moves a border so that this memory is used, or freed if it is less than nothing.
fn move_border(least: &mut Least<'_>, plan: &mut Plan, border: Border, free: f64) -> Fits {
    let Border { layers, at, strategies: [one, other] } = border;
    // Bytes that are needed more for each layer by which the first part becomes longer.
    let more = least.held_by(plan, layers.start, &one) - least.held_by(plan, layers.start, &other);
    if more == 0.0 {
        return Fits::No;
    }
    let count = (free / more.abs()).floor() as i64 * if more > 0.0 { 1 } else { -1 };
    let wanted = at as i64 + count;
    let moved = wanted.clamp(layers.start as i64, layers.end as i64);
    let middle = moved as usize;
    plan.strategies[layers.start..middle].fill(one);
    plan.strategies[middle..layers.end].fill(other);
    if moved == wanted || free >= 0.0 { Fits::Yes } else { Fits::No }
}

/// Which part of memory is filled by estimate.
const FILLED: f64 = 0.999;

/// Whether two rows that follow each other differ in what they recompute alone.
fn is_border(graph: &Graph, plan: &Plan, pair: &[Range<usize>]) -> bool {
    let [one, other] = [&pair[0], &pair[1]].map(|row| &plan.strategies[row.start]);
    let is_same_kind = graph.layers[pair[0].start] == graph.layers[pair[1].start];
    is_same_kind && *one == Strategy { recompute: one.recompute, ..other.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_row_are_its_ends_all_of_it_and_what_there_is_room_for() {
        assert_eq!(parts(&(3..4), None), [3..4]);
        assert_eq!(parts(&(3..6), None), [3..4, 3..5, 3..6, 4..6, 5..6]);
        assert_eq!(parts(&(3..9), Some(5)), [3..4, 3..5, 3..7, 3..8, 3..9, 4..9, 5..9, 7..9, 8..9]);
        assert_eq!(parts(&(3..6), Some(40)), parts(&(3..6), None));
    }

    #[test]
    fn a_layer_goes_from_stage_to_stage_through_all_between() {
        let mut stages = [0..4, 4..9, 9..14, 14..20];
        shift(&mut stages, 3, 0);
        assert_eq!(stages, [0..5, 5..10, 10..15, 15..20]);
        shift(&mut stages, 1, 2);
        assert_eq!(stages, [0..5, 5..9, 9..15, 15..20]);
        assert_eq!(shifts(3).len(), 6);
        assert_eq!(shifts(10).len(), 9 * 2 + 2 * 2 * 8 - 2);
    }
}
