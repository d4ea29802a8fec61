//! The dynamic program over stages, as exact as is asked for.
//!
//! Fix a limit on what any stage does once a step. Then the fastest strategies of a range of layers, given the
//! layouts at its two ends, are best both for the sum over stages and for the slowest stage, so stages are chained
//! by labels of just these two numbers. Ranges are costly to solve and most are never part of a good chain. So the
//! chain is first made of lower bounds; the ranges on the best chain are estimated, and solved where the estimate
//! leaves a doubt; and this repeats until nothing in doubt is left on the best chain. Around it, ranges of the step
//! are searched as long as something better can lie in one, and ties are decided by branching on the strategy that
//! the tied layers share.
//!
//! The search ends when the best answer is near enough, or when its effort is spent. What was given up by then has
//! a bound, and the least of these is what is proven of the answer.

mod allowance;
mod bound;
mod chain;
mod labels;
mod range;
mod relaxation;
mod ticks;
pub(crate) mod ties;

use allowance::Allowance;
use bound::{Bounds, Scope};
use chain::{BestChain, Cuts, Field, Passage, RangeTable};
use ticks::{NEVER, Sort, StepTime, Ticked};
use ties::{broken_tie, shared_strategies, tie_groups};

use crate::{Answer, Assignment, Problem, Shortage, Solved};

pub(crate) fn solve(problem: &Problem, upper: f64, gap: f64, effort: u64) -> Solved {
    let [apart, blended] = [StepTime::Apart, StepTime::Blended].map(|steps| Ticked::new(problem, steps));
    let tick = apart.tick;
    let sorts = untied(problem);
    let mut search = Search {
        problem,
        apart: &apart,
        blended: &blended,
        groups: tie_groups(problem),
        tables: BothTables { apart: RangeTable::new(gap / 3.0), blended: RangeTable::new(gap / 3.0) },
        // Both differences together, (1 − 2g/3) · (1 − g/3), stay within the gap.
        best: Incumbent { upper: upper / tick, assignment: None, gap: gap * 2.0 / 3.0 },
        effort: Allowance::new(effort),
        unproven: f64::INFINITY,
    };
    let bounds = Bounds::new(&blended, &sorts, upper / tick);
    let fits = bounds.scope == Scope::Short || bounds.objective(&blended) < f64::INFINITY;
    search.branch(sorts, &bounds);
    let bound = search.best.proven().min(search.unproven) * tick;
    match search.best.assignment {
        Some(assignment) => Solved::Found(Answer::scored(problem, assignment, bound)),
        None if fits && bound < f64::INFINITY => Solved::Stopped { bound },
        None => Solved::Infeasible(Shortage::of(problem)),
    }
}

pub(crate) fn lower_bound(problem: &Problem, upper: f64) -> f64 {
    let ticked = Ticked::new(problem, StepTime::Blended);
    let bounds = Bounds::new(&ticked, &untied(problem), upper / ticked.tick);
    let bound = bounds.objective(&ticked) * ticked.tick * (1.0 - TOLERANCE);
    match bounds.scope {
        Scope::All => bound,
        Scope::Short => bound.min(upper),
    }
}

/// The layers' sorts before any tie is decided.
fn untied(problem: &Problem) -> Vec<Sort> {
    problem.layers.iter().map(|&kind| Sort { kind, fixed: None }).collect()
}

/// What is shared by all branches.
struct Search<'a> {
    problem: &'a Problem,
    /// The problem as it is.
    apart: &'a Ticked,
    /// The problem whose objective is a lower bound without a maximum over steps.
    blended: &'a Ticked,
    /// Layers that share a strategy.
    groups: Vec<Vec<usize>>,
    /// What was found out about ranges of layers in the two views.
    tables: BothTables,
    /// The best that keeps the ties.
    best: Incumbent,
    effort: Allowance,
    /// Ticks that no answer can beat in the parts of the search that were given up.
    unproven: f64,
}

