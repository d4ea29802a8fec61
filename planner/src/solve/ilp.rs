//! The integer program, for HiGHS.
//!
//! One binary per layer, stage and strategy. What happens between two layers is a flow: the stage and layout of each
//! layer send one unit to those of the next, either within the stage or into the next stage. So stages are runs of
//! consecutive layers without any further rule, and costs between layouts are linear. The three maxima — slowest
//! stage, slowest step, largest transient — are continuous variables above all that they are the maximum of.

use super::{Answer, Shortage, Solved, lower_bound};
use crate::problem::{Assignment, Problem, Violation};
use highs::{Col, HighsModelStatus, HighsSolutionStatus, RowProblem, Sense};

pub(super) fn solve(problem: &Problem, time_limit: f64) -> Solved {
    let least = lower_bound(problem);
    // Numbers near one suit the solver's absolute tolerances: a unit of time is about a step.
    let floor = SMALLEST_UNIT * longest(problem);
    let unit = if least.is_finite() { least.max(floor) } else { floor };
    let unit = if unit > 0.0 { unit } else { 1.0 };
    let mut capacities: Vec<f64> = problem.stages.iter().map(|stage| stage.capacity_bytes as f64).collect();
    let mut bound = f64::NEG_INFINITY;
    for _ in 0..ATTEMPTS {
        let outcome = Program::new(problem, unit, &capacities).solve(time_limit);
        // The first attempt is the problem itself or wider, so its bound is the one that counts.
        bound = bound.max(outcome.bound * unit);
        let Some(assignment) = outcome.assignment else {
            return match outcome.proof {
                Proof::Infeasible => Solved::Infeasible(Shortage::of(problem)),
                Proof::None => Solved::Stopped { bound: bound.max(least) },
            };
        };
        match problem.score(&assignment) {
            Ok(_) => return Solved::Found(Answer::scored(problem, assignment, bound)),
            Err(violations) => violations.iter().for_each(|violation| tighten(violation, &mut capacities)),
        }
    }
    Solved::Stopped { bound: bound.max(least) }
}

/// The least unit of time, relative to the longest step: no coefficient is far above one over it.
const SMALLEST_UNIT: f64 = 1e-6;

/// How often to try again with a little less memory, when an answer fits only by the solver's tolerance.
const ATTEMPTS: usize = 4;

fn tighten(violation: &Violation, capacities: &mut [f64]) {
    match violation {
        Violation::Memory { stage, bytes, capacity_bytes } => {
            capacities[*stage] -= 2.0 * (bytes - capacity_bytes) as f64;
        }
        Violation::StrategyCount { .. }
        | Violation::Cuts { .. }
        | Violation::Strategy { .. }
        | Violation::Tie { .. } => panic!("the program's rows forbid that {violation}"),
    }
}

/// The longest strategies of all layers, in seconds.
fn longest(problem: &Problem) -> f64 {
    let most = |layer: usize| {
        problem.strategies(layer).iter().map(|costs| costs.time_microbatch + costs.time_step).fold(0.0, f64::max)
    };
    (0..problem.layers.len()).map(most).sum()
}

struct Outcome {
    assignment: Option<Assignment>,
    /// In the program's unit.
    bound: f64,
    proof: Proof,
}

enum Proof {
    Infeasible,
    None,
}

/// Flow from one layer to the next.
struct Edge {
    flow: Col,
    /// Stage and layout of the layer that sends.
    from: (usize, usize),
    /// Stage and layout of the layer that receives.
    to: (usize, usize),
}

struct Program<'a> {
    problem: &'a Problem,
    unit: f64,
    rows: RowProblem,
    /// `uses[layer][stage][strategy]`.
    uses: Vec<Vec<Vec<Col>>>,
    /// `edges[layer]`: from that layer to the next.
    edges: Vec<Vec<Edge>>,
}

