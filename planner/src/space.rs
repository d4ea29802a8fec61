//! Each outer choice makes one [`Problem`], whose answer is a plan.

use std::borrow::Cow;
use std::collections::BTreeSet;

use ir::cluster::Cluster;
use ir::graph::{Graph, KindId};
use ir::model::Precision;
use ir::plan::{Plan, Recompute, Shard, Strategy};
use ir::profile::Route;
use ir::units::Bytes;

use cost_model::CostModel;
use solver::{Assignment, Costs, Kind, Method, Problem, Solved, Stage, solve};

use crate::costing::{Costing, Junction, Layout, LayoutClass, PREFETCH};
use crate::known::{Known, KnownLayers};
use crate::line::Line;
use crate::outer::Outer;
use crate::speed::{Speeds, respeeded};
use crate::tie::{Copies, least};

/// One outer choice with its costs, and what its strategy indices mean. Costs are outlines, the least that a strategy
/// can cost, until an answer rests on them: most strategies are never simulated.
#[derive(Clone, Debug)]
pub struct Space {
    /// The choice.
    pub outer: Outer,
    /// The bare numbers.
    pub problem: Problem,
    /// The strategies of each kind, in the order of the problem.
    pub strategies: Vec<Vec<Strategy>>,
    /// Which of them have been simulated.
    simulated: Vec<Vec<bool>>,
    layers: KnownLayers,
    /// Of lines over unlike devices, the least speed of each stage: its factor for the strategy that it is best at.
    least_speeds: Vec<f64>,
    /// Of such lines, what is known of layers on each part.
    pub(crate) by_part: Vec<KnownLayers>,
}

/// What every space of a search has in common.
#[derive(Clone, Copy)]
pub struct Setting<'a> {
    /// The model.
    pub graph: &'a Graph,
    /// The devices.
    pub cluster: &'a Cluster,
    /// What work costs.
    pub costs: &'a CostModel,
    /// How numbers are stored.
    pub precision: Precision,
    /// Where stages lie on unlike devices, on which; the cluster and the costs are then those of one of them.
    pub line: Option<&'a Line<'a>>,
}

/// How often stages on unlike devices are costed anew.
const RESPEEDS: usize = 2;

impl Space {
    /// Outlines all strategies of an outer choice. None if some layer has no legal one.
    pub fn new(setting: Setting<'_>, known: &Known, outer: &Outer) -> Option<Space> {
        Space::of(setting, known, outer, &|_| true)
    }

    /// Solves the problem and simulates what the answer uses, until it uses nothing else: as outlines are the least
    /// that a strategy can cost, no other answer is better. Most of what will be used is found by rough answers.
    pub fn solve(&mut self, setting: Setting<'_>, method: &Method) -> Solved {
        let rough = self.settle(setting, &method.rough());
        if matches!(rough, Solved::Infeasible(_)) {
            return rough;
        }
        let mut solved = self.settle(setting, method);
        for _ in 0..RESPEEDS {
            let Solved::Found(answer) = &solved else { break };
            match respeeded(self, setting, &answer.assignment) {
                Some(stages) => self.problem.stages = stages,
                None => break,
            }
            solved = self.settle(setting, method);
        }
        solved
    }