struct BothTables {
    apart: RangeTable,
    blended: RangeTable,
}

/// The table of a field's view.
fn table_of<'s>(tables: &'s mut BothTables, field: &Field<'_>) -> &'s mut RangeTable {
    match field.ticked.steps {
        StepTime::Apart => &mut tables.apart,
        StepTime::Blended => &mut tables.blended,
    }
}

/// The best answer so far.
#[derive(Clone)]
struct Incumbent {
    /// Ticks that an answer must beat.
    upper: f64,
    assignment: Option<Assignment>,
    /// By how much a next answer must be better.
    gap: f64,
}

/// Relative difference of objectives below which two answers count as equal.
const TOLERANCE: f64 = 1e-12;

impl Incumbent {
    fn offer(&mut self, objective: f64, assignment: &Assignment) {
        if objective < self.target() {
            self.upper = objective;
            self.assignment = Some(assignment.clone());
        }
    }

    /// What no answer lies below that was left out for not being better; infinite if it is the best answer itself.
    fn proven(&self) -> f64 {
        match self.assignment {
            Some(_) if self.gap > TOLERANCE => self.upper * (1.0 - self.gap),
            Some(_) => f64::INFINITY,
            None => self.upper,
        }
    }

    /// What an answer must lie below to count as better.
    fn target(&self) -> f64 {
        let gap = if self.assignment.is_some() { self.gap.max(TOLERANCE) } else { TOLERANCE };
        self.upper * (1.0 - gap)
    }
}

