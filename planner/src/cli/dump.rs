//! `hetu-plan dump`: the problem that a search solved for the stages and microbatches of its plan.

use clap::Parser;
use hetu_planner::{Known, Outer, Space, outer_choices_within};
use ir::plan::Plan;
use ir::units::Seconds;
use solver::{Answer, Solved, StepRule};

use super::failure::Failure;
use super::output::{check_writable, end_at_interrupt, show, write_whole};
use super::plan::{Question, question, searched, setting};
use super::problems::{Choice, Problems};
use super::words::strategy_line;
use crate::options::{DumpOptions, Form, Options, PlanOptions};

pub(crate) fn dump(options: &DumpOptions) -> Result<(), Failure> {
    check_writable(&options.output)?;
    let planning = planning(options)?;
    let question = question(&planning)?;
    end_at_interrupt()?;
    let found = searched(&question, &planning, Form::LastLine, &question.rules)?;
    let plans = found.candidates.iter().map(|candidate| &candidate.plan);
    let solved = plans.filter_map(|plan| solved_for(&question, &planning, plan).transpose()).next();
    let Some((space, answer)) = solved.transpose()? else {
        return Err(Failure::negative(
            "error: no problem was solved for any plan of the list: all were changed afterwards",
        ));
    };
    let choice = Choice { least_sum: Some(answer.objective), ..choice(&question, space) };
    let name = choice.name.clone();
    write_whole(&options.output, &Problems::new(vec![choice]).print())?;
    let (output, sum) = (options.output.display(), Seconds(answer.objective));
    show(&format!("Wrote {output}: {name}; its least sum of costs is {sum}. Next: hetu-plan solve {output}\n"))
}

/// What would be asked if a plan were wanted.
fn planning(options: &DumpOptions) -> Result<PlanOptions, Failure> {
    let model = options.model.as_os_str().to_owned();
    let mut words = vec!["hetu-plan".into(), model, "--output".into(), options.output.as_os_str().to_owned()];
    for (name, value) in [("--cluster", &options.cluster), ("--batch", &options.batch.map(|it| it.to_string()))] {
        words.extend(value.iter().flat_map(|value| [name.into(), value.into()]));
    }
    words.extend(options.more.iter().map(Into::into));
    let parsed = Options::try_parse_from(words).map_err(|error| Failure { status: 2, text: error.to_string() })?;
    Ok(parsed.plan)
}

/// The problem for the stages and microbatches of a plan with its answer: the best, where several chains of degrees
/// have the plan's. None if changes gave the plan others than any problem has.
fn solved_for(question: &Question, planning: &PlanOptions, plan: &Plan) -> Result<Option<(Space, Answer)>, Failure> {
    let setting = setting(question);
    let is_of_plan = |outer: &Outer| {
        outer.stages as usize == plan.stages.len()
            && outer.microbatches == plan.microbatches
            && outer.devices() == plan.rank_count()
            && plan.strategies.iter().all(|strategy| outer.degrees.contains(&strategy.tensor))
    };
    let method = planning.method.method()?;
    let outers = outer_choices_within(setting.graph, setting.cluster, question.batch, &question.rules);
    let known = Known::default();
    let solved = outers.iter().filter(|outer| is_of_plan(outer)).filter_map(|outer| {
        let mut space = Space::new(setting, &known, outer)?;
        match space.solve(setting, &method) {
            Solved::Found(answer) => Some((space, answer)),
            Solved::Infeasible(_) | Solved::Stopped { .. } => None,
        }
    });
    Ok(solved.min_by(|(_, one), (_, other)| one.objective.total_cmp(&other.objective)))
}

fn choice(question: &Question, space: Space) -> Choice {
    let Outer { stages, ranks, microbatches, .. } = space.outer;
    Choice {
        name: format!("batch {}, {microbatches} microbatches, {stages} stages of {ranks}", question.batch),
        sequences: question.batch,
        labels: space.strategies.iter().map(|list| list.iter().map(strategy_line).collect()).collect(),
        problem: space.problem,
        cuts: None,
        step: StepRule::Slowest,
        least_sum: None,
        meaning: None,
    }
}