    /// The problem of which no plan of the space is below the least: that of the space itself where devices are alike.
    /// Elsewhere with the least speeds of stages, and without what lies between layers, which may cost less there.
    pub(crate) fn bounding(&self) -> Cow<'_, Problem> {
        if self.least_speeds.is_empty() {
            return Cow::Borrowed(&self.problem);
        }
        let mut problem = self.problem.clone();
        for (stage, speed) in problem.stages.iter_mut().zip(&self.least_speeds) {
            stage.speed = *speed;
        }
        problem.boundary.fill(0.0);
        problem.transitions.iter_mut().for_each(|row| row.fill(0.0));
        Cow::Owned(problem)
    }

    fn settle(&mut self, setting: Setting<'_>, method: &Method) -> Solved {
        loop {
            let solved = solve(&self.problem, method);
            let Solved::Found(answer) = &solved else { return solved };
            let layers = self.problem.layers.iter().copied();
            let used: BTreeSet<(usize, usize)> = layers.zip(answer.assignment.strategies.iter().copied()).collect();
            if used.iter().all(|&(kind, index)| self.simulated[kind][index]) {
                return solved;
            }
            let near = used.iter().flat_map(|&(kind, index)| self.neighbours(kind, index)).collect();
            self.simulate(setting, &near);
        }
    }

    /// The same with so much memory on each device.
    pub(crate) fn offering(mut self, capacity: Bytes) -> Space {
        for stage in &mut self.problem.stages {
            stage.capacity_bytes = capacity.0;
        }
        self
    }

    /// The plan that needs least by estimate, unless that is more than there is.
    pub(crate) fn tightest(mut self, setting: Setting<'_>) -> Option<Plan> {
        let capacity = self.problem.stages[0].capacity_bytes;
        let mut offered = 1;
        while offered <= capacity {
            self = self.offering(Bytes(offered));
            match self.solve(setting, &Method::DYNAMIC) {
                Solved::Found(answer) => return Some(self.plan(&answer.assignment, setting.precision)),
                Solved::Infeasible(shortage) => offered = shortage.need.bytes().max(offered + offered / 50 + 1),
                Solved::Stopped { .. } => return None,
            }
        }
        None
    }

    /// A strategy and those that differ from it in sharding or in recomputation alone: what the next answer is likely
    /// to use if this costs more than its outline.
    fn neighbours(&self, kind: usize, index: usize) -> Vec<(usize, usize)> {
        let all = &self.strategies[kind];
        let of = &all[index];
        let is_near = |other: &Strategy| {
            LayoutClass::of(other) == LayoutClass::of(of)
                && (other.shard == of.shard || other.recompute == of.recompute)
        };
        (0..all.len()).filter(|&other| is_near(&all[other])).map(|other| (kind, other)).collect()
    }

    /// Simulates all strategies.
    pub(crate) fn complete(&mut self, setting: Setting<'_>) {
        let of_kind = |(kind, list): (usize, &Vec<Strategy>)| (0..list.len()).map(move |strategy| (kind, strategy));
        let all = self.strategies.iter().enumerate().flat_map(of_kind).collect();
        self.simulate(setting, &all);
    }

    /// How many strategies have been simulated.
    pub fn simulated_count(&self) -> usize {
        self.simulated.iter().flatten().filter(|&&simulated| simulated).count()
    }

    /// Simulates these strategies of these kinds, unless they were.
    fn simulate(&mut self, setting: Setting<'_>, wanted: &BTreeSet<(usize, usize)>) {
        let costing = costing(setting, &self.outer);
        let mut known = self.layers.open();
        for &(kind, index) in wanted {
            if !std::mem::replace(&mut self.simulated[kind][index], true) {
                let costs = &mut self.problem.kinds[kind].strategies[index];
                let strategy = &self.strategies[kind][index];
                let id = KindId(kind as u32);
                *costs = known.costs(&costing, id, strategy, costs);
                let joining = costing.joining(&mut known.outlines, id, strategy);
                costs.time_step += least(setting, &self.outer, id, joining.as_ref());
            }
        }
    }

    /// The same with only what can be fastest, as if memory had no end: whatever else a strategy does, it adds to the
    /// time of a microbatch. Its bound bounds the whole space.
    pub(crate) fn fastest(setting: Setting<'_>, known: &Known, outer: &Outer) -> Option<Space> {
        let rules = &outer.rules;
        let is_plain = |strategy: &Strategy| {
            (rules.shard.is_some() || strategy.shard == Shard::Nothing)
                && (rules.recompute.is_some() || strategy.recompute == Recompute::Nothing)
        };
        Some(Space::of(setting, known, outer, &is_plain)?.offering(Bytes(u64::MAX)))
    }

    /// For each way of sharding and each limit on what is computed again the same with nothing else, if that is legal
    /// for every layer.
    pub(crate) fn apart(setting: Setting<'_>, known: &Known, outer: &Outer) -> Vec<Space> {
        let mut spaces = Vec::new();
        for shard in [Shard::Nothing, Shard::Optimizer, Shard::Gradients, Shard::Parameters] {
            for most in [Recompute::Nothing, Recompute::Selective, Recompute::Full] {
                let keep = |strategy: &Strategy| strategy.shard == shard && strategy.recompute <= most;
                spaces.extend(Space::of(setting, known, outer, &keep));
            }
        }
        spaces
    }

    fn of(setting: Setting<'_>, known: &Known, outer: &Outer, keep: &dyn Fn(&Strategy) -> bool) -> Option<Space> {
        let Setting { graph, cluster, .. } = setting;
        let costing = costing(setting, outer);
        let strategies: Vec<Vec<Strategy>> =
            (0..graph.kinds.len()).map(|kind| legal(graph, KindId(kind as u32), outer, keep)).collect();
        let used = |kind: usize| graph.layers.iter().any(|layer| layer.index() == kind);
        if (0..strategies.len()).any(|kind| used(kind) && strategies[kind].is_empty()) {
            return None;
        }
        let of_kind = |kind: usize| {
            let junction = move |strategy| costing.junction(KindId(kind as u32), strategy);
            strategies[kind].iter().map(junction).collect::<Vec<Junction>>()
        };
        let junctions: Vec<Vec<Junction>> = (0..strategies.len()).map(of_kind).collect();
        let mut classes: Vec<Junction> = junctions.iter().flatten().copied().collect();
        classes.sort_unstable();
        classes.dedup();
        let layers = known.of(setting.base(), outer);
        let by_part: Vec<KnownLayers> = match setting.line {
            Some(line) => (0..line.parts.clusters.len()).map(|part| known.of(part, outer)).collect(),
            None => Vec::new(),
        };
        let mut known = layers.open();
        let layout =
            |(index, &class): (usize, &Junction)| costing.layout(&mut known.outlines, class, outer.ranks, index);
        let layouts: Vec<Layout> = classes.iter().enumerate().map(layout).collect();
        let mut kinds = Vec::new();
        for (kind, list) in strategies.iter().enumerate() {
            let costs = list.iter().zip(&junctions[kind]).map(|(strategy, junction)| {
                let layout = layouts[classes.binary_search(junction).expect("every junction is listed")];
                let id = KindId(kind as u32);
                let costs = costing.outline(&mut known.outlines, id, strategy, layout);
                let joining = costing.joining(&mut known.outlines, id, strategy);
                Costs { time_step: costs.time_step + least(setting, outer, id, joining.as_ref()), ..costs }
            });
            kinds.push(Kind { strategies: costs.collect() });
        }
        let mut transition = |from, to| known.transition(&costing, outer.ranks, [from, to]);
        let transitions =
            classes.iter().map(|&from| classes.iter().map(|&to| transition(from, to)).collect()).collect();
        drop(known);
        let route = if cluster.nodes > 1 && outer.stages > 1 { crossing_route(cluster, outer) } else { Route::Inside };
        let boundary = classes.iter().map(|&class| costing.crossing(class, outer.ranks, route)).collect();
        let speeds = Speeds::of(setting, outer, &strategies, &kinds, &by_part);
        let ties = graph.tie.iter().flat_map(|tie| tie.users.iter().map(|user| (tie.owner.0.index(), user.0.index())));
        let problem = Problem {
            kinds,
            layers: graph.layers.iter().map(|kind| kind.index()).collect(),
            transitions,
            boundary,
            stages: (0..outer.stages).map(|stage| stage_of(setting, outer, stage, &speeds)).collect(),
            microbatches: outer.microbatches,
            ties: ties.collect(),
        };
        let simulated = strategies.iter().map(|list| vec![false; list.len()]).collect();
        let least_speeds = setting.line.iter().flat_map(|line| &line.stages).map(|&part| speeds.least[part]).collect();
        Some(Space { outer: outer.clone(), problem, strategies, simulated, layers, least_speeds, by_part })
    }

    /// The same choice with tensor degrees up to `most` only: the best plan of a narrower space is often the second
    /// best of all, and simulated whole it may be the first. None if nothing is left of some kind.
    pub fn narrowed(&self, most: u32) -> Option<Space> {
        let keep = |strategies: &[Strategy]| -> Vec<usize> {
            (0..strategies.len()).filter(|&index| strategies[index].tensor <= most).collect()
        };
        let kept: Vec<Vec<usize>> = self.strategies.iter().map(|list| keep(list)).collect();
        let is_used = |kind: usize| self.problem.layers.contains(&kind);
        if kept.iter().enumerate().any(|(kind, indices)| indices.is_empty() && is_used(kind)) {
            return None;
        }
        let mut space = self.clone();
        space.outer.degrees.retain(|&degree| degree <= most);
        for (kind, indices) in kept.iter().enumerate() {
            let pick = |&index: &usize| self.problem.kinds[kind].strategies[index].clone();
            space.problem.kinds[kind].strategies = indices.iter().map(pick).collect();
            space.strategies[kind] = indices.iter().map(|&index| self.strategies[kind][index].clone()).collect();
            space.simulated[kind] = indices.iter().map(|&index| self.simulated[kind][index]).collect();
        }
        Some(space)
    }

    /// The plan that an assignment means.
    pub fn plan(&self, assignment: &Assignment, precision: Precision) -> Plan {
        let layers = self.problem.layers.len() as u32;
        let ends = assignment.cuts.iter().skip(1).map(|&cut| cut as u32).chain([layers]);
        let stages = assignment.cuts.iter().zip(ends).map(|(&start, end)| start as u32..end).collect();
        let chosen = self.problem.layers.iter().zip(&assignment.strategies);
        Plan {
            batch: self.outer.sequences * u64::from(self.outer.microbatches),
            microbatches: self.outer.microbatches,
            schedule: self.outer.schedule,
            precision,
            stages,
            strategies: chosen.map(|(&kind, &index)| self.strategies[kind][index].clone()).collect(),
            prefetch: PREFETCH,
        }
    }
}