impl Search<'_> {
    /// Improves the best answer by the best one that keeps the ties, with the layers' sorts as given. `bounds` are
    /// those of the blended view.
    fn branch(&mut self, sorts: Vec<Sort>, bounds: &Bounds) {
        let Some((objective, assignment)) = self.relaxed(&sorts, bounds) else { return };
        let Some(group) = broken_tie(&self.groups, &assignment) else {
            self.best.offer(objective, &assignment);
            return;
        };
        let target = self.best.target();
        let mut children: Vec<(f64, Bounds, Vec<Sort>)> = shared_strategies(self.problem, group)
            .into_iter()
            .map(|strategy| {
                let mut sorts = sorts.clone();
                group.iter().for_each(|&layer| sorts[layer].fixed = Some(strategy));
                let bounds = Bounds::new(self.blended, &sorts, target);
                (bounds.objective(self.blended), bounds, sorts)
            })
            .collect();
        children.sort_by(|(one, ..), (other, ..)| one.total_cmp(other));
        for (bound, bounds, sorts) in children {
            if self.effort.is_spent() && self.best.assignment.is_some() {
                self.unproven = self.unproven.min(bound);
                return;
            }
            self.branch(sorts, &bounds);
        }
    }

    /// The best assignment without regard to ties and its ticks, if it is better than the best that keeps them.
    fn relaxed(&mut self, sorts: &[Sort], bounds: &Bounds) -> Option<(f64, Assignment)> {
        let mut best = Incumbent { upper: self.best.target(), assignment: None, gap: self.best.gap };
        if bounds.objective(self.blended) >= best.target() {
            return None;
        }
        let mut blended = Field::new(self.blended, sorts, bounds);
        // A first answer on promising cuts narrows the search over all of them.
        if let Some(cuts) = bounds.promising_cuts(self.blended) {
            blended.open(&mut self.tables.blended, Cuts::Only(&cuts), best.target());
            self.estimated_chain(&blended, NEVER, &mut best);
        }
        blended.open(&mut self.tables.blended, Cuts::All, best.target());
        // Where ties are broken, they will be decided before anything is looked at more closely.
        let chain = self.estimated_chain(&blended, NEVER, &mut best);
        if let Some((assignment, _)) = chain.and_then(|it| self.tables.blended.assemble(&it.passages, NEVER))
            && broken_tie(&self.groups, &assignment).is_some()
        {
            return Some((best.upper, assignment));
        }
        // With one stage, the blended view is the true one: its fastest chain is all there is to find.
        let is_true = self.blended.stages.len() == 1;
        let aside = if is_true { Allowance::new(0) } else { self.effort.halve() };
        let least = self.fastest_chain(&blended, NEVER, &mut best).flow();
        self.effort.resume(aside);
        match least.filter(|&least| least < best.target()) {
            Some(least) if is_true => self.give_up(least),
            Some(least) => self.search_steps(&blended, least, &mut best),
            None => (),
        }
        best.assignment.map(|assignment| (best.upper, assignment))
    }

    /// Notes that answers of `bound` ticks and more were not looked at.
    fn give_up(&mut self, bound: f64) {
        self.unproven = self.unproven.min(bound);
    }

    /// Looks for better answers by what their slowest stage does once a step: in ranges of it, the most promising
    /// first. No answer is better than `least`.
    fn search_steps(&mut self, blended: &Field<'_>, least: f64, best: &mut Incumbent) {
        let bounds = Bounds::new(self.apart, blended.sorts, best.target());
        let mut apart = Field::new(self.apart, blended.sorts, &bounds);
        apart.open(&mut self.tables.apart, Cuts::All, best.target());
        let mut ranges = vec![StepRange { least, floor: bounds.step_floor, limit: NEVER }];
        let promising = |ranges: &[StepRange]| {
            let by_least = |&one: &usize, &other: &usize| ranges[one].least.total_cmp(&ranges[other].least);
            (0..ranges.len()).min_by(by_least)
        };
        while let Some(next) = promising(&ranges) {
            let range = ranges.swap_remove(next);
            if range.least >= best.target() {
                return;
            }
            if self.effort.is_spent() {
                return self.give_up(range.least);
            }
            ranges.extend(self.narrow([blended, &apart], range, best));
        }
    }

    /// What is left of a range after a closer look at it in both views.
    fn narrow(
        &mut self,
        [blended, apart]: [&Field<'_>; 2],
        mut range: StepRange,
        best: &mut Incumbent,
    ) -> Vec<StepRange> {
        if range.limit < NEVER {
            let Some(flow) = self.fastest_chain(blended, range.limit, best).flow() else { return Vec::new() };
            range.least = range.least.max(flow);
        }
        let chain = self.estimated_chain(apart, range.limit, best);
        let Some(BestChain { flow, .. }) = chain else { return Vec::new() };
        let range = range.cut(flow, best.target());
        if (range.limit - range.floor) as f64 > WIDE * best.target() {
            return range.halves(flow).to_vec();
        }
        if range.limit < range.floor || range.least >= best.target() {
            return Vec::new();
        }
        match self.fastest_chain(apart, range.limit, best) {
            Fastest::Settled(chain) => {
                // Answers with a larger step than this chain's flow no faster. They are worse, but for the tolerance.
                let slower = chain.flow + chain.step as f64;
                if slower < best.target() {
                    self.give_up(range.least.max(slower));
                }
                let limit = range.limit.min(chain.step - 1);
                let rest = StepRange { limit, ..range }.cut(chain.flow, best.target());
                if rest.limit < rest.floor { Vec::new() } else { vec![rest] }
            }
            Fastest::Unsettled { flow } => {
                let range = range.cut(flow, best.target());
                if (range.limit - range.floor) as f64 > best.gap * best.target() {
                    return range.halves(flow).to_vec();
                }
                self.give_up(range.least);
                Vec::new()
            }
            Fastest::Nothing => Vec::new(),
        }
    }

    /// The chain with the least flow whose stages keep `limit` once a step. Answers that come up on the way are kept
    /// in `best`.
    fn fastest_chain(&mut self, field: &Field<'_>, limit: i64, best: &mut Incumbent) -> Fastest {
        loop {
            let Some(chain) = self.estimated_chain(field, limit, best) else { return Fastest::Nothing };
            let BestChain { passages, flow } = chain;
            let table = table_of(&mut self.tables, field);
            let unsettled: Vec<&Passage> =
                passages.iter().filter(|passage| !table.is_settled(passage, limit)).collect();
            let open: Vec<&&Passage> = unsettled.iter().filter(|passage| !table.is_abandoned(passage, limit)).collect();
            for passage in &open {
                let mut portion = self.effort.portion(open.len());
                table.solve(field, passage, limit, &mut portion);
                self.effort.settle(portion);
            }
            let assembled = table.assemble(&passages, limit);
            if let Some((assignment, _)) = &assembled {
                best.offer(self.problem.objective(assignment) / self.apart.tick, assignment);
            }
            match assembled {
                Some((_, step)) if unsettled.is_empty() => return Fastest::Settled(Chain { flow, step }),
                _ if open.is_empty() || self.effort.is_spent() => return Fastest::Unsettled { flow },
                _ => (),
            }
        }
    }

    /// The best chain by what is known of ranges of layers, all of which are at least estimated; or by what is known, if
    /// the effort is spent. None if nothing can be better than `best`.
    fn estimated_chain(&mut self, field: &Field<'_>, limit: i64, best: &mut Incumbent) -> Option<BestChain> {
        let table = table_of(&mut self.tables, field);
        loop {
            let chain = field.best_chain(table, limit, best.target(), &mut self.effort)?;
            let is_new = |passage: &&Passage| !table.is_estimated(passage, limit);
            let unknown: Vec<Passage> = chain.passages.iter().filter(is_new).copied().collect();
            for passage in &unknown {
                table.estimate(field, passage, limit, &mut self.effort);
            }
            if let Some((assignment, _)) = table.assemble(&chain.passages, limit) {
                best.offer(self.problem.objective(&assignment) / self.apart.tick, &assignment);
                if unknown.is_empty() || self.effort.is_spent() {
                    return Some(chain);
                }
            } else if unknown.is_empty() {
                return Some(chain);
            }
        }
    }
}

