//! The integer program of a problem whose stages are given: per stage, kind and strategy a count of layers.

use std::panic::{AssertUnwindSafe, catch_unwind};

use good_lp::{Constraint, Expression, ProblemVariables, SolverModel, Variable, constraint, variable};
use highs::{HighsModelStatus, HighsSolutionStatus};

use crate::dynamic::ties::tie_groups;
use crate::posed::{Posed, StepRule};
use crate::{Answer, Assignment, Solved};

pub(crate) fn solve(posed: &Posed, cuts: &[usize], time_limit: f64) -> Solved {
    let least = posed.lower_bound();
    if least == f64::INFINITY {
        return Solved::Infeasible(posed.shortage(cuts));
    }
    // Numbers near one suit the solver's absolute tolerances.
    let unit = if least > 0.0 { least } else { 1.0 };
    let mut slack = 0.0;
    for _ in 0..ATTEMPTS {
        match Program::new(posed, cuts, unit, slack).solve(time_limit) {
            Ending::Found { assignment, bound } => match posed.score(&assignment) {
                Ok(score) => {
                    let objective = score.objective;
                    return Solved::Found(Answer { assignment, objective, bound: (bound * unit).min(objective) });
                }
                // It fits only by the solver's tolerance.
                Err(_) => slack = f64::max(slack * 10.0, 1e-8),
            },
            Ending::Infeasible => return Solved::Infeasible(posed.shortage(cuts)),
            Ending::Nothing => return Solved::Stopped { bound: least },
        }
    }
    Solved::Stopped { bound: least }
}

/// How often to try again with a little less memory.
const ATTEMPTS: usize = 4;

enum Ending {
    Found { assignment: Assignment, bound: f64 },
    Infeasible,
    Nothing,
}

/// Layers of a stage that are treated alike.
struct Group {
    stage: usize,
    layers: Vec<usize>,
    /// Per strategy, how many of the layers use it.
    counts: Vec<Variable>,
    /// Whether the layers are tied, so that all use one.
    is_tied: bool,
}

struct Program<'a> {
    posed: &'a Posed,
    cuts: &'a [usize],
    unit: f64,
    variables: ProblemVariables,
    constraints: Vec<Constraint>,
    groups: Vec<Group>,
}

impl<'a> Program<'a> {
    fn new(posed: &'a Posed, cuts: &'a [usize], unit: f64, slack: f64) -> Self {
        let (variables, constraints) = (ProblemVariables::new(), Vec::new());
        let mut program = Self { posed, cuts, unit, variables, constraints, groups: Vec::new() };
        program.free_layers();
        program.tied_layers();
        (0..cuts.len()).for_each(|stage| program.memory(stage, slack));
        program
    }

    fn stage_of(&self, layer: usize) -> usize {
        self.cuts.partition_point(|&cut| cut <= layer) - 1
    }

    fn free_layers(&mut self) {
        let problem = &self.posed.problem;
        let tied: Vec<usize> = tie_groups(problem).into_iter().flatten().collect();
        let mut alike: Vec<((usize, usize), Vec<usize>)> = Vec::new();
        for layer in (0..problem.layers.len()).filter(|layer| !tied.contains(layer)) {
            let key = (self.stage_of(layer), problem.layers[layer]);
            match alike.iter_mut().find(|(other, _)| *other == key) {
                Some((_, layers)) => layers.push(layer),
                None => alike.push((key, vec![layer])),
            }
        }
        for ((stage, kind), layers) in alike {
            let most = layers.len() as i32;
            let strategies = problem.kinds[kind].strategies.iter();
            let counts: Vec<Variable> =
                strategies.map(|_| self.variables.add(variable().integer().clamp(0, most))).collect();
            self.constraints.push(constraint::eq(counts.iter().sum::<Expression>(), most));
            self.groups.push(Group { stage, layers, counts, is_tied: false });
        }
    }

    fn tied_layers(&mut self) {
        let problem = &self.posed.problem;
        for layers in tie_groups(problem) {
            let counts: Vec<Variable> = problem
                .strategies(layers[0])
                .iter()
                .map(|_| self.variables.add(variable().integer().clamp(0, 1)))
                .collect();
            self.constraints.push(constraint::eq(counts.iter().sum::<Expression>(), 1));
            for layer in layers {
                let (stage, counts) = (self.stage_of(layer), counts.clone());
                self.groups.push(Group { stage, layers: vec![layer], counts, is_tied: true });
            }
        }
    }

    /// What the layers of a stage have of something, scaled.
    fn sum(&self, stage: usize, of: &dyn Fn(&crate::Costs, &Group) -> f64) -> Expression {
        let mut sum = Expression::default();
        for group in self.groups.iter().filter(|group| group.stage == stage) {
            for (costs, &count) in self.posed.problem.strategies(group.layers[0]).iter().zip(&group.counts) {
                sum.add_mul(of(costs, group), count);
            }
        }
        sum
    }