pub(crate) fn costing<'a>(setting: Setting<'a>, outer: &Outer) -> Costing<'a> {
    Costing {
        graph: setting.graph,
        model: setting.costs,
        precision: setting.precision,
        sequences: outer.sequences,
        counts: Costing::counts(outer.microbatches),
        copies: Copies::of(outer.stages),
    }
}

/// The strategies of a kind under an outer choice. Kinds with a tied parameter list the same ones: those that each may
/// have.
fn legal(graph: &Graph, kind: KindId, outer: &Outer, keep: &dyn Fn(&Strategy) -> bool) -> Vec<Strategy> {
    let mut all = legal_alone(graph, kind, outer, keep);
    let tied: Vec<KindId> =
        graph.tie.iter().flat_map(|tie| tie.sides()).map(|(layer, _)| graph.layers[layer.index()]).collect();
    if tied.contains(&kind) {
        for other in tied.into_iter().filter(|&other| other != kind) {
            let others = legal_alone(graph, other, outer, keep);
            all.retain(|strategy| others.contains(strategy));
        }
    }
    all
}

fn legal_alone(graph: &Graph, kind: KindId, outer: &Outer, keep: &dyn Fn(&Strategy) -> bool) -> Vec<Strategy> {
    let all = compiler::strategies(&graph.kinds[kind.index()], outer.ranks, outer.sequences);
    let keeps_nothing = graph.kinds[kind.index()].input.is_none() && graph.tie.is_none();
    let has_effect = |strategy: &Strategy| !keeps_nothing || strategy.recompute == Recompute::Nothing;
    let is_wanted = |strategy: &Strategy| {
        outer.degrees.contains(&strategy.tensor) && has_effect(strategy) && outer.rules.allows(graph, kind, strategy)
    };
    all.into_iter().filter(|strategy| is_wanted(strategy) && keep(strategy)).collect()
}

