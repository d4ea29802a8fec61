//! Small changes of a plan.

use std::ops::Range;

use ir::graph::{Graph, LayerKind};
use ir::plan::{Plan, Schedule, Strategy};

use crate::least::Least;
use crate::play::Candidate;
use crate::space::Setting;

/// A change of a plan.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Move {
    /// A stage begins elsewhere.
    Cut {
        /// The stage.
        stage: usize,
        /// Its first layer.
        start: u32,
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
const DEPTHS: [u32; 7] = [0, 1, 2, 3, 4, 6, 8];

impl Move {
    /// The changed plan, if it is another one and legal.
    pub(crate) fn applied(&self, setting: Setting<'_>, plan: &Plan) -> Option<Plan> {
        let mut changed = plan.clone();
        match self {
            Move::Cut { stage, start } => {
                (changed.stages[stage - 1].end, changed.stages[*stage].start) = (*start, *start);
            }
            Move::Layers { layers, strategy } => spread(setting.graph, &mut changed, layers.clone(), strategy),
            Move::Prefetch(depth) => changed.prefetch = *depth,
            Move::Microbatches(count) => changed.microbatches = *count,
            Move::Order(schedule) => changed.schedule = *schedule,
        }
        let is_legal = || compiler::check(setting.graph, setting.cluster, &changed).is_empty();
        (changed != *plan && is_legal()).then_some(changed)
    }
}

/// Gives layers a strategy, and the layer that shares a matrix with one of them the same.
fn spread(graph: &Graph, plan: &mut Plan, layers: Range<usize>, strategy: &Strategy) {
    plan.strategies[layers.clone()].fill(strategy.clone());
    if let Some(tie) = graph.tie {
        let sides = [tie.owner.0.index(), tie.user.0.index()];
        if sides.iter().any(|side| layers.contains(side)) {
            sides.iter().for_each(|&side| plan.strategies[side] = strategy.clone());
        }
    }
}

/// All small changes of a plan that was simulated: a cut by one layer, another `prefetch`, the next counts of
/// microbatches, the other order of passes, or another strategy for layers of one row of equal ones: for all, for the
/// first, for the last, or for as many at either end as memory is left for.
pub(crate) fn moves(setting: Setting<'_>, least: &mut Least<'_>, best: &Candidate) -> Vec<Move> {
    let plan = &best.plan;
    let mut all = Vec::new();
    for stage in 1..plan.stages.len() {
        let start = plan.stages[stage].start;
        all.extend([start - 1, start + 1].map(|start| Move::Cut { stage, start }));
    }
    all.extend(DEPTHS.map(Move::Prefetch));
    all.extend(next_counts(plan).map(Move::Microbatches));
    if plan.stages.len() > 1 {
        all.extend([Schedule::AllForward, Schedule::OneForwardOneBackward].map(Move::Order));
    }
    for row in rows(setting.graph, plan) {
        let kind = &setting.graph.kinds[setting.graph.layers[row.start].index()];
        let current = &plan.strategies[row.start];
        for other in others(kind, plan, current) {
            let room = room(setting, least, best, row.start, &other);
            let layers = parts(&row, room);
            all.extend(layers.into_iter().map(|layers| Move::Layers { layers, strategy: other.clone() }));
        }
    }
    all
}

/// The next larger and smaller count of microbatches.
fn next_counts(plan: &Plan) -> impl Iterator<Item = u32> {
    let (batch, now) = (plan.batch, plan.microbatches);
    let divides = move |&count: &u32| batch.is_multiple_of(u64::from(count));
    let most = u32::try_from(batch).unwrap_or(u32::MAX);
    (1..now).rev().find(divides).into_iter().chain((now.saturating_add(1)..=most).find(divides))
}

/// Other strategies of a layer. Of inner layers, those that differ in how it is cut or in what it keeps, not both.
fn others(kind: &LayerKind, plan: &Plan, current: &Strategy) -> Vec<Strategy> {
    let is_inner = kind.input.is_some() && kind.output.is_some();
    let mut all = compiler::strategies(kind, current.ranks(), plan.microbatch_sequences());
    all.retain(|other| {
        other != current && (!is_inner || is_near(current, other)) && !only_recomputes_more(current, other)
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
    let free = setting.cluster.capacity().as_f64() - best.trace.totals[stage].arena.as_f64();
    (more > 0.0).then(|| (free.max(0.0) / more) as usize)
}

/// Parts of a row of equal layers: all of it, its ends, and as long a stretch at either end as there is room for.
fn parts(row: &Range<usize>, room: Option<usize>) -> Vec<Range<usize>> {
    let mut lengths = vec![1, row.len()];
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_row_are_its_ends_all_of_it_and_what_there_is_room_for() {
        assert_eq!(parts(&(3..4), None), [3..4]);
        assert_eq!(parts(&(3..9), None), [3..4, 3..9, 8..9]);
        assert_eq!(parts(&(3..9), Some(4)), [3..4, 3..7, 3..9, 5..9, 8..9]);
        assert_eq!(parts(&(3..9), Some(40)), [3..4, 3..9, 8..9]);
    }
}