    fn memory(&mut self, stage: usize, slack: f64) {
        let offered = &self.posed.problem.stages[stage];
        let capacity = (offered.capacity_bytes as f64).max(1.0);
        let in_flight = f64::from(offered.in_flight);
        let used = |costs: &crate::Costs, _: &Group| {
            (costs.bytes_state as f64 + in_flight * costs.bytes_saved as f64) / capacity
        };
        let used = self.sum(stage, &used);
        let room = offered.capacity_bytes as f64 / capacity - slack;
        self.constraints.push(constraint::leq(used, room));
    }

    /// The rule of the step as rows; what is returned is to be minimised.
    fn objective(&mut self) -> Expression {
        let problem = &self.posed.problem;
        let scale = |stage: usize| problem.stages[stage].speed / self.unit;
        let stages = self.cuts.len();
        let times: Vec<Expression> =
            (0..stages).map(|s| self.sum(s, &|costs, _| scale(s) * costs.time_microbatch)).collect();
        let steps: Vec<Expression> = (0..stages).map(|s| self.sum(s, &|costs, _| scale(s) * costs.time_step)).collect();
        let tied: Vec<Expression> = (0..stages)
            .map(|s| self.sum(s, &|costs, group| if group.is_tied { scale(s) * costs.time_microbatch } else { 0.0 }))
            .collect();
        let flow = self.variables.add(variable().min(0));
        let exposed = self.variables.add(variable().min(0));
        let sum = |stages: &[Expression]| stages.iter().cloned().sum::<Expression>();
        let (all, more) = (sum(&times), f64::from(problem.microbatches - 1));
        match self.posed.step {
            StepRule::Slowest => {
                for time in &times {
                    self.constraints.push(constraint::geq(flow, all.clone() + more * time.clone()));
                }
                for step in steps {
                    self.constraints.push(constraint::geq(exposed, step));
                }
            }
            StepRule::Ends => {
                let last = times[stages - 1].clone();
                let behind = (more + 2.0 - stages as f64).max(0.0) * times[0].clone();
                let filled = more.min(stages as f64 - 1.0) * times[0].clone();
                for least in [all + more * last, filled + behind.clone(), sum(&times[1..]) + behind] {
                    self.constraints.push(constraint::geq(flow, least));
                }
                for (stage, step) in steps.into_iter().enumerate() {
                    let hidden = tied[stage].clone() + sum(&times[..stage]);
                    self.constraints.push(constraint::geq(exposed, step - hidden));
                }
            }
        }
        flow + exposed
    }

    fn solve(mut self, time_limit: f64) -> Ending {
        let objective = self.objective();
        let Self { posed, cuts, variables, constraints, groups, .. } = self;
        let stated = || variables.minimise(objective).using(good_lp::highs).with_all(constraints).into_inner();
        // Numbers that it cannot bear make the solver panic: it has found nothing.
        let Ok(mut model) = catch_unwind(AssertUnwindSafe(stated)) else { return Ending::Nothing };
        model.make_quiet();
        model.set_option("threads", 1);
        model.set_option("random_seed", 1);
        model.set_option("mip_rel_gap", 1e-9);
        model.set_option("mip_abs_gap", 1e-10);
        model.set_option("mip_feasibility_tolerance", 1e-9);
        model.set_option("primal_feasibility_tolerance", 1e-9);
        if time_limit.is_finite() {
            model.set_option("time_limit", time_limit);
        }
        let Ok(solved) = model.try_solve() else { return Ending::Nothing };
        if matches!(solved.status(), HighsModelStatus::Infeasible | HighsModelStatus::UnboundedOrInfeasible) {
            return Ending::Infeasible;
        }
        if !matches!(solved.primal_solution_status(), HighsSolutionStatus::Feasible) {
            return Ending::Nothing;
        }
        let bound = solved.double_info_value(c"mip_dual_bound").unwrap_or(0.0);
        let assignment = read(posed, cuts, &groups, solved.get_solution().columns());
        Ending::Found { assignment, bound }
    }
}

/// The assignment that the solver's values say. Columns stand in the order in which variables were made: the counts of
/// free groups, then those of each tie, which its layers share.
fn read(posed: &Posed, cuts: &[usize], groups: &[Group], values: &[f64]) -> Assignment {
    let mut strategies = vec![0; posed.problem.layers.len()];
    let (tied, free): (Vec<&Group>, Vec<&Group>) = groups.iter().partition(|group| group.is_tied);
    let mut values = values.iter();
    for group in free {
        let used = (0..group.counts.len()).zip(values.by_ref());
        let used = used.flat_map(|(strategy, count)| std::iter::repeat_n(strategy, count.round() as usize));
        group.layers.iter().zip(used.collect::<Vec<usize>>()).for_each(|(&layer, it)| strategies[layer] = it);
    }
    let mut tied = tied.into_iter().peekable();
    while let Some(group) = tied.next() {
        let used = (0..group.counts.len()).zip(values.by_ref()).max_by(|(_, one), (_, other)| one.total_cmp(other));
        let (strategy, _) = used.expect("a layer has strategies");
        strategies[group.layers[0]] = strategy;
        while let Some(same) = tied.next_if(|next| next.counts == group.counts) {
            strategies[same.layers[0]] = strategy;
        }
    }
    Assignment { cuts: cuts.to_vec(), strategies }
}