/// Whether neighbouring stages lie in different nodes.
pub(crate) fn crossing_route(cluster: &Cluster, outer: &Outer) -> Route {
    let inside = outer.ranks * outer.stages <= cluster.devices_per_node;
    if inside { Route::Inside } else { Route::Between }
}

fn stage_of(setting: Setting<'_>, outer: &Outer, stage: u32, speeds: &Speeds) -> Stage {
    let index = stage as usize;
    Stage {
        capacity_bytes: setting.capacity(index).0,
        in_flight: compiler::in_flight(outer.schedule, outer.stages, stage, outer.microbatches),
        speed: shared_cores(setting, outer, index) * speeds.usual[setting.part(index)],
    }
}

/// How many times as long a stage takes beside the others. Where ranks share cores, the costs were made with one stage's
/// ranks; all stages' ranks share them.
pub(crate) fn shared_cores(setting: Setting<'_>, outer: &Outer, stage: usize) -> f64 {
    let part = setting.part(stage);
    let of_part = |line: &Line<'_>| line.stages.iter().filter(|&&other| other == part).count() as u32;
    let stages = setting.line.map_or(outer.stages, of_part);
    let setting = setting.on_part(part);
    let per_node = setting.cluster.devices_per_node;
    let together = (outer.ranks * stages).min(per_node);
    let alone = outer.ranks.min(per_node);
    setting.costs.sharing(together) / setting.costs.sharing(alone)
}
