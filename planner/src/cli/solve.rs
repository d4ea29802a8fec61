//! `hetu-plan solve`: a bare problem of numbers, for experiments with the solvers.

use serde_json::json;
use solver::{Problem, Solved, solve as solve_problem};

use super::failure::Failure;
use super::input::read_text;
use super::output::{end_at_interrupt, show};
use crate::options::{MethodName, SolveOptions};

/// More assignments than this are not tried one after another.
pub(crate) const ASSIGNMENTS_MAX: f64 = 1e8;

pub(crate) fn solve(options: &SolveOptions) -> Result<(), Failure> {
    let name = options.problem.display().to_string();
    let text = read_text(&options.problem)?;
    let problem: Problem = serde_json::from_str(&text).map_err(|error| {
        Failure::wrong(format!("{name}:{}: {error}", error.line()))
            .help("a problem is JSON; see `hetu_solver::Problem`")
    })?;
    problem.check().map_err(|mistakes| {
        let lines: Vec<String> = mistakes.iter().map(|mistake| format!("{name}: {mistake}")).collect();
        Failure::wrong(lines.join("\nerror: "))
    })?;
    if options.method == MethodName::Exhaustive {
        let layers = (0..problem.layers.len()).map(|layer| problem.strategies(layer).len() as f64);
        check_count(ways_to_cut(problem.layers.len(), problem.stages.len()) * layers.product::<f64>())?;
    }
    let chosen = options.method.method()?;
    end_at_interrupt()?;
    let method = format!("{:?}", options.method).to_lowercase();
    match solve_problem(&problem, &chosen) {
        Solved::Found(answer) => {
            let document = json!({
                "method": method,
                "assignment": answer.assignment,
                "objective": answer.objective,
                "bound": answer.bound,
                "gap": answer.gap(),
                "score": problem.score(&answer.assignment).ok(),
            });
            show(&format!("{document:#}\n"))
        }
        Solved::Infeasible(shortage) => {
            show(&format!("{:#}\n", json!({ "method": method, "infeasible": shortage })))?;
            let excess = shortage.excess_bytes();
            Err(Failure::negative(format!(
                "error: {name}: no assignment fits: stage {} misses {excess} bytes",
                shortage.stage
            )))
        }
        Solved::Stopped { bound } => {
            show(&format!("{:#}\n", json!({ "method": method, "bound": bound })))?;
            Err(Failure::negative(format!("error: {name}: stopped without an answer; none is below {bound} s")))
        }
    }
}

/// Refuses an enumeration that would not end.
pub(crate) fn check_count(assignments: f64) -> Result<(), Failure> {
    if assignments <= ASSIGNMENTS_MAX {
        return Ok(());
    }
    let what = format!("about {assignments:.0e} assignments are too many to try one after another");
    Err(Failure::wrong(what).help("use --method dp, which is as exact"))
}

/// Ways to cut layers into stages: choose the first layer of each stage but the first.
pub(crate) fn ways_to_cut(layers: usize, stages: usize) -> f64 {
    let cuts = stages.saturating_sub(1);
    (0..cuts).map(|cut| layers.saturating_sub(1 + cut) as f64 / (cut + 1) as f64).product()
}