impl<'a> Program<'a> {
    fn new(problem: &'a Problem, unit: f64, capacities: &[f64]) -> Self {
        let mut rows = RowProblem::default();
        let (layers, stages) = (problem.layers.len(), problem.stages.len());
        let uses = (0..layers)
            .map(|layer| {
                (0..stages)
                    .map(|stage| {
                        // Earlier and later stages need a layer each.
                        let possible = stage <= layer && stages - stage <= layers - layer && (layer > 0 || stage == 0);
                        let most = i32::from(possible && (layer + 1 < layers || stage + 1 == stages));
                        problem.strategies(layer).iter().map(|_| rows.add_integer_column(0.0, 0..=most)).collect()
                    })
                    .collect()
            })
            .collect();
        let mut program = Self { problem, unit, rows, uses, edges: Vec::new() };
        program.edges = (0..layers - 1).map(|_| program.edges_to_next()).collect();
        program.one_use_per_layer();
        (0..layers - 1).for_each(|layer| program.conserve(layer));
        program.tie();
        program.times();
        (0..stages).for_each(|stage| program.memory(stage, capacities[stage]));
        program
    }

    /// All flows between two layers: within a stage, or to the next.
    fn edges_to_next(&mut self) -> Vec<Edge> {
        let (stages, layouts) = (self.problem.stages.len(), self.problem.transitions.len());
        let mut edges = Vec::new();
        for stage in 0..stages {
            for next in stage..=(stage + 1).min(stages - 1) {
                for (from, to) in (0..layouts * layouts).map(|pair| (pair / layouts, pair % layouts)) {
                    let flow = self.rows.add_column(0.0, 0.0..=1.0);
                    edges.push(Edge { flow, from: (stage, from), to: (next, to) });
                }
            }
        }
        edges
    }

    fn one_use_per_layer(&mut self) {
        for stages in &self.uses {
            self.rows.add_row(1.0..=1.0, stages.iter().flatten().map(|&col| (col, 1.0)));
        }
    }

    /// What `layer` is sends what flows from it; what the next layer is receives what flows to it.
    fn conserve(&mut self, layer: usize) {
        for stage in 0..self.problem.stages.len() {
            for layout in 0..self.problem.transitions.len() {
                let sent = self.edges[layer].iter().filter(|edge| edge.from == (stage, layout));
                let received = self.edges[layer].iter().filter(|edge| edge.to == (stage, layout));
                let sent: Vec<(Col, f64)> =
                    sent.map(|edge| (edge.flow, 1.0)).chain(self.users(layer, stage, layout)).collect();
                let received: Vec<(Col, f64)> =
                    received.map(|edge| (edge.flow, 1.0)).chain(self.users(layer + 1, stage, layout)).collect();
                self.rows.add_row(0.0..=0.0, sent);
                self.rows.add_row(0.0..=0.0, received);
            }
        }
    }

