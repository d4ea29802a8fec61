//! `--why-not`: the best plan with something fixed beside the answer, or what forbids it.

use hetu_planner::{Candidate, NoPlan, Request, Rules, Setting, outer_choices_within, search};
use ir::cluster::Cluster;
use ir::graph::KindId;
use ir::plan::{Plan, Recompute, Schedule, Sequence, Shard, Strategy};
use ir::units::{Bytes, Seconds};
use serde_json::{Value, json};
use solver::Shortage;

use super::asked::check_rules;
use super::failure::Failure;
use super::json::candidate;
use super::losers::{Parts, reason};
use super::output::columns;
use super::plan::{Question, setting};
use super::spread::cut;
use super::table::{Side, Table};
use super::words::{SizeUnit, TimeUnit, plan_label, signed_percent};
use crate::options::{Fixed, PlanOptions};

/// What came of something fixed.
pub(crate) struct WhyNot {
    /// What was fixed, as it was said.
    said: String,
    outcome: Outcome,
}

enum Outcome {
    /// The best plan with it.
    Found(Box<Candidate>),
    /// It needs more memory than there is.
    Misfit {
        shortage: Shortage,
        /// The best plan if there were memory for anything.
        otherwise: Option<Box<Candidate>>,
    },
    /// The rule that forbids it.
    Illegal(String),
}

/// Searches with something fixed.
pub(crate) fn ask(question: &Question, options: &PlanOptions, fixed: &Fixed) -> Result<WhyNot, Failure> {
    let rules = fixed.within(&question.rules);
    let said = fixed.said.clone();
    if let Err(failure) = check_rules(&rules, &question.graph, question.roomy(), question.batch) {
        let first = failure.text.lines().next().unwrap_or_default();
        // Said of options there, of keys here.
        let rule = first.trim_start_matches("error: ").replace("--", "");
        return Ok(WhyNot { said, outcome: Outcome::Illegal(rule) });
    }
    let best = |cluster: &Cluster| {
        let setting = Setting { cluster, ..setting(question) };
        let method = options.method.method()?;
        let request = Request { setting, batch: question.batch, method, keep: 1, rules: rules.clone() };
        Ok::<_, Failure>(search(&request, &|_, _| {}).map(|found| found.candidates.into_iter().next()))
    };
    let outcome = match best(question.roomy())? {
        Ok(found) => Outcome::Found(Box::new(found.expect("a search that finds something has a first plan"))),
        Err(NoPlan::NothingLegal { .. }) => Outcome::Illegal(conflict(question, fixed, &rules)),
        Err(NoPlan::NothingFits { shortage, .. }) => {
            let mut cluster = question.roomy().clone();
            cluster.device.memory = Bytes(ANY_MEMORY);
            Outcome::Misfit { shortage, otherwise: best(&cluster)?.ok().flatten().map(Box::new) }
        }
    };
    Ok(WhyNot { said, outcome })
}

/// More than any plan of a few thousand layers needs on one device.
const ANY_MEMORY: u64 = 1 << 50;

/// What of the fixed values does not go together.
fn conflict(question: &Question, fixed: &Fixed, rules: &Rules) -> String {
    if let Some(plan) = plainest(question, rules)
        && let Some(violation) = compiler::check(&question.graph, question.roomy(), &plan).first()
    {
        return violation.to_string();
    }
    let is_open = |less: &Fixed| has_strategies(question, &less.within(&question.rules));
    let freed: Vec<String> = fixed.without_each().filter(|(_, less)| is_open(less)).map(|(part, _)| part).collect();
    if freed.is_empty() {
        return format!("no plan for a batch of {} has all of these", question.batch);
    }
    format!("no plan has all of these; there are some without {}", freed.join(", or without "))
}

/// Whether every kind of layer has a strategy under some outer choice.
fn has_strategies(question: &Question, rules: &Rules) -> bool {
    let graph = &question.graph;
    let outers = outer_choices_within(graph, question.roomy(), question.batch, rules);
    outers.iter().any(|outer| {
        graph.kinds.iter().enumerate().all(|(index, kind)| {
            let all = compiler::strategies(kind, outer.ranks, outer.sequences);
            all.iter().any(|strategy| {
                outer.degrees.contains(&strategy.tensor) && outer.rules.allows(graph, KindId(index as u32), strategy)
            })
        })
    })
}

/// The plan of the fixed values in which all else is as little as can be, if they leave whole numbers.
fn plainest(question: &Question, rules: &Rules) -> Option<Plan> {
    let devices = question.roomy().device_count();
    let (stages, tensor) = (rules.stages.unwrap_or(1), rules.tensor.unwrap_or(1));
    let left = devices / stages.checked_mul(tensor)?;
    let data = rules.data.unwrap_or(left);
    let (blocks, layers) = (question.model.blocks(), question.model.layer_count());
    (stages <= blocks).then(|| Plan {
        batch: question.batch,
        microbatches: rules.microbatches.unwrap_or(1),
        schedule: rules.schedule.unwrap_or(Schedule::OneForwardOneBackward),
        precision: question.model.training.precision,
        stages: cut(layers - 2, stages),
        strategies: vec![
            Strategy {
                data,
                tensor,
                sequence: rules.sequence.unwrap_or(Sequence::Whole),
                shard: rules.shard.unwrap_or(Shard::Nothing),
                recompute: rules.recompute.unwrap_or(Recompute::Nothing),
            };
            layers as usize
        ],
        prefetch: 1,
    })
}

