//! The integer program, stated through good_lp and solved by HiGHS.
//!
//! One binary per layer, stage and strategy. What happens between two layers is a flow: the stage and layout of each
//! layer send one unit to those of the next, either within the stage or into the next stage. So stages are runs of
//! consecutive layers without any further rule, and costs between layouts are linear. The three maxima — slowest
//! stage, slowest step, largest transient — are continuous variables above all that they are the maximum of.
//!
//! good_lp states the program. What an answer must say besides itself, how far from the best it may be, only HiGHS'
//! own handle knows: it is asked directly.

use std::panic::{AssertUnwindSafe, catch_unwind};

use good_lp::{Constraint, Expression, ProblemVariables, SolverModel, Variable, constraint, variable};
use highs::{HighsModelStatus, HighsSolutionStatus};

use crate::{Answer, Assignment, Problem, Shortage, Solved, Violation, lower_bound};

pub(crate) fn solve(problem: &Problem, time_limit: f64) -> Solved {
    let least = lower_bound(problem);
    // Numbers near one suit the solver's absolute tolerances: a unit of time is about a step.
    let floor = SMALLEST_UNIT * longest(problem);
    let unit = if least.is_finite() { least.max(floor) } else { floor };
    let unit = if unit > 0.0 { unit } else { 1.0 };
    let mut capacities: Vec<f64> = problem.stages.iter().map(|stage| stage.capacity_bytes as f64).collect();
    let mut bound = f64::NEG_INFINITY;
    for _ in 0..ATTEMPTS {
        let ending = IntegerProgram::new(problem, unit, &capacities).solve(time_limit);
        // The first attempt is the problem itself or wider, so its bound is the one that counts.
        bound = bound.max(ending.bound * unit);
        let Some(assignment) = ending.assignment else {
            return match ending.proof {
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

/// How a run of the solver ended.
struct Ending {
    assignment: Option<Assignment>,
    /// In the program's unit.
    bound: f64,
    proof: Proof,
}

enum Proof {
    Infeasible,
    None,
}

/// A flow from one layer to the next.
struct Edge {
    flow: Variable,
    /// Stage and layout of the layer that sends.
    from: (usize, usize),
    /// Stage and layout of the layer that receives.
    to: (usize, usize),
}

struct IntegerProgram<'a> {
    problem: &'a Problem,
    unit: f64,
    variables: ProblemVariables,
    objective: Expression,
    constraints: Vec<Constraint>,
    /// `uses[layer][stage][strategy]`: the first variables, in this order.
    uses: Vec<Vec<Vec<Variable>>>,
    /// `edges[layer]`: from that layer to the next.
    edges: Vec<Vec<Edge>>,
}

impl<'a> IntegerProgram<'a> {
    fn new(problem: &'a Problem, unit: f64, capacities: &[f64]) -> Self {
        let (layers, stages) = (problem.layers.len(), problem.stages.len());
        let mut variables = ProblemVariables::new();
        let uses = (0..layers)
            .map(|layer| {
                (0..stages)
                    .map(|stage| {
                        // Earlier and later stages need a layer each.
                        let possible = stage <= layer && stages - stage <= layers - layer && (layer > 0 || stage == 0);
                        let most = i32::from(possible && (layer + 1 < layers || stage + 1 == stages));
                        let uses = variable().integer().clamp(0, most);
                        problem.strategies(layer).iter().map(|_| variables.add(uses.clone())).collect()
                    })
                    .collect()
            })
            .collect();
        let (objective, constraints) = (Expression::default(), Vec::new());
        let mut program = Self { problem, unit, variables, objective, constraints, uses, edges: Vec::new() };
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
                    let flow = self.variables.add(variable().clamp(0, 1));
                    edges.push(Edge { flow, from: (stage, from), to: (next, to) });
                }
            }
        }
        edges
    }

    fn one_use_per_layer(&mut self) {
        for stages in &self.uses {
            self.constraints.push(constraint::eq(stages.iter().flatten().sum::<Expression>(), 1));
        }
    }

    /// What `layer` is sends what flows from it; what the next layer is receives what flows to it.
    fn conserve(&mut self, layer: usize) {
        for stage in 0..self.problem.stages.len() {
            for layout in 0..self.problem.transitions.len() {
                let edges = &self.edges[layer];
                let sent = edges.iter().filter(|edge| edge.from == (stage, layout)).map(|edge| edge.flow);
                let received = edges.iter().filter(|edge| edge.to == (stage, layout)).map(|edge| edge.flow);
                let sends = constraint::eq(sent.sum::<Expression>(), self.users(layer, stage, layout));
                let receives = constraint::eq(received.sum::<Expression>(), self.users(layer + 1, stage, layout));
                self.constraints.extend([sends, receives]);
            }
        }
    }

    /// Whether `layer` is in this stage and layout.
    fn users(&self, layer: usize, stage: usize, layout: usize) -> Expression {
        let strategies = self.problem.strategies(layer).iter().zip(&self.uses[layer][stage]);
        strategies.filter(|(costs, _)| costs.layout == layout).map(|(_, &uses)| uses).sum()
    }

    fn tie(&mut self) {
        for &(first, second) in self.problem.ties.iter().filter(|(first, second)| first != second) {
            for strategy in 0..self.problem.strategies(first).len() {
                let uses = |layer: usize| self.uses[layer].iter().map(|all| all[strategy]).sum::<Expression>();
                self.constraints.push(constraint::eq(uses(first), uses(second)));
            }
        }
    }

    /// The objective, `Σ T_s + (m − 1) · max T_s + max U_s`.
    fn times(&mut self) {
        let slowest = self.variables.add(variable().min(0));
        let slowest_step = self.variables.add(variable().min(0));
        self.objective = f64::from(self.problem.microbatches - 1) * slowest + slowest_step;
        for stage in 0..self.problem.stages.len() {
            let time = self.variables.add(variable().min(0));
            self.objective += time;
            self.constraints.push(constraint::eq(self.microbatch_time(stage), time));
            self.constraints.push(constraint::geq(slowest, time));
            self.constraints.push(constraint::leq(self.step_time(stage), slowest_step));
        }
    }

    fn microbatch_time(&self, stage: usize) -> Expression {
        let problem = self.problem;
        let scale = problem.stages[stage].speed / self.unit;
        let mut spent = Expression::default();
        for layer in 0..problem.layers.len() {
            for (costs, &uses) in problem.strategies(layer).iter().zip(&self.uses[layer][stage]) {
                spent.add_mul(scale * costs.time_microbatch, uses);
            }
        }
        for edge in self.edges.iter().flatten() {
            let cut = if edge.from.0 == edge.to.0 { 0.0 } else { problem.boundary[edge.to.1] };
            let converted = problem.transitions[edge.from.1][edge.to.1];
            if edge.from.0 == stage {
                spent.add_mul(scale * (converted + cut), edge.flow);
            } else if edge.to.0 == stage {
                spent.add_mul(scale * cut, edge.flow);
            }
        }
        spent
    }

    fn step_time(&self, stage: usize) -> Expression {
        let scale = self.problem.stages[stage].speed / self.unit;
        let mut spent = Expression::default();
        for layer in 0..self.problem.layers.len() {
            for (costs, &uses) in self.problem.strategies(layer).iter().zip(&self.uses[layer][stage]) {
                spent.add_mul(scale * costs.time_step, uses);
            }
        }
        spent
    }

    /// State, saved tensors of the microbatches in flight and the largest transient, within the capacity.
    fn memory(&mut self, stage: usize, capacity: f64) {
        let problem = self.problem;
        let in_flight = f64::from(problem.stages[stage].in_flight);
        let scale = 1.0 / capacity.max(1.0);
        let largest = self.variables.add(variable().min(0));
        let mut used = Expression::from(largest);
        for layer in 0..problem.layers.len() {
            let mut transient = Expression::default();
            for (costs, &uses) in problem.strategies(layer).iter().zip(&self.uses[layer][stage]) {
                let kept = costs.bytes_state as f64 + in_flight * costs.bytes_saved as f64;
                let least = kept + costs.bytes_transient as f64;
                if least > capacity {
                    // Coefficients far above the capacity would only blur the row.
                    self.constraints.push(constraint::eq(uses, 0));
                } else {
                    used.add_mul(scale * kept, uses);
                    transient.add_mul(scale * costs.bytes_transient as f64, uses);
                }
            }
            self.constraints.push(constraint::leq(transient, largest));
        }
        self.constraints.push(constraint::leq(used, scale * capacity));
    }

    fn solve(self, time_limit: f64) -> Ending {
        let Self { variables, objective, constraints, .. } = self;
        let stated = || variables.minimise(objective).using(good_lp::highs).with_all(constraints).into_inner();
        // Numbers that it cannot bear make the solver panic: it has found nothing.
        let nothing = Ending { assignment: None, bound: f64::NEG_INFINITY, proof: Proof::None };
        let Ok(mut model) = catch_unwind(AssertUnwindSafe(stated)) else { return nothing };
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
        let Ok(solved) = model.try_solve() else { return nothing };
        // The objective has a floor of zero, so "unbounded or infeasible" can only be infeasible.
        let infeasible =
            matches!(solved.status(), HighsModelStatus::Infeasible | HighsModelStatus::UnboundedOrInfeasible);
        let proof = if infeasible { Proof::Infeasible } else { Proof::None };
        let bound = solved.double_info_value(c"mip_dual_bound").unwrap_or(f64::NEG_INFINITY);
        let found = matches!(solved.primal_solution_status(), HighsSolutionStatus::Feasible);
        let assignment = found.then(|| read(self.problem, solved.get_solution().columns()));
        Ending { assignment, bound, proof }
    }
}

/// The assignment that the solver's values say.
fn read(problem: &Problem, values: &[f64]) -> Assignment {
    let mut assignment = Assignment { cuts: Vec::new(), strategies: Vec::new() };
    let mut values = values.iter();
    for layer in 0..problem.layers.len() {
        let strategies = problem.strategies(layer).len();
        let places = (0..problem.stages.len()).flat_map(|stage| (0..strategies).map(move |strategy| (stage, strategy)));
        let used = places.zip(values.by_ref()).max_by(|(_, one), (_, other)| one.total_cmp(other));
        let ((stage, strategy), _) = used.expect("a layer has strategies");
        if stage == assignment.cuts.len() {
            assignment.cuts.push(layer);
        }
        assignment.strategies.push(strategy);
    }
    debug_assert_eq!(assignment.cuts.len(), problem.stages.len(), "each stage starts once");
    assignment
}