    /// The uses that put `layer` in this stage and layout, negated.
    fn users(&self, layer: usize, stage: usize, layout: usize) -> impl Iterator<Item = (Col, f64)> + '_ {
        let strategies = self.problem.strategies(layer).iter().zip(&self.uses[layer][stage]);
        strategies.filter(move |(costs, _)| costs.layout == layout).map(|(_, &col)| (col, -1.0))
    }

    fn tie(&mut self) {
        for &(first, second) in &self.problem.ties {
            if first == second {
                continue;
            }
            for strategy in 0..self.problem.strategies(first).len() {
                let uses = |layer: usize, sign: f64| self.uses[layer].iter().map(move |all| (all[strategy], sign));
                let row: Vec<(Col, f64)> = uses(first, 1.0).chain(uses(second, -1.0)).collect();
                self.rows.add_row(0.0..=0.0, row);
            }
        }
    }

    /// The objective, `Σ T_s + (m − 1) · max T_s + max U_s`.
    fn times(&mut self) {
        let repeats = f64::from(self.problem.microbatches - 1);
        let slowest = self.rows.add_column(repeats, 0.0..);
        let slowest_step = self.rows.add_column(1.0, 0.0..);
        for stage in 0..self.problem.stages.len() {
            let time = self.rows.add_column(1.0, 0.0..);
            let mut spent = self.microbatch_times(stage);
            spent.push((time, -1.0));
            self.rows.add_row(0.0..=0.0, spent);
            self.rows.add_row(0.0.., [(slowest, 1.0), (time, -1.0)]);
            let mut steps = self.step_times(stage);
            steps.push((slowest_step, -1.0));
            self.rows.add_row(..=0.0, steps);
        }
    }

    fn microbatch_times(&self, stage: usize) -> Vec<(Col, f64)> {
        let problem = self.problem;
        let scale = problem.stages[stage].speed / self.unit;
        let mut spent = Vec::new();
        for layer in 0..problem.layers.len() {
            let uses = problem.strategies(layer).iter().zip(&self.uses[layer][stage]);
            spent.extend(uses.map(|(costs, &col)| (col, scale * costs.time_microbatch)));
        }
        for edge in self.edges.iter().flatten() {
            let cut = if edge.from.0 == edge.to.0 { 0.0 } else { problem.boundary[edge.to.1] };
            let converted = problem.transitions[edge.from.1][edge.to.1];
            if edge.from.0 == stage {
                spent.push((edge.flow, scale * (converted + cut)));
            } else if edge.to.0 == stage {
                spent.push((edge.flow, scale * cut));
            }
        }
        spent
    }

    fn step_times(&self, stage: usize) -> Vec<(Col, f64)> {
        let scale = self.problem.stages[stage].speed / self.unit;
        let of_layer = |layer: usize| {
            let uses = self.problem.strategies(layer).iter().zip(&self.uses[layer][stage]);
            uses.map(move |(costs, &col)| (col, scale * costs.time_step))
        };
        (0..self.problem.layers.len()).flat_map(of_layer).collect()
    }

    /// State, saved tensors of the microbatches in flight and the largest transient, within the capacity.
    fn memory(&mut self, stage: usize, capacity: f64) {
        let problem = self.problem;
        let in_flight = f64::from(problem.stages[stage].in_flight);
        let scale = 1.0 / capacity.max(1.0);
        let largest = self.rows.add_column(0.0, 0.0..);
        let mut used = vec![(largest, 1.0)];
        for layer in 0..problem.layers.len() {
            let mut transient = vec![(largest, -1.0)];
            for (costs, &col) in problem.strategies(layer).iter().zip(&self.uses[layer][stage]) {
                let kept = costs.bytes_state as f64 + in_flight * costs.bytes_saved as f64;
                let least = kept + costs.bytes_transient as f64;
                if least > capacity {
                    // Coefficients far above the capacity would only blur the row.
                    self.rows.add_row(0.0..=0.0, [(col, 1.0)]);
                } else {
                    used.push((col, scale * kept));
                    transient.push((col, scale * costs.bytes_transient as f64));
                }
            }
            self.rows.add_row(..=0.0, transient);
        }
        self.rows.add_row(..=scale * capacity, used);
    }

    fn solve(self, time_limit: f64) -> Outcome {
        let mut model = self.rows.optimise(Sense::Minimise);
        model.make_quiet();
        model.set_option("threads", 1);
        model.set_option("random_seed", 1);
        model.set_option("mip_rel_gap", 1e-7);
        model.set_option("mip_abs_gap", 1e-9);
        model.set_option("mip_feasibility_tolerance", 1e-9);
        model.set_option("primal_feasibility_tolerance", 1e-9);
        if time_limit.is_finite() {
            model.set_option("time_limit", time_limit);
        }
        let solved = model.solve();
        // The objective has a floor of zero, so "unbounded or infeasible" can only be infeasible.
        let infeasible =
            matches!(solved.status(), HighsModelStatus::Infeasible | HighsModelStatus::UnboundedOrInfeasible);
        let proof = if infeasible { Proof::Infeasible } else { Proof::None };
        let bound = solved.double_info_value(c"mip_dual_bound").unwrap_or(f64::NEG_INFINITY);
        let found = matches!(solved.primal_solution_status(), HighsSolutionStatus::Feasible);
        let assignment = found.then(|| {
            let values = solved.get_solution();
            read(self.problem, &self.uses, values.columns())
        });
        Outcome { assignment, bound, proof }
    }
}

/// The assignment that the solver's values say.
fn read(problem: &Problem, uses: &[Vec<Vec<Col>>], values: &[f64]) -> Assignment {
    let mut assignment = Assignment { cuts: Vec::new(), strategies: Vec::new() };
    for (layer, stages) in uses.iter().enumerate() {
        let all = stages.iter().enumerate().flat_map(|(stage, strategies)| {
            strategies.iter().enumerate().map(move |(strategy, col)| (values[col.index()], stage, strategy))
        });
        let (_, stage, strategy) = all.max_by(|one, other| one.0.total_cmp(&other.0)).expect("a layer has strategies");
        if stage == assignment.cuts.len() {
            assignment.cuts.push(layer);
        }
        assignment.strategies.push(strategy);
    }
    debug_assert_eq!(assignment.cuts.len(), problem.stages.len(), "each stage starts once");
    assignment
}