/// Answers whose slowest stage takes between `floor` and `limit` ticks once a step, both included.
#[derive(Clone, Copy, Debug)]
struct StepRange {
    /// Ticks that none of them can beat.
    least: f64,
    floor: i64,
    limit: i64,
}

/// A range of steps is wide if it is this large, relative to the objective: then it is halved, not solved.
const WIDE: f64 = 5e-4;

impl StepRange {
    /// Without those that are no better than `target`, as chains under the limit do not flow faster than `flow`.
    fn cut(self, flow: f64, target: f64) -> Self {
        let least = self.least.max(flow + self.floor as f64);
        Self { least, limit: self.limit.min((target - flow).floor() as i64), ..self }
    }

    fn halves(self, flow: f64) -> [Self; 2] {
        let middle = self.floor + (self.limit - self.floor) / 2;
        let upper = Self { floor: middle + 1, least: self.least.max(flow + (middle + 1) as f64), ..self };
        [Self { limit: middle, ..self }, upper]
    }
}

/// What is found of the fastest chain under a limit.
enum Fastest {
    Settled(Chain),
    /// The effort was spent before. No chain has a smaller flow.
    Unsettled {
        flow: f64,
    },
    /// None can be better than the best answer.
    Nothing,
}

impl Fastest {
    /// Ticks that no chain under the limit can beat, unless none can be better than the best answer anyway.
    fn flow(&self) -> Option<f64> {
        match self {
            Self::Settled(Chain { flow, .. }) | Self::Unsettled { flow } => Some(*flow),
            Self::Nothing => None,
        }
    }
}

/// A chain whose ranges of layers are settled.
struct Chain {
    /// Ticks that no other chain under its limit can beat: of one microbatch through the pipeline and the others
    /// behind it, at the pace of the slowest stage.
    flow: f64,
    /// Ticks once a step of its slowest stage.
    step: i64,
}
