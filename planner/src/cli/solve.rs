//! `hetu-plan solve`: problems of numbers, from any source, by any method.

use serde_json::{Value, json};
use solver::{Answer, Method, Shortage, Solved};

use super::failure::Failure;
use super::input::read_text;
use super::output::{check_writable, end_at_interrupt, show, write_whole};
use super::problems::{Choice, Problems};
use super::strategy::strategy;
use crate::options::{MethodName, SolveOptions};

/// More assignments than this are not tried one after another.
pub(crate) const ASSIGNMENTS_MAX: f64 = 1e8;

/// Steps of the dynamic program that take about a second.
const STEPS_PER_SECOND: f64 = 1e7;

pub(crate) fn solve(options: &SolveOptions) -> Result<(), Failure> {
    let name = options.problem.display().to_string();
    let problems = Problems::parse(&read_text(&options.problem)?, &name)?;
    if options.method == MethodName::Exhaustive {
        check_count(problems.choices.iter().map(assignments).sum())?;
    }
    if let Some(path) = &options.strategy {
        check_writable(path)?;
        if problems.choices.iter().any(|choice| choice.meaning.is_none()) {
            return Err(Failure::wrong(format!("{name}: --strategy needs choices with a meaning"))
                .help("problems that hetu-plan import writes have one"));
        }
    }
    options.method.method()?;
    end_at_interrupt()?;
    let method = format!("{:?}", options.method).to_lowercase();
    let best = Best::of(&problems, options)?;
    let Some((choice, answer)) = best.found else {
        let shortage = best.shortage;
        let document = json!({ "method": method, "bound": finite(best.bound), "infeasible": shortage });
        show(&format!("{document:#}\n"))?;
        return Err(Failure::negative(match shortage {
            Some(it) if best.bound == f64::INFINITY => {
                format!("error: {name}: no assignment fits: stage {} misses {} bytes", it.stage, it.excess_bytes())
            }
            _ => format!("error: {name}: stopped without an answer; none is below {} s a sequence", best.bound),
        }));
    };
    if let Some(path) = &options.strategy {
        write_whole(path, &strategy(choice, &answer.assignment))?;
    }
    show(&format!("{:#}\n", document(&method, &problems, (choice, &answer), best.bound)))
}

/// What is printed. The bound is of all choices, for a step of as many sequences.
fn document(method: &str, problems: &Problems, (choice, answer): (&Choice, &Answer), bound: f64) -> Value {
    let bound = (bound * choice.sequences as f64).min(answer.objective);
    let answer = Answer { bound, ..answer.clone() };
    let gap = answer.gap();
    json!({
        "method": method,
        "status": if gap <= OPTIMAL { "optimal" } else { "within the gap" },
        "choices": problems.choices.len(),
        "choice": choice.name,
        "assignment": answer.assignment,
        "strategies": choice.told(&answer.assignment.strategies),
        "objective": answer.objective,
        "bound": answer.bound,
        "gap": gap,
        "sequences_per_second": choice.sequences as f64 / answer.objective,
        "score": choice.posed().score(&answer.assignment).ok(),
    })
}

/// Gaps up to this are of sums of numbers, not of the search.
const OPTIMAL: f64 = 1e-9;

fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

/// The best of all choices.
struct Best<'p> {
    found: Option<(&'p Choice, Answer)>,
    /// Seconds of a sequence that no choice can beat.
    bound: f64,
    /// Of the choices that do not fit, that which misses least.
    shortage: Option<Shortage>,
}

impl<'p> Best<'p> {
    /// Choices are solved in the order of their bounds, until the next one cannot be better.
    fn of(problems: &'p Problems, options: &SolveOptions) -> Result<Self, Failure> {
        let bounded = |choice: &'p Choice| {
            let posed = choice.posed();
            (posed.lower_bound() / choice.sequences as f64, choice, posed)
        };
        let mut order: Vec<_> = problems.choices.iter().map(bounded).collect();
        order.sort_by(|(one, ..), (other, ..)| one.total_cmp(other));
        let mut best = Best { found: None, bound: f64::INFINITY, shortage: None };
        // Seconds of a sequence in the best answer.
        let mut least = f64::INFINITY;
        for (index, (bound, choice, posed)) in order.iter().enumerate() {
            // What ties by all that numbers can tell is not looked at. Before anything fits, it is said what misses least.
            if best.found.is_some() && *bound >= least * (1.0 - OPTIMAL / 1e3) {
                best.bound = best.bound.min(*bound).min(least);
                break;
            }
            let sequences = choice.sequences as f64;
            let method = method(options, choice, order.len() - index)?.below(least * sequences);
            match posed.solve(&method) {
                Solved::Found(answer) => {
                    best.bound = best.bound.min(answer.bound / sequences);
                    let seconds = answer.objective / sequences;
                    if seconds < least {
                        least = seconds;
                        best.found = Some((choice, answer));
                    }
                }
                Solved::Infeasible(shortage) => {
                    let excess = |it: &Shortage| it.excess_bytes();
                    if best.shortage.as_ref().is_none_or(|other| excess(&shortage) < excess(other)) {
                        best.shortage = Some(shortage);
                    }
                }
                Solved::Stopped { bound } => best.bound = best.bound.min(bound / sequences),
            }
        }
        Ok(best)
    }
}

/// The method for a choice, with its part of the limits.
fn method(options: &SolveOptions, choice: &Choice, left: usize) -> Result<Method, Failure> {
    let limit = options.time_limit.map(|seconds| seconds / left as f64);
    Ok(match options.method.method()? {
        Method::DynamicProgram { upper, gap, effort } => {
            let is_given = choice.cuts.is_some();
            let gap = options.gap.unwrap_or(if is_given { 0.0 } else { gap });
            let whole = if is_given || options.gap.is_some() { u64::MAX } else { effort };
            let effort = limit.map_or(whole, |seconds| (seconds * STEPS_PER_SECOND).max(1.0) as u64);
            Method::DynamicProgram { upper, gap, effort }
        }
        #[cfg(feature = "ilp")]
        Method::IntegerProgram { .. } => Method::IntegerProgram { time_limit: limit.unwrap_or(f64::INFINITY) },
        Method::Exhaustive => Method::Exhaustive,
    })
}

/// About how many assignments a choice has.
fn assignments(choice: &Choice) -> f64 {
    let (layers, stages) = (choice.problem.layers.len(), choice.problem.stages.len());
    let strategies = (0..layers).map(|layer| choice.problem.strategies(layer).len() as f64);
    let cuts = if choice.cuts.is_some() { 1.0 } else { ways_to_cut(layers, stages) };
    cuts * strategies.product::<f64>()
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