impl Outcome {
    /// The plan that has numbers: found, or what it would be with more memory.
    fn plan(&self) -> Option<&Candidate> {
        match self {
            Outcome::Found(found) => Some(found),
            Outcome::Misfit { otherwise, .. } => otherwise.as_deref(),
            Outcome::Illegal(_) => None,
        }
    }

    /// Why it is not the answer.
    fn why(&self, best: &Candidate) -> String {
        match self {
            Outcome::Found(found) if found.ties_with(best) => "as fast".to_owned(),
            Outcome::Found(found) if found.trace.step.0 < best.trace.step.0 => {
                format!("faster than what the search found: {}", reason(best, found))
            }
            Outcome::Found(found) => reason(best, found),
            Outcome::Misfit { shortage, otherwise } => {
                let verdict = if otherwise.is_some() { "; the step is that with memory enough" } else { "" };
                format!("{}{verdict}", memory_words(shortage))
            }
            Outcome::Illegal(rule) => format!("not legal: {rule}"),
        }
    }
}

/// What the least found needs, by what it holds.
fn memory_words(shortage: &Shortage) -> String {
    let need = &shortage.need;
    let [whole, capacity] = [Bytes(need.bytes()), Bytes(shortage.capacity_bytes)];
    let unit = SizeUnit::of(whole);
    let [state, saved, transient] =
        [need.bytes_state, need.bytes_saved, need.bytes_transient].map(|part| unit.show(Bytes(part)));
    format!(
        "does not fit: stage {} needs {} of {} at least (state {state}, saved {saved}, transient {transient})",
        shortage.stage,
        unit.show(whole),
        unit.show(capacity),
    )
}

/// All of them beside the answer, as text.
pub(crate) fn table(best: &Candidate, asked: &[WhyNot]) -> String {
    let plans = || asked.iter().filter_map(|each| each.outcome.plan()).chain([best]);
    let time = TimeUnit::of(plans().map(|each| each.trace.step).fold(Seconds::ZERO, Seconds::max));
    let size = SizeUnit::of(plans().map(|each| each.peak).max().unwrap_or(Bytes::ZERO));
    let mut table = Table::new(&[
        ("why not", Side::Left),
        ("step", Side::Right),
        ("beside", Side::Right),
        ("compute", Side::Right),
        ("exchange", Side::Right),
        ("idle", Side::Right),
        ("peak", Side::Right),
        ("why", Side::Left),
        ("plan", Side::Left),
    ]);
    let cells = |plan: Option<&Candidate>| match plan {
        None => vec![String::new(); 6],
        Some(plan) => {
            let parts = Parts::of(plan);
            let beside = signed_percent(plan.trace.step.0 / best.trace.step.0 - 1.0);
            let times = [parts.compute, parts.exchange, parts.idle].map(|part| time.show(part));
            [time.show(plan.trace.step), beside].into_iter().chain(times).chain([size.show(plan.peak)]).collect()
        }
    };
    let mut row = |name: &str, plan: Option<&Candidate>, why: String| {
        let label = plan.map_or(String::new(), |plan| plan_label(&plan.plan));
        table.push([name.to_owned()].into_iter().chain(cells(plan)).chain([why, label]).collect());
    };
    row("(the first plan)", Some(best), String::new());
    for WhyNot { said, outcome } in asked {
        row(said, outcome.plan(), outcome.why(best));
    }
    table.within(columns(), &[], &["plan", "why"])
}

/// The same for machines.
pub(crate) fn documents(question: &Question, best: &Candidate, asked: &[WhyNot]) -> Vec<Value> {
    let document = |WhyNot { said, outcome }: &WhyNot| {
        let shortage = match outcome {
            Outcome::Misfit { shortage, .. } => json!({
                "stage": shortage.stage,
                "state_bytes": shortage.need.bytes_state,
                "saved_bytes": shortage.need.bytes_saved,
                "transient_bytes": shortage.need.bytes_transient,
                "capacity_bytes": shortage.capacity_bytes,
            }),
            Outcome::Found(_) | Outcome::Illegal(_) => Value::Null,
        };
        json!({
            "fixed": said,
            "standing": match outcome {
                Outcome::Found(_) => "fits",
                Outcome::Misfit { .. } => "too-large",
                Outcome::Illegal(_) => "not-legal",
            },
            "why": outcome.why(best),
            "shortage": shortage,
            "best": outcome.plan().map(|plan| candidate(plan, &question.costs)),
        })
    };
    asked.iter().map(document).collect()
}
