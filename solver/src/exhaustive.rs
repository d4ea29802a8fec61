//! Plain enumeration of every assignment: slow, and right by inspection.

use crate::{Answer, Assignment, Problem, Shortage, Solved};

pub(crate) fn solve(problem: &Problem) -> Solved {
    let mut best: Option<(f64, Assignment)> = None;
    for cuts in all_cuts(problem.layers.len(), problem.stages.len()) {
        let mut assignment = Assignment { cuts, strategies: vec![0; problem.layers.len()] };
        loop {
            if let Ok(score) = problem.score(&assignment)
                && best.as_ref().is_none_or(|(objective, _)| score.objective < *objective)
            {
                best = Some((score.objective, assignment.clone()));
            }
            if !advance(problem, &mut assignment.strategies) {
                break;
            }
        }
    }
    match best {
        Some((objective, assignment)) => Solved::Found(Answer { assignment, objective, bound: objective }),
        None => Solved::Infeasible(Shortage::of(problem)),
    }
}

/// The next strategies in the order of a counter whose first digit turns fastest; false after the last.
pub(crate) fn advance(problem: &Problem, strategies: &mut [usize]) -> bool {
    for (layer, strategy) in strategies.iter_mut().enumerate() {
        *strategy += 1;
        if *strategy < problem.strategies(layer).len() {
            return true;
        }
        *strategy = 0;
    }
    false
}

/// All ways to start `stages` stages in `layers` layers, each with at least one.
fn all_cuts(layers: usize, stages: usize) -> Vec<Vec<usize>> {
    let mut partial = vec![vec![0]];
    for _ in 1..stages {
        partial = partial
            .into_iter()
            .flat_map(|cuts: Vec<usize>| {
                let next = cuts.last().map_or(0, |&last| last + 1);
                (next..layers).map(move |cut| [cuts.as_slice(), &[cut]].concat())
            })
            .collect();
    }
    partial
}
