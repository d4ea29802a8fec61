//! The list of plans and that of usual recipes, for terminals and pages.

use hetu_planner::{Baseline, Extent, NOISE};
use ir::units::{Bytes, Seconds};

use super::costs::Speed;
use super::losers::{composition, reason};
use super::output::columns;
use super::plan::{Planned, Question};
use super::robust::Robust;
use super::table::{Side, Table, indented};
use super::text::share_words;
use super::words::{
    SizeUnit, TimeUnit, degree_range, percent, schedule_word, signed_percent, strategy_words, tensor_cell,
};

/// The list as the terminal prints it.
pub(crate) fn candidates(question: &Question, outcome: &Planned) -> String {
    // Of what is left, what tells plans apart least goes below first.
    let below = ["why", "schedule", "tokens/s", "recompute", "shard", "step with failures", "goodput"];
    let mut text = candidates_table(question, outcome).within(columns(), &["estimate off"], &below);
    for words in candidates_notes(outcome) {
        text += &note(&words);
    }
    text
}

/// What should be known of the list.
pub(crate) fn candidates_notes(outcome: &Planned) -> Vec<String> {
    let list = &outcome.found.candidates;
    let mut notes: Vec<String> = outcome.robust.iter().map(Robust::note).collect();
    if list.iter().skip(1).any(|each| list[0].ties_with(each)) {
        notes
            .push(format!("tie: within {:.1} % of the first, which of them has the fewest strategies.", NOISE * 100.0));
    }
    if list.iter().any(|each| each.extent == Extent::Extended) {
        let words =
            "The fastest was simulated whole; of others with very many microbatches, a step so long that it repeats.";
        notes.push(words.to_owned());
    }
    notes
}

/// All plans of the list, with why they are slower than the first.
pub(crate) fn candidates_table(question: &Question, outcome: &Planned) -> Table {
    let speed = |step| Speed::of(&question.model, &question.devices.cluster, question.batch, step);
    let list = &outcome.found.candidates;
    let time = TimeUnit::of(list.iter().map(|each| each.trace.step).fold(Seconds::ZERO, Seconds::max));
    let size = SizeUnit::of(list.iter().map(|each| each.peak).max().unwrap_or(Bytes::ZERO));
    let mut table = Table::new(&[
        ("#", Side::Right),
        ("stages", Side::Right),
        ("devices", Side::Right),
        ("microbatches", Side::Right),
        ("schedule", Side::Left),
        ("data", Side::Right),
        ("tensor", Side::Right),
        ("shard", Side::Left),
        ("recompute", Side::Left),
        ("step", Side::Right),
        ("tokens/s", Side::Right),
        ("peak", Side::Right),
        ("goodput", Side::Right),
        ("step with failures", Side::Right),
        ("in 9 of 10", Side::Right),
        ("best in", Side::Right),
        ("estimate off", Side::Right),
        ("why", Side::Left),
    ])
    .best_first();
    let best = &list[0];
    let has_idle = list.iter().any(|each| each.plan.rank_count() < question.devices.cluster.device_count());
    for (index, each) in list.iter().enumerate() {
        let plan = &each.plan;
        let [shard, recompute] = strategy_words(plan);
        let goodput = question.goodput(each);
        let robust = outcome.robust.as_ref().map(|robust| robust.plans[index]);
        let off = each.estimated.map(|estimated| signed_percent(estimated.0 / each.trace.step.0 - 1.0));
        table.push(vec![
            (index + 1).to_string(),
            plan.stages.len().to_string(),
            if has_idle { plan.rank_count().to_string() } else { String::new() },
            plan.microbatches.to_string(),
            if plan.stages.len() > 1 { schedule_word(plan.schedule) } else { "" }.to_owned(),
            degree_range(plan, |strategy| strategy.data),
            tensor_cell(plan),
            shard,
            recompute,
            format!("{} ({})", time.show(each.trace.step), time.range(question.costs.interval(&each.trace))),
            speed(each.trace.step).cell(),
            size.show(each.peak),
            goodput.map_or(String::new(), |goodput| share_words(goodput.share)),
            goodput.map_or(String::new(), |goodput| time.show(Seconds(each.trace.step.0 / goodput.share))),
            robust.map_or(String::new(), |robust| time.show(robust.step_90)),
            robust.map_or(String::new(), |robust| percent(robust.best_share)),
            off.unwrap_or_default(),
            if index == 0 { composition(best) } else { reason(best, each) },
        ]);
    }
    table
}

/// Recipes as the terminal prints them.
pub(crate) fn recipes(question: &Question, outcome: &Planned) -> String {
    recipes_table(question, outcome).within(columns(), &[], &["beside the best", "microbatches"])
}

/// What one would do without a search.
pub(crate) fn recipes_table(question: &Question, outcome: &Planned) -> Table {
    let best = &outcome.found.candidates[0];
    let fitting = || outcome.found.baselines.iter().filter_map(|baseline| baseline.outcome.as_ref().ok());
    let time = TimeUnit::of(fitting().map(|each| each.trace.step).fold(Seconds::ZERO, Seconds::max));
    let size = SizeUnit::of(fitting().map(|each| each.peak).max().unwrap_or(Bytes::ZERO));
    let mut table = Table::new(&[
        ("usual recipe", Side::Left),
        ("microbatches", Side::Right),
        ("step", Side::Right),
        ("peak", Side::Right),
        ("beside the best", Side::Left),
    ]);
    for Baseline { name, outcome } in &outcome.found.baselines {
        let cells = match outcome {
            Ok(found) => vec![
                found.plan.microbatches.to_string(),
                format!("{} ({})", time.show(found.trace.step), time.range(question.costs.interval(&found.trace))),
                size.show(found.peak),
                format!("{:.2} × as long", found.trace.step.0 / best.trace.step.0),
            ],
            Err(failure) => vec![String::new(), String::new(), String::new(), failure.to_string()],
        };
        table.push(std::iter::once((*name).to_owned()).chain(cells).collect());
    }
    table
}

/// A line below a table.
fn note(text: &str) -> String {
    indented(text, 2, columns().unwrap_or(usize::MAX))
}
